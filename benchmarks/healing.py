"""Measure how often a prompt that is cut inside a word goes on as if it were not cut.

```
python -m benchmarks.healing --data FOLDER [--model FOLDER] [--prompts 200] [--seed 0]
```

FOLDER holds plain English (`*.txt`). More prose comes from the descriptions of the installed
packages, code from Python's standard library and from this checkout. For each prompt the model
reads 32 tokens and writes 10 more, greedily: that is what the uncut prompt continues with.
The text is then cut at a random byte inside a word or an identifier among the 10, given back as a
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
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from importlib.metadata import distributions
from multiprocessing import get_context
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from benchmarks import results
from benchmarks.contestants import CHECKOUT
from benchmarks.healing_ways import FURTHER, WAYS, Cut, Language, Past, Readings, Row, text_of
from benchmarks.results import Bar, say
from service.numerics.healing.pieces import Pieces
from service.runtime.decoders.feeds import Reading
from service.runtime.decoders.forward import begin, forward
from service.runtime.decoders.graph import Giving, open_graph, read_graph
from service.runtime.decoders.healing import Healer
from service.runtime.decoders.opened import Decoder, Family
from service.runtime.decoders.tokenizers import open_decoder_tokenizer
from service.runtime.manifest import read_manifest
from service.runtime.session import SessionOptions
from service.settings import ProviderPolicy, Settings

CONTEXT, WRITTEN = 32, 10
_WORD = re.compile(rb"[A-Za-z0-9_\x80-\xff]+")
Record: TypeAlias = dict[str, Any]


def english(folder: Path) -> Iterator[str]:
    """Yield prose: the texts of the folder, and what packages say about themselves."""
    for path in sorted(folder.rglob("*.txt")):
        yield path.readtext_of(encoding="utf-8", errors="ignore")
    names = ("numpy", "scipy", "pydantic", "fastapi", "hypothesis", "starlette", "httpx")
    for found in distributions():
        if found.metadata["Name"] in names:
            yield str(found.metadata.json.get("description", ""))


def code() -> Iterator[str]:
    """Yield sources: of the standard library, and of this checkout."""
    library = Path(sysconfig.get_paths()["stdlib"])
    for path in [
        *sorted(library.glob("*.py"))[::4],
        *sorted(CHECKOUT.glob("service/**/*.py"))[::3],
    ]:
        yield path.readtext_of(encoding="utf-8", errors="ignore")


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
    start = len(text_of(language, context))
    return _cut(language, source, text_of(language, ids), start, chance)


def authors_cut(
    language: Language, said: Readings, source: str, excerpt: str, chance: random.Random
) -> Cut | None:
    """Return a prompt cut inside what the author wrote."""
    del said
    ids = language.encode([excerpt])[0]
    if len(ids) < CONTEXT + WRITTEN:
        return None
    start = len(text_of(language, ids[:CONTEXT]))
    whole = text_of(language, ids[: CONTEXT + WRITTEN])
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


@dataclass(frozen=True, slots=True)
class Plan:
    """Hold what one process measures: prompts of one source."""

    source: str
    model: Path
    variant: str | None
    data: Path
    prompts: int
    seed: int


def measure(plan: Plan) -> list[Record]:
    """Return one record a prompt, kind and way."""
    language = InstalledLanguage(plan.model, variant=plan.variant)
    texts = [*(english(plan.data) if plan.source == "english" else code())]
    records: list[Record] = []
    for kind, make, share in (("written", written_cut, 1), ("author", authors_cut, 5)):
        chance = random.Random(f"{plan.seed} {kind} {plan.source}")
        stream = excerpts(texts, chance)
        count = 0
        while count < plan.prompts // share:
            said = Readings(language)
            cut = make(language, said, plan.source, next(stream), chance)
            if cut is None:
                continue
            count += 1
            records += [_record(language, said, kind, cut, way) for way in WAYS]
            if count % 20 == 0:
                say(f"{count} {_line(records, kind, plan.source)}")
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
        "end": text_of(language, cut.ids)[-16:].decode(errors="replace"),
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

    @property
    def pieces(self) -> Pieces:
        """Return the bytes of every id."""
        return self.healer.pieces

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
    parser.add_argument("--prompts", type=int, default=200, help="half of them code")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    load = os.getloadavg()
    folder = Settings().models_dir / given.model
    plans = [
        Plan(source, folder, given.variant, given.data, given.prompts // 2, given.seed)
        for source in ("english", "code")
    ]
    with ProcessPoolExecutor(len(plans), mp_context=get_context("spawn")) as processes:
        records = [each for part in processes.map(measure, plans) for each in part]
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
