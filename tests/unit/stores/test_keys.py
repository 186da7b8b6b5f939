"""Keys: equal for equal things, different for all others, and always fit for Redis."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.stores.keys import Keyspace

BASE: dict[str, Any] = {
    "capability": "embedding",
    "revision": "1",
    "artefact_sha256": "ab" * 32,
    "options": {"pooling": "mean", "max_tokens": 256, "normalise": True},
}

# surrogates included: a key must never be what fails
texts = st.text(st.characters(codec=None), max_size=40)


def space(**changes: object) -> Keyspace:
    return Keyspace(**{**BASE, **changes})


@given(text=texts)
def test_a_key_has_the_documented_shape_and_size(text: str) -> None:
    key = space().key(text)
    assert re.fullmatch(rb"svc:embedding:1:abababababab:[0-9a-f]{32}:[0-9a-f]{32}", key)
    assert key.startswith(space().prefix)
    assert key == space().key(text)


@given(pair=st.tuples(texts, texts).filter(lambda pair: pair[0] != pair[1]))
def test_different_texts_have_different_keys(pair: tuple[str, str]) -> None:
    assert space().key(pair[0]) != space().key(pair[1])


def test_texts_are_not_normalised() -> None:
    assert len(set(space().keys(["é", "e\u0301", "É", " é", "é "]))) == 5


@pytest.mark.parametrize(
    "change",
    [
        {"capability": "tokenization"},
        {"revision": "2"},
        {"artefact_sha256": "ab" * 31 + "ac"},  # equal in the twelve digits that the name shows
        {"options": {}},
        {"options": {**BASE["options"], "pooling": "cls"}},
        {"options": {**BASE["options"], "max_tokens": "256"}},
        {"options": {**BASE["options"], "normalise": 1}},
        {"options": {**BASE["options"], "prompt": None}},
        {"options": {**BASE["options"], "prompt": ""}},
    ],
)
def test_whatever_changes_the_vector_changes_the_key(change: dict[str, object]) -> None:
    assert space(**change).key("text") != space().key("text")


def test_the_order_of_options_does_not_matter() -> None:
    turned = dict(reversed(BASE["options"].items()))
    assert space(options=turned).key("text") == space().key("text")


@pytest.mark.parametrize(
    "change",
    [
        {"capability": "a:b"},
        {"capability": ""},
        {"revision": "1:2"},
        {"revision": "line\n"},
        {"artefact_sha256": "AB" * 32},
        {"artefact_sha256": "ab"},
        {"options": {"alpha": float("nan")}},
    ],
)
def test_what_cannot_stand_in_a_name_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"cannot stand|SHA-256|not JSON compliant"):
        space(**change)
