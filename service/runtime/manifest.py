"""Describe one built model and refuse files that are not the pinned ones."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from service.errors import ArtefactDamaged, ModelNotReady
from service.runtime.family import FamilyEntry, parse_family

MANIFEST_NAME = "manifest.json"
_CHUNK_BYTES = 1 << 20
TOKENIZER = "tokenizer"
DECODER = "decoder"
# What the answer says that an operation got in place of an encoder.
KIND_NAMES = {TOKENIZER: "a tokenizer", DECODER: "a language model"}
_NO_VECTORS: dict[str, object] = {"dimensions": 0, "pooling": "", "poolings": ()}
# What a kind lacks of the fields of an encoder.
_LACKING: dict[str, dict[str, object]] = {
    TOKENIZER: {**_NO_VECTORS, "max_tokens": 0, "opset": 0},
    DECODER: _NO_VECTORS,
}


@dataclass(frozen=True, slots=True)
class Manifest:
    """Hold what the service must know about one model folder.

    Attributes:
        id: name that requests use.
        kind: what the model does; `encoder` turns a text into a vector, `tokenizer` into pieces,
            `decoder` continues it. The fields from `dimensions` on are those of an encoder;
            `max_tokens` and `opset` a decoder has too.
        description: one sentence for people.
        languages: ISO 639-1 codes.
        licence: SPDX name of the weights' licence.
        source: where the weights came from.
        files: file name to (sha256, bytes).
        dimensions: length of a vector.
        max_tokens: pieces that the model reads at most, special ones included.
        pooling: default of `poolings`.
        poolings: ways to turn positions into one vector.
        prefix: text put before every input, by default.
        prefixes: role to prefix, where the model was trained with several.
        opset: ONNX operator set of the graph.
        tolerance: largest difference to the reference implementation that was accepted.
        family: of a decoder, None for every other kind.
    """

    id: str
    kind: str
    description: str
    languages: tuple[str, ...]
    licence: str
    source: Mapping[str, object]
    files: Mapping[str, tuple[str, int]]
    dimensions: int
    max_tokens: int
    pooling: str
    poolings: tuple[str, ...]
    prefix: str
    prefixes: Mapping[str, str]
    opset: int
    tolerance: Mapping[str, float]
    family: FamilyEntry | None = None

    @property
    def sha256(self) -> str:
        """Return one digest over every file's name and digest: graph and tokenizer together."""
        digest = hashlib.sha256()
        for name in sorted(self.files):
            digest.update(f"{name}:{self.files[name][0]}\n".encode())
        return digest.hexdigest()


def parse_manifest(entry: Mapping[str, object], origin: str) -> Manifest:
    """Return the manifest of one entry of a manifest file.

    Args:
        entry: parsed JSON object.
        origin: where it was read, for the message.

    Raises:
        ArtefactDamaged: a field is missing or of the wrong type.
    """
    try:
        files = {
            name: (str(pin["sha256"]), int(pin["bytes"]))
            for name, pin in entry["files"].items()  # type: ignore[attr-defined]
        }
        kind = str(entry["kind"])
        described = {**_LACKING.get(kind, {}), **entry}
        return Manifest(
            id=str(entry["id"]),
            kind=kind,
            description=str(entry["description"]),
            languages=tuple(entry["languages"]),  # type: ignore[arg-type]
            licence=str(entry["licence"]),
            source=dict(entry["source"]),  # type: ignore[call-overload]
            files=files,
            dimensions=int(described["dimensions"]),  # type: ignore[call-overload]
            max_tokens=int(described["max_tokens"]),  # type: ignore[call-overload]
            pooling=str(described["pooling"]),
            poolings=tuple(described["poolings"]),  # type: ignore[arg-type]
            prefix=str(entry.get("prefix", "")),
            prefixes=dict(entry.get("prefixes", {})),  # type: ignore[call-overload]
            opset=int(described["opset"]),  # type: ignore[call-overload]
            tolerance=_parse_tolerance(entry.get("tolerance", {})),
            family=parse_family(entry, files) if kind == DECODER else None,
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ArtefactDamaged(
            f"{origin} is not a manifest of this service: {error!r}. Build the model again."
        ) from error


def _parse_tolerance(value: object) -> dict[str, float]:
    """Return tolerances by name; a single number is that of the logits."""
    if isinstance(value, (int, float)):
        return {"logits": float(value)}
    return dict(value)  # type: ignore[call-overload, no-any-return]


def read_manifest(folder: Path) -> Manifest:
    """Return the manifest that lies in a model folder.

    Raises:
        ModelNotReady: the folder or its manifest is not there.
        ArtefactDamaged: the manifest cannot be read.
    """
    path = folder / MANIFEST_NAME
    try:
        entry = json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise ModelNotReady(
            f"There is no model in {folder.name!r}. "
            f"Build it with `isotrope models build {folder.name}`."
        ) from error
    except ValueError as error:
        raise ArtefactDamaged(f"{path} is not JSON: {error}. Build the model again.") from error
    if not isinstance(entry, dict):
        raise ArtefactDamaged(f"{path} holds no JSON object. Build the model again.")
    return parse_manifest(entry, str(path))


def verify_files(folder: Path, manifest: Manifest, names: Collection[str] | None = None) -> None:
    """Compare files of a model with the digests pinned for them.

    Args:
        folder: where they lie.
        manifest: holds the pins.
        names: files to look at, all of them by default.

    Raises:
        ArtefactDamaged: a file is missing or not pinned, or its size or SHA-256 differs.
    """
    for name in manifest.files if names is None else names:
        if name not in manifest.files:
            raise ArtefactDamaged(f"{manifest.id}: no digest is pinned for {name[:80]!r}.")
        sha256, size = manifest.files[name]
        path = folder / name
        if not path.is_file():
            raise ArtefactDamaged(
                f"{manifest.id}: {name} is missing. Run `isotrope models build {manifest.id}`."
            )
        found = path.stat().st_size
        if found != size:
            raise ArtefactDamaged(f"{manifest.id}: {name} has {found} bytes, {size} are pinned.")
        digest = file_sha256(path)
        if digest != sha256:
            raise ArtefactDamaged(
                f"{manifest.id}: {name} has SHA-256 {digest}, {sha256} is pinned. "
                f"Run `isotrope models build {manifest.id} --force`."
            )


def file_sha256(path: Path) -> str:
    """Return the hexadecimal SHA-256 of a file, read in pieces of 1 MiB."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()
