"""Turn texts into a decoder's ids and ids into bytes of text."""

from __future__ import annotations

import codecs
import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from service.errors import ArtefactDamaged, Fault, InvalidInput
from service.runtime.family import BYTES, FamilyEntry

_BYTES = 256


class DecoderTokenizer(ABC):
    """Turn texts into ids and back.

    Attributes:
        size: ids are 0 … size - 1.
        special: name to id of what is no text, as `<|im_end|>`; none of them comes from a text.
    """

    size: int
    special: Mapping[str, int]

    @abstractmethod
    def encode(self, text: str) -> list[int]:
        """Return the ids of a text as if nothing in it were special."""

    @abstractmethod
    def token_bytes(self, token_id: int) -> bytes:
        """Return the bytes of UTF-8 that an id stands for; a special one's are its name's.

        Raises:
            InvalidInput: there is no such id.
        """

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of ids; broken UTF-8 becomes U+FFFD."""
        return b"".join(self.token_bytes(each) for each in ids).decode("utf-8", "replace")

    def require_ids(self, ids: Sequence[int], *, pointer: str) -> None:
        """Check that every id is one of this model's.

        Raises:
            InvalidInput: one is not.
        """
        for place, token_id in enumerate(ids):
            if not 0 <= token_id < self.size:
                raise InvalidInput(
                    f"Token id {token_id} is not one of this model's {self.size}, counted from 0.",
                    faults=(Fault(f"{pointer}/{place}", f"is {token_id}"),),
                )


class ByteTokenizer(DecoderTokenizer):
    """Take each byte of UTF-8 for an id."""

    def __init__(self) -> None:
        self.size = _BYTES
        self.special = {}

    def encode(self, text: str) -> list[int]:
        """Return the bytes of a text."""
        return list(text.encode())

    def token_bytes(self, token_id: int) -> bytes:
        """Return one byte."""
        self.require_ids([token_id], pointer="/ids")
        return bytes((token_id,))


class FileTokenizer(DecoderTokenizer):
    """Hold a `tokenizer.json`.

    Texts go through a copy of it that knows no special pieces, so that `<|im_end|>` in what a user
    writes is nothing but these ten letters.

    Args:
        content: the file.
        size: rows of the model's logits.

    Raises:
        ArtefactDamaged: it is no such file, or has more ids than the model.
    """

    def __init__(self, content: bytes, *, size: int) -> None:
        try:
            described: dict[str, Any] = json.loads(content)
            added = described.get("added_tokens") or []
            self.special = {
                str(each["content"]): int(each["id"]) for each in added if each["special"]
            }
            plain = {
                **described,
                "added_tokens": [each for each in added if not each["special"]],
                "post_processor": None,
                "truncation": None,
                "padding": None,
            }
            self._tokenizer = Tokenizer.from_str(json.dumps(plain))
            pieces = {
                **self._tokenizer.get_vocab(with_added_tokens=True),
                **self.special,
            }
        except Exception as error:
            raise ArtefactDamaged(f"The model's tokenizer cannot be read: {error}") from error
        self.size = size
        self._bytes = _spell_all(pieces, self.special, described, size)

    def encode(self, text: str) -> list[int]:
        """Return the ids of a text as if nothing in it were special."""
        return list(self._tokenizer.encode(text, add_special_tokens=False).ids)

    def token_bytes(self, token_id: int) -> bytes:
        """Return the bytes that an id stands for; of one that the vocabulary leaves out, none."""
        self.require_ids([token_id], pointer="/ids")
        return self._bytes[token_id]


class TextStream:
    """Turn ids into text as they come, and hold an unfinished character back.

    Args:
        tokenizer: of the model that gives the ids.
    """

    def __init__(self, tokenizer: DecoderTokenizer) -> None:
        self._tokenizer = tokenizer
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def push(self, token_id: int) -> str:
        """Return the text that an id completes, which may be empty."""
        return self._decoder.decode(self._tokenizer.token_bytes(token_id))

    def finish(self) -> str:
        """Return what is left: U+FFFD where the last character never came to its end."""
        return self._decoder.decode(b"", final=True)


def open_decoder_tokenizer(folder: Path, family: FamilyEntry) -> DecoderTokenizer:
    """Return the tokenizer that a manifest names; its file is verified.

    Raises:
        ArtefactDamaged: the file cannot be used, or does not fit the model.
    """
    if family.tokenizer == BYTES:
        if family.vocabulary < _BYTES:
            raise ArtefactDamaged(f"{family.vocabulary} logits cannot stand for {_BYTES} bytes.")
        return ByteTokenizer()
    return FileTokenizer((folder / family.tokenizer).read_bytes(), size=family.vocabulary)


def _spell_all(
    pieces: Mapping[str, int],
    special: Mapping[str, int],
    described: Mapping[str, Any],
    size: int,
) -> list[bytes]:
    largest = max(pieces.values(), default=-1)
    if largest >= size:
        raise ArtefactDamaged(
            f"The tokenizer has the id {largest} and the model {size} logits: they do not belong "
            "together."
        )
    alphabet = _byte_alphabet() if "ByteLevel" in _types(described.get("decoder")) else None
    spelled = [b""] * size
    for piece, token_id in pieces.items():
        known = piece in special
        spelled[token_id] = piece.encode() if known else _spell(piece, alphabet)
    return spelled


def _types(node: object) -> set[str]:
    """Return the kinds of all parts of a decoder's description."""
    if not isinstance(node, dict):
        return set()
    inner = [_types(each) for each in node.get("decoders", [])]
    return {str(node.get("type"))}.union(*inner)


def _spell(piece: str, alphabet: Mapping[str, int] | None) -> bytes:
    if alphabet is not None:
        # a piece that was added as it stands may hold letters outside of the alphabet
        if all(letter in alphabet for letter in piece):
            return bytes(alphabet[letter] for letter in piece)
        return piece.encode()
    if len(piece) == 6 and piece.startswith("<0x") and piece.endswith(">"):  # noqa: PLR2004 - <0x0A>
        return bytes.fromhex(piece[3:5])
    return piece.replace("\N{LOWER ONE EIGHTH BLOCK}", " ").encode()


def _byte_alphabet() -> dict[str, int]:
    """Return the letter that byte-level BPE writes for each byte.

    Visible Latin-1 letters stand for themselves, the 68 other bytes for U+0100 and on.
    """
    visible = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    hidden = [byte for byte in range(_BYTES) if byte not in visible]
    letters = {chr(byte): byte for byte in visible}
    return letters | {chr(_BYTES + place): byte for place, byte in enumerate(hidden)}
