from __future__ import annotations

from models.training.evaluation import Measurement
from models.training.shape import VARIANTS
from models.training.tables import length_table, spread, variant_table


def one(variant: str, seed: int, **changes: object) -> Measurement:
    told: dict[str, object] = {
        "variant": variant,
        "seed": seed,
        "length": 1024,
        "windows": 8,
        "rope": "pi",
        "scale": "sqrt",
        "perplexity": 10.0 + seed,
        "last_half": 20.0 + seed,
    }
    return Measurement(**told | changes)  # type: ignore[arg-type]


def test_spread_is_the_mean_and_half_the_range() -> None:
    assert spread([1.0, 2.0, 6.0], digits=2) == "3.00 ± 2.50"
    assert spread([], digits=2) == "-"


def test_a_row_for_each_scheme_and_scale_a_column_for_each_variant() -> None:
    measured = [one("mha", seed) for seed in (0, 1, 2)]
    measured += [one("mqa", 0, rope="direct"), one("mqa", 0, length=128, rope="none")]
    lines = length_table(measured, last_half=False).splitlines()
    assert lines[0] == f"| positions | scale | {' | '.join(VARIANTS)} |"
    assert lines[2].startswith("| pi | sqrt | 11.00 ± 1.00 | - | - |")
    assert lines[3].startswith("| direct | sqrt | - | - | 10.00 ± 0.00 |")
    assert len(lines) == 4
    assert "21.00 ± 1.00" in length_table(measured, last_half=True)


def test_rows_of_one_scheme_stand_together() -> None:
    measured = [one("mha", 0), one("mha", 0, rope="ntk"), one("gqa_log_n", 0, scale="log_n")]
    rows = [line.split(" | ")[:2] for line in length_table(measured, last_half=False).splitlines()]
    assert rows[2:] == [["| pi", "sqrt"], ["| pi", "log_n"], ["| ntk", "sqrt"]]


def test_the_table_of_variants_says_what_each_costs() -> None:
    measured = [one(name, seed, length=128) for name in VARIANTS for seed in (0, 1)]
    held_out = {name: [1.5, 1.7] for name in VARIANTS}
    rows = variant_table(measured, held_out).splitlines()
    assert rows[2] == "| mha | 1,082,496 | 512 | 256 | 1.6000 ± 0.1000 | 10.500 ± 0.500 |"
    assert len(rows) == 2 + len(VARIANTS)
