"""Keep bytes under keys, in a folder or in a bucket; the only importer of obstore.

Reading, listing and deleting are obstore's for both. Writing into a folder is `folder.py`'s:
obstore gives a file its name without syncing it, so a crash can leave the name without the bytes.
"""

from __future__ import annotations

import asyncio
import errno
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import structlog
from obstore.exceptions import AlreadyExistsError, BaseError
from obstore.store import LocalStore, MemoryStore, S3Store

from service.errors import StorageUnavailable
from service.stores.folder import STAGING, Folder

if TYPE_CHECKING:
    from obstore.store import ClientConfig, RetryConfig

logger = structlog.get_logger(__name__)

_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)*")
_BUCKET = re.compile(r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[A-Za-z0-9._/-]*)?")
_MEMORY = "memory://"
_PROBE = "probe"

# A request waits for storage: a bucket that is away must be noticed within the request's deadline.
_SLOW_BYTES_PER_SECOND = 8 * 2**20
_CLIENT: ClientConfig = {
    "connect_timeout": "2s",
    "read_timeout": "5s",
    "timeout": "60s",
    "allow_http": True,  # who writes http:// into AWS_ENDPOINT_URL means it
}
_RETRIES: RetryConfig = {
    "max_retries": 2,
    "retry_timeout": timedelta(seconds=10),
    "backoff": {
        "init_backoff": timedelta(milliseconds=100),
        "max_backoff": timedelta(seconds=1),
        "base": 2,
    },
}

_RETRY_AFTER_SECONDS = 5.0

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

# Two writers on such a bucket would overwrite each other, and nobody would notice.
_OVERWRITES = "it ignores If-None-Match, so that writers would overwrite each other"

Doing = Literal["reading", "writing"]


@dataclass(frozen=True, slots=True)
class Stored:
    """Describe one stored value.

    Attributes:
        key: its whole key.
        bytes: its size.
        modified: when it was written, in UTC.
    """

    key: str
    bytes: int
    modified: datetime


@dataclass(frozen=True, slots=True)
class StorageState:
    """Describe the storage for people; nothing here is secret.

    Attributes:
        kind: what it is.
        location: path or address.
        state: whether the latest calls worked; `untried` before the first.
        problem: what is wrong, where something is.
    """

    kind: Literal["folder", "bucket", "memory"]
    location: str
    state: Literal["usable", "unusable", "untried"]
    problem: str | None


class Objects:
    """Hold values that are whole or not there, and that stay once a write has returned.

    Keys are segments of letters, digits and `._-`, joined by `/`.

    Args:
        location: a folder, `s3://bucket/prefix` (`AWS_*` in the environment say how to reach it),
            or `memory://` for what may be forgotten.
        patient_seconds: longest time of one call; a large value gets more, as a slow line needs.

    Raises:
        ValueError: the location cannot be understood.
    """

    __slots__ = (
        "_folder", "_kind", "_location", "_overwrites", "_patient_seconds", "_store", "_tried",
        "_troubles",
    )  # fmt: skip

    def __init__(self, location: str, *, patient_seconds: float = 10.0) -> None:
        self._patient_seconds = patient_seconds
        self._location = location
        self._folder: Folder | None = None
        self._store: LocalStore | S3Store | MemoryStore | None = None
        self._kind: Literal["folder", "bucket", "memory"] = "folder"
        self._troubles: dict[Doing, str] = {}
        self._tried = False
        self._overwrites = False
        if location == _MEMORY:
            self._kind, self._store = "memory", MemoryStore()
        elif "://" in location:
            self._kind, self._store = "bucket", _open_bucket(location)
        else:
            root = Path(location).expanduser().absolute()
            self._location, self._folder = str(root), Folder(root)

    def state(self) -> StorageState:
        """Return whether the storage can be used, as far as the latest calls tell."""
        problems = {*self._troubles.values(), *((_OVERWRITES,) if self._overwrites else ())}
        problem = "; ".join(sorted(problems)) or None
        state: Literal["usable", "unusable", "untried"] = "usable" if self._tried else "untried"
        return StorageState(self._kind, self._location, "unusable" if problem else state, problem)

    async def prove(self) -> None:
        """Find out whether values can be written, and whether a taken key is respected.

        What is wrong is logged and stands in `state()`; nothing is raised.
        """
        try:
            await self.put(_PROBE, b"")
            self._overwrites = await self.put_new(_PROBE, b"")
            if self._overwrites:
                self._failed("writing", _OVERWRITES)
        except StorageUnavailable:
            return

    async def put(self, key: str, data: bytes) -> None:
        """Write `data` under `key`, in place of what was there.

        Raises:
            StorageUnavailable: it could not be written, or it is not known whether it was.
        """
        _check(key)
        async with self._calling("writing", len(data)):
            if self._folder is not None:
                await asyncio.to_thread(self._folder.replace, key, data)
            else:
                # in one piece: an upload in parts that is cut off leaves its parts behind
                await self._reach().put_async(key, data, use_multipart=False)

    async def put_new(self, key: str, data: bytes) -> bool:
        """Write `data` under `key` unless it is taken; return whether it was written.

        Of any number of writers, in any number of processes, one is told True. After an answer
        that was lost on the way, the same call can return False for a value of its own.

        Raises:
            StorageUnavailable: it could not be written, or it is not known whether it was.
        """
        _check(key)
        if self._overwrites:
            raise self._failed("writing", _OVERWRITES)
        async with self._calling("writing", len(data)):
            if self._folder is not None:
                return await asyncio.to_thread(self._folder.create, key, data)
            try:
                await self._reach().put_async(key, data, mode="create")
            except AlreadyExistsError:
                return False
            return True

    async def get(self, key: str) -> bytes | None:
        """Return what is stored under `key`, None where nothing is.

        Raises:
            StorageUnavailable: the storage cannot be read.
        """
        _check(key)
        try:
            async with self._calling("reading"):
                found = await self._reach().get_async(key)
            async with self._calling("reading", found.meta["size"]):
                return (await found.bytes_async()).to_bytes()
        except FileNotFoundError:
            return None

    async def list(self, prefix: str) -> list[Stored]:
        """Return what is stored below `prefix` (whole segments; `""` for everything), sorted.

        Raises:
            StorageUnavailable: the storage cannot be read.
        """
        if prefix:
            _check(prefix.removesuffix("/"))
        async with self._calling("reading"):
            found = await self._reach().list(prefix or None).collect_async()
        stored = [Stored(each["path"], each["size"], each["last_modified"]) for each in found]
        return sorted(
            (each for each in stored if not each.key.startswith(f"{STAGING}/")),
            key=lambda each: each.key,
        )

    async def delete(self, key: str) -> None:
        """Remove what is stored under `key`, if anything is.

        Raises:
            StorageUnavailable: it could not be removed.
        """
        _check(key)
        try:
            async with self._calling("reading"):
                await self._reach().delete_async(key)
        except FileNotFoundError:
            return

    async def delete_prefix(self, prefix: str) -> None:
        """Remove everything below `prefix`.

        Raises:
            StorageUnavailable: not all of it could be removed.
        """
        for each in await self.list(prefix):
            await self.delete(each.key)

    async def sweep(self, before: datetime) -> None:
        """Remove what writers that were killed began before a moment and left unfinished.

        Raises:
            StorageUnavailable: it could not be removed.
        """
        if self._folder is not None:
            async with self._calling("writing"):
                await asyncio.to_thread(self._folder.sweep, before.timestamp())

    def _reach(self) -> LocalStore | S3Store | MemoryStore:
        if self._store is None:
            assert self._folder is not None
            self._folder.make()  # obstore cannot be given a folder that does not exist
            self._store = LocalStore(self._location)
        return self._store

    @asynccontextmanager
    async def _calling(self, doing: Doing, size: int = 0) -> AsyncIterator[None]:
        """Bound one call in time, and turn what goes wrong into one error."""
        try:
            async with asyncio.timeout(self._patient_seconds + size / _SLOW_BYTES_PER_SECOND):
                yield
        except TimeoutError as error:
            raise self._failed(doing, "it did not answer in time") from error
        except FileNotFoundError as error:
            if doing == "reading":
                raise
            raise self._failed(doing, "it is not there", error) from error
        except (BaseError, OSError) as error:
            raise self._failed(doing, _reason(error), error) from error
        self._tried = True
        self._troubles.pop(doing, None)

    def _failed(
        self, doing: Doing, reason: str, error: Exception | None = None
    ) -> StorageUnavailable:
        if self._troubles.get(doing) != reason:
            detail = str(error).partition("\n")[0]
            logger.error("storage_failed", location=self._location, reason=reason, detail=detail)
        self._troubles[doing] = reason
        return StorageUnavailable(
            f"The storage cannot be used for {doing}: {reason}. Whoever runs the service finds it "
            "at SERVICE_DATA_LOCATION and its state in /v1/info. Send the request again later.",
            retry_after_seconds=_RETRY_AFTER_SECONDS,
        )


def _open_bucket(location: str) -> S3Store:
    if _BUCKET.fullmatch(location) is None:
        raise ValueError(
            "SERVICE_DATA_LOCATION is neither a folder nor s3://bucket/prefix; credentials and "
            "endpoint do not belong into it: set AWS_ACCESS_KEY_ID, AWS_ENDPOINT_URL, …"
        )
    try:
        return S3Store.from_url(location, client_options=_CLIENT, retry_config=_RETRIES)
    except BaseError as error:  # a half of the credentials, say
        reason = str(error).partition("\n")[0]
        raise ValueError(
            f"SERVICE_DATA_LOCATION cannot be used with these AWS_*: {reason}"
        ) from None


def _check(key: str) -> None:
    if _KEY.fullmatch(key) is None:
        raise ValueError(f"{key!r} cannot be a key")


def _reason(error: Exception) -> str:
    """Return why a call failed, without addresses: a client may read it."""
    number = error.errno if isinstance(error, OSError) else None
    if number in _FULL:
        return "it is full"
    if number is not None:
        return f"it reports {errno.errorcode.get(number, number)}"
    return f"it reports {type(error).__name__.removesuffix('Error')}"
