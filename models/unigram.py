"""Write a `tokenizer.json` of the Unigram kind from pieces, scores and a charsmap.

```
text ─ NFC ─ charsmap ─ strip ─ runs of spaces become one ─┐
   ┌───────────────────────────────────────────────────────┘
   └ " " becomes "▁", one more in front ─ best path through the pieces ─ <s> pieces </s>
```

The strings of special pieces, such as `<s>`, stand in the vocabulary of the original models,
so a user who types them would reach the special ids. Here each is stored behind a
plain space: every space of a text has become "▁" before pieces are looked up, so no text can
spell it any more. The ids of the two pieces that frame a text come from the post-processor,
which names ids and needs no strings.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass

from tokenizers import Tokenizer

from models.errors import RecipeError

GUARD = " "
SPACE_MARK = "\u2581"


@dataclass(frozen=True, slots=True)
class UnigramSource:
    """Describe a Unigram tokenizer before it is written.

    Attributes:
        pieces: the text of each piece, by id.
        scores: natural log probability of each piece, by id.
        special_ids: ids that no user text may reach.
        unknown_id: what a stretch without any fitting piece becomes.
        start_id: the piece before every text.
        end_id: the piece after every text.
        charsmap: the compiled character table.
    """

    pieces: Sequence[str]
    scores: Sequence[float]
    special_ids: Sequence[int]
    unknown_id: int
    start_id: int
    end_id: int
    charsmap: bytes


def tokenizer_json(source: UnigramSource) -> str:
    """Return the text of `tokenizer.json`, checked by loading it.

    Raises:
        RecipeError: pieces and scores differ in number, a special id is outside the
            vocabulary, two pieces are equal, or a special piece can still be typed.
    """
    _check(source)
    guarded = set(source.special_ids)
    vocabulary = [
        [f"{GUARD}{piece}" if piece_id in guarded else piece, float(score)]
        for piece_id, (piece, score) in enumerate(zip(source.pieces, source.scores, strict=True))
    ]
    description: dict[str, object] = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [],
        "normalizer": _normaliser(source.charsmap),
        "pre_tokenizer": _space_marks(),
        "post_processor": _frame(source),
        "decoder": _space_marks(),
        "model": {
            "type": "Unigram",
            "unk_id": source.unknown_id,
            "vocab": vocabulary,
            "byte_fallback": False,
        },
    }
    text = json.dumps(description, ensure_ascii=False, separators=(",", ":"))
    _prove_guarded(text, source)
    return text


def _check(source: UnigramSource) -> None:
    count = len(source.pieces)
    if len(source.scores) != count:
        message = f"{count} pieces cannot have {len(source.scores)} scores"
        raise RecipeError(message)
    needed = [*source.special_ids, source.unknown_id, source.start_id, source.end_id]
    if not all(0 <= piece_id < count for piece_id in needed):
        message = f"special ids {sorted(set(needed))} do not all lie in a vocabulary of {count}"
        raise RecipeError(message)
    if len(set(source.pieces)) != count:
        message = f"{count - len(set(source.pieces))} pieces of the vocabulary occur twice"
        raise RecipeError(message)


def _normaliser(charsmap: bytes) -> dict[str, object]:
    """Describe the steps before cutting.

    NFC comes first because the table replaces single characters: without it a letter with a
    combining accent would never meet the piece of the composed letter.
    """
    return {
        "type": "Sequence",
        "normalizers": [
            {"type": "NFC"},
            {
                "type": "Precompiled",
                "precompiled_charsmap": base64.b64encode(charsmap).decode("ascii"),
            },
            {"type": "Strip", "strip_left": True, "strip_right": True},
            {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "},
        ],
    }


def _space_marks() -> dict[str, object]:
    return {
        "type": "Metaspace",
        "replacement": SPACE_MARK,
        "prepend_scheme": "always",
        "split": True,
    }


def _frame(source: UnigramSource) -> dict[str, object]:
    frame = [source.start_id, source.end_id]
    start, end = (
        {"SpecialToken": {"id": source.pieces[piece_id], "type_id": 0}} for piece_id in frame
    )
    first = {"Sequence": {"id": "A", "type_id": 0}}
    second = {"Sequence": {"id": "B", "type_id": 0}}
    return {
        "type": "TemplateProcessing",
        "single": [start, first, end],
        "pair": [start, first, end, end, second, end],
        "special_tokens": {
            source.pieces[piece_id]: {
                "id": source.pieces[piece_id],
                "ids": [piece_id],
                "tokens": [source.pieces[piece_id]],
            }
            for piece_id in frame
        },
    }


def _prove_guarded(text: str, source: UnigramSource) -> None:
    tokenizer = Tokenizer.from_str(text)
    forbidden = set(source.special_ids) - {source.unknown_id}
    for piece_id in source.special_ids:
        piece = source.pieces[piece_id]
        for spelling in (piece, f"{GUARD}{piece}", f"a{piece}b", f"a {GUARD}{piece} b"):
            ids = tokenizer.encode(spelling, add_special_tokens=False).ids
            if forbidden.intersection(ids):
                message = f"the text {spelling!r} reaches a special piece: {ids}"
                raise RecipeError(message)
