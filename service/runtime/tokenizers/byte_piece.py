"""Tokenize as BytePiece does: a Unigram law over bytes, no character unknown."""

from __future__ import annotations

import base64
import binascii
import json
import math
import re
import unicodedata
from collections.abc import Sequence
from typing import NoReturn

import numpy as np

from service.errors import InvalidInput
from service.numerics.lattice.normaliser import NO_ORIGINS
from service.numerics.lattice.vocabulary import Segments, make_vocabulary
from service.runtime.tokenizers.base import Kind, PieceTokenizer, Prepared
from service.runtime.tokenizers.limits import MOST_PIECES, check_pieces

_SPECIAL = ("<pad>", "<bos>", "<eos>")
_LINES = re.compile(".*\n+|.+")
_ID, _COUNT = 0, -1


class BytePiece(PieceTokenizer):
    """Hold one BytePiece model.

    Args:
        content: the file, JSON of `{base64 of the piece: [id, text, count]}`.

    Raises:
        InvalidInput: it is no such file.
    """

    family = "bytepiece"
    kind = Kind.UNIGRAM

    def __init__(self, content: bytes) -> None:
        counts = _read(content)
        keys = list(counts)
        check_pieces(keys)
        size = max(piece_id for piece_id, _ in counts.values()) + 1
        if size > MOST_PIECES or len({piece_id for piece_id, _ in counts.values()}) != len(keys):
            _refuse("its ids are not distinct numbers below a million")
        total = math.log(sum(count for _, count in counts.values()))
        scores = np.zeros(size, np.float64)
        self._pieces: list[bytes] = [b""] * size
        for key, (piece_id, count) in counts.items():
            scores[piece_id] = np.log(count) - total
            self._pieces[piece_id] = key
        ids = np.array([piece_id for piece_id, _ in counts.values()], np.int32)
        self.vocabulary = make_vocabulary(keys, ids, scores, unknown_id=-1, unknown_score=None)

    def prepare(
        self,
        texts: Sequence[str],
        *,
        aligned: bool = False,
        open_ended: bool = False,  # noqa: ARG002 - spaces at the end are never dropped here
    ) -> Prepared:
        """Return texts in NFC, a segment a line."""
        data = bytearray()
        bounds, groups = [0], [0]
        starts, stops = [NO_ORIGINS], [NO_ORIGINS]
        for text in texts:
            composed = unicodedata.normalize("NFC", text)
            for line in _LINES.findall(composed):
                data += line.encode()
                bounds.append(len(data))
            groups.append(len(bounds) - 1)
            if aligned:
                spans = _align(text, composed)
                starts.append(spans[:-1])
                stops.append(spans[1:])
        segments = Segments(
            np.frombuffer(data, dtype=np.uint8),
            np.array(bounds, np.int64),
            np.full(len(bounds) - 1, -1, np.int32),
            np.array(groups, np.int64),
        )
        if not aligned:
            return Prepared(segments, NO_ORIGINS, NO_ORIGINS)
        return Prepared(segments, np.concatenate(starts), np.concatenate(stops))

    def piece(self, piece_id: int) -> str:
        """Return a piece as text; bytes that form no character stand in hexadecimal."""
        if piece_id < len(_SPECIAL):
            return _SPECIAL[piece_id]
        return self._pieces[piece_id].decode("utf-8", "backslashreplace")

    def spell(self, piece: str | int) -> bytes:
        """Return the bytes of normalised text that a piece stands for."""
        return self._pieces[piece] if isinstance(piece, int) else piece.encode()

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text; bytes that form no character are left out."""
        raw = b"".join(self._pieces[each] for each in ids if each >= len(_SPECIAL))
        return raw.decode("utf-8", "ignore")


def _align(text: str, composed: str) -> np.ndarray:
    """Return the original byte of each byte of the composed text, and of its end.

    Composition never crosses a character of combining class 0 that begins a composition, so the
    text is cut before each starter and the parts are compared.
    """
    if text == composed:
        return np.arange(len(text.encode()) + 1, dtype=np.int32)
    places: list[int] = []
    origin = 0
    for part in re.findall(r".[^\x00-\u02ff\u0370-\u0482\u0531-\u058f]*", text, re.DOTALL):
        made = unicodedata.normalize("NFC", part)
        places += [origin] * len(made.encode())
        origin += len(part.encode())
    return np.array([*places, origin], np.int32)


def _read(content: bytes) -> dict[bytes, tuple[int, int]]:
    try:
        described = json.loads(content)
        found = {
            base64.b64decode(key, validate=True): (value[_ID], value[_COUNT])
            for key, value in described.items()
        }
    except (ValueError, RecursionError, binascii.Error) as error:
        _refuse(str(error)[:100])
    except (AttributeError, KeyError, IndexError, TypeError):
        _refuse("it is no object of [id, text, count] by base64")
    if len(found) != len(described):
        _refuse("a piece stands in it twice")
    for key, (piece_id, count) in found.items():
        if type(piece_id) is not int or type(count) is not int or count < 1:
            _refuse(f"the piece {key!r:.40} has id {piece_id!r:.20} and count {count!r:.20}")
        if not len(_SPECIAL) <= piece_id < MOST_PIECES:
            _refuse(f"the piece {key!r:.40} has the id {piece_id!r:.20}")
    return found


def _refuse(reason: str) -> NoReturn:
    raise InvalidInput(f"The file is no BytePiece model that can be used: {reason}.")
