"""Read a GGUF file's metadata and where its tensors lie.

```
magic "GGUF", version u32, tensors u64, entries u64
entries:  key text, kind u32, value
tensors:  name text, dimensions u32, sizes u64 each (fastest first), kind u32, offset u64
padding to the alignment, then the tensors' bytes; offsets count from here
```
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from models.errors import RecipeError
from models.gguf.blocks import KINDS, Tensor
from models.gguf.cursor import Cursor, Value

_MAGIC = b"GGUF"
_VERSIONS = (2, 3)
_MOST_DIMENSIONS = 4
_DEFAULT_ALIGNMENT = 32
_MOST_ALIGNMENT = 2**16
# Bytes of the shortest entry: an empty key, its kind, one byte of value.
_LEAST_ENTRY = 8 + 4 + 1
# Of the shortest tensor: an empty name, dimensions, one size, kind, offset.
_LEAST_TENSOR = 8 + 4 + 8 + 4 + 8


@dataclass(frozen=True, slots=True)
class GgufFile:
    """Hold what a file says.

    Attributes:
        metadata: key to value; an array of texts is a list, one of numbers a NumPy array.
        tensors: name to tensor, in the file's order.
    """

    metadata: dict[str, Value]
    tensors: dict[str, Tensor]

    def number(self, key: str) -> float:
        """Return a number of the metadata.

        Raises:
            RecipeError: it is missing or is not a number.
        """
        value = self.metadata.get(key)
        if isinstance(value, bool) or not isinstance(value, int | float):
            message = f"GGUF metadata {key!r} is to be a number, not {_short(value)}"
            raise RecipeError(message)
        return value

    def texts(self, key: str) -> list[str]:
        """Return a list of texts of the metadata.

        Raises:
            RecipeError: it is missing or is not a list of texts.
        """
        value = self.metadata.get(key)
        if not isinstance(value, list):
            message = f"GGUF metadata {key!r} is to be a list of texts, not {_short(value)}"
            raise RecipeError(message)
        return value

    def tensor(self, name: str) -> Tensor:
        """Return one tensor.

        Raises:
            RecipeError: the file has none of this name.
        """
        if name not in self.tensors:
            message = f"the GGUF file has no tensor {name!r}; it has {len(self.tensors)} others"
            raise RecipeError(message)
        return self.tensors[name]


def parse_gguf(content: bytes | memoryview) -> GgufFile:
    """Return the metadata and tensors of a GGUF file; tensors are views of `content`.

    Raises:
        RecipeError: the file breaks the format, is cut short, or has an element kind that we
            do not read; the message names the field.
    """
    view = memoryview(content)
    cursor = Cursor(view)
    magic = bytes(cursor.take(len(_MAGIC), field="magic"))
    if magic != _MAGIC:
        message = f"a GGUF file starts with {_MAGIC!r}, this one with {magic!r}"
        raise RecipeError(message)
    version = cursor.whole(field="version")
    if version not in _VERSIONS:
        message = f"GGUF version {version} is not one of {_VERSIONS} (little-endian)"
        raise RecipeError(message)
    tensors = cursor.count(field="tensor_count", least=_LEAST_TENSOR)
    entries = cursor.count(field="metadata_count", least=_LEAST_ENTRY)
    metadata = _metadata(cursor, entries)
    found = [_described(cursor) for _ in range(tensors)]
    start = -(-cursor.place // _alignment(metadata)) * _alignment(metadata)
    return GgufFile(metadata, _placed(found, view[start:]))


def _metadata(cursor: Cursor, entries: int) -> dict[str, Value]:
    metadata: dict[str, Value] = {}
    for index in range(entries):
        key = cursor.text(field=f"metadata[{index}].key")
        if key in metadata:
            message = f"GGUF metadata names {key!r} twice"
            raise RecipeError(message)
        metadata[key] = cursor.value(field=f"metadata[{key!r}]")
    return metadata


def _alignment(metadata: dict[str, Value]) -> int:
    value = metadata.get("general.alignment", _DEFAULT_ALIGNMENT)
    if not isinstance(value, int) or not 0 < value <= _MOST_ALIGNMENT:
        message = f"GGUF general.alignment is to be 1 to {_MOST_ALIGNMENT}, not {_short(value)}"
        raise RecipeError(message)
    return value


@dataclass(frozen=True, slots=True)
class _Description:
    name: str
    shape: tuple[int, ...]
    kind: str
    offset: int
    length: int


def _described(cursor: Cursor) -> _Description:
    name = cursor.text(field="tensor name")
    field = f"tensor {name!r}"
    dimensions = cursor.whole(field=f"{field}.dimensions")
    if not 1 <= dimensions <= _MOST_DIMENSIONS:
        message = f"GGUF {field} has {dimensions} dimensions; 1 to {_MOST_DIMENSIONS} are allowed"
        raise RecipeError(message)
    sizes = [int(cursor.number("Q", field=f"{field}.shape")) for _ in range(dimensions)]
    number = cursor.whole(field=f"{field}.kind")
    offset = int(cursor.number("Q", field=f"{field}.offset"))
    if number not in KINDS:
        known = ", ".join(f"{kind.name} ({key})" for key, kind in KINDS.items())
        message = f"GGUF {field} has element kind {number}; read are {known}"
        raise RecipeError(message)
    kind = KINDS[number]
    if 0 in sizes or sizes[0] % kind.elements:
        message = (
            f"GGUF {field} has shape {sizes}: sizes are to be positive, and rows of "
            f"{kind.name} a multiple of {kind.elements}"
        )
        raise RecipeError(message)
    length = math.prod(sizes) // kind.elements * kind.bytes
    return _Description(name, tuple(reversed(sizes)), kind.name, offset, length)


def _placed(found: list[_Description], data: memoryview) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = {}
    for each in found:
        if each.name in tensors:
            message = f"GGUF tensor {each.name!r} occurs twice"
            raise RecipeError(message)
        if each.offset + each.length > len(data):
            message = (
                f"GGUF tensor {each.name!r} claims bytes {each.offset} to "
                f"{each.offset + each.length} of {len(data)} bytes of data"
            )
            raise RecipeError(message)
        content = data[each.offset : each.offset + each.length]
        tensors[each.name] = Tensor(each.name, each.kind, each.shape, content)
    return tensors


def _short(value: object) -> str:
    text = "missing" if value is None else repr(value)
    return text if len(text) < 50 else f"{text[:50]}…"  # noqa: PLR2004
