"""Answer `/v1/analysis/concentration`, `/v1/analysis/density` and `/v1/analysis/calibrations`."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Depends, Query, Request, Response

from service.capabilities.distribution.analysis import Analysis, FitOptions, Reading, Scores
from service.capabilities.distribution.analysis_schemas import (
    CalibrationList,
    CalibrationReply,
    ConcentrationReply,
    ConcentrationRequest,
    DensityReply,
    DensityRequest,
    PercentilesReply,
    PercentilesRequest,
)
from service.capabilities.distribution.pictures import density_picture
from service.capabilities.distribution.pipeline import DistributionPipeline
from service.embedding.calibrations import Calibration
from service.numerics.concentration import Measures, RowKind
from service.numerics.density import Density, Domain
from service.numerics.density_fit import Fit
from service.numerics.dtypes import Logits, Progress
from service.web.call import CurrentCall
from service.web.capability import CurrentLent, provide
from service.web.idempotency import GivenIdempotency
from service.web.negotiation import JSON, PNG, SSE, SVG, preferred
from service.web.openapi import model_problems, problems
from service.web.pictures import PICTURES, picture
from service.web.routing import ServiceRoute
from service.web.streaming import reply_with_progress
from service.web.wire import json_reply, json_response

router = APIRouter(route_class=ServiceRoute)
Pipeline = Annotated[DistributionPipeline, Depends(provide(DistributionPipeline))]

_BINARY = {"schema": {"type": "string", "format": "binary"}}
_TEXT = {"schema": {"type": "string"}}
_EVENTS: dict[str, Any] = {"content": {SSE: _TEXT}}
_SHOWN: dict[str, Any] = {"content": {SSE: _TEXT, PNG: _BINARY, SVG: _BINARY}}
_PROBLEMS = problems(401, 413, 415, 422, 429, 504)
_STORED = problems(401, 404, 422, 503, 504)
_CALIBRATIONS = "/v1/analysis/calibrations"
_ONE = f"{_CALIBRATIONS}/{{calibration_id}}"
_UNIT, _COSINES = (0.0, 1.0), (-1.0, 1.0)


@router.post(
    "/v1/analysis/concentration",
    summary="Measure how concentrated rows are",
    response_model=ConcentrationReply,
    responses={200: _EVENTS, **_PROBLEMS},
)
async def measure_concentration(
    body: ConcentrationRequest,
    request: Request,
    call: CurrentCall,
    pipeline: Pipeline,
    lent: CurrentLent,
) -> Response:
    """Return sparsity and entropy of rows, of attention heads, or of logits with what bounds them.

    Rows come as lists, base64 or `.npy`, two to four axes, the last one the row. The metrics of
    vectors are those of |x|; probabilities add entropies, logits also log-sum-exp and its bounds.
    """
    measures = Measures(
        orders=tuple((low, high) for low, high in body.orders),
        renyi=tuple(body.renyi),
        top=body.top,
        mass=body.mass,
        epsilon=body.epsilon,
    )
    kind = RowKind(body.kind)

    async def work(progress: Progress) -> Response:
        found = await pipeline.analysis.concentration(
            body.rows, kind=kind, measures=measures, progress=progress
        )
        sensitivity = None
        if body.values is not None:
            sensitivity = await pipeline.analysis.noise_sensitivity(
                body.rows, body.values, kind=kind, noise=body.noise
            )
        reply = {
            "kind": body.kind,
            "shape": body.rows.shape,
            "metrics": found.metrics,
            "summary": found.summary,
            "noise_sensitivity": sensitivity,
        }
        numbers = len(found.metrics) * body.rows.size // body.rows.shape[-1]
        return await json_reply(lent.engine, reply, numbers=numbers)

    return await reply_with_progress(request, call, work)


@router.post(
    "/v1/analysis/density",
    summary="Fit a density to numbers, or to similarity scores",
    response_model=DensityReply,
    responses={200: _SHOWN, 201: {"model": DensityReply}, **model_problems(409)},
)
async def fit_density(
    body: DensityRequest,
    *,
    request: Request,
    call: CurrentCall,
    pipeline: Pipeline,
    lent: CurrentLent,
    idempotency: GivenIdempotency,
) -> Response:
    """Fit a smooth density; read modes, quantiles, and pdf and cdf at points.

    With `texts` the samples are the cosines of random pairs: "0.83 is the 97th percentile of
    unrelated pairs". With a `name` the density is kept (201) and can be named as `calibration`
    where scores are computed. As PNG or SVG the answer is the picture of histogram and density.
    """
    analysis = pipeline.analysis

    async def work(progress: Progress) -> Response:
        scores = await _scores(analysis, body, call.deadline, progress)
        samples = body.samples if scores is None else scores.samples
        assert samples is not None  # the schema wants samples or texts
        fit = await analysis.fit(samples, _options(body), progress=progress)
        points = np.empty(0) if body.points is None else body.points
        reading = await analysis.read(fit.density, points, body.quantiles)
        wanted = preferred(request, (JSON, *PICTURES, SSE))
        if wanted in PICTURES:
            shares = np.array(body.quantiles)
            draw = density_picture(samples.astype(np.float64), fit.density, reading, shares)
            return await picture(lent.engine, wanted, draw)
        stored = None
        if body.name is not None:
            stored = await analysis.calibrations.create(
                body.name,
                fit,
                samples=len(samples),
                scored=None if scores is None else scores.scored,
                idempotency=idempotency,
            )
        reply = {
            **_describe_density(fit.density),
            "samples": len(samples),
            "log_likelihood": fit.log_likelihood,
            **_describe_fit(fit),
            **_describe_reading(reading, points, body.quantiles),
            "seed": body.seed,
            "scored": None if scores is None else asdict(scores.scored),
            "calibration": None if stored is None else describe_calibration(stored),
        }
        return json_response(reply, status=200 if stored is None else 201)

    return await reply_with_progress(request, call, work)


async def _scores(
    analysis: Analysis, body: DensityRequest, deadline: float, progress: Progress
) -> Scores | None:
    if not body.texts:
        return None
    return await analysis.score_pairs(
        body.texts,
        model=body.model,
        pooling=body.pooling,
        transform=body.transform,
        pairs=body.pairs,
        seed=body.seed,
        deadline=deadline,
        progress=progress,
    )


def _options(body: DensityRequest) -> FitOptions:
    bounded = body.domain == "bounded" or (
        body.domain is None and (body.bounds is not None or bool(body.texts))
    )
    usual = _COSINES if body.texts else _UNIT
    low, high = usual if body.bounds is None else body.bounds
    return FitOptions(
        domain=Domain.BOUNDED if bounded else Domain.REAL,
        bounds=(float(low), float(high)),
        order=None if body.order == "auto" else body.order,
        gamma=body.gamma,
        seed=body.seed,
    )


def _describe_density(density: Density) -> dict[str, Any]:
    return {
        "domain": density.domain.value,
        "location": density.location,
        "scale": density.scale,
        "order": density.order,
        "coefficients": {
            "real": np.ascontiguousarray(density.coefficients.real),
            "imaginary": np.ascontiguousarray(density.coefficients.imag),
        },
    }


def _describe_fit(fit: Fit) -> dict[str, Any]:
    return {
        "held_out": [
            {"order": order, "log_likelihood": likelihood} for order, likelihood in fit.held_out
        ]
    }


def _describe_reading(reading: Reading, points: Logits, shares: list[float]) -> dict[str, Any]:
    places, heights = reading.modes
    rows = zip(points.tolist(), reading.pdf.tolist(), reading.cdf.tolist(), strict=True)
    return {
        "modes": [
            {"at": at, "density": height}
            for at, height in zip(places.tolist(), heights.tolist(), strict=True)
        ],
        "quantiles": [
            {"share": share, "at": at}
            for share, at in zip(shares, reading.quantiles.tolist(), strict=True)
        ],
        "points": [{"at": at, "pdf": height, "cdf": below} for at, height, below in rows],
    }


def describe_calibration(calibration: Calibration) -> dict[str, Any]:
    """Return the reply that describes a stored calibration."""
    version = calibration.version
    return {
        "id": calibration.id,
        "name": version.name,
        "version": version.version,
        "created": version.created,
        "sha256": version.sha256,
        **_describe_density(calibration.density),
        "samples": calibration.samples,
        "log_likelihood": calibration.log_likelihood,
        "scored": None if calibration.scored is None else asdict(calibration.scored),
    }


@router.get(
    _CALIBRATIONS,
    summary="List calibrations",
    response_model=CalibrationList,
    responses=_STORED,
)
async def list_calibrations(
    pipeline: Pipeline,
    name: Annotated[str | None, Query(description="Every version of this name.")] = None,
) -> Response:
    """Return the latest version of every calibration, or every version of one."""
    found = await pipeline.analysis.calibrations.list(name)
    return json_response({"calibrations": [describe_calibration(each) for each in found]})


@router.get(
    _ONE, summary="Describe a calibration", response_model=CalibrationReply, responses=_STORED
)
async def get_calibration(calibration_id: str, pipeline: Pipeline) -> Response:
    """Return one version, or the latest of a name."""
    found = await pipeline.analysis.calibrations.find(calibration_id)
    return json_response(describe_calibration(found))


@router.delete(_ONE, summary="Delete a calibration", status_code=204, responses=_STORED)
async def delete_calibration(calibration_id: str, pipeline: Pipeline) -> Response:
    """Delete one version, or the latest of a name; its number is never given again."""
    await pipeline.analysis.calibrations.delete(calibration_id)
    return Response(status_code=204)


@router.post(
    f"{_ONE}/percentiles",
    summary="Turn scores into percentiles",
    response_model=PercentilesReply,
    responses=problems(401, 404, 413, 415, 422, 429, 503, 504),
)
async def read_percentiles(
    calibration_id: str, body: PercentilesRequest, pipeline: Pipeline, lent: CurrentLent
) -> Response:
    """Return in which percentile of a calibration each score lies, 0 to 100."""
    found, percentiles = await pipeline.analysis.percentiles(calibration_id, body.scores)
    reply = {"id": found.id, "percentiles": percentiles}
    return await json_reply(lent.engine, reply, numbers=percentiles.size)
