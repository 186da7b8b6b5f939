"""Requests that no well-behaved client sends, byte by byte."""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Callable
from urllib.parse import urlsplit

import httpx
import pytest

from tests.support.processes import ServiceProcess

PATIENCE_SECONDS = 30.0
HEAD = b"POST /v1/embeddings HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"


def connect(live: ServiceProcess) -> socket.socket:
    address = urlsplit(live.url)
    assert address.hostname is not None
    assert address.port is not None
    return socket.create_connection((address.hostname, address.port), timeout=PATIENCE_SECONDS)


def exchange(live: ServiceProcess, sent: bytes, *, hang_up: bool = False) -> bytes:
    """Send bytes and return all that comes back until the service closes."""
    with connect(live) as link:
        link.sendall(sent)
        if hang_up:
            link.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: link.recv(65536), b""))


def metric(live: ServiceProcess, name: str) -> float:
    text = httpx.get(f"{live.url}/metrics", timeout=PATIENCE_SECONDS).text
    found = re.search(rf"^{re.escape(name)} ([0-9.e+]+)$", text, re.MULTILINE)
    return float(found[1]) if found else 0.0


def wait_until(condition: Callable[[], bool]) -> None:
    gives_up = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < gives_up, "it never happened"
        time.sleep(0.05)


def expect_alive(live: ServiceProcess) -> None:
    answer = httpx.post(f"{live.url}/v1/embeddings", json={"input": "still there"}, timeout=30)
    assert answer.status_code == 200
    assert '"level":"error"' not in live.output()


@pytest.mark.parametrize("cut", [0, 1, 1000])
def test_an_upload_that_breaks_off_is_forgotten(live: ServiceProcess, cut: int) -> None:
    name = 'isotrope_requests_total{operation="create_embeddings",status="499"}'
    before = metric(live, name)
    with connect(live) as link:
        link.sendall(
            HEAD + b"Content-Length: 5000\r\n\r\n" + b'{"input": "'[:cut] + b"x" * (cut // 2)
        )
    wait_until(lambda: metric(live, name) == before + 1)
    expect_alive(live)


def test_a_head_that_breaks_off_is_forgotten(live: ServiceProcess) -> None:
    with connect(live) as link:
        link.sendall(HEAD[:50])
    expect_alive(live)


def test_chunks_beyond_the_limit_are_refused_while_they_come(live: ServiceProcess) -> None:
    chunk = b"100000\r\n" + b" " * 2**20 + b"\r\n"
    with connect(live) as link:
        link.sendall(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
        for _ in range(97):  # the last passes the limit; no end was sent
            link.sendall(chunk)
        answer = b""
        while not answer.endswith(b"}"):
            answer += link.recv(65536)
        assert b" 413 " in answer.split(b"\r\n")[0]
        assert b"body_too_large" in answer
        size = re.search(rb"at least (\d+) bytes", answer)
        assert size is not None
        assert 96 * 2**20 < int(size[1]) <= 97 * 2**20
    expect_alive(live)


def test_chunks_within_the_limit_are_one_body(live: ServiceProcess) -> None:
    body = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (b'{"inp', b'ut": "a', b'b"}'))
    answer = exchange(
        live,
        HEAD + b"Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n" + body + b"0\r\n\r\n",
    )
    assert b" 200 OK" in answer.split(b"\r\n")[0]
    expect_alive(live)


def test_a_length_beyond_the_limit_is_refused_before_the_body(live: ServiceProcess) -> None:
    with connect(live) as link:
        link.sendall(HEAD + b"Content-Length: 200000000\r\n\r\n")  # and not one byte of it
        answer = link.recv(65536)
    assert b" 413 " in answer.split(b"\r\n")[0]
    assert b"application/problem+json" in answer
    expect_alive(live)


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x00\x01\x02\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"POST /v1/embeddings HTTP/1.1\r\nContent-Length: -5\r\n\r\n",
        b"POST /v1/embeddings HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",  # a TLS greeting
    ],
)
def test_garbage_is_a_400_or_a_closed_door(live: ServiceProcess, garbage: bytes) -> None:
    answer = exchange(live, garbage, hang_up=True)
    assert answer == b"" or answer.startswith((b"HTTP/1.1 400", b"HTTP/1.1 4"))
    expect_alive(live)


def test_the_work_of_a_client_that_left_is_dropped(live: ServiceProcess) -> None:
    departed = 'isotrope_rejected_total{reason="departed"}'
    left = 'isotrope_requests_total{operation="create_embeddings",status="499"}'
    before = metric(live, departed), metric(live, left)
    texts = ",".join(f'"{number} {"many words " * 120}"' for number in range(400))
    body = f'{{"input": [{texts}]}}'.encode()
    with connect(live) as link:
        link.sendall(HEAD + b"Content-Length: %d\r\n\r\n" % len(body) + body)
        wait_until(lambda: metric(live, 'isotrope_queued_texts{model="all-MiniLM-L6-v2"}') > 100)
    wait_until(lambda: metric(live, left) == before[1] + 1)
    wait_until(lambda: metric(live, departed) > before[0] + 100)
    wait_until(lambda: metric(live, "isotrope_requests_in_flight") == 1)
    assert metric(live, 'isotrope_queued_tokens{model="all-MiniLM-L6-v2"}') == 0
    expect_alive(live)


def test_pipelined_requests_are_answered_in_order(live: ServiceProcess) -> None:
    one = b"GET /livez HTTP/1.1\r\nHost: x\r\nX-Request-ID: n%d\r\n%s\r\n"
    answer = exchange(live, one % (1, b"") + one % (2, b"") + one % (3, b"Connection: close\r\n"))
    assert re.findall(rb"x-request-id: (n\d)", answer.lower()) == [b"n1", b"n2", b"n3"]
