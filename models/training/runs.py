"""Keep what a training run was, what it reached and what was measured of it, as files.

```
<runs>/<variant>-<seed>/run.json  weights.safetensors  measured.json
```
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from models.errors import RecipeError
from models.training.evaluation import Measurement
from models.training.recipe import Recipe

RUN_FILE = "run.json"
MEASURED_FILE = "measured.json"
WEIGHTS_FILE = "weights.safetensors"


@dataclass(frozen=True, slots=True, kw_only=True)
class Losses:
    """Hold mean losses in nats a byte: over the last reported steps, and on held-out windows."""

    train: float
    held_out: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """Hold the record of one run.

    Attributes:
        variant: a key of `VARIANTS`.
        seed: of the weights and of the batches.
        text_sha256: of the whole text, held-out part included.
        recipe: what the run was told.
        parameters: trained numbers.
        losses: what it reached.
        curve: mean training loss of each stretch of steps, nats a byte.
        cpu_seconds: of one thread.
        torch: its version.
    """

    variant: str
    seed: int
    text_sha256: str
    recipe: Recipe
    parameters: int
    losses: Losses
    curve: tuple[float, ...]
    cpu_seconds: float
    torch: str


def run_folder(runs: Path, variant: str, seed: int) -> Path:
    """Return where the run of a variant and a seed lies."""
    return runs / f"{variant}-{seed}"


def finished_runs(runs: Path) -> list[Path]:
    """Return the folder of every finished run, by name."""
    return sorted(path.parent for path in runs.glob(f"*/{RUN_FILE}"))


def write_run(folder: Path, run: Run) -> None:
    """Write `run.json`, whose presence says that the run is finished."""
    content = json.dumps(asdict(run), indent=2) + "\n"
    (folder / RUN_FILE).write_text(content, encoding="utf-8")


def read_run(folder: Path) -> Run:
    """Return the record of a finished run.

    Raises:
        RecipeError: the run is not finished.
    """
    path = folder / RUN_FILE
    if not path.is_file():
        raise RecipeError(f"{folder} holds no finished run: train it first")
    told = json.loads(path.read_text(encoding="utf-8"))
    told["recipe"] = Recipe(**told["recipe"])
    told["losses"] = Losses(**told["losses"])
    told["curve"] = tuple(told["curve"])
    return Run(**told)


def write_measured(folder: Path, measured: Sequence[Measurement]) -> None:
    """Write `measured.json`."""
    content = json.dumps([asdict(one) for one in measured], indent=2) + "\n"
    (folder / MEASURED_FILE).write_text(content, encoding="utf-8")


def read_measured(folder: Path) -> list[Measurement]:
    """Return what was measured of a run.

    Raises:
        RecipeError: nothing was.
    """
    path = folder / MEASURED_FILE
    if not path.is_file():
        raise RecipeError(f"{folder.name} is not measured: run `evaluate` first")
    return [Measurement(**one) for one in json.loads(path.read_text(encoding="utf-8"))]
