"""Open a decoder's graphs and feed them windows of a text."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from tokenizers import Tokenizer

from service.numerics.attention.positions import RopeScheme, rope_tables
from service.numerics.attention.scales import ScaleScheme, row_scale

Feeds = dict[str, NDArray[Any]]
# The windows are spread over this part of the text; the rest was for calibrating.
JUDGING_PART = 0.8
DIRECT, PLAIN = RopeScheme(), ScaleScheme()


@dataclass(frozen=True, slots=True)
class Family:
    """Hold one decoder's folder and what its manifest says."""

    folder: Path
    manifest: Mapping[str, Any]

    @classmethod
    def open(cls, folder: Path) -> Family:
        text = (folder / "manifest.json").read_text(encoding="utf-8")
        return cls(folder, json.loads(text))

    def tokenizer(self) -> Tokenizer:
        return Tokenizer.from_file(str(self.folder / self.manifest["tokenizer"]))

    def session(self, file: str, *, threads: int = 2) -> onnxruntime.InferenceSession:
        return open_session(self.folder / file, threads=threads)


def open_session(path: Path, *, threads: int) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def judging_windows(family: Family, text: str, *, count: int, length: int) -> list[list[int]]:
    """Return windows of tokens, evenly spread over the part of the text kept for judging."""
    ids = family.tokenizer().encode(text[: int(JUDGING_PART * len(text))]).ids
    starts = np.linspace(0, len(ids) - length, count).astype(int)
    return [ids[start : start + length] for start in starts]


def whole_feeds(
    session: onnxruntime.InferenceSession,
    family: Family,
    ids: list[int],
    *,
    rope: RopeScheme = DIRECT,
    scale: ScaleScheme = PLAIN,
) -> Feeds:
    """Return the inputs of one sequence from position 0 on, by what the graph declares."""
    declared = {given.name: given.shape for given in session.get_inputs()}
    positions = np.arange(len(ids))
    tables = rope_tables(
        rope,
        queries=positions,
        keys=positions,
        rope_dim=2 * declared["q_cos"][2],
        base=family.manifest["rope_base"],
    )
    factors = row_scale(scale, positions + 1, head_dim=family.manifest["head_dim"])
    feeds: Feeds = {
        "input_ids": np.array([ids]),
        "q_scale": factors[None, :, None].astype(np.float32),
        "logits_from": np.array([0]),
    }
    for side, rotation in (("q", tables.queries), ("k", tables.keys)):
        feeds[f"{side}_cos"], feeds[f"{side}_sin"] = rotation.cos[None], rotation.sin[None]
    for name, shape in declared.items():
        if name.startswith("past."):
            feeds[name] = np.zeros((1, shape[1], 0, shape[3]), dtype=np.float32)
    return feeds


def log_likelihoods(logits: NDArray[np.float32], ids: list[int]) -> NDArray[np.float64]:
    """Return ln p of each token after the first, (n - 1,), from logits (n, vocabulary)."""
    return log_softmax(logits[:-1])[np.arange(len(ids) - 1), ids[1:]]


def log_softmax(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    wide = logits.astype(np.float64)
    wide -= wide.max(axis=-1, keepdims=True)
    wide -= np.log(np.exp(wide).sum(axis=-1, keepdims=True))
    return wide


def perplexity(
    session: onnxruntime.InferenceSession,
    family: Family,
    windows: list[list[int]],
    *,
    rope: RopeScheme = DIRECT,
    scale: ScaleScheme = PLAIN,
) -> float:
    """Return exp of the mean negative log-likelihood over all windows."""
    found = []
    for ids in windows:
        feeds = whole_feeds(session, family, ids, rope=rope, scale=scale)
        (logits,) = session.run(["logits"], feeds)
        found.append(log_likelihoods(logits[0], ids))
    return float(np.exp(-np.concatenate(found).mean()))
