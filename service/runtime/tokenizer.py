"""Turn texts into the ids that an encoder reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from tokenizers import Tokenizer

from service.errors import ArtefactDamaged, DimensionMismatch, EmptyInput, SequenceTooLong

# Texts to look for between the special pieces; a vocabulary of one script may lack the first.
_PROBES = ("a", "1", "中", "а", "ا", "か", "한")

_LARGEST_ID = 2**32 - 1  # the library's ids are 32 bits wide


class Truncate(StrEnum):
    """Say what happens to a text that has more pieces than the model reads."""

    ERROR = "error"
    LEFT = "left"
    RIGHT = "right"


@dataclass(frozen=True, slots=True)
class Encoded:
    """Hold one text, ready to run.

    Attributes:
        ids: piece ids, special ones included.
        dropped_tokens: pieces cut off to fit the model.
    """

    ids: list[int]
    dropped_tokens: int


class TextTokenizer:
    """Encode texts, cut them to the model's length, and put the special pieces around them.

    Args:
        tokenizer: pieces and their ids.
        max_tokens: longest sequence that the model reads, special pieces included.
        prefix: text put before every input.
    """

    def __init__(self, tokenizer: Tokenizer, *, max_tokens: int, prefix: str) -> None:
        self._tokenizer = tokenizer
        self._prefix = prefix
        self._before, self._after = _special_ids(tokenizer)
        self._room = max_tokens - len(self._before) - len(self._after)
        self.max_tokens = max_tokens
        self.vocabulary = tokenizer.get_vocab_size(with_added_tokens=True)

    def encode_texts(self, texts: Sequence[str], truncate: Truncate) -> list[Encoded]:
        """Return each text's ids, the model's prefix put before it.

        Raises:
            EmptyInput: a text has no pieces, and the model puts no special ones around it.
            SequenceTooLong: a text does not fit, and `truncate` is `error`.
        """
        prefixed = [self._prefix + text for text in texts] if self._prefix else list(texts)
        if len(prefixed) == 1:  # a batch call costs more than one text
            batch = [self._tokenizer.encode(prefixed[0], add_special_tokens=False)]
        else:
            batch = self._tokenizer.encode_batch_fast(prefixed, add_special_tokens=False)
        return [self._fit(found.ids, truncate) for found in batch]

    def wrap_ids(self, sequences: Sequence[Sequence[int]], truncate: Truncate) -> list[Encoded]:
        """Return sequences that came as ids, cut and wrapped like texts; no prefix is added.

        Raises:
            DimensionMismatch: an id lies outside the vocabulary.
            EmptyInput: a sequence holds no id.
            SequenceTooLong: a sequence does not fit, and `truncate` is `error`.
        """
        for ids in sequences:
            if not ids:
                raise EmptyInput("A sequence of token ids is empty; send at least one id.")
            for piece_id in ids:
                if not self._knows(piece_id):
                    raise DimensionMismatch(
                        f"Token id {piece_id} is not one of this model's {self.vocabulary} pieces."
                    )
        return [self._fit(list(ids), truncate) for ids in sequences]

    def _knows(self, piece_id: int) -> bool:
        # asked one by one: a vocabulary may have gaps, so its size says nothing about its ids
        return 0 <= piece_id <= _LARGEST_ID and self._tokenizer.id_to_token(piece_id) is not None

    def _fit(self, ids: list[int], truncate: Truncate) -> Encoded:
        excess = len(ids) - self._room
        if excess <= 0:
            wrapped = self._before + ids + self._after
            if not wrapped:
                raise EmptyInput("A text has no tokens for this model, so there is nothing to run.")
            return Encoded(wrapped, 0)
        if truncate is Truncate.ERROR:
            raise SequenceTooLong(
                f"A text has {len(ids)} tokens and the model reads {self._room}. "
                "Shorten it, or send truncate=right or truncate=left."
            )
        kept = ids[: self._room] if truncate is Truncate.RIGHT else ids[excess:]
        return Encoded(self._before + kept + self._after, excess)


def open_tokenizer(path: Path, *, max_tokens: int, prefix: str) -> TextTokenizer:
    """Load a `tokenizer.json`.

    Raises:
        ArtefactDamaged: the file cannot be read as a tokenizer.
    """
    try:
        tokenizer = Tokenizer.from_file(str(path))
        tokenizer.no_padding()
        tokenizer.no_truncation()
        return TextTokenizer(tokenizer, max_tokens=max_tokens, prefix=prefix)
    except ArtefactDamaged:
        raise
    except Exception as error:
        raise ArtefactDamaged(f"{path.name} is not a tokenizer: {error}") from error


def _special_ids(tokenizer: Tokenizer) -> tuple[list[int], list[int]]:
    """Return the ids that the template puts before and after a text."""
    for probe in _PROBES:
        plain = tokenizer.encode(probe, add_special_tokens=False).ids
        full = tokenizer.encode(probe, add_special_tokens=True).ids
        for start in range(len(full) - len(plain) + 1) if plain else ():
            if full[start : start + len(plain)] == plain:
                return full[:start], full[start + len(plain) :]
    raise ArtefactDamaged("The tokenizer's template changes the text that it wraps.")
