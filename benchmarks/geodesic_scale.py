"""Measure corpora: queries, growth, answers over HTTP, and a million items."""

from __future__ import annotations

import base64
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

import numpy as np
from scipy.sparse.csgraph import dijkstra

from benchmarks.geodesic_speed import DIMENSIONS, K, clustered, seconds, to_scipy
from benchmarks.process import free_port
from benchmarks.results import Bar, median_bar, say
from service.capabilities.geodesic.numerics.meshes import (
    Mesh,
    MeshOptions,
    build_mesh,
    change_mesh,
    nearest_in,
)
from service.numerics.distances import Metric
from service.numerics.dtypes import Matrix32
from service.numerics.graphs import EdgeRule
from service.numerics.paths import nearest_by_path

TOP = 10
EXACT_ROWS = 20_000
NOBODY = np.empty(0, np.int32)
QUERY_LIMITS = {10_000: 0.5, 100_000: 0.2, 1_000_000: 0.05}


def options(threads: int = 1) -> MeshOptions:
    """Return the service's own defaults."""
    return MeshOptions(K, Metric.ANGULAR, EdgeRule.UNION, None, EXACT_ROWS, threads)


def ask(mesh: Mesh, query: Matrix32) -> object:
    """Do what a query over HTTP does, the embedding and the writing apart."""
    seeds, lengths = nearest_in(mesh, query)
    return nearest_by_path(mesh.graph, seeds, seed_lengths=lengths, top=TOP)


def queries_of(mesh: Mesh) -> list[Bar]:
    """Return the time of queries over that of scipy's Dijkstra on the same graph."""
    count = mesh.count
    matrix = to_scipy(mesh.graph)
    queries = clustered(64, seed=9)
    source = int(np.diff(mesh.graph.offsets).argmax())
    turn = iter(range(10**9))

    def whole() -> object:
        return ask(mesh, queries[next(turn) % 64][np.newaxis])

    attached = [nearest_in(mesh, query[np.newaxis]) for query in queries]

    def path() -> object:
        seeds, lengths = attached[next(turn) % 64]
        return nearest_by_path(mesh.graph, seeds, seed_lengths=lengths, top=TOP)

    found: dict[str, list[float]] = {"whole": [], "path": []}
    whole()
    for _ in range(5):
        theirs = seconds(lambda: dijkstra(matrix, indices=source))
        found["whole"].append(seconds(whole, 20) / theirs)
        found["path"].append(seconds(path, 20) / theirs)
    limit = QUERY_LIMITS[count]
    note = f"{1000 * seconds(whole, 20):.2f} ms a query"
    what = f"query of {count:,}, time over scipy's Dijkstra"
    return [
        median_bar(what, found["whole"], relation="<=", limit=limit, note=note),
        median_bar(f"{what}, the path alone", found["path"], relation="<=", limit=None),
    ]


def query_bars() -> list[Bar]:
    """Return the bars of queries at 10,000 and 100,000; `million` measures the third."""
    bars = queries_of(build_mesh(clustered(10_000), options()))
    mesh = build_mesh(clustered(100_000), options())
    recall = Bar("100,000 items: share of the true ten nearest", mesh.recall, None, ">=", 0.95)
    return [*bars, *queries_of(mesh), recall]


def growth_bars() -> list[Bar]:
    """Return the time of adding 1 % to 100,000 items over that of building them."""
    vectors = clustered(104_000)
    meshes: list[Mesh] = []
    build = seconds(lambda: meshes.append(build_mesh(vectors[:100_000], options())))
    mesh, found = meshes[0], []
    for at in range(4):
        first = 100_000 + 1000 * at
        started = time.process_time()
        mesh = change_mesh(mesh, NOBODY, vectors[first : first + 1000])
        found.append((time.process_time() - started) / build)
    what = "adding 1,000 items to 100,000, time over a build"
    return [median_bar(what, found, relation="<=", limit=0.05, note=f"build {build:.0f} s of CPU")]


def million_bars(threads: int) -> list[Bar]:
    """Return the bars of a million items: time, memory, recall, and queries."""
    before = _peak_gigabytes()
    vectors = clustered(1_000_000)
    started, cpu = time.perf_counter(), time.process_time()
    last = [0.0]

    def progress(stage: str, done: int, total: int) -> None:
        if time.perf_counter() - last[0] > 20:
            last[0] = time.perf_counter()
            say(f"  {stage} {done:,} of {total:,}, {last[0] - started:.0f} s")

    mesh = build_mesh(vectors, options(threads), progress=progress)
    minutes = (time.perf_counter() - started) / 60
    cpu = (time.process_time() - cpu) / 60
    note = f"{cpu:.1f} minutes of CPU, {threads} threads; {before:.1f} GB before"
    return [
        Bar("build of 1,000,000 × 384: minutes", minutes, None, "<=", 15, note=note),
        Bar("peak memory of that, GB", _peak_gigabytes(), None, "<=", 8),
        Bar("share of the true ten nearest", mesh.recall, None, ">=", 0.95),
        *queries_of(mesh),
    ]


def _peak_gigabytes() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def http_bars(count: int = 100_000) -> list[Bar]:
    """Return the slow end of queries over HTTP in a corpus of 100,000, one after another."""
    vectors = clustered(count)
    with tempfile.TemporaryDirectory() as folder:
        port = free_port()
        environment = {
            **os.environ,
            "SERVICE_DATA_LOCATION": str(Path(folder) / "data"),
            "SERVICE_LONG_DEADLINE_MS": "1200000",
            "SERVICE_ACCESS_LOG": "false",
        }
        command = [sys.executable, "-m", "service", "serve", "--port", str(port)]
        with (Path(folder) / "log").open("wb") as log:
            process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        try:
            return _over_http(f"http://127.0.0.1:{port}", vectors)
        finally:
            process.terminate()
            process.wait()


def _over_http(url: str, vectors: Matrix32) -> list[Bar]:
    _await(url)
    part = 25_000
    for first in range(0, len(vectors), part):
        items = [
            {"id": str(first + at), "vector": base64.b64encode(row.tobytes()).decode()}
            for at, row in enumerate(vectors[first : first + part])
        ]
        if first == 0:
            _post(f"{url}/v1/geodesic/corpora", {"name": "bench", "items": items})
        else:
            _post(f"{url}/v1/geodesic/corpora/bench/items", {"items": items})
        say(f"  {first + len(items):,} items over HTTP")
    times = []
    for at, row in enumerate(clustered(1050, seed=9)):
        body = {"vector": row.tolist(), "top": TOP}
        started = time.perf_counter()
        _post(f"{url}/v1/geodesic/corpora/bench/query", body)
        if at >= 50:
            times.append(1000 * (time.perf_counter() - started))
    times.sort()
    slow = times[int(0.99 * len(times))]
    note = f"median {statistics.median(times):.1f} ms, one client, {DIMENSIONS} numbers a query"
    return [Bar(f"query of {len(vectors):,} over HTTP, p99, ms", slow, None, "<=", 50, note=note)]


def _post(url: str, body: object) -> dict[str, object]:
    request = urllib.request.Request(
        url, json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=1200) as answer:
        return dict(json.load(answer))


def _await(url: str) -> None:
    for _ in range(600):
        try:
            urllib.request.urlopen(f"{url}/readyz", timeout=5)
            return
        except OSError:
            time.sleep(0.1)
    raise TimeoutError(url)
