"""Train one variant with one seed, the same way every time."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from models.training.evaluation import DIRECT
from models.training.network import byte_losses, draw_weights
from models.training.placement import place
from models.training.recipe import Recipe, learning_rate
from models.training.runs import WEIGHTS_FILE, Losses, Run, write_run
from models.training.scoring import score
from models.training.shape import Shape
from models.training.text import ByteText, batches, windows
from service.numerics.attention.scales import ScaleName

BETAS = (0.9, 0.95)
REPORT_EVERY = 100
HELD_OUT_WINDOWS = 256


def train(shape: Shape, recipe: Recipe, text: ByteText, *, seed: int, folder: Path) -> Run:
    """Train one model, write its weights and its record into `folder`, and return the record."""
    be_deterministic()
    began = time.process_time()
    weights = draw_weights(shape, recipe, seed=seed)
    curve = fit(weights, shape, recipe, text, seed=seed)
    finished = {name: tensor.detach() for name, tensor in weights.items()}
    ids = windows(text.held_out, length=recipe.length, most=HELD_OUT_WINDOWS)
    scale = ScaleName(shape.scale)
    held_out = score(finished, ids, shape=shape, recipe=recipe, scheme=DIRECT, scale=scale)
    run = Run(
        variant=shape.variant,
        seed=seed,
        text_sha256=text.sha256,
        recipe=recipe,
        parameters=shape.parameters,
        losses=Losses(train=curve[-1], held_out=float(held_out.mean())),
        curve=tuple(curve),
        cpu_seconds=round(time.process_time() - began, 1),
        torch=torch.__version__,
    )
    folder.mkdir(parents=True, exist_ok=True)
    save_file(finished, folder / WEIGHTS_FILE)
    write_run(folder, run)
    return run


def be_deterministic() -> None:
    """Make torch give the same numbers every time: one thread, deterministic kernels."""
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(mode=True)


def fit(
    weights: dict[str, Tensor], shape: Shape, recipe: Recipe, text: ByteText, *, seed: int
) -> list[float]:
    """Train `weights` in place; return the mean loss of each `REPORT_EVERY` steps, nats a byte."""
    scale = ScaleName(shape.scale)
    placement = place(shape, recipe, length=recipe.length, scheme=DIRECT, scale=scale)
    optimizer = prepare(weights, recipe)
    curve: list[float] = []
    recent: list[Tensor] = []
    drawn = batches(
        text.train, seed=seed, steps=recipe.steps, rows=recipe.rows, length=recipe.length
    )
    for step, batch in enumerate(drawn, start=1):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(recipe, step - 1)
        optimizer.zero_grad()
        ids = torch.from_numpy(batch)
        loss = byte_losses(weights, ids, shape=shape, recipe=recipe, placement=placement).mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights.values(), recipe.gradient_norm)
        optimizer.step()
        recent.append(loss.detach())
        if step % REPORT_EVERY == 0 or step == recipe.steps:
            curve.append(float(torch.stack(recent).mean()))
            recent.clear()
            sys.stdout.write(f"{shape.variant} seed {seed} step {step} loss {curve[-1]:.4f}\n")
            sys.stdout.flush()
    return curve


def prepare(weights: dict[str, Tensor], recipe: Recipe) -> torch.optim.AdamW:
    """Return AdamW over `weights`; matrices decay, norms do not."""
    for tensor in weights.values():
        tensor.requires_grad_(requires_grad=True)
    matrices = [tensor for tensor in weights.values() if tensor.ndim > 1]
    norms = [tensor for tensor in weights.values() if tensor.ndim == 1]
    groups = [
        {"params": matrices, "weight_decay": recipe.weight_decay},
        {"params": norms, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=recipe.peak_rate, betas=BETAS, fused=True)
