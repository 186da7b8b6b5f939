"""Measure how often a prompt that is cut inside a word goes on as if it were not cut.

```
python -m benchmarks.healing --data FOLDER [--model FOLDER] [--prompts 240] [--seed 0]
```

FOLDER holds plain English (`*.txt`). More prose comes from the descriptions of the installed
packages, code from Python's standard library and from this checkout. For each prompt the model
reads about 48 tokens and writes 16 more, greedily: that is what the uncut prompt continues with.
The text is then cut at a random byte inside a word or an identifier among the 16, given back as a
prompt, and continued greedily. *Recovered* means that the rest of the cut word comes back, byte
for byte. The model's own continuation is the measure, not the author's: a small model does not
know what the author wrote next, and no treatment of the prompt can teach it. How often the
author's words come back is shown beside it.

| way | the prompt's end |
|---|---|
| plain | as the tokenizer writes it |
| one token | the last token is taken back, one that begins with its bytes must follow |
| masked | all open tokens are taken back; what fits is weighed by the model alone |
| covers | the same, weighed by what it leads to; exact |
| any covers | exact over all rows of pieces, not only those the tokenizer writes |
"""

from __future__ import annotations

import argparse
import os
import random
import re
import sysconfig
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import distributions
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from benchmarks import results
from benchmarks.contestants import CHECKOUT
from benchmarks.results import Bar, say
from service.numerics.healing.covers import CoverSearch, Healing
from service.numerics.healing.pieces import Pieces
from service.numerics.healing.reopening import Encode, Reopened, reopen

CONTEXT, WRITTEN = 48, 16
# Bytes after the cut that are compared beside the rest of the word.
FURTHER = 12
LONGEST_CONTINUATION = 24
_WORD = re.compile(rb"[A-Za-z0-9_\x80-\xff]+")
Past: TypeAlias = Any
Row: TypeAlias = npt.NDArray[np.float32]


class Language(Protocol):
    """A causal model, read piece by piece."""

    pieces: Pieces
    encode: Encode

    def read(self, ids: Sequence[int], past: Past | None) -> tuple[Row, Past]:
        """Return the logits after the last id, and the past for what follows."""


@dataclass(frozen=True, slots=True)
class Cut:
    """Hold a prompt that breaks off, and what is to come after it."""

    source: str
    ids: tuple[int, ...]
    word: bytes
    further: bytes


def english(folder: Path) -> Iterator[str]:
    """Yield prose: the texts of the folder, and what packages say about themselves."""
    for path in sorted(folder.rglob("*.txt")):
        yield path.read_text(encoding="utf-8", errors="ignore")
    names = ("numpy", "scipy", "pydantic", "fastapi", "hypothesis", "starlette", "httpx")
    for found in distributions():
        if found.metadata["Name"] in names:
            yield str(found.metadata.get_payload())


def code() -> Iterator[str]:
    """Yield sources: of the standard library, and of this checkout."""
    library = Path(sysconfig.get_paths()["stdlib"])
    for path in [*sorted(library.glob("*.py"))[::4], *sorted(CHECKOUT.glob("service/**/*.py"))[::3]]:
        yield path.read_text(encoding="utf-8", errors="ignore")


def excerpts(texts: Sequence[str], chance: random.Random) -> Iterator[str]:
    """Yield pieces of about 600 characters from the beginnings of lines, for ever."""
    while True:
        text = chance.choice(texts)
        start = text.rfind("\n", 0, chance.randrange(max(1, len(text) - 700))) + 1
        yield text[start : start + 600]


def written_cut(
    language: Language, source: str, excerpt: str, chance: random.Random
) -> Cut | None:
    """Return a prompt cut inside what the model itself writes; None where it writes no word."""
    context = list(language.encode([excerpt])[0][:CONTEXT])
    if len(context) < CONTEXT:
        return None
    more, row, past = [], *language.read(context, None)
    for _ in range(WRITTEN):
        more.append(int(row.argmax()))
        row, past = language.read(more[-1:], past)
    if not all(language.pieces.texts[each] for each in more):
        return None
    start = len(_text(language, context))
    return _cut(language, source, _text(language, [*context, *more]), start, chance)


def authors_cut(language: Language, source: str, excerpt: str, chance: random.Random) -> Cut | None:
    """Return a prompt cut inside what the author wrote."""
    ids = language.encode([excerpt])[0]
    if len(ids) < CONTEXT + WRITTEN:
        return None
    start = len(_text(language, ids[:CONTEXT]))
    whole = _text(language, ids[: CONTEXT + WRITTEN])
    return _cut(language, source, whole, start, chance)


def _cut(
    language: Language, source: str, text: bytes, start: int, chance: random.Random
) -> Cut | None:
    """Return the text cut inside a word after `start`, with enough bytes left behind the cut."""
    words = [each.span() for each in _WORD.finditer(text) if each.end() <= len(text) - FURTHER]
    places = [(at, end) for begin, end in words for at in range(max(start, begin) + 1, end)]
    if not places:
        return None
    at, end = chance.choice(places)
    try:
        prompt = text[:at].decode()
    except UnicodeDecodeError:
        return None
    ids = tuple(language.encode([prompt])[0])
    return Cut(source, ids, text[at:end], text[at : at + FURTHER])


def _text(language: Language, ids: Sequence[int]) -> bytes:
    return b"".join(language.pieces.texts[each] for each in ids)


@dataclass(frozen=True, slots=True)
class Outcome:
    """Hold what followed a prompt, and what it took."""

    text: bytes
    asked: int
    dropped: float


def plain(language: Language, cut: Cut) -> Outcome:
    """Continue the prompt as it is."""
    return _go_on(language, [*cut.ids], None, asked=0, dropped=0.0)


def one_token(language: Language, cut: Cut) -> Outcome:
    """Take the last token back and let one follow that begins with its bytes."""
    last = cut.ids[-1]
    again = Reopened(
        len(cut.ids) - 1, language.pieces.texts[last], frozenset([(), (last,)])
    )
    return _go_on(
        language, [*cut.ids[:-1]], Healing(again, language.pieces), asked=0, dropped=0.0
    )


def masked(language: Language, cut: Cut) -> Outcome:
    """Take back all that is open; weigh what fits by the model alone."""
    found = reopen(cut.ids, language.pieces, encode=language.encode)
    return _go_on(
        language, [*cut.ids[: found.kept]], Healing(found, language.pieces), asked=0, dropped=0.0
    )


def covers(language: Language, cut: Cut) -> Outcome:
    """Weigh what fits by the covers it leads to, as the tokenizer writes them."""
    return _covered(language, cut, reopen(cut.ids, language.pieces, encode=language.encode))


def any_covers(language: Language, cut: Cut) -> Outcome:
    """Weigh what fits by all covers that it leads to."""
    return _covered(language, cut, reopen(cut.ids, language.pieces))


def _covered(language: Language, cut: Cut, found: Reopened) -> Outcome:
    search = CoverSearch(found, language.pieces)
    kept = [*cut.ids[: found.kept]]
    row, past = language.read(kept, None)
    while (stem := search.wanted()) is not None:
        search.give(language.read(stem, past)[0] if stem else row)
    ahead = search.ahead()
    healing = Healing(found, language.pieces, ahead=ahead)
    return _go_on(language, kept, healing, asked=ahead.asked, dropped=ahead.dropped)


def _go_on(
    language: Language, ids: list[int], healing: Healing | None, *, asked: int, dropped: float
) -> Outcome:
    row, past = language.read(ids, None)
    written: bytes = b""
    for _ in range(LONGEST_CONTINUATION):
        if healing is not None and not healing.over:
            chosen = int(healing.weigh(row).argmax())
            healing.advance(chosen)
            written = healing.surplus
        else:
            chosen = int(row.argmax())
            written += language.pieces.texts[chosen]
        if len(written) >= 2 * FURTHER:
            break
        row, past = language.read([chosen], past)
    return Outcome(written, asked, dropped)


WAYS: dict[str, Callable[[Language, Cut], Outcome]] = {
    "plain": plain,
    "one token": one_token,
    "masked": masked,
    "covers": covers,
    "any covers": any_covers,
}


def measure(
    language: Language, *, data: Path, prompts: int, seed: int
) -> list[dict[str, object]]:
    """Return one record a prompt, kind and way."""
    records: list[dict[str, object]] = []
    for kind, make in (("written", written_cut), ("author", authors_cut)):
        for source, texts in (("english", [*english(data)]), ("code", [*code()])):
            chance = random.Random(f"{seed} {kind} {source}")
            stream = excerpts(texts, chance)
            count = 0
            while count < prompts // 2:
                cut = make(language, source, next(stream), chance)
                if cut is None:
                    continue
                count += 1
                records += [_record(language, kind, cut, way) for way in WAYS]
            say(_line(records, kind, source))
    return records


def _record(language: Language, kind: str, cut: Cut, way: str) -> dict[str, object]:
    begin = time.process_time()
    outcome = WAYS[way](language, cut)
    return {
        "kind": kind,
        "source": cut.source,
        "way": way,
        "word": outcome.text.startswith(cut.word),
        "further": outcome.text.startswith(cut.further),
        "asked": outcome.asked,
        "dropped": round(outcome.dropped, 6),
        "seconds": round(time.process_time() - begin, 4),
        "end": _text(language, cut.ids)[-16:].decode(errors="replace"),
        "wanted": cut.further.decode(errors="replace"),
        "got": outcome.text[:FURTHER].decode(errors="replace"),
    }


def _share(records: Sequence[dict[str, object]], field: str, **same: str) -> float:
    chosen = [each for each in records if all(each[k] == v for k, v in same.items())]
    return sum(bool(each[field]) for each in chosen) / max(1, len(chosen))


def _line(records: Sequence[dict[str, object]], kind: str, source: str) -> str:
    shares = (
        f"{way} {_share(records, 'word', kind=kind, source=source, way=way):.3f}"
        f"/{_share(records, 'further', kind=kind, source=source, way=way):.3f}"
        for way in WAYS
    )
    return f"{kind:8} {source:8} " + "  ".join(shares)
