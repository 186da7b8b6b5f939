"""Time fits, hubness and `apply` over HTTP, each beside what it is measured against."""

from __future__ import annotations

import http.client
import io
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from benchmarks.contestants import CHECKOUT, Ours, paused_servers
from benchmarks.results import Bar, median_bar
from service.numerics.hubness import Metric, occurrences
from service.numerics.moments import measure_moments
from service.numerics.vectors import wide_unit_rows
from service.numerics.whitening import Shrinkage, find_axes

ROUNDS = 7
NPY = "application/x-npy"
Matrix = NDArray[np.float32]


def spread_vectors(samples: int, dimensions: int) -> Matrix:
    """Return seeded vectors of falling variance and a mean."""
    random = np.random.default_rng(samples)
    scales = np.geomspace(1, 0.03, dimensions, dtype=np.float32)
    return random.standard_normal((samples, dimensions), dtype=np.float32) * scales + 0.2


def service_settings(data: str) -> dict[str, str]:
    """Return the settings of a service that keeps transforms in a folder."""
    return {"SERVICE_ROOMS": "embeddings,whitening", "SERVICE_DATA_LOCATION": data}


def fit_bars() -> list[Bar]:
    """Return CPU of scikit-learn's full-SVD PCA over ours, taking turns."""
    from sklearn.decomposition import PCA

    bars = []
    for samples, dimensions in ((20_000, 384), (10_000, 768)):
        vectors = spread_vectors(samples, dimensions)

        def ours(vectors: Matrix = vectors) -> None:
            find_axes(measure_moments(vectors), beta=1, shrinkage=Shrinkage.LEDOIT_WOLF)

        def theirs(vectors: Matrix = vectors) -> None:
            PCA(whiten=True, svd_solver="full").fit(vectors)

        ratios = [_cpu_seconds(theirs) / _cpu_seconds(ours) for _ in range(ROUNDS)]
        what = f"fit {samples:,} × {dimensions}: CPU of scikit-learn PCA (full SVD) / ours"
        bars.append(median_bar(what, ratios, relation=">=", limit=3, unit="times"))
    return bars


def memory_bars() -> list[Bar]:
    """Return the most memory that a fit takes beside its input, at two numbers of samples."""
    return [
        Bar(
            f"extra memory of a fit of {samples:,} × 768",
            _extra_megabytes(samples),
            relation="<=",
            limit=50,
            unit="MB",
        )
        for samples in (10_000, 80_000)
    ]


_MEMORY_PROBE = """
import sys, numpy as np
from pathlib import Path
from benchmarks.whitening_speed import spread_vectors
from service.numerics.moments import measure_moments
from service.numerics.whitening import Shrinkage, find_axes

def kilobytes(name):
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(name):
            return int(line.split()[1])

find_axes(measure_moments(spread_vectors(800, 768)), beta=1, shrinkage=Shrinkage.LEDOIT_WOLF)
vectors = spread_vectors(int(sys.argv[1]), 768)
vectors.sum()
Path("/proc/self/clear_refs").write_text("5")
before = kilobytes("VmRSS:")
find_axes(measure_moments(vectors), beta=1, shrinkage=Shrinkage.LEDOIT_WOLF)
print((kilobytes("VmHWM:") - before) / 1000)
"""


def _extra_megabytes(samples: int) -> float:
    found = subprocess.run(
        [sys.executable, "-c", _MEMORY_PROBE, str(samples)],
        capture_output=True,
        text=True,
        check=True,
        cwd=CHECKOUT,
    )
    return float(found.stdout)


def hubness_bars() -> list[Bar]:
    """Return time and truth of hubness at n = 2,000, d = 384."""
    vectors = spread_vectors(2000, 384)

    def all_metrics() -> None:
        occurrences(wide_unit_rows(vectors), k=10, metrics=list(Metric), progress=lambda *_: None)

    found = occurrences(wide_unit_rows(vectors), k=10, metrics=[], progress=lambda *_: None)[
        Metric.COSINE
    ]
    wide = vectors.astype(np.float64)
    wide /= np.linalg.norm(wide, axis=1, keepdims=True)
    cosines = wide @ wide.T
    np.fill_diagonal(cosines, -2)
    nearest = np.argsort(-cosines, axis=1, kind="stable")[:, :10]
    wrong = np.abs(found - np.bincount(nearest.ravel(), minlength=2000)).sum()
    return [
        median_bar(
            "hubness, n = 2,000, d = 384, raw and three reductions",
            [_cpu_seconds(all_metrics) for _ in range(ROUNDS)],
            relation="<=",
            limit=1,
            unit="s",
        ),
        Bar("the same, places that differ from brute force", float(wrong), None, "<=", 0),
    ]


def apply_bars() -> list[Bar]:
    """Return the time of `apply` over HTTP, `.npy` in and out, over that of the product."""
    vectors = spread_vectors(10_000, 384)
    weights = np.random.default_rng(1).standard_normal((384, 384), dtype=np.float32)
    body = _npy(vectors)
    sent = {"Content-Type": NPY, "Accept": NPY}
    times: list[float] = []
    cpu: list[float] = []
    with (
        tempfile.TemporaryDirectory() as data,
        paused_servers([Ours(settings=service_settings(data))]) as [server],
    ):
        server.resume()
        client = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
        path = "/v1/whitening/transforms"
        _ask(client, f"{path}?name=bench&beta=1&gamma=1", body, {"Content-Type": NPY}, 201)
        for _ in range(2 * ROUNDS):
            before, started = server.cpu_ms(), time.process_time()
            taken = _wall_seconds(lambda: _ask(client, f"{path}/bench/apply", body, sent, 200))
            spent = (server.cpu_ms() - before) / 1000 + time.process_time() - started
            times.append(taken / _wall_seconds(lambda: vectors @ weights))
            cpu.append(spent / _cpu_seconds(lambda: vectors @ weights))
    what = "apply to 10,000 × 384 over HTTP, npy in and out / the product in numpy"
    return [
        median_bar(f"{what}, time", times, relation="<=", limit=3, unit="times"),
        median_bar(f"{what}, CPU of client and service", cpu, relation="<=", limit=None),
    ]


def _ask(
    client: http.client.HTTPConnection, path: str, body: bytes, headers: dict[str, str], good: int
) -> bytes:
    client.request("POST", path, body=body, headers=headers)
    answer = client.getresponse()
    content = answer.read()
    if answer.status != good:
        raise SystemExit(f"{path} answered {answer.status}: {json.loads(content)['detail']}")
    return content


def _npy(matrix: Matrix) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, matrix)
    return buffer.getvalue()


def _cpu_seconds(work: Callable[[], object]) -> float:
    started = time.process_time()
    work()
    return time.process_time() - started


def _wall_seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started
