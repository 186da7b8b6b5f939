"""The shipped vocabulary: what is pinned is what travels, and text is read as the card says."""

from __future__ import annotations

import hashlib
import io
import re
import tarfile
from pathlib import Path

import pytest

from models import catalogue
from models.corpus import TextSource, lines_of, read_glosses, read_html, read_plain
from models.errors import RecipeError
from models.train_tokenizer import training_lines

ID = "isotrope-unigram-32k"


def test_building_copies_the_pinned_model(tmp_path: Path) -> None:
    catalogue.build(ID, tmp_path, progress=lambda _stage, _done, _total: None)
    content = (tmp_path / "tokenizer.model").read_bytes()
    pin = catalogue.entry(ID)["files"]["tokenizer.model"]  # type: ignore[index]
    assert hashlib.sha256(content).hexdigest() == pin["sha256"]
    assert (tmp_path / "manifest.json").is_file()


def test_glosses_are_split_into_sentences() -> None:
    line = b'00001740 29 v 01 breathe 0 | draw air into the lungs; "I breathe"\n'
    assert list(read_glosses(line)) == ["draw air into the lungs", "I breathe"]


def test_pages_lose_code_and_navigation() -> None:
    page = b"<nav>menu</nav><h1>Title</h1><p>Some <b>bold</b>\ntext</p><pre>code()</pre>"
    assert [line for line in read_html(page) if line.strip()] == ["Title", "Some bold text"]


def deb(path: Path, files: dict[str, str]) -> None:
    inner = io.BytesIO()
    with tarfile.open(fileobj=inner, mode="w:xz") as archive:
        for name, text in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(text.encode())
            archive.addfile(member, io.BytesIO(text.encode()))
    content = bytearray(b"!<arch>\n")
    for name, data in (("debian-binary", b"2.0"), ("data.tar.xz", inner.getvalue())):
        content += f"{name:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(data):<10}`\n".encode()
        content += data + b"\n" * (len(data) % 2)
    path.write_bytes(content)


def test_a_debian_package_is_read_in_order(tmp_path: Path) -> None:
    deb(
        tmp_path / "a.deb", {"./b.txt": "second  line\n", "./a.txt": "first line\nno\n", "./c": "x"}
    )
    source = TextSource("a", "1", "a.deb", "", re.compile(r"\.txt$"), read_plain, "MIT")
    assert list(lines_of(source, tmp_path / "a.deb")) == ["first line", "second line"]
    (tmp_path / "b.deb").write_bytes(b"zip")
    with pytest.raises(RecipeError, match="no Debian package"):
        list(lines_of(source, tmp_path / "b.deb"))


def test_another_package_than_the_pinned_one_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="fetch wordnet-base first"):
        next(training_lines(tmp_path))
    (tmp_path / "wordnet-base_1%3a3.0-37_all.deb").write_bytes(b"x")
    with pytest.raises(RecipeError, match="is pinned"):
        next(training_lines(tmp_path))
