"""Measure concentration, fit densities, and make calibrations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from service.capabilities.distribution.limits import require_at_most
from service.capabilities.distribution.settings import DistributionSettings
from service.embedding.calibrations import Calibration, Calibrations, Scored
from service.embedding.embedder import Embedder, EmbeddingOptions
from service.embedding.transform import require_origin
from service.embedding.transforms import Transforms
from service.errors import DimensionMismatch, Fault, InvalidInput, NotFinite
from service.numerics.concentration import Measures, RowKind, concentration, noise_sensitivity
from service.numerics.density import Density, Domain, cdf, modes, pdf, quantiles
from service.numerics.density_fit import Fit, fit_density
from service.numerics.distributions.softmax import softmax
from service.numerics.dtypes import Ids64, Logits, Matrix32, Progress, Vector64
from service.numerics.seeds import generator
from service.numerics.vectors import pair_cosines
from service.runtime.engine import Engine

# Texts that are embedded before progress is told; few enough for admission at any length.
_CHUNK_TEXTS = 128
_SUMMARY_SHARES = (0.1, 0.5, 0.9)
_LEAST_TEXTS = 3
_CURVE_POINTS = 512


@dataclass(frozen=True, slots=True)
class Concentrated:
    """Hold the metrics of rows.

    Attributes:
        metrics: each of the shape of the rows without their last axis; NaN where not defined.
        summary: of each metric its mean and its quantiles .1, .5, .9 over the last axis that is
            left: over all rows, or over the queries of each head.
    """

    metrics: Mapping[str, Vector64]
    summary: Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class FitOptions:
    """Say how a density is fitted.

    Attributes:
        domain: where the samples live.
        bounds: of a bounded domain.
        order: None chooses it.
        gamma: weight of the penalty on wiggles.
        seed: of the folds, and of pairs that are drawn.
    """

    domain: Domain
    bounds: tuple[float, float]
    order: int | None
    gamma: float
    seed: int


@dataclass(frozen=True, slots=True)
class Reading:
    """Hold what is read from a density.

    Attributes:
        modes: places of its maxima and their heights.
        quantiles: (q,) for the shares asked for.
        pdf: (m,) at the points asked for.
        cdf: (m,) there.
    """

    modes: tuple[Vector64, Vector64]
    quantiles: Vector64
    pdf: Vector64
    cdf: Vector64


@dataclass(frozen=True, slots=True)
class Scores:
    """Hold similarity scores of pairs of texts, and what they are."""

    samples: Vector64
    scored: Scored


class Analysis:
    """Answer `/v1/analysis`.

    Args:
        engine: compute threads.
        embedder: texts to vectors.
        transforms: whitening that vectors can go through.
        calibrations: where fitted densities are kept.
        settings: limits.
    """

    def __init__(
        self,
        engine: Engine,
        embedder: Embedder,
        transforms: Transforms,
        calibrations: Calibrations,
        *,
        settings: DistributionSettings,
    ) -> None:
        self.calibrations = calibrations
        self._engine = engine
        self._embedder = embedder
        self._transforms = transforms
        self._settings = settings

    async def concentration(
        self, rows: Logits, *, kind: RowKind, measures: Measures, progress: Progress
    ) -> Concentrated:
        """Return the metrics of the rows along the last axis.

        Raises:
            TooManyItems: more numbers than one call may carry.
            NotFinite: a number is not finite, or a row of logits is masked everywhere.
            InvalidInput: a row of probabilities is none.
        """
        require_at_most(rows.size, self._settings.max_numbers, "/rows", what="numbers")
        work = partial(_concentrate, rows, kind=kind, measures=measures, progress=progress)
        return await self._engine.compute(work)

    async def noise_sensitivity(
        self, rows: Logits, values: Logits, *, kind: RowKind, noise: float
    ) -> Vector64:
        """Return the expected squared error of attention outputs, for each query.

        Raises:
            InvalidInput: the rows are vectors.
            DimensionMismatch: values and keys do not fit.
            NotFinite: a value is not finite.
        """
        if kind is RowKind.VECTOR:
            raise InvalidInput(
                "values were given for rows of the kind 'vector'; the noise sensitivity is one of "
                "probabilities or logits.",
                faults=(Fault("/values", "need rows of probabilities or logits"),),
            )
        heads = (rows.shape[-1],), (*rows.shape[:-2], rows.shape[-1])
        if values.shape[:-1] not in heads:
            raise DimensionMismatch(
                f"The rows have the shape {rows.shape} and the values {values.shape}; values are "
                f"({rows.shape[-1]}, d), or one such for each head.",
                faults=(Fault("/values", f"have the shape {values.shape}"),),
            )
        require_at_most(values.size, self._settings.max_numbers, "/values", what="numbers")
        return await self._engine.compute(_sensitivity, rows, values, kind, noise)

    async def fit(self, samples: Logits, options: FitOptions, *, progress: Progress) -> Fit:
        """Return the density of samples.

        Raises:
            TooManyItems: more samples than one call may carry.
            NotFinite: a sample is NaN or infinite.
            InvalidInput: a sample lies outside the bounds, or all are equal.
        """
        require_at_most(len(samples), self._settings.max_samples, "/samples", what="samples")
        _require_finite(samples, "/samples")
        work = partial(
            fit_density,
            samples.astype(np.float64),
            domain=options.domain,
            bounds=options.bounds,
            order=options.order,
            gamma=options.gamma,
            seed=options.seed,
            progress=progress,
        )
        return await self._engine.compute(work)

    async def read(self, density: Density, points: Logits, shares: Sequence[float]) -> Reading:
        """Return modes, quantiles, and pdf and cdf at points.

        Raises:
            TooManyItems: more points than one call may carry.
            NotFinite: a point is NaN or infinite.
        """
        require_at_most(len(points), self._settings.max_points, "/points", what="points")
        require_at_most(len(shares), self._settings.max_points, "/quantiles", what="quantiles")
        _require_finite(points, "/points")
        return await self._engine.compute(
            _read, density, points.astype(np.float64), np.array(shares, dtype=np.float64)
        )

    async def percentiles(
        self, calibration_id: str, scores: Logits
    ) -> tuple[Calibration, Vector64]:
        """Return a calibration, and in which percentile of it each score lies.

        Raises:
            UnknownArtefact: no such calibration.
            TooManyItems: more scores than one call may carry.
            NotFinite: a score is NaN or infinite.
        """
        require_at_most(scores.size, self._settings.max_numbers, "/scores", what="scores")
        _require_finite(scores, "/scores")
        found = await self.calibrations.find(calibration_id)
        return found, await self.calibrations.percentiles(found, scores)

    async def score_pairs(
        self,
        texts: Sequence[str],
        *,
        model: str | None,
        pooling: str | None,
        transform: str | None,
        pairs: int,
        seed: int,
        deadline: float,
        progress: Progress,
    ) -> Scores:
        """Return the cosines of random pairs of texts: what unrelated texts score.

        Args:
            texts: at least three, different enough to stand for the corpus.
            model: encoder; None means the default one, or the transform's.
            pooling: None means the model's own, or the transform's.
            transform: id of a whitening, or None.
            pairs: how many are drawn, each once; all pairs where there are fewer.
            seed: of the pairs.
            deadline: monotonic seconds until which the caller waits.
            progress: told after every batch of texts.

        Raises:
            TooManyItems: more texts than one call may carry.
            InvalidInput: fewer than three texts.
            UnknownModel: no such encoder.
            UnknownArtefact: no such transform.
        """
        require_at_most(len(texts), self._settings.max_texts, "/texts", what="texts")
        if len(texts) < _LEAST_TEXTS:
            raise InvalidInput(
                f"{len(texts)} texts came; a calibration compares at least {_LEAST_TEXTS}.",
                faults=(Fault("/texts", f"holds {len(texts)} texts"),),
            )
        found = None if transform is None else await self._transforms.find(transform)
        options = EmbeddingOptions(pooling)
        chunks: list[Matrix32] = []
        embedded = None
        for start in range(0, len(texts), _CHUNK_TEXTS):
            part = texts[start : start + _CHUNK_TEXTS]
            if found is None:
                embedded = await self._embedder.embed(
                    part, model=model, options=options, deadline=deadline
                )
            else:
                embedded = await self._transforms.embed(
                    part,
                    found,
                    model=model,
                    options=options,
                    dimensions=None,
                    deadline=deadline,
                )
            chunks.append(embedded.vectors)
            progress("embed", start + len(part), len(texts))
        assert embedded is not None  # there are texts
        wanted = min(pairs, self._settings.max_pairs)
        samples = await self._engine.compute(_score, np.concatenate(chunks), wanted, seed)
        encoder = embedded.encoder
        origin = None if found is None else require_origin(found)
        return Scores(
            samples,
            Scored(
                model=encoder.manifest.id,
                model_sha256=encoder.sha256,
                pooling=pooling or (encoder.manifest.pooling if origin is None else origin.pooling),
                transform=None if found is None else found.id,
                metric="cosine",
                texts=len(texts),
                pairs=len(samples),
            ),
        )


def curve(density: Density) -> tuple[Vector64, Vector64]:
    """Return points and heights that show a density: all of its interval, or all but a thousandth.

    A smooth line needs a few points a wave.
    """
    if density.domain is Domain.BOUNDED:
        low, high = density.location, density.location + density.scale
    else:
        low, high = quantiles(density, np.array([5e-4, 1 - 5e-4]))
    points = np.linspace(low, high, max(_CURVE_POINTS, 16 * density.order))
    return points, pdf(density, points)


def _concentrate(
    rows: Logits, *, kind: RowKind, measures: Measures, progress: Progress
) -> Concentrated:
    flat = rows.reshape(-1, rows.shape[-1])
    if kind is RowKind.VECTOR:
        _require_finite(flat, "/rows")
    found = concentration(flat, kind=kind, measures=measures, progress=progress)
    metrics = {name: values.reshape(rows.shape[:-1]) for name, values in found.items()}
    return Concentrated(metrics, {name: _sum_up(values) for name, values in metrics.items()})


def _sum_up(values: Vector64) -> dict[str, Any]:
    """Return mean and quantiles over the last axis, NaN where no row has the metric."""
    none = np.asarray(np.isnan(values).all(axis=-1))
    filled = np.where(none[..., np.newaxis], 0.0, values)
    levels = {"mean": np.nanmean(filled, axis=-1)}
    for share in _SUMMARY_SHARES:
        levels[f"p{100 * share:g}"] = np.nanquantile(filled, share, axis=-1)
    return {name: _plain(np.where(none, np.nan, each)) for name, each in levels.items()}


def _plain(values: Vector64) -> object:
    if values.ndim:
        return values
    return None if np.isnan(values) else float(values)


def _sensitivity(rows: Logits, values: Logits, kind: RowKind, noise: float) -> Vector64:
    _require_finite(values.reshape(-1, values.shape[-1]), "/values")
    queries, keys = rows.shape[-2:]
    heads = rows.reshape(-1, queries, keys)
    shared = np.broadcast_to(values, (*rows.shape[:-2], *values.shape[-2:]))
    per_head = shared.reshape(len(heads), *values.shape[-2:])
    found = [
        noise_sensitivity(softmax(head) if kind is RowKind.LOGITS else head, value, noise=noise)
        for head, value in zip(heads, per_head, strict=True)
    ]
    return np.stack(found).reshape(rows.shape[:-1])


def _read(density: Density, points: Vector64, shares: Vector64) -> Reading:
    return Reading(
        modes(density), quantiles(density, shares), pdf(density, points), cdf(density, points)
    )


def _score(vectors: Matrix32, pairs: int, seed: int) -> Vector64:
    first, second = _draw_pairs(len(vectors), pairs, seed)
    return pair_cosines(vectors[first], vectors[second]).astype(np.float64)


def _draw_pairs(n: int, pairs: int, seed: int) -> tuple[Ids64, Ids64]:
    """Return different pairs i < j, each as likely as any other."""
    total = n * (n - 1) // 2
    rng = generator(seed, "calibration")
    codes = np.sort(rng.choice(total, size=min(pairs, total), replace=False))
    # pair number c lies in the row i of the triangle that starts at i (2n - i - 1) / 2
    starts = np.array([row * (2 * n - row - 1) // 2 for row in range(n)])
    first = np.searchsorted(starts, codes, side="right") - 1
    first = np.minimum(first, n - 2)
    second = codes - starts[first] + first + 1
    return first.astype(np.int64), second.astype(np.int64)


def _require_finite(numbers: Logits, pointer: str) -> None:
    finite = np.isfinite(numbers)
    if finite.all():
        return
    place = tuple(int(axis) for axis in np.argwhere(~finite)[0])
    value = numbers[place]
    where = "/".join(map(str, place))
    raise NotFinite(
        f"At {pointer}/{where} stands {value}; every number must be finite here.",
        faults=(Fault(f"{pointer}/{where}", f"is {value}"),),
    )
