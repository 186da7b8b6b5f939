"""Turn scores into probabilities by adding noise: p_i = P(i is the argmax of x + e)."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.special import ndtri_exp, roots_legendre

from service.numerics.distributions import quadrature
from service.numerics.dtypes import Matrix64, Vector64

# Up to this mass beyond the upper end of an integral the maximum is ignored.
_UPPER_MASS = 1e-15
_LOWEST_LOG = -38.0
# exp(-45) is 3e-20: what lies beyond is lost in rounding.
_CUT_LOG = 45.0
_EVEN_PANELS = 8
# Beyond so many kinks the panels are narrow and need few nodes each.
_MANY, _FEW_NODES, _MOST_KINKS = 256, 4, 4096
_GUMBEL_DEVIATION = math.pi / math.sqrt(6)


@dataclass(frozen=True, slots=True)
class Mapped:
    """Hold probabilities that were integrated.

    Attributes:
        probabilities: (rows, n) float64, each row of sum 1.
        mass_defect: (rows,) float64; 1 minus the numerical total before the rows were divided by
            it, the measure of the quadrature's error.
    """

    probabilities: Matrix64
    mass_defect: Vector64


@dataclass(frozen=True, slots=True)
class Noise:
    """Describe one law of noise.

    Attributes:
        deviation: its standard deviation at scale 1.
        nodes: of the quadrature, where none are asked for.
        masses: scores (n,), at most 0, and nodes to unnormalised winning probabilities.
    """

    deviation: float
    nodes: int
    masses: Callable[[Vector64, int], Vector64]


def _trapezoid(code: int, quantile: Callable[[float], float]) -> Callable[..., Vector64]:
    """Return the masses by the trapezoid rule between bounds that n alone gives.

    log F(z - max) ≥ L(z) ≥ n log F(z - max), so the quantiles of both sides enclose that of L.
    """

    def masses(x: Vector64, nodes: int) -> Vector64:
        logs = (_LOWEST_LOG, _LOWEST_LOG / len(x), -_UPPER_MASS / len(x))
        low, middle, high = map(quantile, logs)
        return quadrature.trapezoid_masses(code, x, (low, middle, high), nodes)

    return masses


def _gaussian_quantile(log_mass: float) -> float:
    return float(ndtri_exp(log_mass))


def _logistic_quantile(log_mass: float) -> float:
    return -math.log(math.expm1(-log_mass))


def _gumbel_quantile(log_mass: float) -> float:
    return -math.log(-log_mass)


@lru_cache(maxsize=32)
def _legendre(nodes: int) -> tuple[Vector64, Vector64]:
    """Return Gauss-Legendre nodes and weights on [0, 1]."""
    places, weights = roots_legendre(nodes)
    return 0.5 * (places + 1), 0.5 * weights


def _exponential(x: Vector64, nodes: int) -> Vector64:
    """Return w_i ∫ Π_{j≠i} (1 - w_j s) ds over [0, 1], w = e^x; exact for nodes ≥ n / 2."""
    w = np.exp(x)
    places, weights = _legendre(nodes)
    end = min(1.0, _CUT_LOG / float(w.sum()))
    return quadrature.exponential_masses(w, end * places, end * weights)


def _uniform(x: Vector64, nodes: int) -> Vector64:
    """Return ∫ Π_{j≠i} min(1, t + d_j) dt over t < 1 - d_i, d = -x, panel by panel.

    Between the kinks 1 - d_j the integrand is a polynomial, so each panel has its own
    Gauss-Legendre nodes. What is a whole unit below the maximum can never win.
    """
    active = np.flatnonzero(x > -1)
    gaps = -x[active]
    order = np.argsort(gaps, kind="stable")
    gaps = gaps[order]
    kinks = np.unique(1 - gaps)
    low = _uniform_cut(gaps)
    kinks = kinks[(kinks > low) & (kinks < 1)]
    panels = _EVEN_PANELS
    if len(kinks) > _MANY:
        panels, nodes = 16 * panels, min(nodes, _FEW_NODES)
        kinks = kinks[np.unique(np.linspace(0, len(kinks) - 1, _MOST_KINKS).astype(np.intp))]
    edges = np.unique(np.concatenate([np.linspace(low, 1.0, panels + 1), kinks]))
    widths = np.diff(edges)[:, np.newaxis]
    places, weights = _legendre(nodes)
    t = (edges[:-1, np.newaxis] + widths * places).ravel()
    masses = np.zeros(len(x))
    masses[active[order]] = quadrature.uniform_masses(gaps, t, (widths * weights).ravel())
    return masses


def _uniform_cut(gaps: Vector64) -> float:
    """Return a t below which the maximum lies with probability e^-45 at most, or 0."""
    if len(gaps) <= _CUT_LOG:  # few factors: a polynomial that the nodes integrate exactly
        return 0.0
    low, high = 0.0, 1.0
    for _ in range(30):
        middle = 0.5 * (low + high)
        log_mass = float(np.log(np.minimum(1.0, middle + gaps)).sum())
        low, high = (middle, high) if log_mass < -_CUT_LOG else (low, middle)
    return low


NOISES = {
    "gumbel": Noise(_GUMBEL_DEVIATION, 256, _trapezoid(quadrature.GUMBEL, _gumbel_quantile)),
    "gaussian": Noise(1.0, 64, _trapezoid(quadrature.GAUSSIAN, _gaussian_quantile)),
    "logistic": Noise(
        math.pi / math.sqrt(3), 128, _trapezoid(quadrature.LOGISTIC, _logistic_quantile)
    ),
    "exponential": Noise(1.0, 64, _exponential),
    "uniform": Noise(1 / math.sqrt(12), 16, _uniform),
}


def matched_scale(noise: str) -> float:
    """Return the scale at which a noise has the standard deviation of Gumbel noise of scale 1."""
    return _GUMBEL_DEVIATION / NOISES[noise].deviation


def noise_map(scores: Matrix64, *, noise: str, nodes: int | None = None) -> Mapped:
    """Return the probability that each score, perturbed, is the largest of its row.

    The order of the scores is kept at every number of nodes, and adding a number to a row changes
    nothing. Gumbel noise gives softmax, which is cheaper in closed form.

    Args:
        scores: (rows, n) float64 in units of the noise, the largest of each row 0, minus infinity
            where an entry is masked.
        noise: one of `NOISES`.
        nodes: of the quadrature; None for the number at which two logits are exact to rounding.

    Source: Thurstone 1927 for Gaussian noise; Ding et al. 2021, arXiv:2105.07260 (exponential
    noise is permute-and-flip). Ours: the law of the maximum in place of one integral an entry,
    which costs n · nodes and not n² · nodes.
    """
    law = NOISES[noise]
    probabilities = np.empty_like(scores)
    defects = np.empty(len(scores))
    for row, x in enumerate(scores):
        masses = law.masses(np.ascontiguousarray(x), nodes or law.nodes)
        total = float(masses.sum())
        defects[row] = 1 - total
        probabilities[row] = masses / total
    return Mapped(probabilities, defects)
