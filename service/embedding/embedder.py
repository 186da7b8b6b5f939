"""Look each text up, run the missing ones, and give the vectors back in input order."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from functools import lru_cache, partial
from itertools import islice
from time import monotonic, perf_counter
from typing import TypeVar

import numpy as np

from service.errors import EmptyInput, Fault, InvalidInput, Overloaded
from service.numerics.dtypes import Matrix32, Progress
from service.runtime.engine import Encoder, Engine
from service.runtime.tokenizer import Encoded, Truncate
from service.stores.cache import VectorCache
from service.stores.entry import Entry
from service.stores.keys import Keyspace

# Raised when the meaning of a cached vector changes without a change of model or options.
REVISION = "1"
# Up to here tokenising costs less than handing it to another thread and waking up again.
INLINE_CHARACTERS = 2_000
# Of long work: enough inputs to fill the executors for a second, few enough to leave the queue to
# others; the next part waits in the queue before the one at work has ended.
_PART_INPUTS = 256
_PARTS_AT_ONCE = 2
EMBED_STAGE = "embed"

Inputs = Sequence[str] | Sequence[Sequence[int]]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class EmbeddingOptions:
    """Hold what an embedding depends on besides its text and its model.

    Attributes:
        pooling: one of the model's poolings, or None for its default.
        normalize: whether vectors have length 1.
        truncate: what happens to a text that is too long.
    """

    pooling: str | None = None
    normalize: bool = True
    truncate: Truncate = Truncate.RIGHT


@dataclass(frozen=True, slots=True)
class Embedded:
    """Hold the embeddings of one request.

    Attributes:
        vectors: (n, d) float32, in input order.
        tokens: (n) tokens run for each text, special ones included.
        dropped_tokens: (n) tokens cut off each text.
        encoder: which model answered.
        stages: seconds by stage: cache, tokenize, queue, infer.
        hits: texts that a cache tier held.
    """

    vectors: Matrix32
    tokens: Sequence[int]
    dropped_tokens: Sequence[int]
    encoder: Encoder
    stages: dict[str, float]
    hits: int


@dataclass(frozen=True, slots=True)
class _Job:
    """Carry one request to the moment when its missing texts are known."""

    encoder: Encoder
    inputs: Inputs
    output: str
    truncate: Truncate
    deadline: float
    stages: dict[str, float] = field(default_factory=dict)


class Embedder:
    """Embed texts with any loaded encoder, through the cache.

    Args:
        engine: models and threads.
        cache: two tiers of entries.
    """

    def __init__(self, engine: Engine, cache: VectorCache) -> None:
        self._engine = engine
        self._cache = cache

    async def embed(
        self,
        inputs: Inputs,
        *,
        model: str | None,
        options: EmbeddingOptions,
        deadline: float,
    ) -> Embedded:
        """Return one vector for each input, in order.

        Args:
            inputs: texts, or sequences of the model's own token ids.
            model: encoder id, None for the default.
            options: pooling, normalisation, truncation.
            deadline: monotonic seconds until which the caller waits.

        Raises:
            EmptyInput: no input, or a sequence without ids.
            InvalidInput: the model lacks the pooling asked for.
            UnknownModel: no such encoder.
            SequenceTooLong: a text does not fit and `options.truncate` is `error`.
            Overloaded: admission is full.
            DeadlineExceeded: the deadline passed first.
        """
        if not inputs:
            raise EmptyInput("There is no text to embed.", faults=(Fault("/input", "is empty"),))
        encoder = await self._engine.encoder(model, deadline=deadline)
        job = _Job(encoder, inputs, _output_name(encoder, options), options.truncate, deadline)
        keys = _keys(encoder.sha256, job.output, options.truncate, inputs)
        fetched = await self._cache.fetch(keys, partial(self._compute, job), deadline=deadline)
        entries = fetched.entries
        vectors = (
            entries[0].vector[np.newaxis]
            if len(entries) == 1
            else np.stack([entry.vector for entry in entries])
        )
        return Embedded(
            vectors=vectors,
            tokens=[entry.tokens for entry in entries],
            dropped_tokens=[entry.dropped_tokens for entry in entries],
            encoder=encoder,
            stages=job.stages | {"cache": fetched.cache_seconds},
            hits=fetched.memory_hits + fetched.redis_hits,
        )

    async def embed_all(
        self,
        inputs: Inputs,
        *,
        model: str | None,
        options: EmbeddingOptions,
        deadline: float,
        progress: Progress,
    ) -> Embedded:
        """Return what `embed` does for more inputs than admission lets wait at one time.

        Parts go in one after another, two at a time, so that the executors never idle and others'
        requests find room between them. A part that is refused waits and tries again.

        Args:
            inputs: texts, or sequences of the model's own token ids.
            model: encoder id, None for the default.
            options: pooling, normalisation, truncation.
            deadline: monotonic seconds until which the caller waits.
            progress: told the stage `embed` after each part.

        Raises:
            ServiceError: as `embed` does; `Overloaded` only where the deadline leaves no time.
        """
        parts = self.embed_parts(
            inputs, model=model, options=options, deadline=deadline, progress=progress
        )
        async with aclosing(parts):
            return _joined([part async for part in parts])

    async def embed_parts(
        self,
        inputs: Inputs,
        *,
        model: str | None,
        options: EmbeddingOptions,
        deadline: float,
        progress: Progress,
    ) -> AsyncGenerator[Embedded]:
        """Yield what `embed_all` returns part by part, in order, so that none need be kept.

        The next part is at work while the caller looks at one. Close the generator where it is not
        run to its end.
        """

        async def embed(part: Inputs) -> Embedded:
            once = partial(self.embed, part, model=model, options=options, deadline=deadline)
            return await patiently(once, deadline=deadline)

        waiting: deque[asyncio.Task[Embedded]] = deque()
        starts = iter(range(0, max(1, len(inputs)), _PART_INPUTS))
        done = 0
        progress(EMBED_STAGE, 0, len(inputs))
        try:
            while True:
                for start in islice(starts, _PARTS_AT_ONCE - len(waiting)):
                    part = inputs[start : start + _PART_INPUTS]
                    waiting.append(asyncio.create_task(embed(part)))
                if not waiting:
                    return
                embedded = await waiting.popleft()
                done += len(embedded.vectors)
                progress(EMBED_STAGE, done, len(inputs))
                yield embedded
        finally:
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)

    async def _compute(self, job: _Job, positions: Sequence[int]) -> list[Entry]:
        """Tokenise and run the inputs at some positions; the cache calls it for what it lacks."""
        started = perf_counter()
        encoded = await self._tokenize(job, positions)
        job.stages["tokenize"] = perf_counter() - started
        run = await self._engine.batcher.submit(
            job.encoder.lane,
            [text.ids for text in encoded],
            output=job.output,
            deadline=job.deadline,
        )
        job.stages["queue"] = run.queue_seconds
        job.stages["infer"] = run.run_seconds
        for row in run.rows:
            row.setflags(write=False)  # a cached row is lent to every later request
        return [
            Entry(row, tokens=len(text.ids), dropped_tokens=text.dropped_tokens)
            for row, text in zip(run.rows, encoded, strict=True)
        ]

    async def _tokenize(self, job: _Job, positions: Sequence[int]) -> list[Encoded]:
        inputs = [job.inputs[position] for position in positions]
        tokenizer = job.encoder.tokenizer
        encode = tokenizer.encode_texts if isinstance(inputs[0], str) else tokenizer.wrap_ids
        if sum(map(len, inputs)) <= INLINE_CHARACTERS:
            return encode(inputs, job.truncate)  # type: ignore[arg-type]
        return await self._engine.compute(encode, inputs, job.truncate)


async def patiently(attempt: Callable[[], Awaitable[T]], *, deadline: float) -> T:
    """Return what an attempt gives; one that finds the service full waits and is made again.

    Raises:
        Overloaded: the deadline leaves no time for another attempt.
    """
    while True:
        try:
            return await attempt()
        except Overloaded as error:
            pause = error.retry_after_seconds or 1.0
            if monotonic() + pause > deadline:
                raise
            await asyncio.sleep(pause)


def _joined(parts: Sequence[Embedded]) -> Embedded:
    """Return the parts of one request as one; the seconds of a stage add up."""
    stages: dict[str, float] = {}
    for part in parts:
        for name, seconds in part.stages.items():
            stages[name] = stages.get(name, 0.0) + seconds
    return Embedded(
        vectors=np.concatenate([part.vectors for part in parts]),
        tokens=[count for part in parts for count in part.tokens],
        dropped_tokens=[count for part in parts for count in part.dropped_tokens],
        encoder=parts[0].encoder,
        stages=stages,
        hits=sum(part.hits for part in parts),
    )


def _output_name(encoder: Encoder, options: EmbeddingOptions) -> str:
    """Return the graph output that has the pooling and the normalisation asked for."""
    pooling = options.pooling or encoder.manifest.pooling
    if pooling not in encoder.manifest.poolings:
        raise InvalidInput(
            f"The model {encoder.manifest.id} has no pooling {pooling!r}; "
            f"it has {', '.join(encoder.manifest.poolings)}.",
            faults=(Fault("/pooling", f"{pooling!r} is not offered by the model"),),
        )
    return pooling if options.normalize else f"{pooling}_raw"


def _keys(sha256: str, output: str, truncate: Truncate, inputs: Inputs) -> list[bytes]:
    """Return one cache key for each input; ids and texts never share a key."""
    if isinstance(inputs[0], str):
        return _keyspace(sha256, output, truncate, "text").keys(inputs)  # type: ignore[arg-type]
    space = _keyspace(sha256, output, truncate, "ids")
    return space.keys(",".join(map(str, ids)) for ids in inputs)


@lru_cache(maxsize=256)
def _keyspace(sha256: str, output: str, truncate: Truncate, kind: str) -> Keyspace:
    options = {"output": output, "truncate": truncate.value, "input": kind}
    return Keyspace(
        capability="embedding", revision=REVISION, artefact_sha256=sha256, options=options
    )
