"""Measure the distribution room: values, speed, and parity with the entmax package.

```
python -m benchmarks.distribution [--only values|speed|http|parity]
```

Prints each bar and writes `results/distribution.json`. Speeds are CPU seconds of one thread,
medians of rounds. `parity` installs torch and entmax into `.cache/peers/entmax` once (about a minute) and
compares 1,000 rows in float64. All of it takes about two minutes.
"""

from __future__ import annotations

import argparse
import http.client
import io
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from scipy import stats
from scipy.special import ndtr

from benchmarks import results
from benchmarks.contestants import CHECKOUT
from benchmarks.process import free_port, start_server
from benchmarks.results import Bar, median_bar, say
from service.numerics.density import Domain, cdf, pdf, quantiles
from service.numerics.density_fit import fit_density
from service.numerics.distributions.choice import MapName, ProbabilityMap, map_logits
from service.numerics.distributions.contexts import Pooling, merge_contexts
from service.numerics.distributions.draws import draw_with_replacement
from service.numerics.distributions.logits import shifted
from service.numerics.distributions.maps import noise_map
from service.numerics.seeds import generator

ENTMAX = CHECKOUT / ".cache" / "peers" / "entmax"
PINS = ("torch==2.13.0", "entmax==1.3", "numpy")
ROUNDS = 7
N, ROWS, VOCABULARY = 50_000, 64, 150_000
CLAW = [(0.5, 0.0, 1.0), *((0.1, centre, 0.1) for centre in (-1.0, -0.5, 0.0, 0.5, 1.0))]


def quiet(*_: object) -> None:
    """Take progress and tell nobody."""


def value_bars() -> list[Bar]:
    """Return the bars on numbers: closed forms, sums, shifts, context merging, densities."""
    return [*map_bars(), *context_bars(), *density_bars()]


def map_bars() -> list[Bar]:
    gaps = np.array([0.1, 0.5, 1.0, 3.0])
    a = np.exp(gaps)
    forms = {
        "gaussian": ndtr(gaps / np.sqrt(2)),
        "logistic": a * (a - 1 - gaps) / (a - 1) ** 2,
        "exponential": 1 - np.exp(-gaps) / 2,
        "uniform": 1 - (1 - np.minimum(gaps, 1)) ** 2 / 2,
    }
    pairs = np.stack([np.zeros_like(gaps), -gaps], axis=1)
    rows = np.random.default_rng(0).normal(size=(20, 3000)) * np.linspace(0, 5, 20)[:, np.newaxis]
    closed = moved = total = defect = 0.0
    ordered = True
    for noise, form in forms.items():
        closed = max(closed, np.abs(noise_map(pairs, noise=noise).probabilities[:, 0] - form).max())
        found = noise_map(shifted(rows, scale=1.0), noise=noise)
        far = noise_map(shifted(rows + 1000, scale=1.0), noise=noise)
        moved = max(moved, np.abs(found.probabilities - far.probabilities).max())
        total = max(total, np.abs(found.probabilities.sum(axis=1) - 1).max())
        defect = max(defect, np.abs(found.mass_defect).max())
        order = np.argsort(rows, axis=1)
        rising = np.diff(np.take_along_axis(found.probabilities, order, axis=1), axis=1)
        ordered = ordered and bool((rising >= 0).all())
    return [
        Bar("closed forms of two logits: largest error", closed, None, "<=", 1e-10),
        Bar("shift by 1000: largest change", moved, None, "<=", 1e-12),
        Bar("largest distance of a sum from 1", total, None, "<=", 1e-12),
        Bar("largest mass defect, 3,000 logits, spread 0 to 5", defect, None, "<=", 1e-8),
        Bar("order kept (1 is yes)", float(ordered), None, ">=", 1),
        Bar("chi-square p of 100,000 draws, lowest of four", _chi_square(), None, ">=", 1e-4),
    ]


def _chi_square() -> float:
    scores = np.array([0.0, -0.4, -0.9, -1.5, -2.2])
    lowest = 1.0
    for noise in ("gumbel", "gaussian", "logistic", "exponential"):
        drawn = draw_with_replacement(
            scores, generator(1, noise), noise=noise, draws=100_000, progress=quiet
        )
        expected = 100_000 * noise_map(scores[np.newaxis], noise=noise).probabilities[0]
        counts = np.bincount(drawn.indices, minlength=len(scores))
        lowest = min(lowest, float(stats.chisquare(counts, expected).pvalue))
    return lowest


def context_bars() -> list[Bar]:
    contexts = np.log([[0.4, 0.3, 0.2, 0.1], [0.85, 0.05, 0.05, 0.05], [0.25] * 4])
    background = np.log([0.5, 0.2, 0.2, 0.1])
    merged = np.exp(merge_contexts(contexts, background, mass=1).log_probabilities)
    example = [0.89591817, 0.03263564, 0.03263564, 0.03881054]
    bayes = np.exp(
        merge_contexts(contexts, background, beta=2, mass=1, pooling=Pooling.MEAN).log_probabilities
    )
    product = np.exp(contexts.sum(axis=0) - 2 * background)
    identity = np.abs(bayes - product / product.sum()).max()
    return [
        Bar("context merging: worked example", np.abs(merged - example).max(), None, "<=", 1e-8),
        Bar("context merging: naive-Bayes identity", identity, None, "<=", 1e-12),
    ]


def density_bars() -> list[Bar]:
    law, shares = stats.beta(8, 2), np.linspace(0.001, 0.999, 999)
    grid = (np.arange(65_536) + 0.5) / 65_536
    line = np.linspace(-8, 8, 160_001)
    claw = np.sum([w * stats.norm.pdf(line, m, s) for w, m, s in CLAW], axis=0)
    beta_kl, claw_kl, mass, real_mass, inverse = [], [], 0.0, 0.0, 0.0
    for seed in range(5):
        bounded = fit_density(
            law.rvs(2000, random_state=seed), domain=Domain.BOUNDED, seed=seed, progress=quiet
        ).density
        heights = pdf(bounded, grid)
        mass = max(mass, abs(heights.mean() - 1))
        beta_kl.append(float(np.mean(law.pdf(grid) * np.log(law.pdf(grid) / heights))))
        real = fit_density(
            draw_claw(2000, seed), domain=Domain.REAL, seed=seed, progress=quiet
        ).density
        ratio = np.log(np.maximum(claw, 1e-300) / np.maximum(pdf(real, line), 1e-300))
        claw_kl.append(float(np.trapezoid(claw * ratio, line)))
        wide = real.location + 10 * real.scale * np.linspace(-1, 1, 400_001)
        real_mass = max(real_mass, abs(float(np.trapezoid(pdf(real, wide), wide)) - 1))
        for density in (bounded, real):
            error = np.abs(cdf(density, quantiles(density, shares)) - shares).max()
            inverse = max(inverse, float(error))
    return [
        Bar("density on [0, 1]: distance of the mass from 1", mass, None, "<=", 1e-10),
        Bar("density on the line: distance of the mass from 1", real_mass, None, "<=", 1e-3),
        Bar("cdf(quantile(u)) - u", inverse, None, "<=", 1e-8),
        median_bar("KL of Beta(8, 2), 2,000 samples, 5 seeds", beta_kl, relation="<=", limit=0.02),
        median_bar("KL of the claw, 2,000 samples, 5 seeds", claw_kl, relation="<=", limit=0.02),
    ]


def draw_claw(n: int, seed: int) -> np.ndarray:
    """Return samples of a bell with five narrow ones on it."""
    rng = np.random.default_rng(seed)
    parts = np.array(CLAW)[rng.choice(len(CLAW), size=n, p=[part[0] for part in CLAW])]
    return rng.normal(parts[:, 1], parts[:, 2])


def speed_bars() -> list[Bar]:
    """Return CPU seconds of one thread for 50,000 logits, and for a density."""
    rng = np.random.default_rng(1)
    logits = rng.normal(size=(1, N)) * 3
    flat = rng.uniform(size=(1, N))  # all compete: the slowest rows
    limits = {
        MapName.GAUSSIAN: 1.0,
        MapName.EXPONENTIAL: 0.3,
        MapName.SPARSEMAX: 0.02,
        MapName.ENTMAX: 0.02,
        MapName.TOP_K: 0.02,
        MapName.TOP_P: 0.02,
        MapName.MIN_P: 0.02,
        MapName.LOGISTIC: None,
        MapName.UNIFORM: None,
    }
    bars = []
    for name, limit in limits.items():
        for kind, rows in (("spread 3", logits), ("all within 1", flat)):
            chosen = ProbabilityMap(name)
            seconds = cpu_seconds(lambda r=rows, c=chosen: map_logits(r, c, progress=quiet))  # type: ignore[misc]
            what = f"{name}, {N:,} logits, {kind}: CPU seconds"
            bars.append(median_bar(what, seconds, relation="<=", limit=limit, unit="s"))
    general = ProbabilityMap(MapName.ENTMAX, alpha=1.25)
    seconds = cpu_seconds(lambda: map_logits(flat, general, progress=quiet))
    what = f"entmax 1.25, {N:,} logits, all within 1: CPU seconds"
    bars.append(median_bar(what, seconds, relation="<=", limit=0.02, unit="s"))
    scores = shifted(logits, scale=1.0)[0]
    for noise in ("gumbel", "gaussian", "exponential"):
        seconds = cpu_seconds(
            lambda n=noise: draw_with_replacement(  # type: ignore[misc]
                scores, generator(1), noise=n, draws=1, progress=quiet
            )
        )
        what = f"one draw, {noise}, {N:,} logits: CPU seconds"
        bars.append(median_bar(what, seconds, relation="<=", limit=0.005, unit="s"))
    for domain, samples in (
        (Domain.BOUNDED, stats.beta(8, 2).rvs(2000, random_state=0)),
        (Domain.REAL, draw_claw(2000, 0)),
    ):
        seconds = cpu_seconds(
            lambda s=samples, d=domain: fit_density(s, domain=d, progress=quiet)  # type: ignore[misc]
        )
        what = f"density of 2,000 samples, {domain}, order chosen: CPU seconds"
        bars.append(median_bar(what, seconds, relation="<=", limit=0.5, unit="s"))
    return bars


def cpu_seconds(work: Callable[[], object]) -> list[float]:
    """Return the CPU time of each round; the first, which warms up, is not counted."""
    work()
    rounds = []
    for _ in range(ROUNDS):
        started = time.process_time()
        work()
        rounds.append(time.process_time() - started)
    return rounds


def http_bars() -> list[Bar]:
    """Return the bar on 64 × 150,000 logits over HTTP, `.npy` both ways.

    numpy does the same work on the same bytes: reads the `.npy`, softmax and entropy in place in
    float32, writes the `.npy`.
    """
    logits = (np.random.default_rng(2).normal(size=(ROWS, VOCABULARY)) * 3).astype("<f4")
    body = to_npy(logits)
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        env = {
            "SERVICE_ROOMS": "distribution",
            "SERVICE_PRELOAD_MODELS": "",
            "SERVICE_DATA_LOCATION": folder,
            "SERVICE_ACCESS_LOG": "false",
            "PYTHONPATH": str(CHECKOUT),
            "XDG_CACHE_HOME": os.environ.get("XDG_CACHE_HOME", str(Path.home() / ".cache")),
        }
        command = [sys.executable, "-m", "service", "serve", "--port", str(port)]
        server = start_server(
            "distribution", command, port=port, ready="/livez", env=env, folder=Path(folder)
        )
        try:
            whole, arithmetic, cpu = [], [], []
            connection = http.client.HTTPConnection("127.0.0.1", port)
            for _ in range(ROUNDS + 1):
                bare, full, expected = numpy_seconds(body)
                before = server.cpu_ms()
                started = time.perf_counter()
                answer = ask(connection, body)
                seconds = time.perf_counter() - started
                whole.append(seconds / full)
                arithmetic.append(seconds / bare)
                cpu.append((server.cpu_ms() - before) / 1000)
                check(answer, expected)
        finally:
            server.stop()
    what = f"{ROWS} × {VOCABULARY:,} softmax + entropy over HTTP, .npy both ways"
    return [
        median_bar(
            f"{what}: times numpy's own", whole[1:], relation="<=", limit=2.0,
            note="numpy reads and writes the same .npy bytes",
        ),
        median_bar(f"{what}: times numpy's arithmetic alone", arithmetic[1:], relation="<=",
                   limit=None),
        median_bar(f"{what}: CPU seconds of the server", cpu[1:], relation="<=", limit=None,
                   unit="s"),
    ]  # fmt: skip


def to_npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def numpy_seconds(body: bytes) -> tuple[float, float, np.ndarray]:
    """Return seconds of the arithmetic, seconds with reading and writing, and the probabilities."""
    started = time.perf_counter()
    x = np.load(io.BytesIO(body))
    loaded = time.perf_counter()
    d = x - x.max(axis=1, keepdims=True)
    p = np.exp(d)
    total = p.sum(axis=1, keepdims=True)
    p /= total
    entropy = np.log(total[:, 0]) - (p * d).sum(axis=1)
    computed = time.perf_counter()
    to_npy(p)
    ended = time.perf_counter()
    assert np.isfinite(entropy).all()
    return computed - loaded, ended - started, p


def ask(connection: http.client.HTTPConnection, body: bytes) -> bytes:
    headers = {"Content-Type": "application/x-npy", "Accept": "application/x-npy"}
    connection.request("POST", "/v1/distribution/probabilities", body, headers)
    response = connection.getresponse()
    content = response.read()
    assert response.status == 200, content[:300]
    assert response.headers["x-entropy"]
    return content


def check(answer: bytes, expected: np.ndarray) -> None:
    found = np.load(io.BytesIO(answer))
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() < 1e-5


_PARITY = """
import sys
import numpy as np
import torch
from entmax import entmax15, entmax_bisect, sparsemax
given = np.load(sys.argv[1])
rows = torch.from_numpy(given["logits"])
np.savez(
    sys.argv[2],
    sparsemax=sparsemax(rows, dim=-1).numpy(),
    entmax15=entmax15(rows, dim=-1).numpy(),
    **{f"alpha_{a}": entmax_bisect(rows, alpha=a, dim=-1, n_iter=100).numpy()
       for a in (1.25, 1.75, 2.5)},
)
"""


def parity_bars() -> list[Bar]:
    """Return the distance from the entmax package on 1,000 rows in float64."""
    install_entmax()
    rng = np.random.default_rng(3)
    largest: dict[str, float] = {}
    count = 0
    for n in (1, 2, 7, 50, 400):
        logits = rng.normal(size=(200, n)) * 10 ** rng.uniform(-2, 1, size=(200, 1))
        logits[:60] = np.round(logits[:60] * 2) / 2  # ties
        logits[60:70] = 0.5  # all equal
        count += len(logits)
        for name, theirs in run_entmax(logits).items():
            distance = float(np.abs(ours(logits, name) - theirs).max())
            largest[name] = max(largest.get(name, 0.0), distance)
    return [
        Bar(f"{name}: largest distance from the entmax package, {count} rows", value, None, "<=",
            1e-9, note=", ".join(PINS[:2]))
        for name, value in largest.items()
    ]  # fmt: skip


def ours(logits: np.ndarray, name: str) -> np.ndarray:
    chosen = {
        "sparsemax": ProbabilityMap(MapName.SPARSEMAX),
        "entmax15": ProbabilityMap(MapName.ENTMAX),
    }.get(name)
    if chosen is None:
        chosen = ProbabilityMap(MapName.ENTMAX, alpha=float(name.removeprefix("alpha_")))
    return map_logits(logits, chosen, progress=quiet).probabilities


def install_entmax() -> None:
    if (ENTMAX / "ready").is_file():
        return
    say("  installing torch and entmax")
    subprocess.run([sys.executable, "-m", "venv", ENTMAX], check=True)
    pip = [str(ENTMAX / "bin" / "python"), "-m", "pip", "install", "--quiet", *PINS]
    subprocess.run(pip, check=True)
    (ENTMAX / "ready").touch()


def run_entmax(logits: np.ndarray) -> dict[str, np.ndarray]:
    with tempfile.TemporaryDirectory() as folder:
        given, found = Path(folder) / "given.npz", Path(folder) / "found.npz"
        np.savez(given, logits=logits)
        python = ENTMAX / "bin" / "python"
        subprocess.run([python, "-c", _PARITY, given, found], check=True)
        with np.load(found) as arrays:
            return {name: arrays[name] for name in arrays.files}


PARTS: dict[str, Callable[[], list[Bar]]] = {
    "values": value_bars,
    "speed": speed_bars,
    "http": http_bars,
    "parity": parity_bars,
}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.distribution")
    parser.add_argument("--only", action="append", choices=PARTS, help="one part; may be repeated")
    chosen = parser.parse_args(arguments).only or list(PARTS)
    load = os.getloadavg()
    bars: list[Bar] = []
    for part in chosen:
        say(f"{part}:")
        found = PARTS[part]()
        bars += found
        for bar in found:
            verdict = {True: "met", False: "MISSED", None: ""}[bar.met]
            limit = "" if bar.limit is None else f"{bar.relation} {bar.limit:g}"
            worst = "" if bar.worst is None else f"[{bar.worst:.3g}]"
            say(f"  {verdict:7}{bar.value:>10.3g} {worst:>10} {limit:>9}  {bar.what}")
    if set(chosen) == set(PARTS):
        results.write(
            "distribution",
            settings={"rounds": ROUNDS},
            rounds=[],
            bars=bars,
            load_average_before=load,
        )
    missed = [bar.what for bar in bars if bar.met is False]
    say(f"{len(missed)} missed" if missed else "all met")


if __name__ == "__main__":
    main()
