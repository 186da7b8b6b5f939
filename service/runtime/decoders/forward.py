"""Run new tokens through a decoder behind those that its cache holds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from service.errors import InvalidModelOutput, VariantNotAvailable
from service.numerics.dtypes import Ids64
from service.runtime.decoders.feeds import Reading, position_feed
from service.runtime.decoders.graph import Array
from service.runtime.decoders.opened import Decoder

# Logits of one run: 128 MiB. Tokens of one run: scores of each layer grow with them.
_MOST_LOGITS = 2**25
_MOST_ROWS = 512


@dataclass(frozen=True, slots=True)
class KeyValues:
    """Hold what a decoder keeps of the tokens that it has read.

    Attributes:
        arrays: one (B, heads, tokens, width) float32 for each part of the graph's cache.
        tokens: read so far.
    """

    arrays: tuple[Array, ...]
    tokens: int

    @property
    def nbytes(self) -> int:
        """Return the bytes of the arrays."""
        return sum(array.nbytes for array in self.arrays)


@dataclass(frozen=True, slots=True)
class Forward:
    """Hold what one run gave.

    Attributes:
        logits: (B, R, vocabulary) float32 of the rows asked for.
        kept: the cache with the new tokens in it; the one that went in is unchanged.
        extras: further outputs by name: `entropy` (layers, B, q_heads, S), `query.0` and so on.
    """

    logits: Array
    kept: KeyValues
    extras: dict[str, Array]


def begin(decoder: Decoder, *, rows: int = 1) -> KeyValues:
    """Return the cache of sequences before their first token."""
    return KeyValues(decoder.graph.empty_cache(rows), 0)


def forward(
    decoder: Decoder,
    ids: Ids64,
    past: KeyValues,
    reading: Reading,
    *,
    logits_from: int = 0,
    extras: Sequence[str] = (),
) -> Forward:
    """Return logits and the longer cache of new tokens behind those of a cache.

    A text cut into several runs gives the logits of one run within 1e-4.

    Args:
        decoder: float graph of a variant, plain or windowed.
        ids: (B, S) int64, S ≥ 1, rows of equal length.
        past: from `begin` or an earlier run, B rows.
        reading: position scheme and scale, the same for every run over one cache.
        logits_from: first row whose logits are wanted; S - 1 for the next token alone.
        extras: outputs wanted besides; the decoder must have been opened to give them.

    Raises:
        VariantNotAvailable: the graph does not give an extra, as one that was adopted.
        Internal: the run failed.
        InvalidModelOutput: a logit is not finite.
    """
    graph = decoder.graph
    lacking = [name for name in extras if name not in graph.outputs]
    if lacking:
        raise VariantNotAvailable(
            f"{decoder.manifest.id} does not give {lacking[0]!r}: its graph was not made for it."
        )
    rows, new = ids.shape
    feed = position_feed(
        graph, reading, base=decoder.family.rope_base, rows=rows, past=past.tokens, new=new
    )
    feed |= {
        f"past.{part.name}": array for part, array in zip(graph.parts, past.arrays, strict=True)
    }
    feed |= {"input_ids": ids, "logits_from": np.array([logits_from], dtype=np.int64)}
    presents = [f"present.{part.name}" for part in graph.parts]
    found = graph.run(feed, ["logits", *presents, *extras])
    logits = found["logits"]
    if not np.isfinite(logits).all():
        raise InvalidModelOutput(f"{decoder.manifest.id} gave logits that are not finite.")
    kept = KeyValues(tuple(found[name] for name in presents), past.tokens + new)
    return Forward(logits, kept, {name: found[name] for name in extras})


def read_text(
    decoder: Decoder, ids: Sequence[int], reading: Reading, *, extras: Sequence[str] = ()
) -> Iterator[Forward]:
    """Yield the runs that together read one text, its logits in order.

    A run has at most 512 tokens, and fewer where the vocabulary is wide. The cuts depend on nothing
    but the model and the length, so the same text gives the same bytes.

    Args:
        decoder: float graph of a variant.
        ids: of the text, at least one.
        reading: position scheme and scale.
        extras: outputs wanted besides.

    Raises:
        Internal: a run failed.
        InvalidModelOutput: a logit is not finite.
    """
    rows = max(1, min(_MOST_ROWS, _MOST_LOGITS // decoder.family.vocabulary))
    kept = begin(decoder)
    for start in range(0, len(ids), rows):
        part = np.array([ids[start : start + rows]], dtype=np.int64)
        step = forward(decoder, part, kept, reading, extras=extras)
        kept = step.kept
        yield step
