"""What the tier over Redis decides without a server: addresses, options, lives."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.stores.links import MOST_LINKS, Links, safe_address
from service.stores.redis_tier import spread_ttl
from tests.support.vectors import fresh_keyspace

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://cache", "redis://cache"),
        ("rediss://user:secret@cache:6380/2?ssl_ca_certs=secret", "rediss://cache:6380/2"),
        ("redis://:secret@[::1]:6379", "redis://[::1]:6379"),
        ("unix://:secret@/run/redis.sock?db=1&password=secret", "unix:///run/redis.sock"),
        ("redis://:se/cret@cache", "unreadable"),
        ("redis://:secret@cache:port", "unreadable"),
    ],
)
def test_an_address_is_shown_without_its_secrets(url: str, shown: str) -> None:
    assert safe_address(url) == shown


@pytest.mark.parametrize(
    "url",
    [
        "http://:secret@cache",
        "cache:secret",
        "redis://:secret@cache:port",
        "redis://:secret/@cache",
        "redis://cache?db=secret",
        "redis://cache?secret=1",
        "rediss://cache?ssl_ca_certs=/secret/missing.pem",
        "",
    ],
)
async def test_an_address_that_cannot_be_understood_is_refused_without_quoting_it(
    url: str,
) -> None:
    with pytest.raises(ValueError, match="redis_url") as caught:
        Links(url, connect_seconds=1)
    assert "secret" not in str(caught.value)


async def test_the_address_cannot_undo_what_the_tier_relies_on() -> None:
    url = "redis://cache?socket_timeout=99&protocol=3&client_name=x&decode_responses=true"
    links = Links(url + "&max_connections=9999&health_check_interval=1", connect_seconds=1)
    link = links._kind(**links._options)
    assert link.socket_timeout is None
    assert link.protocol == 2
    assert link.client_name == "isotrope"
    assert not link.encoder.decode_responses
    assert link.health_check_interval == 0
    assert link.retry.get_retries() == 0


async def test_one_refused_connection_disappoints_one_caller_unless_there_is_no_other() -> None:
    links = Links("redis://cache", connect_seconds=1)
    links._owned = MOST_LINKS  # all are out, so that callers wait

    async def borrow() -> None:
        async with links.borrow():
            pass

    callers = [asyncio.create_task(borrow()) for _ in range(3)]
    await asyncio.sleep(0)
    links._disappoint(ConnectionRefusedError())
    await asyncio.sleep(0)
    assert [caller.done() for caller in callers] == [True, False, False]
    links._owned = 0
    links._disappoint(ConnectionRefusedError())
    outcomes = await asyncio.gather(*callers, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [ConnectionRefusedError] * 3


@given(ttl=st.integers(1, 10**8), text=st.text(max_size=5))
def test_lives_stay_within_ten_per_cent(ttl: int, text: str) -> None:
    life = spread_ttl(ttl, fresh_keyspace().key(text))
    assert life >= 1
    assert round(0.9 * ttl) <= life <= round(1.1 * ttl) or life == 1
