"""Turn summaries into the body of a reply."""

from __future__ import annotations

from collections import Counter
from typing import Any

from service.capabilities.summarization.answer import NEUTRAL, Answer, Side
from service.capabilities.summarization.corpus import Corpus
from service.capabilities.summarization.options import Strategy
from service.capabilities.summarization.pipeline import Answered, Wish
from service.capabilities.summarization.summary import Pick, Section

_MOST_EVIDENCE = 10
_WITHOUT_DISTANCE = (Strategy.LEXRANK, Strategy.CENTROID)


class _Places:
    """Find where a statement is said first, in the order of the corpus."""

    def __init__(self, corpus: Corpus) -> None:
        self._reading = corpus.reading
        self._keys = list(corpus.reading.texts)
        self._said = corpus.statements.said.tocsc()

    def of(self, row: int) -> dict[str, Any]:
        """Return the text of a statement and its place in a review."""
        key = self._keys[row]
        review = int(self._said.indices[self._said.indptr[row] : self._said.indptr[row + 1]].min())
        sentence = next(each for each in self._reading.sentences[review] if each.key == key)
        return {
            "text": self._reading.texts[key],
            "review_id": self._reading.reviews[review].id,
            "start": sentence.start,
            "end": sentence.end,
        }


def shape(answered: Answered, wish: Wish) -> dict[str, Any]:
    """Return the body of a reply, JSON without its bytes."""
    found = answered.answer
    reading = found.corpus.reading
    empty = sum(not sentences for sentences in reading.sentences)
    dropped = {"short": 0, "long": 0, "opinion": 0, "support": 0, "budget": 0}
    places = _Places(found.corpus)
    return {
        **_section(found, places, found.general),
        "aspects": {name: _section(found, places, each) for name, each in found.aspects.items()},
        "sentiments": None
        if found.sides is None
        else {name: _side(found, places, side) for name, side in found.sides.items()},
        "coverage": found.coverage,
        "dropped": {"empty_reviews": empty} | dropped | found.general.dropped,
        "warnings": _warnings(found, wish, empty),
        "strategy": wish.options.strategy.value,
        "distance": wish.options.distance.value,
        "budget": {wish.options.unit.value: wish.options.budget},
        "k": wish.k,
        "reviews": len(reading.reviews),
        "sentences": found.corpus.statements.count,
        "model": answered.encoder.manifest.id,
        "model_sha256": answered.encoder.sha256,
    }


def _warnings(found: Answer, wish: Wish, empty: int) -> list[str]:
    warnings = list(found.general.warnings)
    count = found.corpus.statements.count
    if empty:
        warnings.append(f"{empty} reviews hold no sentence.")
    if 0 < count <= wish.k:
        warnings.append(
            f"There are {count} distinct sentences: each has {count - 1} neighbours, not {wish.k}."
        )
    if wish.options.strategy in _WITHOUT_DISTANCE and wish.options.distance.value == "cosine":
        warnings.append(f"The strategy {wish.options.strategy.value} does not use the distance.")
    return warnings


def _section(found: Answer, places: _Places, section: Section) -> dict[str, Any]:
    return {
        "summary": [_sentence(found, places, pick) for pick in section.picks],
        "reason": section.reason,
        "radius": section.radius,
        "used": section.used,
    }


def _side(found: Answer, places: _Places, side: Side) -> dict[str, Any]:
    reviews = max(1, len(found.corpus.reading.reviews))
    return {
        **_section(found, places, side.section),
        "prevalence": side.reviews / reviews,
        "reviews": side.reviews,
        "sentences": side.sentences,
    }


def _sentence(found: Answer, places: _Places, pick: Pick) -> dict[str, Any]:
    reviews = found.corpus.reading.reviews
    judged = Counter(_label(score) for score in found.polarity[pick.rows])
    return {
        **places.of(pick.row),
        "score": pick.score,
        "support": {
            "reviews": len(pick.reviews),
            "sentences": len(pick.rows),
            "review_ids": [reviews[review].id for review in pick.reviews],
            "evidence": [places.of(int(row)) for row in pick.rows[:_MOST_EVIDENCE]],
        },
        "sentiment": {
            "label": _label(found.polarity[pick.row]),
            "score": float(found.polarity[pick.row]),
            "support": {label: judged[label] for label in ("positive", "neutral", "negative")},
        },
    }


def _label(score: float) -> str:
    if abs(score) < NEUTRAL:
        return "neutral"
    return "positive" if score > 0 else "negative"
