"""Make entries, keys and computations for tests of the cache."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from hashlib import blake2b, sha256
from uuid import uuid4

import numpy as np

from service.metrics import Metrics
from service.stores.cache import VectorCache
from service.stores.entry import Entry
from service.stores.keys import Keyspace
from service.stores.memory import MemoryTier
from service.stores.shared import SharedTier


def entry_for(key: bytes, *, dimension: int = 8) -> Entry:
    """Return the one right entry of `key`: its numbers follow from the key."""
    seed = int.from_bytes(blake2b(key, digest_size=8).digest(), "little")
    row = np.random.default_rng(seed).standard_normal(dimension, dtype=np.float32)
    return Entry.copy_of(row, tokens=seed % 500, dropped_tokens=seed % 7)


def same(left: Entry, right: Entry) -> bool:
    """Return whether two entries are equal, bit by bit."""
    return (
        left.vector.tobytes() == right.vector.tobytes()
        and left.tokens == right.tokens
        and left.dropped_tokens == right.dropped_tokens
    )


def fresh_keyspace() -> Keyspace:
    """Return a keyspace that nobody used before, so that tests can share one server."""
    digest = sha256(uuid4().bytes).hexdigest()
    return Keyspace(capability="test", revision="1", artefact_sha256=digest, options={})


class Model:
    """Compute the right entry for each key, when the test says so.

    `gate` holds every computation back while it is cleared; `error` ends the next one.
    """

    def __init__(self) -> None:
        self.computed: list[list[bytes]] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.error: Exception | None = None

    def on(self, keys: Sequence[bytes]) -> Computation:
        """Return the `compute` of a fetch of `keys`."""
        return Computation(self, keys)


class Computation:
    """Be the `compute` argument of one fetch."""

    def __init__(self, model: Model, keys: Sequence[bytes]) -> None:
        self._model = model
        self._keys = keys

    async def __call__(self, indices: Sequence[int]) -> Sequence[Entry]:
        keys = [self._keys[index] for index in indices]
        self._model.computed.append(keys)
        await self._model.gate.wait()
        error, self._model.error = self._model.error, None
        if error is not None:
            raise error
        return [entry_for(key) for key in keys]


def build(
    metrics: Metrics, *, memory: int = 2**20, shared: SharedTier | None = None
) -> VectorCache:
    """Return a cache over the given tiers."""
    return VectorCache(memory=MemoryTier(memory), shared=shared, metrics=metrics)
