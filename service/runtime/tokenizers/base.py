"""Say what every opened tokenizer offers, whatever file it came from."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from service.errors import InvalidInput
from service.numerics.dtypes import Ids32, Ids64
from service.numerics.lattice.paths import Paths, best_paths
from service.numerics.lattice.vocabulary import Segments, Vocabulary


class Kind(StrEnum):
    """Name how a tokenizer chooses among the segmentations of a text."""

    UNIGRAM = "unigram"
    BPE = "bpe"
    WORDPIECE = "wordpiece"


class Prepared(NamedTuple):
    """Hold normalised texts, ready to be segmented.

    Attributes:
        segments: the texts.
        origin_starts: for each byte of `segments.data`, the first byte of the original text that
            it stands for; empty where alignment was not asked for.
        origin_stops: the byte of the original text after the last one that it stands for.
    """

    segments: Segments
    origin_starts: Ids32
    origin_stops: Ids32


@dataclass(frozen=True, slots=True)
class Dropout:
    """Describe one draw of BPE-dropout.

    Attributes:
        probability: of passing over a merge, 0 to 1.
        samples: draws a text.
        key: (2,) uint64, of the random streams.
        names: (texts,) uint64, stream of each text.
    """

    probability: float
    samples: int
    key: Ids64
    names: Ids64


class PieceTokenizer(ABC):
    """Cut texts into pieces of a vocabulary.

    Attributes:
        kind: how the best segmentation is chosen.
        family: library whose file it is: `sentencepiece`, `huggingface` or `bytepiece`.
        vocabulary: pieces and scores, for the kernels.
    """

    kind: Kind
    family: str
    vocabulary: Vocabulary

    @property
    def size(self) -> int:
        """Return the number of ids."""
        return self.vocabulary.size

    @abstractmethod
    def prepare(
        self, texts: Sequence[str], *, aligned: bool = False, open_ended: bool = False
    ) -> Prepared:
        """Return texts normalised and cut into segments.

        Args:
            texts: any Unicode without lone surrogates.
            aligned: also say where every byte came from.
            open_ended: the text goes on behind its end, so a space there is kept.
        """

    def best(self, prepared: Prepared) -> Paths:
        """Return the segmentation that the original library gives, id for id."""
        return best_paths(self.vocabulary, prepared.segments)

    def drop_merges(self, prepared: Prepared, dropout: Dropout) -> Paths:  # noqa: ARG002
        """Return segmentations by BPE-dropout, text by text.

        Raises:
            InvalidInput: the tokenizer merges nothing.
        """
        raise InvalidInput(
            f"bpe_dropout passes over merges, and a {self.kind.value} tokenizer has none. "
            "Use method=sample."
        )

    @abstractmethod
    def piece(self, piece_id: int) -> str:
        """Return a piece as people read it."""

    def spell(self, piece: str | int) -> bytes:
        """Return the bytes of normalised text that a piece stands for."""
        return (self.piece(piece) if isinstance(piece, int) else piece).encode()

    @abstractmethod
    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of ids, the normalised one that they were made from."""
