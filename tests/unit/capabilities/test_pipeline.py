"""The room's own arithmetic and limits, without a model."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from service.capabilities.embeddings.pipeline import EmbeddingsPipeline
from service.capabilities.embeddings.schemas import EmbeddingsRequest, SimilarityRequest
from service.capabilities.embeddings.settings import EmbeddingsSettings
from service.embedding.calibrations import Calibrations
from service.embedding.embedder import Embedded, Embedder, EmbeddingOptions
from service.embedding.transforms import Transforms
from service.errors import DimensionMismatch, InvalidInput, TooManyItems
from service.runtime.engine import Engine

pytestmark = pytest.mark.anyio
OPTIONS = EmbeddingOptions()
# vectors whose encoder nobody named
UNKNOWN: dict[str, Any] = {"model": None, "pooling": None, "deadline": 0.0}
AXES = {"east": [1, 0, 0], "north": [0, 1, 0], "north-east": [2, 2, 0], "west": [-3, 0, 0]}


class Compass:
    """Be an embedder that knows four texts."""

    def __init__(self) -> None:
        self.asked: list[list[str]] = []

    async def embed(self, inputs: list[str], **_: Any) -> Embedded:
        self.asked.append(list(inputs))
        vectors = np.array([AXES[text] for text in inputs], dtype=np.float32)
        none = [0] * len(inputs)
        return Embedded(vectors, none, none, cast(Any, SimpleNamespace()), {}, 0)


class Threads:
    """Be an engine that counts what is handed to its threads."""

    def __init__(self) -> None:
        self.count = 0

    async def compute(self, work: Any, *arguments: Any) -> Any:
        self.count += 1
        return work(*arguments)


def room(*, threads: Threads | None = None, **limits: int) -> EmbeddingsPipeline:
    return EmbeddingsPipeline(
        cast(Embedder, Compass()),
        cast(Transforms, None),  # no request here names one
        cast(Engine, threads or Threads()),
        EmbeddingsSettings(**limits),
        calibrations=cast(Calibrations, None),
    )


async def test_pairs_are_compared_one_by_one() -> None:
    pairs = [["east", "north"], ["east", "north-east"], ["east", "west"], ["east", "east"]]
    compared = await room().compare_pairs(pairs, model=None, options=OPTIONS, deadline=0)
    assert np.allclose(compared.scores, [0, np.sqrt(0.5), -1, 1], atol=1e-6)


async def test_texts_are_compared_with_all() -> None:
    compared = await room().compare_texts(list(AXES), model=None, options=OPTIONS, deadline=0)
    half = np.sqrt(0.5)
    expected = [[1, 0, half, -1], [0, 1, half, 0], [half, half, 1, -half], [-1, 0, -half, 1]]
    assert np.allclose(compared.scores, expected, atol=1e-6)


async def test_vectors_are_compared_without_a_model() -> None:
    compared = await room().compare_vectors(
        np.array([[1, 1], [1, -1]], dtype=np.float32), **UNKNOWN
    )
    assert compared.embedded is None
    assert np.allclose(compared.scores, np.eye(2), atol=1e-6)
    with pytest.raises(InvalidInput, match="Vector 0 is all zeros"):
        await room().compare_vectors(np.zeros((1, 3), dtype=np.float32), **UNKNOWN)


async def test_large_matrices_leave_the_event_loop() -> None:
    threads = Threads()
    small, large = (np.ones((n, 10), dtype=np.float32) for n in (10, 200))
    await room(threads=threads).compare_vectors(small, **UNKNOWN)
    assert threads.count == 0
    await room(threads=threads).compare_vectors(large, **UNKNOWN)
    assert threads.count == 1


@pytest.mark.parametrize(("wanted", "expected"), [(1, [1]), (2, [0.5**0.5] * 2)])
async def test_shortened_vectors_have_length_one(wanted: int, expected: list[float]) -> None:
    text = "east" if wanted == 1 else "north-east"
    found = await room().embed([text], model=None, options=OPTIONS, dimensions=wanted, deadline=0)
    assert np.allclose(found.embedded.vectors, [expected], atol=1e-6)


async def test_more_dimensions_than_there_are() -> None:
    with pytest.raises(DimensionMismatch, match="4 dimensions"):
        await room().embed(["east"], model=None, options=OPTIONS, dimensions=4, deadline=0)


async def test_limits_are_the_last_number_allowed() -> None:
    bounded = room(max_inputs=2, max_matrix_rows=3)
    ask = {"model": None, "options": OPTIONS, "deadline": 0}
    await bounded.embed(["east"] * 2, dimensions=None, **ask)  # type: ignore[arg-type]
    with pytest.raises(TooManyItems, match="3 items came and one call carries 2"):
        await bounded.embed(["east"] * 3, dimensions=None, **ask)  # type: ignore[arg-type]
    with pytest.raises(TooManyItems):
        await bounded.compare_pairs([["east", "west"]] * 3, **ask)  # type: ignore[arg-type]
    await bounded.compare_texts(["east"] * 3, **ask)  # type: ignore[arg-type]
    with pytest.raises(TooManyItems):
        await bounded.compare_texts(["east"] * 4, **ask)  # type: ignore[arg-type]
    with pytest.raises(TooManyItems):
        await bounded.compare_vectors(np.ones((4, 1), dtype=np.float32), **UNKNOWN)


@pytest.mark.parametrize(
    ("given", "read"),
    [
        ("a", ["a"]),
        (["a", "b"], ["a", "b"]),
        ([1, 2], [[1, 2]]),
        ([1.0, 2], [[1, 2]]),
        ([[1], [2, 3]], [[1], [2, 3]]),
        ([[1.0], [2]], [[1], [2]]),
    ],
)
async def test_the_four_forms_of_input_become_one(given: object, read: object) -> None:
    found = EmbeddingsRequest(input=given).input
    assert found == read
    assert all(type(number) is int for ids in found if isinstance(ids, list) for number in ids)


async def test_absent_and_null_are_told_apart_where_it_matters() -> None:
    assert SimilarityRequest(texts=["a"]).vectors is None
    with pytest.raises(ValueError, match="vectors"):
        SimilarityRequest(vectors=None)
    assert EmbeddingsRequest(input="a", dimensions=None).dimensions is None
