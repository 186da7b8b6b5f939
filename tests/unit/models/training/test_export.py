from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from safetensors.numpy import save_file

from models.errors import RecipeError
from models.training.evaluation import Measurement, cases
from models.training.export import export, refresh, require_fair
from models.training.recipe import DEEP_NORM, Recipe
from models.training.runs import (
    WEIGHTS_FILE,
    Losses,
    Run,
    read_measured,
    read_run,
    run_folder,
    write_measured,
    write_run,
)
from models.training.shape import VARIANTS
from tests.unit.models.training.test_family import weights_of

RUN = Run(
    variant="mha",
    seed=0,
    text_sha256="a" * 64,
    recipe=Recipe(),
    parameters=1,
    losses=Losses(train=1.0, held_out=2.0),
    curve=(3.0, 1.0),
    cpu_seconds=5.0,
    torch="2",
)


def write_finished(runs: Path, run: Run) -> None:
    folder = run_folder(runs, run.variant, run.seed)
    folder.mkdir(parents=True)
    shape = VARIANTS[run.variant]
    save_file(weights_of(shape, run.seed), folder / WEIGHTS_FILE)
    measured = [
        Measurement(
            variant=run.variant,
            seed=run.seed,
            length=case.length,
            windows=2,
            rope=case.scheme.name.value,
            scale=case.scale.value,
            perplexity=7.0 + run.seed,
            last_half=8.0,
        )
        for case in cases(shape)
    ]
    write_measured(folder, measured)
    write_run(folder, run)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("runs")
    for name in VARIANTS:
        for seed in (0, 1):
            write_finished(folder, replace(RUN, variant=name, seed=seed))
    return folder


def test_a_run_is_read_back_as_it_was_written(runs: Path) -> None:
    assert read_run(run_folder(runs, "mha", 0)) == RUN
    assert [one.length for one in read_measured(run_folder(runs, "mha", 0))][:2] == [128, 1024]


def test_a_missing_run_or_measurement_is_named(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="no finished run"):
        read_run(tmp_path)
    with pytest.raises(RecipeError, match="is not measured"):
        read_measured(tmp_path)


def test_the_entry_describes_every_graph_that_was_written(runs: Path, tmp_path: Path) -> None:
    entry = export(runs, tmp_path, seed=1)
    variants = entry["variants"]
    assert isinstance(variants, dict)
    assert set(variants) == {*VARIANTS, "mla_absorbed"}
    assert entry["default_variant"] in variants
    named = {one[key] for one in variants.values() for key in ("file", "windowed")}
    weights = {f"{name}.safetensors" for name in VARIANTS}
    assert set(entry["files"]) == named | weights | {"provenance.json"}  # type: ignore[call-overload]
    assert {path.name for path in tmp_path.iterdir()} == set(entry["files"])  # type: ignore[call-overload]
    assert variants["mla"]["cache_elements"] == variants["mqa"]["cache_elements"] == 64
    assert variants["mla_absorbed"]["perplexity"]["value"] == 8.0
    assert variants["gqa_l2"]["normaliser"] == "l2"
    assert variants["gqa_log_n"]["scale"] == "log_n"


def test_provenance_holds_every_seed_and_the_chosen_one(runs: Path, tmp_path: Path) -> None:
    export(runs, tmp_path, seed=1)
    told = json.loads((tmp_path / "provenance.json").read_text())
    assert told["exported_seed"] == 1
    assert told["text"]["sha256"] == "a" * 64
    assert told["recipe"]["steps"] == Recipe().steps
    for name, shape in VARIANTS.items():
        assert [run["seed"] for run in told["variants"][name]["runs"]] == [0, 1]
        assert told["variants"][name]["parameters"] == shape.parameters
    assert len(told["measured"]) == 2 * sum(len(list(cases(one))) for one in VARIANTS.values())


def test_graphs_written_anew_are_the_same_bytes(runs: Path, tmp_path: Path) -> None:
    entry = export(runs, tmp_path, seed=0)
    assert refresh(tmp_path) == entry


def test_runs_of_another_recipe_or_text_are_not_compared() -> None:
    require_fair([RUN, replace(RUN, seed=1)])
    for other in (replace(RUN, text_sha256="b" * 64), replace(RUN, recipe=Recipe(rows=9))):
        with pytest.raises(RecipeError, match="would not be fair"):
            require_fair([RUN, other])
    with pytest.raises(RecipeError, match="trained, not exported"):
        require_fair([replace(RUN, recipe=Recipe(residual=DEEP_NORM))])
    with pytest.raises(RecipeError, match="train first"):
        require_fair([])
