"""Write GGUF files: a tiny Llama with random weights, in every kind of block that is read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.decoder.description import Sizes
from tests.support.byte_pairs import trained_tokenizer
from tests.support.gguf_files import Written, gguf_bytes

Floats = NDArray[np.float32]
Metadata = dict[str, Any]

SIZES = Sizes(
    layers=2, hidden=64, q_heads=4, head_dim=16, vocabulary=0, epsilon=1e-5, interleaved=1
)
KV_HEADS, FEED_FORWARD, MAX_TOKENS, ROPE_BASE = 2, 96, 256, 10_000.0
_MATRICES = {
    "attention/query": ("attn_q", 64, 64),
    "attention/key": ("attn_k", 64, 32),
    "attention/value": ("attn_v", 64, 32),
    "attention/output": ("attn_output", 64, 64),
    "feed_forward/gate": ("ffn_gate", 64, 96),
    "feed_forward/up": ("ffn_up", 64, 96),
    "feed_forward/down": ("ffn_down", 96, 64),
}


@dataclass(frozen=True, slots=True)
class Block:
    """Hold one tensor: its kind, its numbers before rounding."""

    kind: str
    numbers: Floats


@dataclass(frozen=True, slots=True)
class TinyLlama:
    """Hold what a file says, and the numbers that it really holds.

    Attributes:
        metadata: by key.
        tensors: by name.
    """

    metadata: Metadata
    tensors: dict[str, Block]

    @property
    def sizes(self) -> Sizes:
        """Return the sizes, with the vocabulary's."""
        rows = self.tensors["token_embd.weight"].numbers.shape[0]
        return Sizes(2, 64, 4, 16, rows, 1e-5, interleaved=1)

    def weights(self) -> dict[str, Floats]:
        """Return the rounded weights by the names of `FloatSource`; matrices (n, m)."""
        held = {name: rounded(block) for name, block in self.tensors.items()}
        found = {"embedding": held["token_embd.weight"], "norm": held["output_norm.weight"]}
        for layer in range(SIZES.layers):
            place, block = f"layers.{layer}", f"blk.{layer}"
            for part, (name, _, _) in _MATRICES.items():
                found[f"{place}/{part}"] = held[f"{block}.{name}.weight"].T
            found[f"{place}/attention/norm"] = held[f"{block}.attn_norm.weight"]
            found[f"{place}/feed_forward/norm"] = held[f"{block}.ffn_norm.weight"]
        return found

    def write(self, path: Path) -> Path:
        """Write the file."""
        path.write_bytes(file_bytes(self.metadata, self.tensors))
        return path


def tiny_llama(matrices: str = "Q4_1", table: str = "Q8_0", *, seed: int = 0) -> TinyLlama:
    """Return a tied decoder with the vocabulary of the trained byte-level tokenizer."""
    draw = np.random.default_rng(seed)
    tokens = len(trained_tokenizer().pieces.texts)

    def matrix(rows: int, columns: int, size: float = 1.0) -> Floats:
        return (size * draw.normal(size=(rows, columns)) / np.sqrt(columns)).astype(np.float32)

    def scale(width: int) -> Block:
        return Block("F32", draw.uniform(0.5, 1.5, width).astype(np.float32))

    tensors = {"token_embd.weight": Block(table, matrix(tokens, 64, 3.0))}
    for layer in range(SIZES.layers):
        for name, columns, rows in _MATRICES.values():
            tensors[f"blk.{layer}.{name}.weight"] = Block(matrices, matrix(rows, columns))
        for name in ("attn_norm", "ffn_norm"):
            tensors[f"blk.{layer}.{name}.weight"] = scale(64)
    tensors["output_norm.weight"] = scale(64)
    return TinyLlama(_metadata(), tensors)


def _metadata() -> Metadata:
    model = json.loads(trained_tokenizer().tokenizer.to_str())["model"]
    tokens = sorted(model["vocab"], key=model["vocab"].__getitem__)
    return {
        "general.architecture": "llama",
        "general.license": "apache-2.0",
        "llama.block_count": SIZES.layers,
        "llama.embedding_length": 64,
        "llama.feed_forward_length": FEED_FORWARD,
        "llama.attention.head_count": 4,
        "llama.attention.head_count_kv": KV_HEADS,
        "llama.attention.layer_norm_rms_epsilon": 1e-5,
        "llama.context_length": MAX_TOKENS,
        "llama.rope.freq_base": ROPE_BASE,
        "llama.rope.dimension_count": 16,
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "gpt-2",
        "tokenizer.ggml.tokens": [*tokens, "<end>"],
        "tokenizer.ggml.token_type": np.array([*[1] * len(tokens), 3], np.int32),
        "tokenizer.ggml.merges": [" ".join(pair) for pair in model["merges"]],
        "tokenizer.ggml.eos_token_id": len(tokens),
    }


def file_bytes(metadata: Mapping[str, Any], tensors: Mapping[str, Block]) -> bytes:
    """Return the file."""
    written = [
        Written(name, block.kind, block.numbers.shape, _blocks(block))
        for name, block in tensors.items()
    ]
    return gguf_bytes(metadata, written)


def rounded(block: Block) -> Floats:
    """Return the numbers that a block holds, from its definition."""
    rows = block.numbers.reshape(-1, 32)
    if block.kind == "F32":
        return block.numbers
    if block.kind == "F16":
        return block.numbers.astype(np.float16).astype(np.float32)
    scale, offset, whole = _quantise(block.kind, rows)
    return (scale * whole.astype(np.float32) + offset).reshape(block.numbers.shape)


def _quantise(kind: str, rows: Floats) -> tuple[Floats, Floats, NDArray[np.int64]]:
    """Return d, m (rows, 1) and q (rows, 32), so that w = d q + m."""
    if kind == "Q4_1":
        low = rows.min(axis=1, keepdims=True)
        scale, offset = _half((rows.max(axis=1, keepdims=True) - low) / 15), _half(low)
        return scale, offset, np.clip(np.rint((rows - offset) / scale), 0, 15).astype(np.int64)
    largest = np.abs(rows).max(axis=1, keepdims=True)
    most = 127 if kind == "Q8_0" else 7
    scale = _half(largest / most)
    whole = np.clip(np.rint(rows / scale), -most - 1, most).astype(np.int64)
    return scale, np.zeros_like(scale), whole


def _half(numbers: Floats) -> Floats:
    return numbers.astype(np.float16).astype(np.float32)


def _blocks(block: Block) -> bytes:
    if block.kind in {"F32", "F16"}:
        return block.numbers.astype("<f4" if block.kind == "F32" else "<f2").tobytes()
    scale, offset, whole = _quantise(block.kind, block.numbers.reshape(-1, 32))
    parts = [scale.astype("<f2").view(np.uint8).reshape(len(scale), 2)]
    if block.kind == "Q4_1":
        parts.append(offset.astype("<f2").view(np.uint8).reshape(len(scale), 2))
    if block.kind == "Q8_0":
        parts.append(whole.astype(np.int8).view(np.uint8))
    else:
        shifted = (whole + (8 if block.kind == "Q4_0" else 0)).astype(np.uint8)
        parts.append(shifted[:, :16] | shifted[:, 16:] << 4)
    return np.hstack(parts).tobytes()
