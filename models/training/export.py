"""Make a decoder family of finished runs: weights, graphs, provenance, manifest entry."""

from __future__ import annotations

import json
import platform
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from safetensors.numpy import load_file

from models.decoder.description import cache_shapes
from models.digest import measure
from models.errors import RecipeError
from models.graph import IR_VERSION, OPSET
from models.training.evaluation import Measurement
from models.training.family import DEFAULT_VARIANT, FAMILY, forms, rewrite, sizes, write_variant
from models.training.recipe import PRE_NORM, TRAINED_LENGTH, Recipe
from models.training.runs import (
    WEIGHTS_FILE,
    Run,
    finished_runs,
    read_measured,
    read_run,
    run_folder,
)
from models.training.shape import BYTES, VARIANTS, Shape

PROVENANCE_FILE = "provenance.json"
TEXT = "collected plays of Shakespeare, held-out tenth"
TOLERANCE = 1e-5


def export(runs: Path, folder: Path, *, seed: int) -> dict[str, object]:
    """Write the family made of every variant's run with `seed`; return its manifest entry.

    The record of all seeds, and all that was measured of them, goes into `provenance.json`.

    Raises:
        RecipeError: a run is not finished or not measured, or two runs differ in text or recipe.
    """
    records = [(read_run(path), read_measured(path)) for path in finished_runs(runs)]
    require_fair([run for run, _ in records])
    folder.mkdir(parents=True, exist_ok=True)
    for shape in VARIANTS.values():
        source = run_folder(runs, shape.variant, seed)
        read_run(source)
        write_variant(folder, shape, load_file(source / WEIGHTS_FILE))
    told = json.dumps(provenance(records, folder, seed=seed), indent=1) + "\n"
    (folder / PROVENANCE_FILE).write_text(told, encoding="utf-8")
    return provenance_entry(folder)


def refresh(folder: Path) -> dict[str, object]:
    """Write a committed family's graphs anew; return its manifest entry."""
    rewrite(folder)
    return provenance_entry(folder)


def provenance_entry(folder: Path) -> dict[str, object]:
    """Return the manifest entry of a family as its files and its provenance tell it."""
    told = json.loads((folder / PROVENANCE_FILE).read_text(encoding="utf-8"))
    measured = [Measurement(**one) for one in told["measured"]]
    exported = [one for one in measured if one.seed == told["exported_seed"]]
    return entry(folder, exported, text_sha256=told["text"]["sha256"])


def require_fair(runs: Sequence[Run]) -> None:
    """Raise unless all runs read the same text by the same recipe.

    Raises:
        RecipeError: there is no run, two differ, or they are of a kind that no graph expresses.
    """
    if not runs:
        raise RecipeError("no finished run was found: train first")
    if runs[0].recipe.residual != PRE_NORM:
        raise RecipeError(
            f"the graphs are {PRE_NORM} and the runs {runs[0].recipe.residual}: such models can be "
            "trained, not exported"
        )
    for run in runs:
        if (run.text_sha256, run.recipe) != (runs[0].text_sha256, runs[0].recipe):
            raise RecipeError(
                f"{run.variant}-{run.seed} was trained on another text or by another recipe than "
                f"{runs[0].variant}-{runs[0].seed}: a comparison would not be fair"
            )


def provenance(
    records: Sequence[tuple[Run, Sequence[Measurement]]], folder: Path, *, seed: int
) -> dict[str, object]:
    """Return where the weights come from, what every run reached, and what was measured."""
    first = records[0][0]
    variants: dict[str, dict[str, object]] = {
        name: {
            "parameters": shape.parameters,
            "ffn_dim": shape.ffn_dim,
            "cache_elements": shape.cache_elements,
            "weights": measure(folder / f"{name}.safetensors"),
        }
        for name, shape in VARIANTS.items()
    }
    reached = defaultdict(list)
    for run, _ in records:
        losses = {"seed": run.seed, **asdict(run.losses), "cpu_seconds": run.cpu_seconds}
        reached[run.variant].append(losses)
    return {
        "script": "python -m models.training",
        "text": {"title": TEXT, "sha256": first.text_sha256, "held_out": "the last tenth"},
        "recipe": asdict(first.recipe),
        "torch": first.torch,
        "machine": platform.machine(),
        "exported_seed": seed,
        "variants": {name: {**told, "runs": reached[name]} for name, told in variants.items()},
        "measured": [asdict(one) for _, measured in records for one in measured],
    }


def entry(folder: Path, measured: Sequence[Measurement], *, text_sha256: str) -> dict[str, object]:
    """Return the manifest entry of an exported family, its files digested.

    Args:
        folder: the family.
        measured: perplexities of the exported runs.
        text_sha256: of the text they were trained on.
    """
    own = {one.variant: one for one in measured if one.length == TRAINED_LENGTH}
    common = sizes(VARIANTS[DEFAULT_VARIANT])
    return {
        "id": FAMILY,
        "kind": "decoder",
        "description": "Bytes of English verse, one small model for each kind of attention; "
        "trained by our own recipe to compare them fairly.",
        "languages": ["en"],
        "licence": "Apache-2.0",
        "source": {"name": "models.training", "text_sha256": text_sha256},
        "recipe": "committed",
        "options": {},
        "opset": OPSET,
        "ir_version": IR_VERSION,
        "max_tokens": TRAINED_LENGTH,
        "vocabulary": BYTES,
        "tokenizer": "bytes",
        "chat": None,
        "bos_id": None,
        "eos_ids": [],
        "layers": common.layers,
        "hidden": common.hidden,
        "q_heads": common.q_heads,
        "head_dim": common.head_dim,
        "rope_base": Recipe().rope_base,
        "default_variant": DEFAULT_VARIANT,
        "serving": None,
        "variants": {
            name: described
            for shape in VARIANTS.values()
            for name, described in variants(shape, own[shape.variant]).items()
        },
        "tolerance": {"max_abs_difference": TOLERANCE},
        "files": {path.name: measure(path) for path in sorted(folder.iterdir())},
    }


def variants(shape: Shape, measured: Measurement) -> dict[str, dict[str, object]]:
    """Return what the manifest says of each graph of one trained variant."""
    described: dict[str, dict[str, object]] = {}
    for name, form in forms(shape).items():
        cached = cache_shapes(sizes(shape), form).values()
        described[name] = {
            "file": f"{name}.onnx",
            "windowed": f"{name}.windowed.onnx",
            "formula": form.formula,
            "kv_heads": form.kv_heads if form.kv_rank is None else None,
            "kv_rank": form.kv_rank,
            "rope_dim": form.rope_dim,
            "cache_elements": sum(heads * width for heads, width in cached),
            "lossy": False,
            "scale": shape.scale,
            "normaliser": shape.normalization,
            "perplexity": {
                "text": TEXT,
                "windows": measured.windows,
                "length": measured.length,
                "value": round(measured.perplexity, 4),
            },
        }
    return described
