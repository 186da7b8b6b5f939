"""The Fourier density: gradient, mass, distribution function, known laws, extremes."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import integrate, optimize, stats

from service.errors import InvalidInput
from service.numerics import density_fit as module
from service.numerics.density import (
    Domain,
    cdf,
    modes,
    pdf,
    percentiles,
    quantiles,
    tabulate,
    waves_at,
)
from service.numerics.density_fit import Fit, fit_density
from service.numerics.dtypes import Vector64

CLAW = [(0.5, 0.0, 1.0), *((0.1, centre, 0.1) for centre in (-1.0, -0.5, 0.0, 0.5, 1.0))]


def fit(samples: Vector64, domain: Domain = Domain.BOUNDED, **options: object) -> Fit:
    return fit_density(samples, domain=domain, progress=lambda *_: None, **options)  # type: ignore[arg-type]


def draw_claw(n: int, seed: int) -> Vector64:
    rng = np.random.default_rng(seed)
    parts = np.array(CLAW)[rng.choice(len(CLAW), size=n, p=[part[0] for part in CLAW])]
    return rng.normal(parts[:, 1], parts[:, 2])


def claw(points: Vector64) -> Vector64:
    return np.sum([w * stats.norm.pdf(points, m, s) for w, m, s in CLAW], axis=0)


@pytest.mark.parametrize("domain", Domain)
@pytest.mark.parametrize("penalty", [0.0, 0.1])
def test_the_gradient_is_that_of_the_loss(domain: Domain, penalty: float) -> None:
    rng = np.random.default_rng(0)
    waves = waves_at(rng.uniform(size=40), 5)
    weights = rng.dirichlet(np.ones(40))
    bent = penalty * np.arange(6.0) ** 2
    start = rng.normal(size=6 if domain is Domain.BOUNDED else 12)

    def loss(packed: Vector64) -> tuple[float, Vector64]:
        return module._loss(packed, waves, weights, bent)

    error = optimize.check_grad(lambda p: loss(p)[0], lambda p: loss(p)[1], start)
    assert error < 1e-6


@pytest.mark.parametrize("order", [1, 4, 16, 64])
def test_the_mass_is_one(order: int) -> None:
    samples = stats.beta(8, 2).rvs(500, random_state=1)
    density = fit(samples, order=order).density
    grid = (np.arange(4096) + 0.5) / 4096  # exact for waves of lower frequency
    assert abs(pdf(density, grid).mean() - 1) <= 1e-10
    assert cdf(density, np.array([-3.0, 0.0, 1.0, 2.0])) == pytest.approx([0, 0, 1, 1], abs=1e-12)


def test_the_mass_on_the_real_line_is_one() -> None:
    density = fit(draw_claw(2000, 1), Domain.REAL).density
    reach = 12 * density.scale
    points = np.linspace(density.location - reach, density.location + reach, 400_001)
    assert abs(np.trapezoid(pdf(density, points), points) - 1) <= 1e-3


@pytest.mark.parametrize("domain", Domain)
def test_the_distribution_function_is_the_integral(domain: Domain) -> None:
    # the first term is (x + 1) / 2, not the (x² - 1) / 2 of the source
    samples = np.random.default_rng(2).beta(2, 5, size=800)
    density = fit(samples, domain, order=9).density
    for low, high in [(0.05, 0.3), (0.3, 0.9)]:
        area, _ = integrate.quad(lambda y: pdf(density, np.array([y]))[0], low, high, limit=200)
        below = cdf(density, np.array([low, high]))
        assert below[1] - below[0] == pytest.approx(area, abs=1e-6)
    far = cdf(density, np.array([-1e9, 1e9]))
    assert far == pytest.approx([0, 1], abs=1e-12)


@pytest.mark.parametrize("domain", Domain)
def test_quantiles_invert_the_distribution_function(domain: Domain) -> None:
    density = fit(np.random.default_rng(3).beta(2, 5, size=1000), domain).density
    shares = np.array([1e-6, 0.01, 0.25, 0.5, 0.9, 0.999, 1 - 1e-6])
    places = quantiles(density, shares)
    assert (np.diff(places) > 0).all()
    assert cdf(density, places) == pytest.approx(shares, abs=1e-8)


@pytest.mark.parametrize("seed", range(3))
def test_beta_scores_are_fitted_closely(seed: int) -> None:
    law = stats.beta(8, 2)
    density = fit(law.rvs(2000, random_state=seed), seed=seed).density
    grid = (np.arange(20_000) + 0.5) / 20_000
    divergence = np.mean(law.pdf(grid) * np.log(law.pdf(grid) / pdf(density, grid)))
    assert divergence <= 0.02


@pytest.mark.parametrize("seed", range(3))
def test_the_claw_is_fitted_closely(seed: int) -> None:
    density = fit(draw_claw(2000, seed), Domain.REAL, seed=seed).density
    points = np.linspace(-6, 6, 20_001)
    truth = claw(points)
    ratio = np.log(np.maximum(truth, 1e-300) / np.maximum(pdf(density, points), 1e-300))
    assert np.trapezoid(truth * ratio, points) <= 0.02


def test_modes_of_two_bells_are_where_they_are() -> None:
    rng = np.random.default_rng(4)
    samples = np.concatenate([rng.normal(-1.5, 0.6, 2000), rng.normal(1.5, 0.6, 1000)])
    density = fit(samples, Domain.REAL, order=6).density
    places, heights = modes(density)
    assert places == pytest.approx([-1.5, 1.5], abs=0.15)
    assert heights[0] > 1.5 * heights[1]
    assert pdf(density, places) == pytest.approx(heights)
    nearby = pdf(density, np.concatenate([places - 1e-3, places + 1e-3]))
    assert (nearby <= np.tile(heights, 2)).all()


def test_a_mode_at_an_end_is_found() -> None:
    places, _ = modes(fit(stats.beta(0.8, 3).rvs(2000, random_state=0), order=8).density)
    assert places[0] == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("domain", Domain)
def test_scale_and_shift_carry_over(domain: Domain) -> None:
    samples = np.random.default_rng(5).beta(3, 3, size=300)
    plain = fit(samples, domain, order=6).density
    bounds = (-40.0, 60.0)
    moved = fit(samples * 100 - 40, domain, order=6, bounds=bounds).density
    points = np.array([0.2, 0.5, 0.7])
    assert pdf(moved, points * 100 - 40) * 100 == pytest.approx(pdf(plain, points), rel=1e-5)
    assert cdf(moved, points * 100 - 40) == pytest.approx(cdf(plain, points), abs=1e-6)


@pytest.mark.parametrize(
    "samples", [[1e300, -1e300, 0.0], [1e-300, 0.0], [1.7e308, -1.7e308], [1e9, 1e9 + 1, 1e9 + 2]]
)
def test_extreme_samples_on_the_real_line(samples: list[float]) -> None:
    found = fit(np.array(samples), Domain.REAL)
    middle = quantiles(found.density, np.array([0.5]))
    assert np.isfinite(middle).all()
    assert np.isfinite(found.log_likelihood)
    assert min(samples) <= middle[0] <= max(samples)


@pytest.mark.parametrize("samples", [[0.5], [0.0] * 50, [0.0, 1.0], [1.0] * 30])
def test_few_and_equal_samples_of_a_bounded_domain(samples: list[float]) -> None:
    found = fit(np.array(samples))
    assert np.isfinite(found.log_likelihood)
    assert np.isfinite(modes(found.density)[1]).all()


def test_many_samples_are_binned_and_say_the_same() -> None:
    samples = stats.beta(4, 3).rvs(60_000, random_state=6)
    binned = fit(samples, order=8).density
    points, weights = samples, np.full(len(samples), 1 / len(samples))
    waves = waves_at(points, 8)
    exact = module._loss(np.r_[1.0, np.zeros(8)], waves, weights, np.zeros(9))
    assert np.isfinite(exact[0])
    grid = (np.arange(1000) + 0.5) / 1000
    assert pdf(binned, grid) == pytest.approx(stats.beta(4, 3).pdf(grid), abs=0.12)
    assert module._weighted(samples, Domain.BOUNDED)[1].sum() == pytest.approx(1)


def test_the_order_is_chosen_among_those_tried_and_the_seed_repeats_it() -> None:
    samples = draw_claw(2000, 1)
    first, again = (fit(samples, Domain.REAL, seed=5) for _ in range(2))
    assert first.held_out == again.held_out
    assert np.array_equal(first.density.coefficients, again.density.coefficients)
    best = max(first.held_out, key=lambda pair: pair[1])
    assert first.density.order == best[0]
    assert first.density.order >= 12


def test_refusals() -> None:
    with pytest.raises(InvalidInput, match=r"Sample 1 is 1\.5 and the bounds are 0 and 1"):
        fit(np.array([0.5, 1.5]))
    with pytest.raises(InvalidInput, match=r"All 3 samples are 2"):
        fit(np.full(3, 2.0), Domain.REAL)


@pytest.mark.parametrize("domain", Domain)
def test_percentiles_are_read_from_a_table(domain: Domain) -> None:
    samples = np.random.default_rng(7).beta(2, 5, size=2000)
    density = fit(samples, domain).density
    scores = np.random.default_rng(8).uniform(size=(20, 30)).astype(np.float32)
    found = percentiles(tabulate(density), scores)
    exact = 100 * cdf(density, scores.astype(np.float64).ravel()).reshape(20, 30)
    assert np.abs(found - exact).max() < 1e-3
    ends = percentiles(tabulate(density), np.array([-1e300, 1e300]))
    assert ends == pytest.approx([0, 100], abs=1e-9)
    empirical = 100 * (samples[:, np.newaxis] < scores.ravel()).mean(axis=0)
    assert np.abs(found.ravel() - empirical).max() < 4


def test_progress_is_told_and_can_stop() -> None:
    steps: list[tuple[str, int, int]] = []
    samples = np.random.default_rng(9).uniform(size=100)
    fit_density(samples, domain=Domain.BOUNDED, progress=lambda *step: steps.append(step))
    assert steps[0][0] == "order"
    assert steps[-1] == ("fit", 1, 1)

    def stop(*_: object) -> None:
        raise TimeoutError

    with pytest.raises(TimeoutError):
        fit_density(samples, domain=Domain.BOUNDED, progress=stop)
