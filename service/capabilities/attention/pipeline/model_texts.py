"""Turn the texts of a request into a model's ids, and hold them to this room's limits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from service.errors import EmptyInput, Fault, TooManyItems
from service.runtime.decoders.opened import Family

# What is longer than this for each token of the limit is refused before it is tokenized.
_MOST_CHARACTERS_A_TOKEN = 64
_LEAST_TOKENS = 2


@dataclass(frozen=True, slots=True)
class ModelText:
    """Hold one text as a model reads it.

    Attributes:
        ids: what the model reads; the first has no likelihood, every other one has.
        marked: whether the first is a mark that the model puts before every text.
        pointer: where the text stands in the request.
    """

    ids: Sequence[int]
    marked: bool
    pointer: str

    @property
    def given(self) -> Sequence[int]:
        """Return the ids of the text itself."""
        return self.ids[1:] if self.marked else self.ids

    @property
    def predicted(self) -> Sequence[int]:
        """Return the ids that have a likelihood."""
        return self.ids[1:]


def read_texts(
    family: Family, sources: Sequence[str | Sequence[int]], pointers: Sequence[str], *, most: int
) -> list[ModelText]:
    """Return every text as ids.

    Args:
        family: tokenizer, and the mark before a text where it has one.
        sources: texts, or ids that are taken as they are.
        pointers: where each stands in the request.
        most: tokens of all texts together.

    Raises:
        TooManyItems: the texts have more tokens.
        EmptyInput: a text has no token that could be predicted.
        InvalidInput: an id is not one of the model's.
    """
    texts = []
    total = 0
    for source, pointer in zip(sources, pointers, strict=True):
        text = _read_text(family, source, pointer, most=most)
        total += len(text.ids)
        if total > most:
            raise _too_many(f"{total} tokens", most, pointer)
        if len(text.ids) < _LEAST_TOKENS:
            raise EmptyInput(
                f"At {pointer} stand {len(text.given)} tokens. The first has no likelihood, since "
                "nothing comes before it: send at least two.",
                faults=(Fault(pointer, f"has {len(text.given)} tokens"),),
            )
        texts.append(text)
    return texts


def _read_text(
    family: Family, source: str | Sequence[int], pointer: str, *, most: int
) -> ModelText:
    if not isinstance(source, str):
        family.tokenizer.require_ids(source, pointer=pointer)
        return ModelText(source, marked=False, pointer=pointer)
    if len(source) > most * _MOST_CHARACTERS_A_TOKEN:
        raise _too_many(f"{len(source)} characters", most, pointer)
    ids = family.tokenizer.encode(source)
    bos = family.entry.bos_id
    return ModelText(ids if bos is None else [bos, *ids], marked=bos is not None, pointer=pointer)


def _too_many(size: str, most: int, pointer: str) -> TooManyItems:
    return TooManyItems(
        f"The texts have {size} up to {pointer} and {most} tokens are read at most in one "
        "request. Send less in one request.",
        faults=(Fault(pointer, f"brings {size}"),),
    )
