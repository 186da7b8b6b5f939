"""Train one variant with one seed, the same way every time."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from models.training.network import byte_losses, draw_weights
from models.training.placement import Placement, place
from models.training.recipe import Recipe, learning_rate
from models.training.shape import Shape
from models.training.text import ByteText, batches, windows
from service.numerics.attention.positions import RopeName, RopeScheme
from service.numerics.attention.scales import ScaleName

BETAS = (0.9, 0.95)
REPORT_EVERY = 100
HELD_OUT_WINDOWS = 256
EVALUATED_ROWS = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Losses:
    """Hold mean losses in nats a byte: over the last reported steps, and on held-out windows."""

    train: float
    held_out: float


def be_deterministic() -> None:
    """Make torch give the same numbers every time: one thread, deterministic kernels."""
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(mode=True)


def trained_placement(shape: Shape, recipe: Recipe) -> Placement:
    """Return the positions and the scale that a model is trained at."""
    direct = RopeScheme(name=RopeName.DIRECT)
    scale = ScaleName(shape.scale)
    return place(shape, recipe, length=recipe.length, scheme=direct, scale=scale)


def train(shape: Shape, recipe: Recipe, text: ByteText, *, seed: int, folder: Path) -> Losses:
    """Train one model and write `weights.safetensors` and `run.json` into `folder`.

    Returns:
        The losses reached, in nats a byte.
    """
    be_deterministic()
    weights = draw_weights(shape, recipe, seed=seed)
    placement = trained_placement(shape, recipe)
    optimizer = prepare(weights, recipe)
    curve: list[float] = []
    recent: list[Tensor] = []
    began = time.process_time()
    drawn = batches(
        text.train, seed=seed, steps=recipe.steps, rows=recipe.rows, length=recipe.length
    )
    for step, batch in enumerate(drawn):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(recipe, step)
        optimizer.zero_grad()
        ids = torch.from_numpy(batch)
        loss = byte_losses(weights, ids, shape=shape, recipe=recipe, placement=placement).mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights.values(), recipe.gradient_norm)
        optimizer.step()
        recent.append(loss.detach())
        if (step + 1) % REPORT_EVERY == 0 or step + 1 == recipe.steps:
            curve.append(float(torch.stack(recent).mean()))
            recent.clear()
            report(shape, seed=seed, step=step + 1, loss=curve[-1], began=began)
    finished = {name: tensor.detach() for name, tensor in weights.items()}
    losses = Losses(
        train=curve[-1],
        held_out=held_out_loss(finished, text, shape=shape, recipe=recipe, placement=placement),
    )
    folder.mkdir(parents=True, exist_ok=True)
    save_file(finished, folder / "weights.safetensors")
    run = {
        "variant": shape.variant,
        "seed": seed,
        "text_sha256": text.sha256,
        "recipe": asdict(recipe),
        "parameters": shape.parameters,
        "losses": asdict(losses),
        "curve": curve,
        "cpu_seconds": round(time.process_time() - began, 1),
        "torch": torch.__version__,
    }
    (folder / "run.json").write_text(json.dumps(run, indent=2) + "\n", encoding="utf-8")
    return losses


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


def held_out_loss(
    weights: dict[str, Tensor],
    text: ByteText,
    *,
    shape: Shape,
    recipe: Recipe,
    placement: Placement,
) -> float:
    """Return the mean loss, nats a byte, over held-out windows of the training length."""
    ids = torch.from_numpy(windows(text.held_out, length=recipe.length, most=HELD_OUT_WINDOWS))
    with torch.no_grad():
        parts = [
            byte_losses(weights, rows, shape=shape, recipe=recipe, placement=placement)
            for rows in ids.split(EVALUATED_ROWS)
        ]
    return float(torch.cat(parts).mean())


def report(shape: Shape, *, seed: int, step: int, loss: float, began: float) -> None:
    """Print where a run stands."""
    spent = time.process_time() - began
    sys.stdout.write(f"{shape.variant} seed {seed} step {step} loss {loss:.4f} cpu {spent:.0f} s\n")
    sys.stdout.flush()
