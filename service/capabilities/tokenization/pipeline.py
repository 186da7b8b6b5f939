"""Answer this room's requests: find the tokenizer, hold to the limits, compute in the pool."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Sequence
from dataclasses import dataclass

from service.capabilities.tokenization.analysis import analyze, continue_text
from service.capabilities.tokenization.collection import Collection as Tokenizers
from service.capabilities.tokenization.collection import Opened
from service.capabilities.tokenization.drawing import POSSIBLE, Drawn, Wanted, draw
from service.capabilities.tokenization.replies import (
    PathWriter,
    Reply,
    flat_arrays,
    flat_table,
    path_slices,
    write_samples,
)
from service.capabilities.tokenization.settings import TokenizationSettings
from service.errors import Fault, InvalidInput, PayloadTooLarge, TooManyItems
from service.numerics.dtypes import Progress
from service.numerics.lattice.per_text import rank_paths
from service.runtime.engine import Engine
from service.runtime.tokenizers.base import Kind

# Bytes times samples of one piece of pool work: between two of them a request can be given up.
_CHUNK_BYTES = 4 << 20
_WITHOUT_PRUNING = ("nbest", "sample_without_replacement")


@dataclass(frozen=True, slots=True)
class Chunk:
    """Hold what was drawn for some texts.

    Attributes:
        first: place of the first of them in the request.
        texts: they themselves.
        drawn: their paths.
    """

    first: int
    texts: list[str]
    drawn: Drawn


class TokenizationPipeline:
    """Answer this room's requests.

    Args:
        tokenizers: opens tokenizers.
        engine: compute threads.
        settings: limits.
    """

    def __init__(
        self, tokenizers: Tokenizers, engine: Engine, settings: TokenizationSettings
    ) -> None:
        self.tokenizers = tokenizers
        self.settings = settings
        self._engine = engine

    async def warm(self) -> None:
        """Open the default tokenizer and use it once."""
        await self.encode(None, ["ready"], ("ids",))

    async def encode(
        self, tokenizer_id: str | None, texts: list[str], fields: Collection[str]
    ) -> tuple[Opened, list[Reply], int]:
        """Return the best segmentation of every text, and the number of ids in all.

        Raises:
            PayloadTooLarge: too many texts, or bytes.
            InvalidInput: no piece covers a text, or a log-probability of no law is wanted.
        """
        self._require_size(texts, samples=1)
        opened = await self.tokenizers.open(tokenizer_id)
        if "log_prob" in fields or "log_partition" in fields:
            _require_law(opened)
        replies, tokens = await self._engine.compute(_encode, opened, texts, fields)
        return opened, replies, tokens

    async def decode(
        self, tokenizer_id: str | None, rows: Sequence[Sequence[int]]
    ) -> tuple[Opened, list[str]]:
        """Return the text of each list of ids.

        Raises:
            PayloadTooLarge: more ids than a request may carry bytes.
            InvalidInput: an id is none of the tokenizer's.
        """
        count = sum(map(len, rows))
        if count > self.settings.max_request_bytes:
            raise PayloadTooLarge(
                f"{count} ids came and one call carries {self.settings.max_request_bytes}."
            )
        opened = await self.tokenizers.open(tokenizer_id)
        for number, row in enumerate(rows):
            most = max(row, default=0)
            if most >= opened.tokenizer.size:
                raise InvalidInput(
                    f"The id {most} is none of this tokenizer's {opened.tokenizer.size}.",
                    faults=(Fault(f"/ids/{number}", f"holds {most}"),),
                )
        return opened, await self._engine.compute(
            lambda: [opened.tokenizer.decode(row) for row in rows]
        )

    async def prepare_sampling(
        self, tokenizer_id: str | None, texts: list[str], wanted: Wanted
    ) -> Opened:
        """Return the tokenizer after checking that what is wanted can be drawn.

        Raises:
            PayloadTooLarge: texts, samples, or their product beyond a limit.
            InvalidInput: the method is not possible for this kind of tokenizer.
        """
        self._require_size(texts, samples=wanted.samples)
        if wanted.method in _WITHOUT_PRUNING:
            self._require_rankable(texts, wanted.samples)
        opened = await self.tokenizers.open(tokenizer_id)
        possible = POSSIBLE[opened.tokenizer.kind]
        if wanted.method not in possible:
            raise InvalidInput(
                f"{wanted.method} is not possible for {opened.id}, which is of the kind "
                f"{opened.tokenizer.kind.value}; possible are {', '.join(possible)}.",
                faults=(Fault("/method", "not possible for this kind of tokenizer"),),
            )
        return opened

    async def sample(
        self, opened: Opened, texts: list[str], wanted: Wanted, progress: Progress
    ) -> AsyncIterator[Chunk]:
        """Yield what was drawn, some texts at a time, in order."""
        done = 0
        for first, last in _chunks(texts, wanted.samples):
            progress("sample", done, len(texts))
            some = texts[first:last]
            yield Chunk(first, some, await self._engine.compute(draw, opened, some, first, wanted))
            done = last
        progress("sample", done, len(texts))

    async def lists(
        self, opened: Opened, chunk: Chunk, fields: Collection[str], samples: int
    ) -> list[tuple[Reply, list[Reply]]]:
        """Return what belongs to each text of a chunk, and its samples."""
        writer = PathWriter(opened, chunk.drawn.prepared, chunk.texts, fields)
        return await self._engine.compute(
            lambda: list(write_samples(chunk.drawn, writer, fields, samples))
        )

    async def flat(self, chunks: list[Chunk], *, with_law: bool) -> Reply:
        """Return all paths as flat arrays."""
        parts = [chunk.drawn for chunk in chunks]
        return await self._engine.compute(lambda: flat_arrays(parts, with_law=with_law))

    async def table(self, chunks: list[Chunk]) -> bytes:
        """Return all paths as one `.npy` file."""
        return await self._engine.compute(flat_table, [chunk.drawn for chunk in chunks])

    async def analyze(
        self,
        tokenizer_id: str | None,
        texts: list[str],
        *,
        alpha: float | None,
        nbest: int,
        segmentation: Sequence[str | int] | None,
    ) -> tuple[Opened, float, list[Reply]]:
        """Return the tokenizer, the α used, and the analysis of every text.

        Raises:
            PayloadTooLarge: a text is longer than marginals are listed for.
            InvalidInput: α is not 0 for a tokenizer without a law; no piece covers a text.
        """
        self._require_size(texts, samples=1)
        for number, text in enumerate(texts):
            size = len(text.encode())
            if size > self.settings.max_analyzed_bytes:
                raise PayloadTooLarge(
                    f"Text {number} has {size} bytes and {self.settings.max_analyzed_bytes} are "
                    "analysed at most. Analyse a part of it."
                )
        if nbest:
            self._require_rankable(texts, nbest)
        opened = await self.tokenizers.open(tokenizer_id)
        lawful = opened.tokenizer.kind is Kind.UNIGRAM
        if alpha is None:
            alpha = 1.0 if lawful else 0.0
        if alpha and not lawful:
            _require_law(opened)
        replies = [
            await self._engine.compute(analyze, opened, text, alpha, nbest, segmentation)
            for text in texts
        ]
        return opened, alpha, replies

    async def continue_(
        self, tokenizer_id: str | None, text: str, *, backoff: str | int, top_k: int
    ) -> tuple[Opened, Reply]:
        """Return the stable part of a text and what may follow it.

        Raises:
            PayloadTooLarge: the text is too long.
            InvalidInput: no piece covers it.
        """
        self._require_size([text], samples=1)
        opened = await self.tokenizers.open(tokenizer_id)
        return opened, await self._engine.compute(continue_text, opened, text, backoff, top_k)

    def require_drawable(self, text: str) -> None:
        """Refuse a text too long for a picture.

        Raises:
            PayloadTooLarge: it is.
        """
        size = len(text.encode())
        if size > self.settings.max_drawn_bytes:
            raise PayloadTooLarge(
                f"The text has {size} bytes and a picture shows {self.settings.max_drawn_bytes}. "
                "Draw a part of it."
            )

    def _require_size(self, texts: list[str], *, samples: int) -> None:
        limits = self.settings
        if len(texts) > limits.max_texts:
            raise TooManyItems(
                f"{len(texts)} texts came and one call carries {limits.max_texts}.",
                faults=(Fault("/texts", f"holds {len(texts)} texts"),),
            )
        sizes = [len(text.encode()) for text in texts]
        for number, size in enumerate(sizes):
            if size > limits.max_text_bytes:
                raise PayloadTooLarge(
                    f"Text {number} has {size} bytes and {limits.max_text_bytes} are allowed.",
                    faults=(Fault(f"/texts/{number}", f"has {size} bytes"),),
                )
        total = sum(sizes)
        if total > limits.max_request_bytes:
            raise PayloadTooLarge(
                f"The texts have {total} bytes and one call carries {limits.max_request_bytes}."
            )
        if total * samples > limits.max_sampled_bytes:
            raise PayloadTooLarge(
                f"{total} bytes times {samples} samples are {total * samples}, and one call "
                f"carries {limits.max_sampled_bytes}. Send fewer texts or ask for fewer samples."
            )

    def _require_rankable(self, texts: list[str], most: int) -> None:
        if most > self.settings.max_nbest:
            raise TooManyItems(
                f"{most} distinct paths were asked for and {self.settings.max_nbest} are ranked at "
                "most."
            )
        longest = max((len(text.encode()) for text in texts), default=0)
        if longest * most > self.settings.max_ranked_bytes:
            raise PayloadTooLarge(
                f"{longest} bytes times {most} paths are {longest * most}, and "
                f"{self.settings.max_ranked_bytes} are ranked at most, since nothing is pruned."
            )


def _chunks(texts: list[str], samples: int) -> list[tuple[int, int]]:
    """Return first and last place of runs of texts that make one piece of work each."""
    runs: list[tuple[int, int]] = []
    first, size = 0, 0
    for place, text in enumerate(texts):
        cost = len(text) * samples
        if place > first and size + cost > _CHUNK_BYTES:
            runs.append((first, place))
            first, size = place, 0
        size += cost
    return [*runs, (first, len(texts))]


def _require_law(opened: Opened) -> None:
    if opened.tokenizer.kind is not Kind.UNIGRAM:
        raise InvalidInput(
            f"{opened.id} is of the kind {opened.tokenizer.kind.value} and gives its pieces no "
            "probabilities: only the uniform law (alpha 0) has a meaning for it."
        )


def _encode(opened: Opened, texts: list[str], fields: Collection[str]) -> tuple[list[Reply], int]:
    """Return the best segmentation of each text, and the number of ids."""
    tokenizer = opened.tokenizer
    aligned = "offsets" in fields or "byte_offsets" in fields
    prepared = tokenizer.prepare(texts, aligned=aligned)
    best = tokenizer.best(prepared)
    writer = PathWriter(opened, prepared, texts, fields)
    replies: list[Reply] = []
    for number, where in enumerate(path_slices(best)):
        if where is None:
            raise InvalidInput(
                f"No row of pieces covers text {number}: the vocabulary lacks some of its bytes.",
                faults=(Fault(f"/texts/{number}", "no piece covers all of it"),),
            )
        reply = writer.write(number, best.ids[where], best.ends[where])
        if "normalized" in fields:
            reply["normalized"] = writer.normalized(number)
        replies.append(reply)
    if "log_prob" in fields or "log_partition" in fields:
        # float64 throughout: the library's own float32 sum may prefer the other of two equals
        ranked = rank_paths(tokenizer.vocabulary, prepared.segments, alpha=1.0, most=1)
        for reply, log_prob, log_partition in zip(
            replies, ranked.log_probs.tolist(), ranked.log_partitions.tolist(), strict=True
        ):
            if "log_prob" in fields:
                reply["log_prob"] = min(0.0, log_prob)
            if "log_partition" in fields:
                reply["log_partition"] = log_partition
    return replies, len(best.ids)
