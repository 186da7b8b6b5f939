"""Elements and bytes of a cache: the numbers of published models."""

from __future__ import annotations

import pytest

from service.errors import DimensionMismatch
from service.numerics.attention.cache import HeadSizes, Variant, cache_bytes, cache_elements

# SmolLM2-135M: 9 heads of 64, 3 groups, 30 layers
SMALL = HeadSizes(q_heads=9, kv_heads=3, head_dim=64, kv_rank=192, rope_dim=64)


@pytest.mark.parametrize(
    ("variant", "elements"),
    [("mha", 1152), ("gqa", 384), ("mqa", 128), ("mla", 256), ("mla_absorbed", 256)],
)
def test_elements_of_a_token_and_layer(variant: str, elements: int) -> None:
    assert cache_elements(Variant(variant), SMALL) == elements


def test_bytes_of_a_token() -> None:
    assert cache_bytes(384, dtype="float32", tokens=1, layers=30) == 46_080
    assert cache_bytes(384, dtype="float16", tokens=512, layers=30) == 11_796_480


def test_values_may_be_narrower_than_keys() -> None:
    sizes = HeadSizes(q_heads=4, kv_heads=2, head_dim=64, value_dim=32)
    assert cache_elements(Variant.GQA, sizes) == 192


def test_heads_that_do_not_share_out_are_refused() -> None:
    with pytest.raises(DimensionMismatch, match="9 query heads cannot share 4"):
        cache_elements(Variant.GQA, HeadSizes(q_heads=9, kv_heads=4, head_dim=64))
