"""Remember what an idempotency key stands for, so that a repeated request makes nothing new.

A claim is written before the record, and holds the whole of it. Whoever comes with the same key,
after a crash or at the same moment on another replica, finishes the claimed record instead of one
of its own: `Versions` walks the numbers from `first` on, and the first free one gets it.
"""

from __future__ import annotations

from dataclasses import dataclass

from service.errors import Conflict
from service.stores.layout import claim_key
from service.stores.objects import Objects
from service.stores.records import seal, unseal


@dataclass(frozen=True, slots=True)
class Idempotency:
    """Identify a request that may arrive more than once.

    Attributes:
        key: what the client sent to tell its requests apart.
        request_sha256: digest over everything the request asks for.
    """

    key: str
    request_sha256: str


@dataclass(frozen=True, slots=True)
class Claim:
    """Say what is to be made for a key.

    Attributes:
        first: lowest number that was free when the claim was written.
        uid: of what is to be made.
        record: sealed record, without a number.
    """

    first: int
    uid: str
    record: bytes


class Claims:
    """Keep the claims of one collection.

    Args:
        objects: where.
        collection: whose.
    """

    __slots__ = ("_collection", "_objects")

    def __init__(self, objects: Objects, collection: str) -> None:
        self._objects = objects
        self._collection = collection

    async def find(self, name: str, wanted: Idempotency) -> Claim | None:
        """Return what was claimed for the key, None where nothing was.

        Raises:
            Conflict: the key was used for something else.
            ArtefactDamaged: the claim is not what was written.
        """
        kept = await self._objects.get(claim_key(self._collection, wanted.key))
        if kept is None:
            return None
        said = unseal(kept, f"idempotency key {wanted.key[:80]!r}")
        if (said["name"], said["request_sha256"]) != (name, wanted.request_sha256):
            raise Conflict(
                f"The idempotency key {wanted.key[:80]!r} was used for another request. Send each "
                "new request with a new key."
            )
        return Claim(said["first"], said["uid"], said["record"].encode())

    async def stake(self, name: str, wanted: Idempotency, claim: Claim) -> bool:
        """Claim the key unless it is claimed; return whether this claim holds."""
        kept = seal(
            {
                "name": name,
                "request_sha256": wanted.request_sha256,
                "first": claim.first,
                "uid": claim.uid,
                "record": claim.record.decode(),
            }
        )
        return await self._objects.put_new(claim_key(self._collection, wanted.key), kept)
