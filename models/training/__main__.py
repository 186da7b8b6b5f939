"""Train one variant from the command line."""

from __future__ import annotations

import argparse
from pathlib import Path

from models.training.recipe import RESIDUALS, Recipe
from models.training.shape import VARIANTS
from models.training.text import read_text
from models.training.train import train

parser = argparse.ArgumentParser(prog="python -m models.training")
commands = parser.add_subparsers(dest="command", required=True)
training = commands.add_parser("train")
training.add_argument("text", type=Path)
training.add_argument("folder", type=Path)
training.add_argument("--variants", nargs="+", choices=tuple(VARIANTS), default=tuple(VARIANTS))
training.add_argument("--seeds", nargs="+", type=int, default=[0])
training.add_argument("--steps", type=int, default=2000)
training.add_argument("--rows", type=int, default=8)
training.add_argument("--rate", type=float, default=3e-3)
training.add_argument("--residual", choices=RESIDUALS, default="pre_norm")
arguments = parser.parse_args()
recipe = Recipe(
    steps=arguments.steps, rows=arguments.rows, residual=arguments.residual, peak_rate=arguments.rate
)
text = read_text(arguments.text)
for seed in arguments.seeds:
    for variant in arguments.variants:
        folder = arguments.folder / f"{variant}-{seed}"
        if not (folder / "run.json").exists():
            print(train(VARIANTS[variant], recipe, text, seed=seed, folder=folder), flush=True)
