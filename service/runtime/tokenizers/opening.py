"""Open a tokenizer file, whatever library it came from."""

from __future__ import annotations

import json

from service.errors import InvalidInput, PayloadTooLarge
from service.runtime.tokenizers.base import PieceTokenizer
from service.runtime.tokenizers.limits import MOST_FILE_BYTES

_BRACE = b"{"
_PROBE = "Ready? 好。"


def open_piece_tokenizer(content: bytes) -> PieceTokenizer:
    """Return the tokenizer that a file describes.

    A JSON object with a `model` is a `tokenizer.json`, any other JSON object a BytePiece model;
    everything else is read as a SentencePiece model.

    Raises:
        PayloadTooLarge: the file or its vocabulary is larger than a limit.
        InvalidInput: it is none of these, cut short, or holds what cannot be used.
    """
    if not content:
        raise InvalidInput("The tokenizer file is empty.")
    if len(content) > MOST_FILE_BYTES:
        raise PayloadTooLarge(
            f"The tokenizer file has {len(content)} bytes and {MOST_FILE_BYTES} are read at most."
        )
    try:
        tokenizer = _open(content)
        tokenizer.best(tokenizer.prepare([_PROBE], aligned=True))  # what fails, fails here
        return tokenizer
    except (
        LookupError,
        TypeError,
        ValueError,
        ArithmeticError,
        AttributeError,
        RecursionError,
    ) as error:
        raise InvalidInput(f"The tokenizer file cannot be used: {error!r:.200}.") from error


def _open(content: bytes) -> PieceTokenizer:
    from service.runtime.tokenizers.byte_piece import BytePiece
    from service.runtime.tokenizers.hugging_face import HuggingFace
    from service.runtime.tokenizers.piece_model import parse_piece_model
    from service.runtime.tokenizers.sentence_piece import SentencePiece

    if content.lstrip()[:1] != _BRACE:
        return SentencePiece(parse_piece_model(content))
    described = json.loads(content)
    if isinstance(described, dict) and "model" in described and "version" in described:
        return HuggingFace(content)
    return BytePiece(content)
