"""Integrate the law of the largest perturbed score; compiled.

For noise with log CDF log F and reverse hazard r = f / F, and z the largest perturbed score,
L(z) = Σ_j log F(z - x_j) is the log of the maximum's CDF, and

    p_i = P(i wins) = ∫ r(z - x_i) exp(L(z)) dz.

Summed over i the integrand is the derivative of exp(L), so that the sum is 1 in exact arithmetic.
"""

from __future__ import annotations

import math

import numpy as np

from service.numerics.dtypes import Vector64
from service.numerics.kernels import kernel

GAUSSIAN, LOGISTIC, GUMBEL = 0, 1, 2
_SQRT_HALF = math.sqrt(0.5)
_INVERSE_SQRT_TWO_PI = 1 / math.sqrt(2 * math.pi)
# Below it the maximum lies with probability e^-38, about 3e-17.
_LOWEST_LOG = -38.0
_BRACKET_HALVINGS = 12


@kernel()
def log_cdf(noise: int, u: float) -> float:
    """Return log F(u)."""
    if noise == GAUSSIAN:
        if u > 0:
            return math.log1p(-0.5 * math.erfc(u * _SQRT_HALF))
        return math.log(0.5 * math.erfc(-u * _SQRT_HALF))
    if noise == LOGISTIC:
        return -math.log1p(math.exp(-u)) if u > 0 else u - math.log1p(math.exp(u))
    return -math.exp(-u)


@kernel()
def reverse_hazard(noise: int, u: float) -> float:
    """Return f(u) / F(u), which falls with u: the order of scores is kept at every node."""
    if noise == GAUSSIAN:
        density = math.exp(-0.5 * u * u) * _INVERSE_SQRT_TWO_PI
        return density / (0.5 * math.erfc(-u * _SQRT_HALF))
    if noise == LOGISTIC:
        return math.exp(-u) / (1 + math.exp(-u)) if u > 0 else 1 / (1 + math.exp(u))
    return math.exp(-u)


@kernel()
def maximum_log_cdf(noise: int, x: Vector64, z: float) -> float:
    """Return L(z) = Σ_j log F(z - x_j)."""
    total = 0.0
    for score in x:
        total += log_cdf(noise, z - score)
    return total


@kernel()
def lower_end(noise: int, x: Vector64, low: float, high: float) -> float:
    """Return a z between `low` and `high` with L(z) at most -38, close to where it is -38."""
    for _ in range(_BRACKET_HALVINGS):
        middle = 0.5 * (low + high)
        if maximum_log_cdf(noise, x, middle) < _LOWEST_LOG:
            low = middle
        else:
            high = middle
    return low


@kernel("float64[::1](int64, float64[::1], UniTuple(float64, 3), int64)")
def trapezoid_masses(
    noise: int, x: Vector64, bracket: tuple[float, float, float], nodes: int
) -> Vector64:
    """Return the winning masses; their sum is 1 but for the error of the quadrature.

    The trapezoid rule on an analytic integrand that vanishes at both ends converges geometrically.

    Args:
        noise: GAUSSIAN, LOGISTIC or GUMBEL.
        x: (n,) scores in units of the noise, the largest 0, all finite.
        bracket: a z where L is at most -38 for sure, one where it is at least -38, and the upper
            end of the integral.
        nodes: K, at least 2.
    """
    low, middle, high = bracket
    start = lower_end(noise, x, low, middle)
    step = (high - start) / (nodes - 1)
    z = start + step * np.arange(nodes)
    logs = np.zeros(nodes)
    for score in x:
        for node in range(nodes):
            logs[node] += log_cdf(noise, z[node] - score)
    weights = step * np.exp(logs)
    weights[0] *= 0.5
    weights[-1] *= 0.5
    masses = np.empty(len(x))
    for index in range(len(x)):
        mass = 0.0
        for node in range(nodes):
            mass += weights[node] * reverse_hazard(noise, z[node] - x[index])
        masses[index] = mass
    return masses


@kernel("float64[::1](float64[::1], float64[::1], float64[::1])")
def exponential_masses(w: Vector64, s: Vector64, weights: Vector64) -> Vector64:
    """Return w_i Σ_k c_k Π_{j≠i} (1 - w_j s_k), the winning masses under exponential noise.

    Args:
        w: (n,) e^(x_i - max x).
        s: (K,) nodes inside (0, 1).
        weights: (K,) c_k.
    """
    products = weights.copy()
    for weight in w:
        for node in range(len(s)):
            products[node] *= 1 - weight * s[node]
    masses = np.empty(len(w))
    for index in range(len(w)):
        mass = 0.0
        for node in range(len(s)):
            mass += products[node] / (1 - w[index] * s[node])
        masses[index] = w[index] * mass
    return masses


@kernel("float64[::1](float64[::1], float64[::1], float64[::1])")
def uniform_masses(gaps: Vector64, t: Vector64, weights: Vector64) -> Vector64:
    """Return Σ_k c_k Π_{j≠i} F(t_k + d_j) f(t_k + d_i), the winning masses under uniform noise.

    F(u) = min(1, u) and f(u) = 1 up to u = 1, so that a factor counts while t + d < 1.

    Args:
        gaps: (m,) d_j = max x - x_j, rising, all below 1.
        t: (K,) nodes inside (0, 1), rising.
        weights: (K,) c_k.
    """
    masses = np.zeros(len(gaps))
    for node in range(len(t)):
        product = weights[node]
        active = 0
        while active < len(gaps) and t[node] + gaps[active] < 1:
            product *= t[node] + gaps[active]
            active += 1
        for index in range(active):
            masses[index] += product / (t[node] + gaps[index])
    return masses
