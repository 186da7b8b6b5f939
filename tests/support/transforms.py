"""Fit and apply transforms over HTTP, and make vectors for them."""

from __future__ import annotations

import io
from typing import Any

import httpx
import httpx2
import numpy as np
from starlette.testclient import TestClient

from service.numerics.dtypes import Matrix32

TRANSFORMS = "/v1/whitening/transforms"
Client = TestClient | httpx.Client


def slanted(samples: int, dimensions: int, *, seed: int = 0) -> Matrix32:
    """Return vectors with a mean, whose directions differ in spread."""
    random = np.random.default_rng(seed)
    mixing = np.random.default_rng(dimensions).standard_normal((dimensions, dimensions))
    return (random.standard_normal((samples, dimensions)) @ mixing + 2).astype(np.float32)


def fit(client: Client, **body: Any) -> dict[str, Any]:
    """Fit a transform and return its card."""
    answer = client.post(TRANSFORMS, json=body)
    assert answer.status_code == 201, answer.text
    card: dict[str, Any] = answer.json()
    return card


def apply(client: Client, transform: str, **body: Any) -> Matrix32:
    """Return transformed vectors."""
    answer = client.post(f"{TRANSFORMS}/{transform}/apply", json=body)
    assert answer.status_code == 200, answer.text
    return np.array(answer.json()["vectors"], dtype=np.float32)


def embed(client: Client, texts: list[str], **body: Any) -> Matrix32:
    """Return embeddings."""
    answer = client.post("/v1/embeddings", json={"input": texts, **body})
    assert answer.status_code == 200, answer.text
    rows = [item["embedding"] for item in answer.json()["data"]]
    return np.array(rows, dtype=np.float32)


def npy(matrix: Matrix32) -> bytes:
    """Return a matrix as a `.npy` file."""
    buffer = io.BytesIO()
    np.save(buffer, matrix)
    return buffer.getvalue()


def read_npy(answer: httpx.Response | httpx2.Response) -> Matrix32:
    """Return the matrix of a `.npy` answer."""
    found: Matrix32 = np.load(io.BytesIO(answer.content), allow_pickle=False)
    return found
