"""Write and read the records of versions; every record carries a digest over itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from secrets import token_hex
from typing import Any

import orjson

from service.errors import ArtefactDamaged

FORMAT = 1


@dataclass(frozen=True, slots=True)
class Blob:
    """Say what a stored blob must be.

    Attributes:
        bytes: its size.
        sha256: its digest, 64 hexadecimal digits.
    """

    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Version:
    """Describe one version of an artefact; it never changes.

    Attributes:
        name: the artefact's.
        version: number, from 1.
        created: when, in UTC, ISO 8601.
        metadata: what its maker wrote about it.
        blobs: what belongs to it, by name.
        sha256: digest over metadata and blobs: the same content has the same digest.
        uid: unguessable name of this making; its blobs lie under it.
    """

    name: str
    version: int
    created: str
    metadata: Mapping[str, Any]
    blobs: Mapping[str, Blob]
    sha256: str
    uid: str

    @property
    def id(self) -> str:
        """Return `name@version`."""
        return f"{self.name}@{self.version}"


@dataclass(frozen=True, slots=True)
class Tombstone:
    """Stand where a version was deleted, so that its number is not given again.

    Attributes:
        uid: of the deleted version.
        deleted: when, in UTC, ISO 8601.
    """

    uid: str
    deleted: str


def draft(name: str, metadata: Mapping[str, Any], blobs: Mapping[str, bytes]) -> tuple[str, bytes]:
    """Return a new `uid` and the record of a version that has no number yet.

    Args:
        name: the artefact's.
        metadata: anything that JSON can say; NumPy scalars become numbers.
        blobs: contents, by name.
    """
    uid = token_hex(16)
    content = {
        "metadata": metadata,
        "blobs": {
            blob: {"bytes": len(data), "sha256": sha256(data).hexdigest()}
            for blob, data in blobs.items()
        },
    }
    return uid, seal(
        {
            **content,
            "format": FORMAT,
            "uid": uid,
            "name": name,
            "created": _now(),
            "sha256": sha256(_canonical(content)).hexdigest(),
        }
    )


def bury(version: Version) -> bytes:
    """Return the record that replaces a deleted version's."""
    return seal({"format": FORMAT, "uid": version.uid, "name": version.name, "deleted": _now()})


def read_record(name: str, number: int, record: bytes) -> Version | Tombstone:
    """Return what a record says.

    Raises:
        ArtefactDamaged: the record is not what was written.
    """
    said = unseal(record, f"{name}@{number}")
    if said.get("name") != name or said.get("format") != FORMAT:
        raise ArtefactDamaged(
            f"The record of {name}@{number} is another artefact's or another release's."
        )
    if "deleted" in said:
        return Tombstone(said["uid"], said["deleted"])
    return Version(
        name=name,
        version=number,
        created=said["created"],
        metadata=said["metadata"],
        blobs={blob: Blob(**each) for blob, each in said["blobs"].items()},
        sha256=said["sha256"],
        uid=said["uid"],
    )


def seal(said: Mapping[str, object]) -> bytes:
    """Return canonical JSON of `said` with a digest over all of it under `seal`."""
    return _canonical({**said, "seal": sha256(_canonical(said)).hexdigest()})


def unseal(record: bytes, what: str) -> dict[str, Any]:
    """Return what was sealed.

    Args:
        record: of `seal`.
        what: whose record it is, for the message.

    Raises:
        ArtefactDamaged: a byte of it was changed or is missing.
    """
    try:
        said = orjson.loads(record)
        given = said.pop("seal")
        if sha256(_canonical(said)).hexdigest() == given:
            return dict(said)
    except (ValueError, KeyError, AttributeError, TypeError):  # not JSON, or not an object of ours
        pass
    raise ArtefactDamaged(
        f"The record of {what} does not match its digest. Restore it from a backup, or make the "
        "artefact again."
    )


def _canonical(said: object) -> bytes:
    return orjson.dumps(said, option=orjson.OPT_SORT_KEYS | orjson.OPT_SERIALIZE_NUMPY)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
