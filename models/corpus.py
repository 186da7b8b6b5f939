"""Read training text out of packages, without installing or running anything of them.

```
.deb ─ ar member data.tar.xz ─ tar ┐
sdist ─ tar.gz ────────────────────┴ members by pattern ─ HTML, glosses or plain lines ─ text
```
"""

from __future__ import annotations

import io
import re
import tarfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path

from models.errors import RecipeError

_AR_MAGIC = b"!<arch>\n"
_AR_HEADER_BYTES = 60
_AR_SIZE = slice(48, 58)
_SHORTEST_LINE = 4  # characters; below lie page numbers and marks of lists
_SPACES = re.compile(r"\s+")
_BLOCKS = frozenset(
    {*("p", "li", "dd", "dt", "td", "th", "h1", "h2", "h3", "h4", "h5", "h6", "div", "section")}
    | {*("article", "ul", "ol", "table", "tr", "br", "title")}
)
_SILENT = frozenset({"script", "style", "pre", "nav", "head", "footer"})


@dataclass(frozen=True, slots=True)
class TextSource:
    """Name the text of one package.

    Attributes:
        package: Debian package, or distribution on PyPI.
        version: its exact version.
        file: name of the package's file.
        sha256: its hex digest.
        members: pattern of the files in it that are read, in the order of their names.
        read: how the bytes of one member become lines.
        licence: SPDX name, or what the package says.
        weight: how often each line is read; balances the languages.
    """

    package: str
    version: str
    file: str
    sha256: str
    members: re.Pattern[str]
    read: Callable[[bytes], Iterable[str]]
    licence: str
    weight: int = 1


def lines_of(source: TextSource, path: Path) -> Iterator[str]:
    """Yield the lines of a package's chosen members, spaces collapsed, short ones left out."""
    with _open_tar(path) as archive:
        chosen = [each for each in archive if each.isfile() and source.members.search(each.name)]
        for member in sorted(chosen, key=lambda each: each.name):
            stream = archive.extractfile(member)
            assert stream is not None  # a regular file has a stream
            for line in source.read(stream.read()):
                tidy = _SPACES.sub(" ", line).strip()
                if len(tidy) >= _SHORTEST_LINE:
                    yield tidy


def read_plain(content: bytes) -> Iterable[str]:
    """Return the lines of a text file."""
    return content.decode("utf-8", "replace").splitlines()


def read_glosses(content: bytes) -> Iterator[str]:
    """Yield the definitions and examples of a WordNet data file, one sentence a line.

    An entry is one line whose gloss stands behind a bar: `… | a living thing; "plants grow"`.
    """
    for line in content.decode("ascii", "replace").splitlines():
        _, bar, gloss = line.partition(" | ")
        if bar:
            yield from (part.replace('"', "") for part in gloss.split("; "))


def read_html(content: bytes) -> list[str]:
    """Return the running text of a page, one block a line; code and navigation are left out."""
    reader = _PageReader()
    reader.feed(content.decode("utf-8", "replace"))
    reader.close()
    return "".join(reader.parts).split("\n")


class _PageReader(HTMLParser):
    """Collect text, with a line break wherever a block begins or ends."""

    def __init__(self) -> None:
        super().__init__()
        self.parts: list[str] = []
        self._silent = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:  # noqa: ARG002
        if tag in _SILENT:
            self._silent += 1
        elif tag in _BLOCKS:
            self.parts.append("\n")

    def handle_endtag(self, tag: str) -> None:
        if tag in _SILENT:
            self._silent = max(0, self._silent - 1)
        elif tag in _BLOCKS:
            self.parts.append("\n")

    def handle_data(self, data: str) -> None:
        if not self._silent:
            self.parts.append(data.replace("\n", " "))


def _open_tar(path: Path) -> tarfile.TarFile:
    if path.suffix != ".deb":
        return tarfile.open(path)
    content = path.read_bytes()
    if not content.startswith(_AR_MAGIC):
        raise RecipeError(f"{path.name} is no Debian package: it does not begin with {_AR_MAGIC!r}")
    position = len(_AR_MAGIC)
    while position < len(content):
        header = content[position : position + _AR_HEADER_BYTES]
        size = int(header[_AR_SIZE])
        position += _AR_HEADER_BYTES
        if header.startswith(b"data.tar"):
            return tarfile.open(fileobj=io.BytesIO(content[position : position + size]))
        position += size + size % 2  # members begin at even offsets
    raise RecipeError(f"{path.name} holds no data.tar")
