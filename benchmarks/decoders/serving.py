"""The serving graph: closeness to the float graph, and that no row's bits depend on others."""

from __future__ import annotations

import numpy as np

from benchmarks.decoders.arena import Arena
from benchmarks.decoders.graphs import Family, log_likelihoods, log_softmax, whole_feeds
from benchmarks.results import Bar

PROMPTS, PROMPT_TOKENS = 20, 96
RAGGED = (20, 57, 101, 133, 7, 64, 90, 33)
STEPS = 4
LARGEST_FILES = 115.0


def closeness_bars(family: Family, windows: list[list[int]]) -> list[Bar]:
    """Return top-1 agreement, KL and perplexity against the float graph on 20 prompts."""
    said = family.manifest
    native = family.session(said["variants"][said["default_variant"]]["file"])
    arena = Arena(family.session(said["serving"], threads=1), family, rows=1, capacity=256)
    same, distances, wanted, found = [], [], [], []
    for ids in windows:
        (logits,) = native.run(["logits"], whole_feeds(native, family, ids))
        arena.lengths[:] = 0
        ours = arena.step(np.array([ids]))[0]
        reference, given = log_softmax(logits[0]), log_softmax(ours)
        same.append(reference.argmax(axis=-1) == given.argmax(axis=-1))
        distances.append((np.exp(reference) * (reference - given)).sum(axis=-1))
        wanted.append(log_likelihoods(logits[0], ids))
        found.append(log_likelihoods(ours, ids))
    ratio = np.exp(np.concatenate(wanted).mean() - np.concatenate(found).mean())
    note = f"{len(windows)} prompts of {len(windows[0])} tokens"
    return [
        Bar("top-1 agreement with the float graph", float(np.concatenate(same).mean()),
            relation=">=", limit=0.92, note=note),
        Bar("KL from the float graph, mean a step", float(np.concatenate(distances).mean()),
            relation="<=", limit=0.010, unit="nat", note=note),
        Bar("perplexity / float graph", float(ratio), relation="<=", limit=1.02, unit="x",
            note=note),
        size_bar(family),
    ]  # fmt: skip


def size_bar(family: Family) -> Bar:
    """Return the size of what generating needs."""
    files = [family.manifest["serving"], "weights.bin"]
    size = sum((family.folder / name).stat().st_size for name in files) / 1e6
    return Bar("serving.onnx + weights.bin", size, relation="<=", limit=LARGEST_FILES, unit="MB")


def row_bars(family: Family, windows: list[list[int]]) -> list[Bar]:
    """Return how many rows of ragged batches of 2, 3, 4, 8 differ in any bit between batches."""
    session = family.session(family.manifest["serving"], threads=1)
    source = Arena(session, family, rows=len(RAGGED), capacity=256)
    tokens = [ids for window in windows for ids in window]
    for row, length in enumerate(RAGGED):
        _fill_row(session, family, source, row, tokens[row * 200 : row * 200 + length])
    seen: dict[int, bytes] = {}
    differing = compared = 0
    for rows in ((0, 1), (1, 0, 2), (3, 2, 1, 0), (4, 5), (6, 7, 4), tuple(range(8))):
        arena = Arena(session, family, rows=len(rows), capacity=256)
        arena.fill_ragged(source, rows)
        logits = [arena.step(np.full((len(rows), 1), 300 + at)) for at in range(STEPS)]
        for place, row in enumerate(rows):
            bits = np.stack([step[place] for step in logits]).tobytes()
            compared += row in seen
            differing += seen.setdefault(row, bits) != bits
    return [
        Bar("rows that differ between ragged batches of 2, 3, 4, 8", differing,
            relation="<=", limit=0, note=f"{compared} compared, {STEPS} steps each")
    ]  # fmt: skip


def _fill_row(session: object, family: Family, source: Arena, row: int, ids: list[int]) -> None:
    alone = Arena(session, family, rows=1, capacity=256)  # type: ignore[arg-type]
    alone.prefill(ids)
    for whole, one in zip(source._held, alone._held, strict=True):
        block = whole.numpy()
        block[row] = one.numpy()[0]
        whole.update_inplace(block)
    source.lengths[row] = len(ids)
