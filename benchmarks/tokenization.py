"""Measure the tokenization kernels beside SentencePiece and Hugging Face, in one process.

```
python -m benchmarks.tokenization [--data FOLDER] [--rounds 7]
```

FOLDER holds text files of any language (`.txt`, `.csv`), read line by line; without it, lines are
made up. Rounds of ours and theirs alternate; ratios are of medians of CPU time, so other load
matters little. Prints bar, measured, met or MISSED, and writes `results/tokenization.json`.
"""

# A case is one line of a table.
# ruff: noqa: E501
from __future__ import annotations

import argparse
import os
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from itertools import accumulate, pairwise
from pathlib import Path

import numpy as np
import sentencepiece
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

from benchmarks import results
from benchmarks.results import Bar
from service.numerics.lattice.paths import Paths, sample_paths
from service.runtime.tokenizers.opening import open_piece_tokenizer

MODEL = Path(__file__).parents[1] / "models" / "tokenizers" / "isotrope-unigram-32k.model"
ALPHA = 0.1
_HAN = (
    "今天气不错我们去公园玩吧机场白云广州的了是在有这中大来上国个到说为子和你地出道也时年书店酒电脑"
)
_WORDS = ("the", "of", "and", "a", "to", "in", "is", "you", "that", "it", "quick", "unbelievable",
          "tokenization", "weather", "extraordinary", "circumstances", "window", "function")  # fmt: skip


def read_lines(folder: Path | None) -> tuple[list[str], list[str]]:
    """Return lines mostly in Latin script, and lines mostly in Han characters, 5,000 at most."""
    if folder is None:
        rng = random.Random(1)
        return (
            [" ".join(rng.choices(_WORDS, k=rng.randint(4, 14))) for _ in range(5000)],
            ["".join(rng.choices(_HAN, k=rng.randint(8, 50))) for _ in range(5000)],
        )
    lines = [
        line.strip()
        for path in sorted(folder.rglob("*"))
        if path.suffix in {".txt", ".csv"}
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines()
        if line.strip()
    ]
    han = [line for line in lines if sum("\u4e00" <= c <= "\u9fff" for c in line) * 2 > len(line)]
    latin = [line for line in lines if line.isascii()]
    random.Random(1).shuffle(han)
    random.Random(1).shuffle(latin)
    return latin[:5000], han[:5000]


class Ours:
    """Call our kernels as the service does, without the web."""

    def __init__(self) -> None:
        self.tokenizer = open_piece_tokenizer(MODEL.read_bytes())
        self._weights = self.tokenizer.vocabulary.weights(ALPHA)
        self._key = np.array([1, 2], np.uint64)

    def flat(self, texts: Sequence[str], samples: int = 1) -> Paths:
        """Return sampled ids as arrays."""
        segments = self.tokenizer.prepare(texts).segments
        return sample_paths(
            self.tokenizer.vocabulary,
            segments,
            alpha=ALPHA,
            weights=self._weights,
            samples=samples,
            key=self._key,
            names=np.arange(len(texts), dtype=np.uint64),
        ).paths

    def lists(self, texts: Sequence[str]) -> list[list[int]]:
        """Return sampled ids as one list a text."""
        paths = self.flat(texts)
        ids, bounds = paths.ids.tolist(), [0, *accumulate(paths.counts.tolist())]
        return [ids[a:b] for a, b in pairwise(bounds)]

    def best(self, texts: Sequence[str]) -> object:
        """Return the best segmentations as arrays."""
        return self.tokenizer.best(self.tokenizer.prepare(texts))


def ratio(ours: Callable[[], object], theirs: Callable[[], object], rounds: int) -> list[float]:
    """Return theirs over ours in CPU time, round by round."""
    ours(), theirs()
    found = []
    for _ in range(rounds):
        start = time.process_time()
        ours()
        middle = time.process_time()
        theirs()
        found.append((time.process_time() - middle) / max(middle - start, 1e-9))
    return found


def as_hugging_face(theirs: sentencepiece.SentencePieceProcessor) -> Tokenizer:
    """Return the same vocabulary as a `tokenizer.json` model."""
    vocabulary = [(theirs.id_to_piece(i), theirs.get_score(i)) for i in range(theirs.vocab_size())]
    made = Tokenizer(models.Unigram(vocabulary, unk_id=theirs.unk_id(), byte_fallback=True))
    made.normalizer = normalizers.NFKC()
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    return made


def count_differences(ours: Ours, theirs: object, texts: list[str]) -> int:
    """Return how many texts have other ids than SentencePiece gives."""
    best = ours.tokenizer.best(ours.tokenizer.prepare(texts))
    bounds = np.cumsum(best.counts).tolist()
    flat = best.ids.tolist()
    mine = [flat[a:b] for a, b in zip([0, *bounds], bounds, strict=False)]
    return sum(a != b for a, b in zip(mine, theirs.encode(texts), strict=True))  # type: ignore[attr-defined]


def load_seconds() -> float:
    """Return the CPU time that a fresh process needs to import the kernels and open the model."""
    code = (
        "import time; from pathlib import Path\n"
        "from service.runtime.tokenizers.opening import open_piece_tokenizer\n"
        "import service.numerics.lattice.per_text\n"
        f"open_piece_tokenizer(Path({str(MODEL)!r}).read_bytes()); print(time.process_time())"
    )
    return float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)  # fmt: skip


def main() -> None:
    """Measure every bar that needs no server."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    load = os.getloadavg()
    english, chinese = read_lines(options.data)
    ours, theirs = Ours(), sentencepiece.SentencePieceProcessor(model_file=str(MODEL))
    hugging = as_hugging_face(theirs)
    sampler = as_hugging_face(theirs)
    sampler.model.alpha = ALPHA
    text = english[0] + chinese[0]
    draws = {tuple(sampler.encode(text).ids) for _ in range(20)}
    sampled = {"enable_sampling": True, "alpha": ALPHA, "nbest_size": -1, "num_threads": 1}
    bars = [
        Bar("ids other than SentencePiece's, lines", float(count_differences(ours, theirs, english + chinese)),
            relation="<=", limit=0.0, note=f"{len(english) + len(chinese)} lines")
    ]  # fmt: skip
    for name, texts in (("English", english[:3000]), ("Chinese", chinese[:3000])):
        few, long = texts[:500], " ".join(texts).encode()[:100_000].decode("utf-8", "ignore")
        cases: list[tuple[str, float, Callable[[], object], Callable[[], object]]] = [
            ("sampling, lists", 3.5, lambda t=texts: ours.lists(t), lambda t=texts: theirs.encode(t, **sampled)),
            ("sampling, flat", 5.0, lambda t=texts: ours.flat(t), lambda t=texts: theirs.encode(t, **sampled)),
            ("16 samples a text", 18.0, lambda t=few: ours.flat(t, 16),
             lambda t=few: [theirs.encode(t, **sampled) for _ in range(16)]),
            ("one 100 kB string", 5.0, lambda t=long: ours.flat([t]), lambda t=long: theirs.encode(t, **sampled)),
            ("best, flat", 1.6, lambda t=texts: ours.best(t), lambda t=texts: theirs.encode(t, num_threads=1)),
            ("best, flat, Hugging Face", 6.0, lambda t=texts: ours.best(t),
             lambda t=texts: hugging.encode_batch_fast(t, add_special_tokens=False)),
        ]  # fmt: skip
        if len(draws) > 1:  # this version of the library samples
            cases.append(("sampling, flat, Hugging Face", 12.0, lambda t=texts: ours.flat(t),
                          lambda t=texts: sampler.encode_batch_fast(t, add_special_tokens=False)))  # fmt: skip
        for what, limit, mine, other in cases:
            bars.append(results.median_bar(f"{name}: {what}, times as fast", ratio(mine, other, options.rounds),
                                           relation=">=", limit=limit))  # fmt: skip
            results.say(f"  {bars[-1].what}: {bars[-1].value:.2f}")

    def often(call: Callable[[], object]) -> Callable[[], None]:
        return lambda: [call() for _ in range(2000)] and None

    short = ratio(often(lambda: ours.lists(["hello world"])), often(lambda: theirs.encode("hello world", **sampled)), options.rounds)  # fmt: skip
    bars.append(results.median_bar("11 characters, one call, of SentencePiece's time",
                                   [1 / each for each in short], relation="<=", limit=1.5))  # fmt: skip
    seconds = [load_seconds() for _ in range(3)]
    bars.append(Bar("import and load of 32k pieces", statistics.median(seconds), max(seconds), "<=", 2.5, "s CPU"))  # fmt: skip
    results.write(
        "tokenization",
        settings={"alpha": ALPHA, "rounds": options.rounds, "data": options.data is not None},
        rounds=[],
        bars=bars,
        load_average_before=load,
    )
    sys.stdout.write(results.report(["tokenization"]))


if __name__ == "__main__":
    main()
