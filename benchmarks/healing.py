"""Measure how often a prompt that is cut inside a word goes on as if it were not cut.

```
python -m benchmarks.healing --data FOLDER [--model FOLDER] [--prompts 240] [--seed 0]
```

FOLDER holds plain English (`*.txt`). More prose comes from the descriptions of the installed
packages, code from Python's standard library and from this checkout. For each prompt the model
reads about 48 tokens and writes 12 more, greedily: that is what the uncut prompt continues with.
The text is then cut at a random byte inside a word or an identifier among the 12, given back as a
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
from service.runtime.decoders.feeds import Reading
from service.runtime.decoders.forward import begin, forward
from service.runtime.decoders.graph import Giving, open_graph, read_graph
from service.runtime.decoders.healing import Healer
from service.runtime.decoders.opened import Decoder, Family
from service.runtime.decoders.tokenizers import open_decoder_tokenizer
from service.runtime.manifest import read_manifest
from service.runtime.session import SessionOptions
from service.settings import ProviderPolicy, Settings

CONTEXT, WRITTEN = 48, 12
# Bytes after the cut that are compared beside the rest of the word.
FURTHER = 12
_WORD = re.compile(rb"[A-Za-z0-9_\x80-\xff]+")
Past: TypeAlias = Any
Row: TypeAlias = npt.NDArray[np.float32]
Record: TypeAlias = dict[str, Any]


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
    for path in [
        *sorted(library.glob("*.py"))[::4],
        *sorted(CHECKOUT.glob("service/**/*.py"))[::3],
    ]:
        yield path.read_text(encoding="utf-8", errors="ignore")


def excerpts(texts: Sequence[str], chance: random.Random) -> Iterator[str]:
    """Yield pieces of about 600 characters from the beginnings of lines, for ever."""
    while True:
        text = chance.choice(texts)
        start = text.rfind("\n", 0, chance.randrange(max(1, len(text) - 700))) + 1
        yield text[start : start + 600]


def written_cut(
    language: Language, said: Readings, source: str, excerpt: str, chance: random.Random
) -> Cut | None:
    """Return a prompt cut inside what the model itself writes; None where it writes no word."""
    context = list(language.encode([excerpt])[0][:CONTEXT])
    if len(context) < CONTEXT:
        return None
    ids = [*context]
    for _ in range(WRITTEN):
        ids.append(int(said.after(ids).argmax()))
        if not language.pieces.texts[ids[-1]]:
            return None
    start = len(_text(language, context))
    return _cut(language, source, _text(language, ids), start, chance)


def authors_cut(
    language: Language, said: Readings, source: str, excerpt: str, chance: random.Random
) -> Cut | None:
    """Return a prompt cut inside what the author wrote."""
    del said
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
    return Cut(source, ids, text[at:end][:FURTHER], text[at : at + FURTHER])


def _text(language: Language, ids: Sequence[int]) -> bytes:
    return b"".join(language.pieces.texts[each] for each in ids)


@dataclass(frozen=True, slots=True)
class Outcome:
    """Hold what followed a prompt, and what it took."""

    text: bytes
    asked: int
    dropped: float


class Readings:
    """Remember what the model said after each row of ids of one prompt: ways share most of them.

    Attributes:
        runs: of the model, so far.
    """

    def __init__(self, language: Language) -> None:
        self._language = language
        self._known: dict[tuple[int, ...], tuple[Row, Past]] = {}
        self.runs = 0

    def after(self, ids: Sequence[int]) -> Row:
        """Return the logits after the last id."""
        row = tuple(ids)
        if row not in self._known:
            start = next((at for at in range(len(row) - 1, 0, -1) if row[:at] in self._known), 0)
            past = self._known[row[:start]][1] if start else None
            self._known[row] = self._language.read(row[start:], past)
            self.runs += 1
        return self._known[row][0]


def plain(language: Language, said: Readings, cut: Cut) -> Outcome:
    """Continue the prompt as it is."""
    return _go_on(language, said, cut, len(cut.ids), None)


def one_token(language: Language, said: Readings, cut: Cut) -> Outcome:
    """Take the last token back and let one follow that begins with its bytes."""
    last, kept = cut.ids[-1], len(cut.ids) - 1
    again = Reopened(kept, language.pieces.texts[last], frozenset([(), (last,)]))
    return _go_on(language, said, cut, kept, Healing(again, language.pieces))


def masked(language: Language, said: Readings, cut: Cut) -> Outcome:
    """Take back all that is open; weigh what fits by the model alone."""
    found = reopen(cut.ids, language.pieces, encode=language.encode)
    return _go_on(language, said, cut, found.kept, Healing(found, language.pieces))


def covers(language: Language, said: Readings, cut: Cut) -> Outcome:
    """Weigh what fits by the covers it leads to, as the tokenizer writes them."""
    found = reopen(cut.ids, language.pieces, encode=language.encode)
    return _covered(language, said, cut, found)


def any_covers(language: Language, said: Readings, cut: Cut) -> Outcome:
    """Weigh what fits by all covers that it leads to."""
    return _covered(language, said, cut, reopen(cut.ids, language.pieces))


def _covered(language: Language, said: Readings, cut: Cut, found: Reopened) -> Outcome:
    search = CoverSearch(found, language.pieces)
    while (stem := search.wanted()) is not None:
        search.give(said.after([*cut.ids[: found.kept], *stem]))
    ahead = search.ahead()
    healing = Healing(found, language.pieces, ahead=ahead)
    outcome = _go_on(language, said, cut, found.kept, healing)
    return Outcome(outcome.text, ahead.asked, ahead.dropped)


def _go_on(
    language: Language, said: Readings, cut: Cut, kept: int, healing: Healing | None
) -> Outcome:
    """Continue greedily until the text is long enough, or is not the one that was looked for."""
    ids, written = [*cut.ids[:kept]], b""
    while len(written) < FURTHER and cut.further.startswith(written):
        row = said.after(ids)
        if healing is not None and not healing.over:
            ids.append(int(healing.weigh(row).argmax()))
            healing.advance(ids[-1])
            written = healing.surplus
        else:
            ids.append(int(row.argmax()))
            written += language.pieces.texts[ids[-1]]
        if not language.pieces.texts[ids[-1]]:
            break
    return Outcome(written, 0, 0.0)


WAYS: dict[str, Callable[[Language, Readings, Cut], Outcome]] = {
    "plain": plain,
    "one token": one_token,
    "masked": masked,
    "covers": covers,
    "any covers": any_covers,
}


def measure(language: Language, *, data: Path, prompts: int, seed: int) -> list[Record]:
    """Return one record a prompt, kind and way."""
    records: list[Record] = []
    for kind, make in (("written", written_cut), ("author", authors_cut)):
        for source, texts in (("english", [*english(data)]), ("code", [*code()])):
            chance = random.Random(f"{seed} {kind} {source}")
            stream = excerpts(texts, chance)
            count = 0
            while count < (prompts if kind == "written" else prompts // 4) // 2:
                said = Readings(language)
                cut = make(language, said, source, next(stream), chance)
                if cut is None:
                    continue
                count += 1
                records += [_record(language, said, kind, cut, way) for way in WAYS]
            say(_line(records, kind, source))
    return records


def _record(language: Language, said: Readings, kind: str, cut: Cut, way: str) -> Record:
    outcome = WAYS[way](language, said, cut)
    return {
        "kind": kind,
        "source": cut.source,
        "way": way,
        "word": outcome.text.startswith(cut.word),
        "further": outcome.text.startswith(cut.further),
        "asked": outcome.asked,
        "dropped": round(outcome.dropped, 6),
        "end": _text(language, cut.ids)[-16:].decode(errors="replace"),
        "wanted": cut.further.decode(errors="replace"),
        "got": outcome.text[:FURTHER].decode(errors="replace"),
    }


def _share(records: Sequence[Record], field: str, **same: str) -> float:
    chosen = [each for each in records if all(each[k] == v for k, v in same.items())]
    return sum(bool(each[field]) for each in chosen) / max(1, len(chosen))


def _line(records: Sequence[Record], kind: str, source: str) -> str:
    shares = (
        f"{way} {_share(records, 'word', kind=kind, source=source, way=way):.3f}"
        f"/{_share(records, 'further', kind=kind, source=source, way=way):.3f}"
        for way in WAYS
    )
    return f"{kind:8} {source:8} " + "  ".join(shares)


class InstalledLanguage:
    """A float variant of an installed family, run as the service runs it."""

    def __init__(self, folder: Path, *, variant: str | None) -> None:
        manifest = read_manifest(folder)
        if manifest.family is None:
            message = f"{folder} holds no language model"
            raise SystemExit(message)
        tokenizer = open_decoder_tokenizer(folder, manifest.family)
        family = Family(folder, manifest, manifest.family, tokenizer)
        chosen = family.variant(variant)
        path = folder / chosen.file
        options = SessionOptions(("cpu",), ProviderPolicy.STRICT, threads_per_run=1)
        graph = open_graph(path, read_graph(path, Giving.CONTINUATION), options)
        self.decoder = Decoder(manifest, manifest.family, chosen, tokenizer, graph)
        self.healer = Healer(tokenizer)
        self.pieces = self.healer.pieces

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the ids of each text."""
        return [self.decoder.tokenizer.encode(text) for text in texts]

    def read(self, ids: Sequence[int], past: Past | None) -> tuple[Row, Past]:
        """Return the logits after the last id, and the past for what follows."""
        step = forward(
            self.decoder,
            np.array([ids], dtype=np.int64),
            begin(self.decoder) if past is None else past,
            Reading(),
            logits_from=len(ids) - 1,
        )
        return step.logits[0, -1], step.kept


def bars(records: Sequence[Record]) -> list[Bar]:
    """Return the bar, and what is shown beside it."""
    found = [
        Bar(
            "share of prompts whose cut word comes back, healed",
            _share(records, "word", kind="written", way="covers"),
            None,
            ">=",
            0.9,
        ),
        Bar(
            "the same without healing: share healed less share plain",
            _share(records, "word", kind="written", way="covers")
            - _share(records, "word", kind="written", way="plain"),
            None,
            ">=",
            0.5,
        ),
    ]
    for kind in ("written", "author"):
        for source in ("english", "code"):
            for way in WAYS:
                same = {"kind": kind, "source": source, "way": way}
                further = _share(records, "further", **same)
                found.append(
                    Bar(
                        f"{kind}, {source}, {way}",
                        _share(records, "word", **same),
                        note=f"next {FURTHER} bytes {further:.3f}",
                    )
                )
    return [*found, *_costs(records)]


def _costs(records: Sequence[Record]) -> list[Bar]:
    found = []
    for way in ("covers", "any covers"):
        chosen = [each for each in records if each["way"] == way]
        asked = np.array([each["asked"] for each in chosen], dtype=float)
        dropped = np.array([each["dropped"] for each in chosen], dtype=float)
        found.append(
            Bar(
                f"{way}: stems that the model is asked about, mean",
                float(asked.mean()),
                note=f"95 % at most {np.quantile(asked, 0.95):.0f}, "
                f"share dropped at most {dropped.max():.1g}",
            )
        )
    return found


def main() -> None:
    """Measure, print bars, write `results/healing.json`."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.healing", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of plain English, *.txt")
    parser.add_argument("--model", default="smollm2-135m-instruct", help="an installed family")
    parser.add_argument("--variant", help="absent takes the family's default")
    parser.add_argument("--prompts", type=int, default=240, help="of each kind, half of them code")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    load = os.getloadavg()
    language = InstalledLanguage(Settings().models_dir / given.model, variant=given.variant)
    begin_seconds = time.perf_counter()
    Healer(language.decoder.tokenizer)
    say(f"pieces sorted in {1e3 * (time.perf_counter() - begin_seconds):.0f} ms")
    records = measure(language, data=given.data, prompts=given.prompts, seed=given.seed)
    results.write(
        "healing",
        settings={"model": given.model, "prompts": given.prompts, "seed": given.seed},
        rounds=records,
        bars=bars(records),
        load_average_before=load,
    )
    say(results.report(["healing"]))


if __name__ == "__main__":
    main()
