"""Compare the shipped small models with the logits that torch gave for the same weights.

`golden/isotrope_bytes.npz` was written by `python -m models.training logits FILE --every 9`.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from models import catalogue
from models.training.evaluation import PARITY_SCHEMES
from models.training.family import forms, rewrite
from models.training.session import Graphs
from models.training.shape import VARIANTS, Shape
from service.numerics.attention.scales import ScaleName

FAMILY = Path(catalogue.__file__).with_name("decoders") / "isotrope-bytes"
GOLDEN = Path(__file__).parent / "golden" / "isotrope_bytes.npz"
GRAPHS = [(shape, name) for shape in VARIANTS.values() for name in forms(shape)]
TOLERANCE = catalogue.entry("isotrope-bytes")["tolerance"]["max_abs_difference"]  # type: ignore[index]


@pytest.fixture(scope="module")
def golden() -> dict[str, np.ndarray]:
    with np.load(GOLDEN) as stored:
        return dict(stored)


@pytest.mark.parametrize("suffix", PARITY_SCHEMES, ids=["direct", "rerope"])
@pytest.mark.parametrize(("shape", "name"), GRAPHS, ids=[name for _, name in GRAPHS])
def test_a_graph_gives_the_logits_of_torch(
    shape: Shape, name: str, suffix: str, golden: dict[str, np.ndarray]
) -> None:
    scheme, scale = PARITY_SCHEMES[suffix], ScaleName(shape.scale)
    found = Graphs(FAMILY, shape, name=name).logits(golden["ids"], scheme, scale)
    expected = golden[shape.variant + suffix]
    assert expected.shape == (8, 256)
    assert np.abs(found[::9] - expected).max() <= TOLERANCE


def test_the_golden_logits_tell_variants_and_schemes_apart(golden: dict[str, np.ndarray]) -> None:
    rows = [golden[name + suffix] for name in VARIANTS for suffix in PARITY_SCHEMES]
    for place, one in enumerate(rows):
        for other in rows[place + 1 :]:
            assert np.abs(one - other).max() > 0.1


def test_the_models_read_text_they_have_not_seen_better_than_a_guess() -> None:
    text = b"Good morrow, cousin. What news from the city, and how fares the king?\n"
    ids = np.frombuffer(text, dtype=np.uint8).astype(np.int64)[np.newaxis]
    for shape, name in GRAPHS:
        score = Graphs(FAMILY, shape, name=name).score
        losses = score(ids, PARITY_SCHEMES[""], ScaleName(shape.scale))
        assert np.exp(losses.mean()) < 16  # 256 would be a guess


def test_the_shipped_graphs_are_what_the_builder_writes_today(tmp_path: Path) -> None:
    for path in FAMILY.glob("*.safetensors"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    rewrite(tmp_path)
    for path in tmp_path.iterdir():
        assert path.read_bytes() == (FAMILY / path.name).read_bytes(), path.name


def test_every_file_is_small_enough_to_be_kept_in_the_repository() -> None:
    for path in FAMILY.iterdir():
        assert path.stat().st_size < 12e6
