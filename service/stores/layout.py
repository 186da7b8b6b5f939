"""Name the keys of versioned artefacts; the one place that knows where things lie.

```
<collection>/artefacts/<name>/versions/00000003.json    the record: once it is there, so is name@3
<collection>/artefacts/<name>/blobs/<uid>-<blob>         what it points to, written before it
<collection>/claims/<digest>.json                        what an idempotency key stands for
```
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from hashlib import sha256

from service.errors import Fault, InvalidInput, UnknownArtefact

NAME_PATTERN = r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}"
MOST_VERSIONS = 10**8 - 1

_NAME = re.compile(NAME_PATTERN)
_ID = re.compile(rf"({NAME_PATTERN})(?:@([1-9][0-9]{{0,7}}))?")
_COLLECTION = re.compile(r"[a-z][a-z0-9-]{0,63}")
_RECORD = re.compile(rf"([a-z][a-z0-9-]*)/artefacts/({NAME_PATTERN})/versions/([0-9]{{8}})\.json")
_BLOB = re.compile(rf"([a-z][a-z0-9-]*)/artefacts/({NAME_PATTERN})/blobs/([0-9a-f]{{32}})-(.+)")
_CLAIM = re.compile(r"([a-z][a-z0-9-]*)/claims/[0-9a-f]{64}\.json")


@dataclass(frozen=True, slots=True)
class Shelf:
    """Name the keys of one artefact's versions.

    Attributes:
        collection: what kind of artefact it is.
        name: the artefact's.
    """

    collection: str
    name: str

    @property
    def records(self) -> str:
        """Return the prefix of all records."""
        return f"{self.collection}/artefacts/{self.name}/versions/"

    def record(self, number: int) -> str:
        """Return the key of one version's record."""
        return f"{self.records}{number:08}.json"

    def blob(self, uid: str, blob: str) -> str:
        """Return the key of one blob of the version that was written as `uid`."""
        return f"{self.collection}/artefacts/{self.name}/blobs/{uid}-{blob}"


def check_name(name: str) -> None:
    """Refuse a name that cannot stand in a key.

    Raises:
        InvalidInput: it is empty, longer than 64 characters or has others than letters, digits,
            `.`, `_` and `-`, or begins with one of those three.
    """
    if _NAME.fullmatch(name) is None:
        raise InvalidInput(
            f"{name[:80]!r} cannot be a name: use 1 to 64 letters, digits, '.', '_' or '-', the "
            "first a letter or digit.",
            faults=(Fault("/name", f"does not match {NAME_PATTERN}"),),
        )


def check_collection(collection: str) -> None:
    """Refuse a collection that cannot stand in a key; a mistake of the code.

    Raises:
        ValueError: it is not lower-case letters, digits and `-`.
    """
    if _COLLECTION.fullmatch(collection) is None:
        raise ValueError(f"{collection!r} cannot be a collection")


def parse_id(artefact_id: str) -> tuple[str, int | None]:
    """Return name and version number of `name@3`, None for the number where there is none.

    Raises:
        UnknownArtefact: nothing can have such an id.
    """
    found = _ID.fullmatch(artefact_id)
    if found is None:
        raise UnknownArtefact(
            f"There is no {artefact_id[:80]!r}: an id is a name, or a name with its version as "
            "in name@3."
        )
    return found[1], None if found[2] is None else int(found[2])


def claim_key(collection: str, idempotency_key: str) -> str:
    """Return the key under which an idempotency key is remembered; it is hashed."""
    return f"{collection}/claims/{sha256(idempotency_key.encode()).hexdigest()}.json"


def parse_record(key: str) -> tuple[Shelf, int] | None:
    """Return whose record lies at `key`; None where it is no record."""
    found = _RECORD.fullmatch(key)
    return None if found is None else (Shelf(found[1], found[2]), int(found[3]))


def parse_blob(key: str) -> tuple[Shelf, str] | None:
    """Return whose blob lies at `key`, and the `uid` it was written as; None for no blob."""
    found = _BLOB.fullmatch(key)
    return None if found is None else (Shelf(found[1], found[2]), found[3])


def is_claim(key: str) -> bool:
    """Return whether an idempotency key is remembered at `key`."""
    return _CLAIM.fullmatch(key) is not None
