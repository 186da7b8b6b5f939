"""Say how likely a language model finds texts, token by token."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from service.capabilities.attention.pipeline.model_texts import ModelText, read_texts
from service.capabilities.attention.settings import AttentionSettings
from service.numerics.dtypes import Progress, Vector64
from service.numerics.likelihoods import (
    negative_log_likelihoods,
    normalise_rows,
    row_entropies,
)
from service.runtime.decoders.feeds import Reading
from service.runtime.decoders.forward import read_text
from service.runtime.decoders.lending import Decoders
from service.runtime.decoders.opened import Decoder, GraphForm
from service.runtime.decoders.reading import ReadingChoice, choose_reading
from service.runtime.engine import Engine
from service.runtime.heap import release_freed_memory

# exp of more is beyond float64.
_MOST_NATS = 700.0


@dataclass(frozen=True, slots=True)
class Likelihood:
    """Sum up the negative log-likelihoods of tokens.

    Attributes:
        mean_nll: nats a token.
        perplexity: exp of it.
        bits_per_byte: bits for each byte of the predicted tokens; None where they have no bytes.
    """

    mean_nll: float
    perplexity: float
    bits_per_byte: float | None


@dataclass(frozen=True, slots=True)
class ScoredText:
    """Hold what one text got.

    Attributes:
        text: its ids.
        reading: position scheme and scale that were used.
        nll: (predicted,) nats.
        entropy: (predicted,) nats of the distribution that each token was predicted from.
        predicted_bytes: bytes of UTF-8 of the predicted tokens.
    """

    text: ModelText
    reading: Reading
    nll: Vector64
    entropy: Vector64
    predicted_bytes: int

    @property
    def likelihood(self) -> Likelihood:
        """Return the sum of this text."""
        return sum_up(self.nll, self.predicted_bytes)


@dataclass(frozen=True, slots=True)
class Scored:
    """Hold scored texts, and the decoder that scored them."""

    decoder: Decoder
    texts: Sequence[ScoredText]

    @property
    def likelihood(self) -> Likelihood:
        """Return the sum over the tokens of all texts."""
        nll = np.concatenate([each.nll for each in self.texts])
        return sum_up(nll, sum(each.predicted_bytes for each in self.texts))


def sum_up(nll: Vector64, predicted_bytes: int) -> Likelihood:
    """Return mean, perplexity and bits a byte of negative log-likelihoods in nats."""
    mean = float(nll.mean())
    bits = None if predicted_bytes == 0 else float(nll.sum()) / math.log(2) / predicted_bytes
    return Likelihood(mean, math.exp(min(mean, _MOST_NATS)), bits)


class Scoring:
    """Answer `/v1/attention/score`.

    Args:
        decoders: language models.
        engine: compute threads.
        settings: limits.
    """

    def __init__(self, decoders: Decoders, engine: Engine, settings: AttentionSettings) -> None:
        self._decoders = decoders
        self._engine = engine
        self._settings = settings

    async def score(
        self,
        sources: Sequence[str | Sequence[int]],
        pointers: Sequence[str],
        *,
        model: str | None,
        variant: str | None,
        choice: ReadingChoice,
        deadline: float,
        progress: Progress,
    ) -> Scored:
        """Return the likelihood of every token of the texts.

        Args:
            sources: texts, or ids.
            pointers: where each stands in the request.
            model: None for the default one.
            variant: None for the model's default.
            choice: how positions are read.
            deadline: monotonic seconds until which the caller waits.
            progress: told after every run.

        Raises:
            UnknownModel: no such language model.
            VariantNotAvailable: the model lacks the variant, or a graph for the position scheme.
            ModelNotReady: shipped and not built.
            TooManyItems: more tokens than one request may carry.
            SequenceTooLong: the position scheme does not reach a text's end.
            EmptyInput: a text has fewer than two tokens.
            InvalidInput: an id is not one of the model's.
        """
        family = await self._decoders.family(model, deadline=deadline)
        entry = family.variant(variant)
        most = self._settings.max_scored_tokens
        texts = await self._engine.compute(lambda: read_texts(family, sources, pointers, most=most))
        readings = [
            choose_reading(family, entry, choice, tokens=len(text.ids), pointer=text.pointer)
            for text in texts
        ]
        form = GraphForm.of(readings[0].rope)
        decoder = await self._decoders.decoder(model, variant, form=form, deadline=deadline)
        total = sum(len(text.ids) for text in texts)
        done = 0
        scored = []
        for text, reading in zip(texts, readings, strict=True):
            report = _shifted(progress, done, total)
            scored.append(await self._engine.compute(score_text, decoder, text, reading, report))
            done += len(text.ids)
        await self._engine.compute(release_freed_memory)
        return Scored(decoder, scored)


def _shifted(progress: Progress, before: int, total: int) -> Progress:
    """Return what tells the progress of one text as part of all of them."""
    return lambda stage, done, _: progress(stage, before + done, total)


def score_text(
    decoder: Decoder, text: ModelText, reading: Reading, progress: Progress
) -> ScoredText:
    """Return the likelihood of every token of one text but its first; blocks while it runs."""
    targets = np.array(text.predicted, dtype=np.int64)
    nll, entropy = np.empty(len(targets)), np.empty(len(targets))
    for step in read_text(decoder, text.ids, reading):
        stop = min(step.kept.tokens, len(targets))
        start = step.kept.tokens - step.logits.shape[1]
        log_probs = normalise_rows(step.logits[0, : stop - start])
        nll[start:stop] = negative_log_likelihoods(log_probs, targets[start:stop])
        entropy[start:stop] = row_entropies(log_probs)
        progress("tokens", step.kept.tokens, len(text.ids))
    return ScoredText(text, reading, nll, entropy, count_bytes(decoder, text.predicted))


def count_bytes(decoder: Decoder, ids: Sequence[int]) -> int:
    """Return the bytes of UTF-8 that ids stand for."""
    return sum(len(decoder.tokenizer.token_bytes(each)) for each in ids)
