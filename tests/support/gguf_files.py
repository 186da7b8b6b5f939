"""Write small GGUF files: any metadata, tensors of random blocks, a whole tiny decoder."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.gguf.blocks import KINDS

NUMBERS = {kind.name: number for number, kind in KINDS.items()}
ALIGNMENT = 32
TOKENS = 256


@dataclass(frozen=True)
class Written:
    """One tensor: shape slowest first, and its bytes."""

    name: str
    kind: str
    shape: tuple[int, ...]
    content: bytes


def gguf_bytes(
    metadata: Mapping[str, Any], tensors: Sequence[Written], *, version: int = 3
) -> bytes:
    """Return a whole file."""
    head = b"GGUF" + struct.pack("<IQQ", version, len(tensors), len(metadata))
    for key, value in metadata.items():
        head += _text(key) + _value(value)
    data = b""
    for tensor in tensors:
        sizes = tuple(reversed(tensor.shape))
        head += _text(tensor.name) + struct.pack(f"<I{len(sizes)}Q", len(sizes), *sizes)
        head += struct.pack("<IQ", NUMBERS[tensor.kind], len(data))
        data += tensor.content + bytes(-len(tensor.content) % ALIGNMENT)
    return head + bytes(-len(head) % ALIGNMENT) + data


def random_tensor(
    draw: np.random.Generator, name: str, kind: str, shape: tuple[int, ...], *, size: float = 0.1
) -> Written:
    """Return a tensor whose numbers have about the standard deviation `size`."""
    count = int(np.prod(shape))
    if kind in {"F32", "F16"}:
        numbers = draw.uniform(0.5, 1.5, count).astype("<f4" if kind == "F32" else "<f2")
        return Written(name, kind, shape, numbers.tobytes())
    blocks = count // 32
    whole = draw.integers(0, 256, (blocks, 32 if kind == "Q8_0" else 16), dtype=np.uint8)
    steps = {"Q8_0": 74.0, "Q4_0": 4.6, "Q4_1": 4.6}[kind]
    scale = (size / steps * draw.uniform(0.8, 1.2, blocks)).astype("<f2")
    parts: list[NDArray[Any]] = [scale[:, None].view(np.uint8).reshape(blocks, 2)]
    if kind == "Q4_1":
        offset = (scale * draw.uniform(-8.5, -6.5, blocks)).astype("<f2")
        parts.append(offset[:, None].view(np.uint8).reshape(blocks, 2))
    return Written(name, kind, shape, np.hstack([*parts, whole]).tobytes())


def tiny_llama(
    *, layers: int = 2, hidden: int = 64, heads: int = 4, kv_heads: int = 2, inner: int = 96,
    seed: int = 0, **changed: Any,
) -> bytes:  # fmt: skip
    """Return a whole decoder over 256 tokens; `changed` replaces metadata (dots as `__`)."""
    draw = np.random.default_rng(seed)
    own = kv_heads * hidden // heads
    tensors = [
        random_tensor(draw, "token_embd.weight", "Q8_0", (TOKENS, hidden), size=0.3),
        random_tensor(draw, "output_norm.weight", "F32", (hidden,)),
    ]
    for layer in range(layers):
        block = f"blk.{layer}"
        tensors += [
            random_tensor(draw, f"{block}.{name}.weight", "F32", (hidden,))
            for name in ("attn_norm", "ffn_norm")
        ]
        shapes = {
            "attn_q": (hidden, hidden), "attn_k": (own, hidden), "attn_v": (own, hidden),
            "attn_output": (hidden, hidden), "ffn_gate": (inner, hidden),
            "ffn_up": (inner, hidden), "ffn_down": (hidden, inner),
        }  # fmt: skip
        for name, shape in shapes.items():
            # Both kinds of 4 bits occur, also beside each other in one fused matrix.
            kind = "Q4_0" if layer and name in {"attn_k", "ffn_down"} else "Q4_1"
            tensors.append(random_tensor(draw, f"{block}.{name}.weight", kind, shape))
    metadata: dict[str, Any] = {
        "general.architecture": "llama",
        "general.name": "tiny",
        "llama.block_count": layers,
        "llama.context_length": 128,
        "llama.embedding_length": hidden,
        "llama.feed_forward_length": inner,
        "llama.attention.head_count": heads,
        "llama.attention.head_count_kv": kv_heads,
        "llama.attention.layer_norm_rms_epsilon": 1e-5,
        "llama.rope.freq_base": 10_000.0,
        "llama.rope.dimension_count": hidden // heads,
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "smollm",
        "tokenizer.ggml.tokens": [f"<{at}>" for at in range(TOKENS)],
        "tokenizer.ggml.token_type": np.ones(TOKENS, dtype=np.int32),
        "tokenizer.ggml.merges": [],
    }
    metadata |= {key.replace("__", "."): value for key, value in changed.items()}
    return gguf_bytes({key: of for key, of in metadata.items() if of is not None}, tensors)


def _text(text: str) -> bytes:
    content = text.encode()
    return struct.pack("<Q", len(content)) + content


def _value(value: Any) -> bytes:
    if isinstance(value, bool):
        return struct.pack("<I?", 7, value)
    if isinstance(value, int):
        return struct.pack("<II", 4, value)
    if isinstance(value, float):
        return struct.pack("<If", 6, value)
    if isinstance(value, str):
        return struct.pack("<I", 8) + _text(value)
    if isinstance(value, list):
        return struct.pack("<IIQ", 9, 8, len(value)) + b"".join(map(_text, value))
    array = np.asarray(value)
    number = {"int32": 5, "uint32": 4, "float32": 6}[str(array.dtype)]
    return struct.pack("<IIQ", 9, number, array.size) + array.tobytes()
