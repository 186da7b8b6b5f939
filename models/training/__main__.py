"""Train, measure and export the small decoders from the command line; see README.md."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from models.training.recipe import RESIDUALS, Recipe
from models.training.shape import VARIANTS
from models.training.text import read_text

RUN_FILE = "run.json"
MEASURED_FILE = "measured.json"


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
    train.add_argument("runs", type=Path, help="folder of runs, one folder each")
    train.add_argument("--variants", nargs="+", choices=tuple(VARIANTS), default=tuple(VARIANTS))
    train.add_argument("--seeds", nargs="+", type=int, default=(0, 1, 2))
    train.add_argument("--steps", type=int, default=Recipe().steps)
    train.add_argument("--residual", choices=RESIDUALS, default=Recipe().residual)
    train.set_defaults(command=train_runs)
    evaluate = commands.add_parser("evaluate", help="measure every run that is not yet measured")
    evaluate.add_argument("text", type=Path)
    evaluate.add_argument("runs", type=Path)
    evaluate.set_defaults(command=evaluate_runs)
    return whole


def train_runs(told: argparse.Namespace) -> None:
    """Train each variant with each seed: all variants of the first seed first."""
    from models.training.train import train

    recipe = Recipe(steps=told.steps, residual=told.residual)
    text = read_text(told.text)
    for seed in told.seeds:
        for variant in told.variants:
            folder = told.runs / f"{variant}-{seed}"
            if not (folder / RUN_FILE).exists():
                losses = train(VARIANTS[variant], recipe, text, seed=seed, folder=folder)
                say(f"{folder.name}: held out {losses.held_out:.4f} nats a byte")


def evaluate_runs(told: argparse.Namespace) -> None:
    """Write `measured.json` into the folder of each run."""
    from models.training.evaluate import evaluate

    text = read_text(told.text)
    for folder in sorted(path.parent for path in told.runs.glob(f"*/{RUN_FILE}")):
        if not (folder / MEASURED_FILE).exists():
            measured = [asdict(one) for one in evaluate(folder, text)]
            content = json.dumps(measured, indent=2) + "\n"
            (folder / MEASURED_FILE).write_text(content, encoding="utf-8")
            say(f"{folder.name}: measured")


def say(line: str) -> None:
    """Print a line at once."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1:])
