"""Make a `tokenizer.json` from the vocabulary and merges in a GGUF file's metadata."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from models.errors import RecipeError
from models.gguf.reader import GgufFile

# Kinds of tokens, numbered as in the format.
_CONTROL, _USER_DEFINED = 3, 4

# How a text is cut before merging, by the name that the file gives.
_CUTS: Mapping[str, list[dict[str, Any]]] = {
    "smollm": [
        {"type": "Digits", "individual_digits": True},
        {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
    ],
}


def tokenizer_json(file: GgufFile) -> str:
    """Return the text of a `tokenizer.json` that splits texts as the file's own model does.

    Raises:
        RecipeError: the vocabulary is of another kind than byte-level BPE, its way of cutting
            a text is not known, or its lists do not fit together.
    """
    kind, cut = (file.metadata.get(f"tokenizer.ggml.{key}") for key in ("model", "pre"))
    if kind != "gpt2" or cut not in _CUTS:
        message = (
            f"GGUF tokenizer model {kind!r} with cut {cut!r} is not read; "
            f"read is 'gpt2' with {', '.join(_CUTS)}"
        )
        raise RecipeError(message)
    tokens = file.texts("tokenizer.ggml.tokens")
    vocabulary = {token: index for index, token in enumerate(tokens)}
    if len(vocabulary) != len(tokens):
        message = "GGUF tokenizer.ggml.tokens names a token twice"
        raise RecipeError(message)
    described = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": _added(file, tokens),
        "normalizer": None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": _CUTS[str(cut)]},
        "post_processor": None,
        "decoder": {
            "type": "ByteLevel",
            "add_prefix_space": True,
            "trim_offsets": True,
            "use_regex": True,
        },
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": vocabulary,
            "merges": _merges(file, vocabulary),
        },
    }
    return json.dumps(described, ensure_ascii=False, separators=(",", ":"))


def _added(file: GgufFile, tokens: list[str]) -> list[dict[str, Any]]:
    kinds = file.metadata.get("tokenizer.ggml.token_type")
    if not isinstance(kinds, np.ndarray) or len(kinds) != len(tokens):
        message = f"GGUF tokenizer.ggml.token_type is to hold {len(tokens)} numbers, one a token"
        raise RecipeError(message)
    return [
        {
            "id": index,
            "content": token,
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
            "normalized": False,
            "special": bool(kind == _CONTROL),
        }
        for index, (token, kind) in enumerate(zip(tokens, kinds, strict=True))
        if kind in (_CONTROL, _USER_DEFINED)
    ]


def _merges(file: GgufFile, vocabulary: Mapping[str, int]) -> list[list[str]]:
    pairs = [merge.split(" ") for merge in file.texts("tokenizer.ggml.merges")]
    for pair in pairs:
        if len(pair) != 2 or "".join(pair) not in vocabulary:  # noqa: PLR2004
            message = f"GGUF tokenizer.ggml.merges holds {' '.join(pair)!r}, not two known tokens"
            raise RecipeError(message)
    return pairs
