"""Hold whitening to its identities: rotation, unit covariance, merged parts, the exported graph."""

from __future__ import annotations

import json
import tempfile
from urllib.request import Request, urlopen

import numpy as np
from numpy.typing import NDArray

from benchmarks.contestants import Ours, paused_servers
from benchmarks.process import Server
from benchmarks.results import Bar
from benchmarks.whitening_speed import service_settings
from benchmarks.whitening_table import Sentences
from service.numerics.moments import measure_moments, merge_moments
from service.numerics.vectors import pair_cosines
from service.numerics.whitening import (
    Shrinkage,
    find_axes,
    make_kernel,
    narrow_kernel,
    project,
    whiten,
)

_TEXTS = [
    *("A man plays a guitar.", "Someone makes music.", "", "The train is late.", "猫坐在垫子上。"),
    "A long sentence with many words that says that nothing much happened on that day at all.",
]


def exact_bars(dev: Sentences) -> list[Bar]:
    """Return the largest deviation from each identity on real vectors."""
    mean = dev.vectors["mean"]
    turned = find_axes(measure_moments(mean), beta=0, shrinkage=Shrinkage.LEDOIT_WOLF)
    kernel = narrow_kernel(make_kernel(turned, gamma=0, dimensions=mean.shape[1]))
    turned_rows = whiten(mean, kernel)
    raw, after = (pair_cosines(rows[dev.first], rows[dev.second]) for rows in (mean, turned_rows))
    bars = [
        millionths("β = γ = 0, k = d: cosines differ from raw by", np.abs(raw - after).max(), 1e-6)
    ]
    # mean pooling has three coordinates that never vary; no map gives them variance 1
    vectors = dev.vectors["first_last"]
    axes = find_axes(measure_moments(vectors), beta=1, shrinkage=Shrinkage.NONE)
    hard = make_kernel(axes, gamma=1, dimensions=vectors.shape[1])
    for what, found, limit in (
        ("in float64", project(vectors.astype(np.float64), hard), 1e-6),
        ("as served", project(vectors, narrow_kernel(hard)), 1e-3),
    ):
        bars.append(
            millionths(
                f"MiniLM first_last, β = γ = 1, no shrinkage: covariance differs from I {what} by",
                _from_identity(found),
                limit,
            )
        )
    return [*bars, merge_bar(mean)]


def _from_identity(rows: NDArray[np.floating]) -> float:
    wide = rows.astype(np.float64)
    wide -= wide.mean(axis=0)
    return float(np.abs(wide.T @ wide / len(wide) - np.eye(wide.shape[1])).max())


def merge_bar(vectors: NDArray[np.float32]) -> Bar:
    """Return the worst eigenvalue of 20 random chunkings, merged in random order."""
    whole = np.linalg.eigvalsh(measure_moments(vectors).covariance)
    worst = 0.0
    for seed in range(20):
        random = np.random.default_rng(seed)
        cuts = np.sort(random.choice(len(vectors) - 1, size=random.integers(1, 60), replace=False))
        parts = [measure_moments(part) for part in np.split(vectors, cuts + 1)]
        while len(parts) > 1:
            one, other = (parts.pop(random.integers(len(parts))) for _ in range(2))
            parts.append(merge_moments(one, other))
        found = np.linalg.eigvalsh(parts[0].covariance)
        worst = max(worst, float(np.abs(found - whole).max() / whole[-1]))
    what = "20 random chunkings and merge orders: eigenvalues differ, share of the largest, by"
    return millionths(what, worst, 1e-7)


def millionths(what: str, value: float, limit: float) -> Bar:
    """Return a bar on a small deviation; results keep four decimals."""
    return Bar(what, 1e6 * float(value), None, "<=", 1e6 * limit, unit="millionths")


def export_bars() -> list[Bar]:
    """Return how far the exported graph in onnxruntime alone is from the service."""
    import onnxruntime
    from tokenizers import Tokenizer

    from service.settings import default_models_dir

    bars = []
    with (
        tempfile.TemporaryDirectory() as data,
        paused_servers([Ours(settings=service_settings(data))]) as [server],
    ):
        server.resume()
        for model in ("all-MiniLM-L6-v2", "use-multilingual-3"):
            fit = {"name": "export", "texts": _TEXTS, "model": model, "beta": 1, "gamma": 0.5}
            made = json.loads(_post(server, "/v1/whitening/transforms", fit))
            url = f"http://127.0.0.1:{server.port}/v1/whitening/transforms/{made['id']}"
            with urlopen(f"{url}/onnx", timeout=60) as answer:
                session = onnxruntime.InferenceSession(answer.read())
            served = np.array(
                json.loads(_post(server, f"/v1/whitening/transforms/{made['id']}/apply",
                                 {"texts": _TEXTS}))["vectors"]
            )  # fmt: skip
            folder = default_models_dir() / model
            entry = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
            tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
            worst = 0.0
            for text, expected in zip(_TEXTS, served, strict=True):
                ids = np.array([tokenizer.encode(entry["prefix"] + text).ids])
                feeds = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
                worst = max(worst, float(np.abs(session.run(None, feeds)[0][0] - expected).max()))
            bars.append(
                millionths(f"{model}: exported graph differs from the service by", worst, 1e-5)
            )
    return bars


def _post(server: Server, path: str, body: object) -> bytes:
    request = Request(
        f"http://127.0.0.1:{server.port}{path}",
        data=json.dumps(body).encode(),
        headers={"Content-Type": "application/json"},
    )
    with urlopen(request, timeout=60) as answer:
        return bytes(answer.read())
