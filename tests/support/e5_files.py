"""Write small `E5S1` files, whole or damaged, and compute their encoder in plain NumPy."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

HIDDEN, LAYERS, HEADS, FFN, POSITIONS, TYPES = 64, 2, 2, 96, 16, 2
PIECES = ("<s>", "<pad>", "</s>", "<unk>", "▁", "a", "b", "▁ab", "é", "fi", "<mask>")
ROWS = len(PIECES) + 1
REPLACEMENTS = {"\u0001": "", "ﬁ": "fi", "Ａ": "a", "\t": " "}


@dataclass
class SmallE5:
    """Hold the content of a small file; `blob` writes it.

    The weights come from the 4-bit codes themselves, so that the reference needs no rounding.
    """

    seed: int = 0
    tensors: dict[str, tuple[int, int, bytes]] = field(default_factory=dict)
    weights: dict[str, NDArray[np.float64]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        draw = np.random.default_rng(self.seed)
        self._matrix("emb.word", ROWS, HIDDEN, draw)
        for name, size in (("emb.pos", POSITIONS * HIDDEN), ("emb.type", TYPES * HIDDEN)):
            self._floats(name, draw.normal(0, 0.3, size))
        self._norm("emb.ln", draw)
        for layer in range(LAYERS):
            shapes = {"q": HIDDEN, "k": HIDDEN, "v": HIDDEN, "ao": HIDDEN, "fi": FFN, "fo": HIDDEN}
            for name, out in shapes.items():
                self._matrix(f"l{layer}.{name}.w", out, FFN if name == "fo" else HIDDEN, draw)
                self._floats(f"l{layer}.{name}.b", draw.normal(0, 0.1, out))
            self._norm(f"l{layer}.aln", draw)
            self._norm(f"l{layer}.oln", draw)

    def _norm(self, name: str, draw: np.random.Generator) -> None:
        self._floats(f"{name}.w", 1 + draw.normal(0, 0.1, HIDDEN))
        self._floats(f"{name}.b", draw.normal(0, 0.1, HIDDEN))

    def _floats(self, name: str, values: NDArray[np.float64]) -> None:
        raw = values.astype("<f4")
        self.tensors[name] = (0, raw.size, raw.tobytes())
        self.weights[name] = raw.astype(np.float64)

    def _matrix(self, name: str, rows: int, columns: int, draw: np.random.Generator) -> None:
        raw, values = b"", np.empty((rows, columns))
        for row in range(rows):
            for start in range(0, columns, 32):
                # Half of the scales are negative, as in the real file.
                scale = np.float16(draw.choice([-1, 1]) * draw.uniform(0.01, 0.05))
                codes = draw.integers(0, 16, 32)
                raw += scale.tobytes()
                raw += bytes(int(codes[j] | codes[j + 16] << 4) for j in range(16))
                values[row, start : start + 32] = float(scale) * (codes - 8)
        self.tensors[name] = (1, rows * columns, raw)
        self.weights[name] = values

    def blob(self, *, magic: bytes = b"E5S1", version: int = 1, pieces: int | None = None) -> bytes:
        """Return the file's bytes, with another magic, version or count where one is given."""
        count = len(PIECES)
        head = magic + struct.pack("<I", version)
        sizes = (HIDDEN, LAYERS, HEADS, FFN, ROWS, POSITIONS, TYPES)
        head += struct.pack("<7ifi", *sizes, 1e-12, 32)
        texts = [piece.encode() for piece in PIECES]
        offsets = np.cumsum([0, *map(len, texts)])
        head += struct.pack("<5iQ", count if pieces is None else pieces, 0, 2, 1, 3, offsets[-1])
        head += struct.pack(f"<{count + 1}I", *offsets)
        head += struct.pack(f"<{count}f", *(-float(index) for index in range(count)))
        head += b"".join(texts)
        table = b"".join(
            struct.pack(f"<IB{len(new)}I", ord(old), len(new), *map(ord, new))
            for old, new in REPLACEMENTS.items()
        )
        head += struct.pack("<iI", len(REPLACEMENTS), len(table)) + table
        head += struct.pack("<i", len(self.tensors))
        place = len(head) + sum(2 + len(name) + 21 for name in self.tensors)
        body = b""
        for name, (kind, elements, raw) in self.tensors.items():
            head += struct.pack("<H", len(name)) + name.encode()
            head += struct.pack("<BIQQ", kind, elements, place + len(body), len(raw))
            body += raw
        return head + body

    def forward(self, ids: list[int]) -> dict[str, NDArray[np.float64]]:
        """Return the four raw poolings of one text, in float64."""
        return reference_poolings(self.weights, ids, heads=HEADS, layers=LAYERS)


def reference_poolings(
    weights: dict[str, NDArray[np.float64]], ids: list[int], *, heads: int, layers: int
) -> dict[str, NDArray[np.float64]]:
    """Return mean, cls, first_last and embedding of one text from [out, in] matrices."""
    hidden = weights["emb.word"].shape[1]
    states = weights["emb.word"][ids]
    states = states + weights["emb.pos"].reshape(-1, hidden)[: len(ids)]
    states = states + weights["emb.type"].reshape(-1, hidden)[0]
    embedded = states = _layer_norm(states, weights, "emb.ln")
    outputs = []
    for layer in range(layers):
        name = f"l{layer}"
        attended = _attend(states, weights, name, heads=heads)
        states = _layer_norm(states + attended, weights, f"{name}.aln")
        inner = _dense(states, weights, f"{name}.fi")
        inner = inner * 0.5 * (1 + _erf(inner / np.sqrt(2)))
        states = _layer_norm(states + _dense(inner, weights, f"{name}.fo"), weights, f"{name}.oln")
        outputs.append(states)
    return {
        "mean": states.mean(axis=0),
        "cls": states[0],
        "first_last": (outputs[0].mean(axis=0) + states.mean(axis=0)) / 2,
        "embedding": embedded.mean(axis=0),
    }


def _attend(
    states: NDArray[np.float64], weights: dict[str, NDArray[np.float64]], name: str, *, heads: int
) -> NDArray[np.float64]:
    size = states.shape[1] // heads
    query, key, value = (
        _dense(states, weights, f"{name}.{part}").reshape(-1, heads, size) for part in "qkv"
    )
    scores = np.einsum("ihd,jhd->hij", query, key) / np.sqrt(size)
    shares = np.exp(scores - scores.max(axis=-1, keepdims=True))
    shares /= shares.sum(axis=-1, keepdims=True)
    context = np.einsum("hij,jhd->ihd", shares, value).reshape(states.shape)
    return _dense(context, weights, f"{name}.ao")


def _dense(
    states: NDArray[np.float64], weights: dict[str, NDArray[np.float64]], name: str
) -> NDArray[np.float64]:
    return states @ weights[f"{name}.w"].T + weights[f"{name}.b"]


def _layer_norm(
    states: NDArray[np.float64], weights: dict[str, NDArray[np.float64]], name: str
) -> NDArray[np.float64]:
    centred = states - states.mean(axis=-1, keepdims=True)
    spread = np.sqrt((centred**2).mean(axis=-1, keepdims=True) + 1e-12)
    return centred / spread * weights[f"{name}.w"] + weights[f"{name}.b"]


def _erf(values: NDArray[np.float64]) -> NDArray[np.float64]:
    from math import erf

    return np.vectorize(erf)(values)
