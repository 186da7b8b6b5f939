"""Write log entries and snapshots as bytes, and read them back.

```
entry: 8 bytes length of the header │ header, JSON with the digest of the rest │ arrays, safetensors
```
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from typing import Any

import numpy as np
import orjson

from service.capabilities.geodesic.numerics.meshes import MeshOptions, assemble
from service.capabilities.geodesic.numerics.proposals import Proposals
from service.capabilities.geodesic.pipeline.corpus import (
    Change,
    Corpus,
    Description,
    Item,
    Making,
)
from service.errors import ArtefactDamaged
from service.numerics.distances import Metric
from service.numerics.graphs import EdgeRule
from service.numerics.neighbours import Neighbours
from service.numerics.shortlists import Hubness
from service.stores.tensors import AnyArray, pack, unpack

_LENGTH_BYTES = 8
_ROWS_A_PART = 32_768
_INDEX_BYTES_A_PART = 64 * 2**20


@dataclass(frozen=True, slots=True)
class Creation:
    """Begin a corpus.

    Attributes:
        uid: of the request that wrote it.
        making: how it is made.
        change: its first items.
        request: idempotency key and digest of the request, None where no key was sent.
    """

    uid: str
    making: Making
    change: Change
    request: tuple[str, str] | None


@dataclass(frozen=True, slots=True)
class Alteration:
    """Change a corpus."""

    uid: str
    change: Change


@dataclass(frozen=True, slots=True)
class Removal:
    """End a corpus."""

    uid: str


Entry = Creation | Alteration | Removal


def write_entry(entry: Entry) -> bytes:
    """Return a log entry as bytes."""
    header: dict[str, Any] = {"kind": type(entry).__name__.lower(), "uid": entry.uid}
    arrays: dict[str, AnyArray] = {}
    if isinstance(entry, Creation):
        header |= {"making": _making(entry.making), "request": entry.request}
    if isinstance(entry, Creation | Alteration):
        header |= {
            "removed": list(entry.change.removed),
            "items": [asdict(item) for item in entry.change.items],
        }
        arrays["vectors"] = entry.change.vectors
    return _frame(header, arrays)


def read_entry(content: bytes, key: str) -> Entry:
    """Return the log entry that `write_entry` wrote.

    Raises:
        ArtefactDamaged: the bytes are not what was written.
    """
    header, arrays = _unframe(content, key)
    if header["kind"] == "removal":
        return Removal(header["uid"])
    items = [Item(**item) for item in header["items"]]
    change = Change(header["removed"], items, arrays["vectors"])
    if header["kind"] == "alteration":
        return Alteration(header["uid"], change)
    request = None if header["request"] is None else (header["request"][0], header["request"][1])
    return Creation(header["uid"], _read_making(header["making"]), change, request)


def write_parts(corpus: Corpus) -> list[bytes]:
    """Return a version as parts, the first of which says what the others are."""
    mesh = corpus.mesh
    parts = []
    for first in range(0, len(corpus.items), _ROWS_A_PART):
        rows = slice(first, first + _ROWS_A_PART)
        items = [None if item is None else asdict(item) for item in corpus.items[rows]]
        arrays = {
            "vectors": mesh.vectors[rows],
            "indices": mesh.neighbours.indices[rows],
            "distances": mesh.neighbours.distances[rows],
            "alive": mesh.alive[rows],
        }
        parts.append(_frame({"items": items}, arrays))
    index = np.empty(0, np.uint8) if mesh.proposals is None else mesh.proposals.write()
    shards = [
        _frame({}, {"index": index[first : first + _INDEX_BYTES_A_PART]})
        for first in range(0, len(index), _INDEX_BYTES_A_PART)
    ]
    header = {
        "name": corpus.name,
        "version": corpus.version,
        "making": _making(corpus.making),
        "recall": mesh.recall,
        "row_parts": len(parts),
        "index_parts": len(shards),
    }
    return [_frame(header, {}), *parts, *shards]


def count_parts(first: bytes, key: str) -> int:
    """Return how many parts follow the first one."""
    header, _ = _unframe(first, key)
    return int(header["row_parts"] + header["index_parts"])


def read_parts(parts: Sequence[bytes], key: str) -> Corpus:
    """Return the version that `write_parts` wrote.

    Raises:
        ArtefactDamaged: the bytes are not what was written.
    """
    header, _ = _unframe(parts[0], key)
    rows_end = 1 + header["row_parts"]
    making = _read_making(header["making"])
    items: list[Item | None] = []
    columns: dict[str, list[AnyArray]] = {}
    for part in parts[1:rows_end]:
        said, arrays = _unframe(part, key)
        items += [None if item is None else Item(**item) for item in said["items"]]
        for name, array in arrays.items():
            columns.setdefault(name, []).append(array)
    whole = {name: np.concatenate(arrays) for name, arrays in columns.items()}
    shards = [_unframe(part, key)[1]["index"] for part in parts[rows_end:]]
    threads = making.options.threads
    mesh = assemble(
        whole["vectors"],
        whole["alive"],
        Neighbours(whole["indices"], whole["distances"]),
        making.options,
        proposals=Proposals.read(np.concatenate(shards), threads=threads) if shards else None,
        recall=header["recall"],
    )
    rows = {item.id: row for row, item in enumerate(items) if item is not None}
    return Corpus(header["name"], header["version"], making, items, rows, mesh)


def write_description(description: Description) -> bytes:
    """Return what a version is as bytes."""
    return _frame(asdict(description), {})


def read_description(content: bytes, key: str) -> Description:
    """Return what `write_description` was given.

    Raises:
        ArtefactDamaged: the bytes are not what was written.
    """
    said, _ = _unframe(content, key)
    return Description(**{**said, "making": _read_making(said["making"])})


def _making(making: Making) -> dict[str, Any]:
    return asdict(making)


def _read_making(said: Mapping[str, Any]) -> Making:
    options = dict(said["options"])
    options |= {
        "metric": Metric(options["metric"]),
        "rule": EdgeRule(options["rule"]),
        "hubness": Hubness(options.get("hubness", Hubness.NONE)),  # older entries lack it
    }
    return Making(
        options=MeshOptions(**options),
        model=said["model"],
        model_sha256=said["model_sha256"],
        transform=said["transform"],
        created=said["created"],
    )


def _frame(header: Mapping[str, Any], arrays: Mapping[str, AnyArray]) -> bytes:
    body = pack(arrays) if arrays else b""
    digest = sha256(body).hexdigest()
    said = orjson.dumps({**header, "sha256": digest}, option=orjson.OPT_SORT_KEYS)
    seal = sha256(said).digest()
    return b"".join([len(said).to_bytes(_LENGTH_BYTES, "little"), seal, said, body])


def _unframe(content: bytes, key: str) -> tuple[dict[str, Any], dict[str, AnyArray]]:
    start = _LENGTH_BYTES + sha256().digest_size
    end = start + int.from_bytes(content[:_LENGTH_BYTES], "little")
    said, body = content[start:end], content[end:]
    if sha256(said).digest() == content[_LENGTH_BYTES:start]:
        header: dict[str, Any] = orjson.loads(said)
        if sha256(body).hexdigest() == header.pop("sha256"):
            return header, unpack(body) if body else {}
    raise ArtefactDamaged(
        f"What is stored as {key} does not match its digest. Restore it from a backup, or make "
        "the corpus again."
    )
