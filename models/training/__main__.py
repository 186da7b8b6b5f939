"""Train, measure and export the small decoders from the command line; see README.md.

torch and onnxruntime are imported only by the commands that compute with them.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from safetensors.numpy import load_file

from models.pin import record
from models.training.export import export, refresh
from models.training.recipe import RESIDUALS, Recipe
from models.training.runs import (
    MEASURED_FILE,
    RUN_FILE,
    WEIGHTS_FILE,
    finished_runs,
    read_run,
    run_folder,
    write_measured,
)
from models.training.shape import VARIANTS
from models.training.text import read_text

COMMITTED = Path(__file__).parents[1] / "decoders" / "isotrope-bytes"


def main(arguments: Sequence[str]) -> None:
    """Run one command."""
    told = parser().parse_args(arguments)
    told.command(told)


def parser() -> argparse.ArgumentParser:
    """Return the commands and their options."""
    whole = argparse.ArgumentParser(prog="python -m models.training")
    commands = whole.add_subparsers(required=True)
    train = commands.add_parser("train", help="train variants; a finished run is not repeated")
    train.add_argument("text", type=Path)
    train.add_argument("runs", type=Path)
    train.add_argument("--variants", nargs="+", choices=tuple(VARIANTS), default=tuple(VARIANTS))
    train.add_argument("--seeds", nargs="+", type=int, default=(0, 1, 2))
    train.add_argument("--steps", type=int, default=Recipe().steps)
    train.add_argument("--residual", choices=RESIDUALS, default=Recipe().residual)
    train.set_defaults(command=train_runs)
    measure = commands.add_parser("evaluate", help="measure every run that is not yet measured")
    measure.add_argument("text", type=Path)
    measure.add_argument("runs", type=Path)
    measure.set_defaults(command=evaluate_runs)
    write = commands.add_parser("export", help="write the family and its manifest entry")
    write.add_argument("runs", type=Path)
    write.add_argument("--seed", type=int, default=0)
    write.set_defaults(command=export_runs)
    anew = commands.add_parser("graphs", help="write the graphs anew around committed weights")
    anew.set_defaults(command=write_graphs)
    logits = commands.add_parser("logits", help="compute logits of committed weights in torch")
    logits.add_argument("out", type=Path, help="an .npz with `ids`; logits are added to it")
    logits.add_argument("--every", type=int, default=1, help="keep each so many rows")
    logits.set_defaults(command=add_logits)
    return whole


def train_runs(told: argparse.Namespace) -> None:
    """Train each variant with each seed: all variants of the first seed first."""
    from models.training.train import train

    recipe = replace(Recipe(), steps=told.steps, residual=told.residual)
    text = read_text(told.text)
    for seed in told.seeds:
        for variant in told.variants:
            folder = run_folder(told.runs, variant, seed)
            if not (folder / RUN_FILE).exists():
                run = train(VARIANTS[variant], recipe, text, seed=seed, folder=folder)
                say(f"{folder.name}: held out {run.losses.held_out:.4f} nats a byte")


def evaluate_runs(told: argparse.Namespace) -> None:
    """Write `measured.json` into the folder of each run: what its exported graphs score."""
    from models.training.session import evaluate

    text = read_text(told.text)
    for folder in finished_runs(told.runs):
        if not (folder / MEASURED_FILE).exists():
            run = read_run(folder)
            measured = evaluate(run, load_file(folder / WEIGHTS_FILE), text)
            write_measured(folder, measured)
            say(f"{folder.name}: measured")


def export_runs(told: argparse.Namespace) -> None:
    """Write the family of one seed and put its entry into the manifest."""
    record(export(told.runs, COMMITTED, seed=told.seed))


def write_graphs(_told: argparse.Namespace) -> None:
    """Write the graphs anew, as after a change of their builder, and pin them."""
    record(refresh(COMMITTED))


def add_logits(told: argparse.Namespace) -> None:
    """Add `<graph>` logits (n, 256) of every variant, near and windowed, to a file of ids."""
    from models.training.scoring import committed_logits

    committed_logits(COMMITTED, told.out, every=told.every)


def say(line: str) -> None:
    """Print a line at once."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1:])
