"""Run one text through several variants of a model and set them side by side."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from service.capabilities.attention.pipeline.model_texts import ModelText, read_texts
from service.capabilities.attention.pipeline.scoring import Likelihood, count_bytes, sum_up
from service.capabilities.attention.settings import AttentionSettings
from service.numerics.dtypes import Ids64, Matrix32, Progress, Vector64
from service.numerics.likelihoods import (
    negative_log_likelihoods,
    normalise_rows,
    row_divergences,
)
from service.runtime.decoders.feeds import Reading
from service.runtime.decoders.forward import read_text
from service.runtime.decoders.graph import Giving
from service.runtime.decoders.lending import Decoders
from service.runtime.decoders.opened import Decoder, Family, GraphForm
from service.runtime.decoders.reading import ReadingChoice, choose_reading
from service.runtime.engine import Engine
from service.runtime.family import VariantEntry
from service.runtime.heap import release_freed_memory


@dataclass(frozen=True, slots=True)
class Candidate:
    """Hold one variant that a request names: its name, or None for the default, and positions."""

    variant: str | None
    choice: ReadingChoice
    pointer: str


@dataclass(frozen=True, slots=True)
class Compared:
    """Hold what one variant did with the text.

    Attributes:
        variant: what the manifest says of it.
        reading: position scheme and scale that were used.
        likelihood: of the predicted tokens.
        nll: (predicted,) nats.
        kl: (predicted,) nats, KL(first ‖ this) of the distributions each token came from.
        agreement: share of tokens at which both find the same one likeliest.
        cache_bytes_per_token: of the arrays that were held, over the tokens in them.
        entropy_by_layer: (layers,) nats, mean over heads and rows of attention.
        seconds: in the model's runs, and nothing else.
    """

    variant: VariantEntry
    reading: Reading
    likelihood: Likelihood
    nll: Vector64
    kl: Vector64
    agreement: float
    cache_bytes_per_token: float
    entropy_by_layer: Vector64
    seconds: float


@dataclass(frozen=True, slots=True)
class Comparison:
    """Hold all variants, the text's ids, and the family they belong to."""

    family: Family
    text: ModelText
    variants: Sequence[Compared]


@dataclass(slots=True)
class Reference:
    """Hold the first variant's distributions; empty until it has run.

    Attributes:
        log_probs: (predicted, vocabulary) float32, runs in order.
    """

    log_probs: list[Matrix32]


class Comparing:
    """Answer `/v1/attention/compare`.

    Args:
        decoders: language models.
        engine: compute threads.
        settings: limits.
    """

    def __init__(self, decoders: Decoders, engine: Engine, settings: AttentionSettings) -> None:
        self._decoders = decoders
        self._engine = engine
        self._settings = settings

    async def compare(
        self,
        text: str,
        candidates: Sequence[Candidate],
        *,
        model: str | None,
        deadline: float,
        progress: Progress,
    ) -> Comparison:
        """Return what every variant makes of the text, in the order asked.

        Args:
            text: at least two tokens.
            candidates: the first is what the others are measured against.
            model: None for the default one.
            deadline: monotonic seconds until which the caller waits.
            progress: told after every run.

        Raises:
            UnknownModel: no such language model.
            VariantNotAvailable: the model lacks a variant, or a graph for its position scheme.
            ModelNotReady: shipped and not built.
            TooManyItems: more tokens than one comparison may have.
            SequenceTooLong: a position scheme does not reach the text's end.
            EmptyInput: the text has fewer than two tokens.
        """
        family = await self._decoders.family(model, deadline=deadline)
        entries = [
            family.variant(each.variant, pointer=f"{each.pointer}/variant") for each in candidates
        ]
        most = self._settings.max_compared_tokens
        (read,) = await self._engine.compute(
            lambda: read_texts(family, [text], ["/text"], most=most)
        )
        readings = [
            choose_reading(family, entry, each.choice, tokens=len(read.ids), pointer="/text")
            for entry, each in zip(entries, candidates, strict=True)
        ]
        for entry, reading in zip(entries, readings, strict=True):
            family.file(entry, GraphForm.of(reading.rope))  # refuse before anything runs
        reference = Reference([])
        compared: list[Compared] = []
        for entry, reading in zip(entries, readings, strict=True):
            decoder = await self._decoders.decoder(
                family.manifest.id,
                entry.name,
                form=GraphForm.of(reading.rope),
                giving=Giving.ENTROPY,
                deadline=deadline,
            )
            report = _part(progress, len(compared), len(candidates))
            compared.append(
                await self._engine.compute(
                    compare_variant, decoder, read, reading, reference, report
                )
            )
        del reference
        await self._engine.compute(release_freed_memory)
        return Comparison(family, read, compared)


def _part(progress: Progress, before: int, parts: int) -> Progress:
    """Return what tells the progress of one variant as part of all of them."""
    return lambda stage, done, total: progress(stage, before * total + done, parts * total)


def compare_variant(
    decoder: Decoder,
    text: ModelText,
    reading: Reading,
    reference: Reference,
    progress: Progress,
) -> Compared:
    """Return what one variant makes of the text; the first one fills the reference. It blocks."""
    targets = np.array(text.predicted, dtype=np.int64)
    first = not reference.log_probs
    parts: list[_Part] = []
    seconds = held = 0.0
    runs = read_text(decoder, text.ids, reading, extras=["entropy"])
    started = time.perf_counter()
    for number, step in enumerate(runs):
        seconds += time.perf_counter() - started
        start = step.kept.tokens - step.logits.shape[1]
        stop = min(step.kept.tokens, len(targets))
        log_probs = normalise_rows(step.logits[0, : stop - start])
        if first:
            reference.log_probs.append(log_probs)
        parts.append(
            _measure(
                log_probs, reference.log_probs[number], targets[start:stop], step.extras["entropy"]
            )
        )
        held = step.kept.nbytes / step.kept.tokens
        progress("tokens", step.kept.tokens, len(text.ids))
        started = time.perf_counter()
    nll = np.concatenate([part.nll for part in parts])
    return Compared(
        variant=decoder.variant,
        reading=reading,
        likelihood=sum_up(nll, count_bytes(decoder, text.predicted)),
        nll=nll,
        kl=np.concatenate([part.kl for part in parts]),
        agreement=sum(part.agreed for part in parts) / len(targets),
        cache_bytes_per_token=held,
        entropy_by_layer=np.sum([part.entropies for part in parts], axis=0) / len(text.ids),
        seconds=seconds,
    )


@dataclass(frozen=True, slots=True)
class _Part:
    """Hold the measures of one run; entropies are sums over its rows, means over heads."""

    nll: Vector64
    kl: Vector64
    agreed: int
    entropies: Vector64


def _measure(log_probs: Matrix32, reference: Matrix32, targets: Ids64, entropy: Matrix32) -> _Part:
    same = log_probs.argmax(axis=1) == reference.argmax(axis=1)
    return _Part(
        nll=negative_log_likelihoods(log_probs, targets),
        kl=row_divergences(reference, log_probs),
        agreed=int(same.sum()),
        entropies=entropy[:, 0].astype(np.float64).mean(axis=1).sum(axis=1),
    )
