"""Text is released as soon as it is certain, and never taken back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.capabilities.generation.numerics.texts import TextStream


def test_the_worked_example() -> None:
    stream = TextStream(["<end>"])
    assert [stream.add(piece) for piece in (b"a <", b"b", b"<e", b"nd> c")] == ["a ", "<b", "", ""]
    assert stream.stop == "<end>"
    assert stream.add(b"more") == stream.finish() == ""


def test_a_character_waits_for_its_bytes() -> None:
    stream = TextStream()
    assert [stream.add(bytes([byte])) for byte in "é好".encode()] == ["", "é", "", "", "好"]
    stream.add("好".encode()[:2])
    assert stream.finish() == "\ufffd"


def test_what_stands_in_the_prompt_is_skipped() -> None:
    stream = TextStream(["x"], skip_bytes=3)
    assert stream.add(b"ax") == ""
    assert stream.add(b"xb") == "b"
    assert stream.stop is None


def test_the_stop_that_is_complete_first_ends_the_text() -> None:
    stream = TextStream(["abcd", "bc"])
    assert stream.add(b"xabcd") == "xa"
    assert stream.stop == "bc"


def test_a_stop_that_never_comes_is_given_back() -> None:
    stream = TextStream(["----"])
    assert stream.add(b"a---") == "a"
    assert stream.finish() == "---"


texts = st.text(alphabet="ab<é好\u0301", max_size=30)
stops = st.lists(st.text(alphabet="ab<é", min_size=1, max_size=4), max_size=3)


@given(texts, stops, st.data())
def test_tokens_do_not_change_the_text(text: str, stops: list[str], data: st.DataObject) -> None:
    raw = text.encode()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(raw)), max_size=10)))
    stream, by_byte = TextStream(stops), TextStream(stops)
    pieces = [raw[a:b] for a, b in zip([0, *cuts], [*cuts, len(raw)], strict=True)]
    parts = [stream.add(piece) for piece in pieces]
    single = "".join([by_byte.add(bytes([byte])) for byte in raw]) + by_byte.finish()
    assert "".join(parts) + stream.finish() == single
    assert stream.stop == by_byte.stop
    if not any(stop in text for stop in stops):
        assert single == text
    else:
        assert not any(stop in single for stop in stops)


@given(st.binary(max_size=12), st.data())
def test_bytes_that_are_no_text_become_marks(raw: bytes, data: st.DataObject) -> None:
    cut = data.draw(st.integers(0, len(raw)))
    stream = TextStream()
    found = stream.add(raw[:cut]) + stream.add(raw[cut:]) + stream.finish()
    assert found == raw.decode("utf-8", "replace")


@pytest.mark.parametrize("length", [1, 2, 3])
def test_no_more_is_held_than_a_stop_could_use(length: int) -> None:
    stream = TextStream(["a" * 4])
    released = "".join(stream.add(b"a") for _ in range(length))
    assert released == ""
    assert stream.add(b"b") == "a" * length + "b"
