"""Fit a smooth density to numbers on a line, and read percentiles and modes from it.

The density is a squared trigonometric polynomial, so that it is positive and its mass is exactly 1.
On [0, 1] the basis is reflected at the ends and the coefficients a are real:

    p(y) = |Σ_{k=0..N} a_k e^{iπky}|² / |a|² = 1 + 2 Σ_{n=1..N} g_n cos(πny),

with g_n = c_n / c_0 and c_n = Σ_k a_k a_{k+n}. On the real line x = tanh((y - μ) / σ) lies in
(-1, 1), the a are complex, and

    p(x) = 1/2 + Re Σ g_n e^{iπnx},   p(y) = p(x) (1 - x²) / σ.

By Fejér and Riesz every non-negative trigonometric polynomial has this form.

Source: De la Fuente et al. 2024, arXiv:2402.15345 (Fourier basis density), where the first term of
the distribution function is misprinted; the reflected form is ours.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
import numpy.typing as npt

from service.numerics.dtypes import Vector64

# Places that are worked on at one time, and places of a grid: finer than any wave needs.
GRID = 4096
_BISECTIONS = 60
_LEAST_MODE = 0.05
Vector128 = npt.NDArray[np.complex128]


class Domain(StrEnum):
    """Say where the samples live."""

    BOUNDED = "bounded"
    REAL = "real"


@dataclass(frozen=True, slots=True)
class Density:
    """Hold a fitted density.

    Attributes:
        domain: bounded or real.
        location: lower end of the interval, or μ.
        scale: length of the interval, or σ; above 0.
        coefficients: (N,) complex128, g_1 … g_N; real for a bounded domain.
    """

    domain: Domain
    location: float
    scale: float
    coefficients: Vector128

    @property
    def order(self) -> int:
        """Return N."""
        return len(self.coefficients)


def pdf(density: Density, points: Vector64) -> Vector64:
    """Return the density at points, per unit of the samples; 0 outside a bounded domain."""
    x = to_basis(points, density.domain, density.location, density.scale)
    inside = basis_pdf(x, density.coefficients, density.domain) * np.exp(log_jacobian(x, density))
    if density.domain is Domain.REAL:
        return inside
    return np.where((x >= 0) & (x <= 1), inside, 0.0)


def cdf(density: Density, points: Vector64) -> Vector64:
    """Return the share of the distribution below each point, in [0, 1].

    Bounded: y + 2 Σ g_n sin(πny) / (πn). Real line: (x + 1) / 2 + Re Σ g_n (e^{iπnx} - (-1)^n) /
    (iπn); the source prints (x² - 1) / 2 for the first term, which is no distribution function.
    """
    x = to_basis(points, density.domain, density.location, density.scale)
    return _basis_cdf(x, density.coefficients, density.domain)


def quantiles(density: Density, shares: Vector64) -> Vector64:
    """Return the points below which given shares of the distribution lie.

    Args:
        density: fitted.
        shares: (q,) between 0 and 1, ends excluded on the real line.
    """
    low = np.full(shares.shape, 0.0 if density.domain is Domain.BOUNDED else -1.0)
    high = np.ones(shares.shape)
    for _ in range(_BISECTIONS):
        middle = 0.5 * (low + high)
        below = _basis_cdf(middle, density.coefficients, density.domain) < shares
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    return _from_basis(0.5 * (low + high), density)


def modes(density: Density) -> tuple[Vector64, Vector64]:
    """Return the local maxima of the density and their heights, the highest first.

    Found on a grid of 32 points a wave, then by golden sections; maxima below a twentieth of the
    highest are ripples of the basis and left out.
    """
    low = 0.0 if density.domain is Domain.BOUNDED else -1.0
    grid = np.linspace(low, 1.0, 32 * density.order + 1)
    if density.domain is Domain.REAL:
        grid = grid[1:-1]  # the ends are infinitely far
    heights = pdf(density, _from_basis(grid, density))
    padded = np.concatenate([[-1.0], heights, [-1.0]])
    peaks = np.flatnonzero((padded[1:-1] > padded[:-2]) & (padded[1:-1] >= padded[2:]))
    left, right = grid[np.maximum(peaks - 1, 0)], grid[np.minimum(peaks + 1, len(grid) - 1)]
    places = _from_basis(_golden(density, left, right), density)
    found = pdf(density, places)
    kept = found > _LEAST_MODE * found.max()
    falling = np.argsort(-found[kept], kind="stable")
    return places[kept][falling], found[kept][falling]


def _golden(density: Density, left: Vector64, right: Vector64) -> Vector64:
    """Return the maximum between each pair of ends, by golden sections."""
    share = (np.sqrt(5) - 1) / 2
    for _ in range(_BISECTIONS):
        inner, outer = right - share * (right - left), left + share * (right - left)
        values = pdf(density, _from_basis(np.concatenate([inner, outer]), density))
        first, second = np.split(values, 2)
        left, right = np.where(first < second, inner, left), np.where(first < second, right, outer)
    return 0.5 * (left + right)


def to_basis(points: Vector64, domain: Domain, location: float, scale: float) -> Vector64:
    """Return places of the basis variable, in (-1, 1) for the real line."""
    with np.errstate(over="ignore"):
        z = (points - location) / scale
    return z if domain is Domain.BOUNDED else np.tanh(z)


def _from_basis(x: Vector64, density: Density) -> Vector64:
    if density.domain is Domain.REAL:
        edge = np.nextafter(1.0, 0.0)  # artanh(1) is infinite
        x = np.arctanh(np.clip(x, -edge, edge))
    return density.location + density.scale * x


def log_jacobian(x: Vector64, density: Density) -> Vector64:
    """Return log |dx / dy| at places of the basis."""
    if density.domain is Domain.BOUNDED:
        return np.full(x.shape, -np.log(density.scale))
    with np.errstate(divide="ignore"):
        logs: Vector64 = np.log1p(-x * x) - np.log(density.scale)
    return logs


def basis_pdf(x: Vector64, coefficients: Vector128, domain: Domain) -> Vector64:
    """Return the density in the basis variable, kept above 0 against rounding."""
    weight, base = (2.0, 1.0) if domain is Domain.BOUNDED else (1.0, 0.5)
    found = np.empty(x.shape)
    for start in range(0, len(x), GRID):
        part = slice(start, start + GRID)
        waves = waves_at(x[part], len(coefficients))[:, 1:]
        found[part] = base + weight * (waves @ coefficients).real
    return np.maximum(found, np.finfo(np.float64).tiny)


def waves_at(x: Vector64, order: int) -> npt.NDArray[np.complex128]:
    """Return e^{iπkx} for k = 0 … N, (m, N + 1), by products: exponentials cost more."""
    steps = np.repeat(np.exp(1j * np.pi * x)[:, np.newaxis], order + 1, axis=1)
    steps[:, 0] = 1
    return np.asarray(np.cumprod(steps, axis=1))


def _basis_cdf(x: Vector64, coefficients: Vector128, domain: Domain) -> Vector64:
    n = np.arange(1, len(coefficients) + 1)
    found = np.empty(x.shape)
    for start in range(0, len(x), GRID):
        part = slice(start, start + GRID)
        place = np.clip(x[part], 0.0 if domain is Domain.BOUNDED else -1.0, 1.0)
        if domain is Domain.BOUNDED:
            waves = np.sin(np.pi * np.outer(place, n)) / (np.pi * n)
            found[part] = place + 2 * (waves @ coefficients.real)
        else:
            steps = (waves_at(place, len(n))[:, 1:] - (-1.0) ** n) / (1j * np.pi * n)
            found[part] = (place + 1) / 2 + (steps @ coefficients).real
    return np.clip(found, 0.0, 1.0)


@dataclass(frozen=True, slots=True)
class PercentileTable:
    """Hold a distribution function on a grid of the basis variable, to be read by interpolation.

    Attributes:
        density: whose.
        places: (g,) rising, the whole range of the basis variable.
        shares: (g,) the share of the distribution below each.
    """

    density: Density
    places: Vector64
    shares: Vector64


def tabulate(density: Density) -> PercentileTable:
    """Return the table of a density; between its places the error is below 1e-5."""
    low = 0.0 if density.domain is Domain.BOUNDED else -1.0
    places = np.linspace(low, 1.0, 4 * GRID + 1)
    shares = _basis_cdf(places, density.coefficients, density.domain)
    return PercentileTable(density, places, shares)


def percentiles(table: PercentileTable, scores: npt.NDArray[np.floating[Any]]) -> Vector64:
    """Return in which percentile of the distribution each score lies, 0 to 100.

    Args:
        table: of a fitted density.
        scores: any shape; outside of a bounded domain the end's percentile is given.
    """
    density = table.density
    x = to_basis(scores.astype(np.float64), density.domain, density.location, density.scale)
    return np.asarray(100 * np.interp(x, table.places, table.shares))
