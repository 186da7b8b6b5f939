"""Transforms over a store in memory: what is kept, what is checked, what is computed once."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from service.embedding.embedder import Embedder
from service.embedding.transform import Origin, Recipe
from service.embedding.transforms import COLLECTION, Transforms
from service.errors import ArtefactDamaged, ArtefactMismatch, DimensionMismatch, UnknownArtefact
from service.numerics.moments import measure_moments
from service.numerics.whitening import Shrinkage
from service.runtime.engine import Engine
from service.stores.objects import Objects
from service.stores.versions import Versions
from tests.support.transforms import slanted

pytestmark = pytest.mark.anyio

RECIPE = Recipe(beta=1.0, gamma=1.0, dimensions=3, shrinkage=Shrinkage.NONE)
VECTORS = slanted(60, 5)
HERE = Origin("here", "a" * 64, "mean")


class Threads:
    """Be an engine that counts its work and knows one encoder."""

    def __init__(self) -> None:
        self.work: list[str] = []

    async def compute(self, work: Any, *arguments: Any) -> Any:
        self.work.append(work.__name__)
        return work(*arguments)

    async def encoder(self, model: str, *, deadline: float) -> Any:
        return SimpleNamespace(manifest=SimpleNamespace(id=model), sha256=model[0] * 64)


def opened(threads: Threads | None = None, objects: Objects | None = None) -> Transforms:
    return Transforms(
        objects or Objects("memory://"),
        cast(Engine, threads or Threads()),
        cast(Embedder, None),  # no text here is embedded
    )


async def test_what_was_stored_is_what_is_found() -> None:
    objects = Objects("memory://")
    made = await opened(objects=objects).create("t", measure_moments(VECTORS), RECIPE, origin=HERE)
    found = await opened(objects=objects).find("t")
    assert found == made
    assert (found.id, found.recipe, found.origin) == ("t@1", RECIPE, HERE)
    assert (found.width, found.samples, found.floored, found.intensity) == (5, 60, 0, 0)
    moments = await opened(objects=objects).moments(found)
    expected = measure_moments(VECTORS)
    for name in ("mean", "scatter", "third"):
        assert np.array_equal(getattr(moments, name), getattr(expected, name)), name
    assert (moments.samples, moments.fourth) == (60, expected.fourth)


async def test_a_kernel_is_made_once_for_each_number_of_dimensions() -> None:
    threads = Threads()
    transforms = opened(threads)
    made = await transforms.create("t", measure_moments(VECTORS), RECIPE, origin=None)
    threads.work.clear()
    for dimensions in (None, 3, 2, None, 2):
        await transforms.kernel(made, dimensions=dimensions)
    assert threads.work == ["_narrow", "_narrow"]
    with pytest.raises(DimensionMismatch, match=r"4 dimensions .* keeps 3"):
        await transforms.kernel(made, dimensions=4)


async def test_kernels_are_forgotten_when_they_take_too_much(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    threads = Threads()
    transforms = opened(threads)
    made = await transforms.create("t", measure_moments(VECTORS), RECIPE, origin=None)
    # 5 × 3 float32 take 60 bytes, 5 × 2 take 40
    monkeypatch.setattr("service.embedding.transforms._KERNEL_BYTES", 70)
    threads.work.clear()
    for dimensions in (3, 2, 2, 3, 3):
        await transforms.kernel(made, dimensions=dimensions)
    assert len(threads.work) == 3


async def test_small_work_stays_and_large_work_leaves_the_loop() -> None:
    threads = Threads()
    transforms = opened(threads)
    made = await transforms.create("t", measure_moments(VECTORS), RECIPE, origin=None)
    await transforms.kernel(made)
    threads.work.clear()
    few = await transforms.apply(VECTORS, made)
    assert threads.work == []
    many = await transforms.apply(np.tile(VECTORS, (600, 1)), made)
    assert threads.work == ["whiten"]
    assert np.allclose(many[:60], few, atol=1e-6)
    assert few.dtype == np.float32
    assert np.allclose(np.linalg.norm(few, axis=1), 1, atol=1e-6)


async def test_only_vectors_of_the_encoder_go_through() -> None:
    transforms = opened()
    moments = measure_moments(VECTORS)
    bound = await transforms.create("bound", moments, RECIPE, origin=HERE)
    free = await transforms.create("free", moments, RECIPE, origin=None)
    await transforms.require_encoder(bound, "another", deadline=0)  # of the same digest
    await transforms.require_encoder(bound, None, deadline=0)
    await transforms.require_encoder(free, None, deadline=0)
    with pytest.raises(ArtefactMismatch, match=r"free@1 .* bound to no encoder"):
        await transforms.require_encoder(free, "who knows", deadline=0)
    with pytest.raises(ArtefactMismatch, match=r"bound@1 was fitted on here \(aaaaaaaaaaaa…\)"):
        await transforms.require_encoder(bound, "other", deadline=0)


async def test_a_version_of_another_release_is_not_guessed_at() -> None:
    objects = Objects("memory://")
    await Versions(objects, COLLECTION).create("t", metadata={"recipe": {"beta": 1}}, blobs={})
    with pytest.raises(ArtefactDamaged, match="t@1 is no transform of this release"):
        await opened(objects=objects).find("t")


async def test_deleted_is_gone_and_its_number_too() -> None:
    transforms = opened()
    moments = measure_moments(VECTORS)
    await transforms.create("t", moments, RECIPE, origin=None)
    assert (await transforms.delete("t")).id == "t@1"
    with pytest.raises(UnknownArtefact):
        await transforms.find("t@1")
    assert (await transforms.create("t", moments, RECIPE, origin=None)).id == "t@2"
    assert [each.id for each in await transforms.list("t")] == ["t@2"]
    assert [each.id for each in await transforms.list()] == ["t@2"]
