"""Make a `tokenizer.json` from the vocabulary in a GGUF file's metadata.

```
gpt2    byte-level BPE: the file lists the merges; how a text is cut before is told by a name
llama   SentencePiece BPE: the file lists scores; two pieces merge where their texts together are
        a piece, the highest score first
```
"""

from __future__ import annotations

import json
from typing import Any, cast

import numpy as np
from tokenizers import Tokenizer

from models.errors import RecipeError
from models.gguf.reader import GgufFile

# Kinds of tokens, numbered as in the format.
_UNKNOWN, _CONTROL, _USER_DEFINED, _UNUSED = 2, 3, 4, 5
_SPACE = "\N{LOWER ONE EIGHTH BLOCK}"
_LETTERS = {
    "type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False
}  # fmt: skip
_WORDS = {**_LETTERS, "use_regex": True}
_LLAMA_3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|"
    r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
# How a text is cut before merging, by the name that the file gives.
_CUTS: dict[str, list[dict[str, Any]]] = {
    "default": [_WORDS],
    "gpt-2": [_WORDS],
    "smollm": [{"type": "Digits", "individual_digits": True}, _WORDS],
    "llama-bpe": [
        {
            "type": "Split",
            "pattern": {"Regex": _LLAMA_3},
            "behavior": "Isolated",
            "invert": False,
        },
        _LETTERS,
    ],
}
_WHOLE_WORDS_FIRST = frozenset({"llama-bpe"})


def tokenizer_json(file: GgufFile, *, vocabulary: int) -> str:
    """Return the text of a `tokenizer.json` that splits texts as the file's own model does.

    Args:
        file: the file.
        vocabulary: rows of its token table.

    Raises:
        RecipeError: the vocabulary is of a kind that is not read, its lists do not fit together,
            or it has another length than the table.
    """
    tokens = file.texts("tokenizer.ggml.tokens")
    if len(tokens) != vocabulary:
        message = (
            f"the GGUF file's tokenizer has {len(tokens)} tokens and its model {vocabulary} rows: "
            "they do not belong together"
        )
        raise RecipeError(message)
    if len(set(tokens)) != len(tokens):
        message = "GGUF tokenizer.ggml.tokens names a token twice"
        raise RecipeError(message)
    kinds = _numbers(file, "tokenizer.ggml.token_type", tokens)
    kind = file.metadata.get("tokenizer.ggml.model")
    if kind == "gpt2":
        parts = _byte_level(file, tokens)
    elif kind == "llama":
        parts = _sentence_piece(file, tokens, kinds)
    else:
        message = f"GGUF tokenizer.ggml.model is {kind!r}; read are 'gpt2' and 'llama'"
        raise RecipeError(message)
    described = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": _added(tokens, kinds),
        "post_processor": None,
        **parts,
    }
    return _checked(json.dumps(described, ensure_ascii=False, separators=(",", ":")))


def _byte_level(file: GgufFile, tokens: list[str]) -> dict[str, Any]:
    cut = file.metadata.get("tokenizer.ggml.pre", "default")
    if cut not in _CUTS:
        message = f"GGUF tokenizer.ggml.pre is {cut!r}; read are {', '.join(_CUTS)}"
        raise RecipeError(message)
    known = set(tokens)
    pairs = [merge.split(" ") for merge in file.texts("tokenizer.ggml.merges")]
    for pair in pairs:
        if len(pair) != 2 or not known.issuperset({*pair, "".join(pair)}):  # noqa: PLR2004
            message = f"GGUF tokenizer.ggml.merges holds {' '.join(pair)!r}, not two known tokens"
            raise RecipeError(message)
    return {
        "normalizer": None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": _CUTS[str(cut)]},
        "decoder": _WORDS,
        "model": {
            **_model(tokens, pairs),
            "ignore_merges": cut in _WHOLE_WORDS_FIRST,
        },
    }


def _sentence_piece(file: GgufFile, tokens: list[str], kinds: list[float]) -> dict[str, Any]:
    scores = _numbers(file, "tokenizer.ggml.scores", tokens)
    prefix = file.metadata.get("tokenizer.ggml.add_space_prefix", True)
    unknown = next((t for t, kind in zip(tokens, kinds, strict=True) if kind == _UNKNOWN), None)
    spaces = {"type": "Replace", "pattern": {"String": " "}, "content": _SPACE}
    before = [{"type": "Prepend", "prepend": _SPACE}] if prefix else []
    back = {"type": "Replace", "pattern": {"String": _SPACE}, "content": " "}
    decoders: list[dict[str, Any]] = [back, {"type": "ByteFallback"}, {"type": "Fuse"}]
    strip = [{"type": "Strip", "content": " ", "start": 1, "stop": 0}] if prefix else []
    return {
        "normalizer": {"type": "Sequence", "normalizers": [*before, spaces]},
        "pre_tokenizer": None,
        "decoder": {"type": "Sequence", "decoders": decoders + strip},
        "model": {
            **_model(tokens, _scored_merges(tokens, scores, kinds)),
            "byte_fallback": True,
            "fuse_unk": True,
            "unk_token": unknown,
        },
    }


def _scored_merges(tokens: list[str], scores: list[float], kinds: list[float]) -> list[list[str]]:
    """Return every pair of pieces whose texts together are a piece, best first."""
    rank = {
        token: (-score, index)
        for index, (token, score, kind) in enumerate(zip(tokens, scores, kinds, strict=True))
        if kind not in {_UNKNOWN, _CONTROL, _UNUSED}
    }
    found = [
        (rank[token], rank[token[:cut]][1], rank[token[cut:]][1], token[:cut], token[cut:])
        for token in rank
        for cut in range(1, len(token))
        if token[:cut] in rank and token[cut:] in rank
    ]
    return [[left, right] for *_, left, right in sorted(found)]


def _model(tokens: list[str], merges: list[list[str]]) -> dict[str, Any]:
    return {
        "type": "BPE",
        "dropout": None,
        "unk_token": None,
        "continuing_subword_prefix": None,
        "end_of_word_suffix": None,
        "fuse_unk": False,
        "byte_fallback": False,
        "ignore_merges": False,
        "vocab": {token: index for index, token in enumerate(tokens)},
        "merges": merges,
    }


def _added(tokens: list[str], kinds: list[float]) -> list[dict[str, Any]]:
    return [
        {
            "id": index,
            "content": token,
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
            "normalized": False,
            "special": kind != _USER_DEFINED,
        }
        for index, (token, kind) in enumerate(zip(tokens, kinds, strict=True))
        if kind in {_UNKNOWN, _CONTROL, _USER_DEFINED}
    ]


def _numbers(file: GgufFile, key: str, tokens: list[str]) -> list[float]:
    found = file.metadata.get(key)
    if not isinstance(found, np.ndarray) or found.shape != (len(tokens),):
        message = f"GGUF {key} is to hold {len(tokens)} numbers, one a token"
        raise RecipeError(message)
    return cast("list[float]", found.tolist())


def _checked(text: str) -> str:
    try:
        Tokenizer.from_str(text)
    except Exception as error:  # the library raises nothing narrower
        message = f"the GGUF file's tokenizer cannot be used: {error}"
        raise RecipeError(message) from error
    return text
