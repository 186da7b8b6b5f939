"""Fit the density of `service.numerics.density` to samples.

The loss is -mean log p + γ Σ 2π²n²|g_n|², minimised by L-BFGS with its analytic gradient from the
minimum-phase factor of a smoothed histogram, so that no restarts are needed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize

from service.errors import Fault, InvalidInput
from service.numerics.density import (
    GRID,
    Density,
    Domain,
    Vector128,
    basis_pdf,
    log_jacobian,
    to_basis,
    waves_at,
)
from service.numerics.dtypes import Progress, Vector64
from service.numerics.seeds import generator

ORDERS = (4, 6, 8, 12, 16, 24, 32, 48)
_FOLDS = 5
# Orders tried beyond the best so far before the search ends.
_PATIENCE = 3
# With fewer samples no part can be spared to choose the order.
_LEAST_FOR_CHOICE = 20
_LEAST_ORDER = 4
# Beyond so many samples they are spread over a grid.
_MOST_EXACT = 4096
_START_POINTS = 512


@dataclass(frozen=True, slots=True)
class Fit:
    """Hold a density and how it was found.

    Attributes:
        density: the fit to all samples.
        held_out: order and mean log likelihood of samples held out (five folds), for each order
            tried, in nats and in units of the samples.
        log_likelihood: mean over all samples, in nats.
        iterations: of the last fit.
    """

    density: Density
    held_out: tuple[tuple[int, float], ...]
    log_likelihood: float
    iterations: int


def fit_density(
    samples: Vector64,
    *,
    domain: Domain,
    bounds: tuple[float, float] = (0.0, 1.0),
    order: int | None = None,
    gamma: float = 1e-5,
    seed: int = 0,
    progress: Progress,
) -> Fit:
    """Return the density of samples, its order chosen by cross-validation where none is given.

    The loss is -mean log p + γ Σ 2π²n²|g_n|², minimised by L-BFGS with its analytic gradient from
    the minimum-phase factor of a smoothed histogram, so that no restarts are needed.

    Args:
        samples: (m,) float64, finite.
        domain: bounded or real.
        bounds: interval of a bounded domain, rising.
        order: N, 1 to 64; None chooses among 4 to 48.
        gamma: weight of the penalty on wiggles.
        seed: of the folds.
        progress: told after every fit.

    Raises:
        InvalidInput: a sample lies outside the bounds, or all are equal on the real line.
    """
    location, scale = _frame(samples, domain, bounds)
    x = to_basis(samples, domain, location, scale)
    tried: list[tuple[int, float]] = []
    if order is None:
        order, tried = _choose_order(x, domain, gamma, seed, progress)
    coefficients, iterations = _fit(x, domain, order, gamma)
    progress("fit", 1, 1)
    density = Density(domain, location, scale, coefficients)
    shift = float(np.mean(log_jacobian(x, density)))
    held_out = tuple((tried_order, score + shift) for tried_order, score in tried)
    likelihood = float(np.mean(np.log(basis_pdf(x, coefficients, domain)))) + shift
    return Fit(density, held_out, likelihood, iterations)


def _frame(samples: Vector64, domain: Domain, bounds: tuple[float, float]) -> tuple[float, float]:
    """Return location and scale of the change of variable."""
    if domain is Domain.BOUNDED:
        low, high = bounds
        outside = np.flatnonzero((samples < low) | (samples > high))
        if len(outside):
            place = int(outside[0])
            raise InvalidInput(
                f"Sample {place} is {samples[place]:g} and the bounds are {low:g} and {high:g}. "
                'Widen the bounds, or use the domain "real".',
                faults=(Fault(f"/samples/{place}", "lies outside the bounds"),),
            )
        return low, high - low
    largest = float(np.abs(samples).max()) or 1.0
    unit = samples / largest  # squares of 1e300 overflow
    deviation = float(unit.std()) * largest
    if not deviation > 0:
        raise InvalidInput(
            f"All {len(samples)} samples are {samples[0]:g}, which has no density on the real line."
            " Send samples that differ, or use a bounded domain.",
            faults=(Fault("/samples", "all are equal"),),
        )
    most = float(np.finfo(np.float64).max)
    return float(unit.mean()) * largest, min(2 * deviation, most)


def _choose_order(
    x: Vector64, domain: Domain, gamma: float, seed: int, progress: Progress
) -> tuple[int, list[tuple[int, float]]]:
    """Return the order under which samples held out are likeliest, and what was tried."""
    if len(x) < _LEAST_FOR_CHOICE:
        return _LEAST_ORDER, []
    folds = np.array_split(generator(seed, "density").permutation(x), _FOLDS)
    tried: list[tuple[int, float]] = []
    for number, order in enumerate(ORDERS):
        scores = [_held_out_score(folds, fold, domain, order, gamma) for fold in range(_FOLDS)]
        tried.append((order, float(np.sum(scores)) / len(x)))
        progress("order", number + 1, len(ORDERS))
        best = max(tried, key=lambda pair: pair[1])
        if number - tried.index(best) >= _PATIENCE:
            break
    return best[0], tried


def _held_out_score(
    folds: list[Vector64], held: int, domain: Domain, order: int, gamma: float
) -> float:
    """Return the log likelihood of one fold under the fit to the others."""
    rest = np.concatenate([fold for number, fold in enumerate(folds) if number != held])
    coefficients, _ = _fit(rest, domain, order, gamma)
    return float(np.log(basis_pdf(folds[held], coefficients, domain)).sum())


def _fit(x: Vector64, domain: Domain, order: int, gamma: float) -> tuple[Vector128, int]:
    """Return g_1 … g_N and the number of iterations."""
    points, weights = _weighted(x, domain)
    waves = waves_at(points, order)
    start = _start(points, weights, domain, order)
    real = domain is Domain.BOUNDED
    packed = start.real if real else np.concatenate([start.real, start.imag])
    penalty = gamma * 2 * np.pi**2 * np.arange(order + 1) ** 2
    found = minimize(
        _loss, packed, args=(waves, weights, penalty), jac=True, method="L-BFGS-B",
        options={"maxiter": 300, "maxcor": 20, "ftol": 1e-10, "gtol": 1e-7},
    )  # fmt: skip
    correlations = _correlate(_unpack(found.x, order))
    return correlations[1:] / correlations[0].real, int(found.nit)


def _unpack(packed: Vector64, order: int) -> Vector128:
    """Return a from its real numbers: a itself, or its real parts before its imaginary ones."""
    if len(packed) == order + 1:
        return packed.astype(np.complex128)
    return packed[: order + 1] + 1j * packed[order + 1 :]


def _correlate(a: Vector128) -> Vector128:
    """Return c_n = Σ_k conj(a_k) a_{k+n}, n = 0 … N, for A = Σ a_k e^{iπkx} and |A|²."""
    correlations: Vector128 = np.correlate(a, a, mode="full")[len(a) - 1 :]
    return correlations


def _loss(
    packed: Vector64, waves: npt.NDArray[np.complex128], weights: Vector64, penalty: Vector64
) -> tuple[float, Vector64]:
    """Return the loss and its gradient.

    With A = E a, s = |a|²: -Σ w log(|A|² / s) has the gradient 2 (a / s - Eᴴ (w A / |A|²)) in the
    sense of real parts; the penalty Σ π_n |c_n|² / s² adds
    2 (Σ_n π_n (conj(c_n) a_{k+n} + c_n a_{k-n})) / s² - 4 (Σ π_n |c_n|²) a / s³.

    Args:
        packed: real numbers of a.
        waves: E, (m, N + 1).
        weights: w, (m,) of sum 1.
        penalty: π, (N + 1,), 0 at n = 0.
    """
    order = waves.shape[1] - 1
    a = _unpack(packed, order)
    size = float(np.vdot(a, a).real)
    amplitude = waves @ a
    power = np.maximum(amplitude.real**2 + amplitude.imag**2, 1e-300)
    c = _correlate(a)
    rough = float(penalty @ (c.real**2 + c.imag**2))
    loss = float(-(weights @ np.log(power))) + np.log(size) + rough / size**2
    gradient = 2 * (a / size - (weights * amplitude.conj() / power @ waves).conj())
    bent = penalty * c
    gradient += 2 * (np.convolve(bent, a)[: order + 1] + _ahead(bent.conj(), a)) / size**2
    gradient -= 4 * rough / size**3 * a
    if len(packed) == order + 1:
        return loss, gradient.real
    return loss, np.concatenate([gradient.real, gradient.imag])


def _ahead(b: Vector128, a: Vector128) -> Vector128:
    """Return Σ_n b_n a_{k+n} for k = 0 … N."""
    sums: Vector128 = np.convolve(b[::-1], a)[len(a) - 1 :]
    return sums


def _weighted(x: Vector64, domain: Domain) -> tuple[Vector64, Vector64]:
    """Return places and their weights: the samples, or a grid over which many are spread."""
    if len(x) <= _MOST_EXACT:
        return x, np.full(len(x), 1 / len(x))
    low = 0.0 if domain is Domain.BOUNDED else -1.0
    position = (x - low) / (1 - low) * (GRID - 1)
    left = np.minimum(position.astype(np.intp), GRID - 2)
    share = position - left
    weights = np.bincount(left, 1 - share, minlength=GRID)
    weights += np.bincount(left + 1, share, minlength=GRID)
    return np.linspace(low, 1.0, GRID), weights / len(x)


def _start(points: Vector64, weights: Vector64, domain: Domain, order: int) -> Vector128:
    """Return a_0 … a_N whose |A|² follows a smoothed histogram.

    The causal half of the cepstrum of p is log A for the A of minimum phase with |A|² = p.
    """
    n = np.arange(order + 1)
    # The taper (Fejér's) keeps the truncated series from falling below 0.
    moments = (weights @ waves_at(points, order)).conj() * (1 - n / (order + 1))
    if domain is Domain.BOUNDED:
        moments = moments.real.astype(np.complex128)  # reflected: the even part alone
    spectrum = np.zeros(_START_POINTS, dtype=np.complex128)
    spectrum[: order + 1] = moments
    spectrum[-order:] = np.conj(moments[:0:-1])
    histogram = np.fft.ifft(spectrum).real
    floor = 1e-3 * float(np.abs(histogram).mean())
    cepstrum = np.fft.fft(np.log(np.maximum(histogram, floor))) / _START_POINTS
    causal = np.zeros(_START_POINTS, dtype=np.complex128)
    causal[0] = cepstrum[0] / 2
    causal[1 : _START_POINTS // 2] = cepstrum[1 : _START_POINTS // 2]
    factor = np.exp(np.fft.ifft(causal) * _START_POINTS)
    return np.asarray(np.fft.fft(factor)[: order + 1])
