"""Shape what the pipeline returns into the bodies that go out."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator, Sequence
from dataclasses import asdict

import numpy as np

from service.capabilities.whitening.geometry import Geometry, Occurrences
from service.capabilities.whitening.numerics import Tuned
from service.embedding.transform import Origin, Transform
from service.numerics.dtypes import Matrix32

_CHUNK_BYTES = 2**18


def describe_origin(origin: Origin | None) -> dict[str, str | None]:
    """Return model and digest, null where nobody said which encoder it was."""
    return {
        "model": None if origin is None else origin.model,
        "model_sha256": None if origin is None else origin.sha256,
    }


def describe_transform(transform: Transform) -> dict[str, object]:
    """Return the card of one version."""
    version, recipe, origin = transform.version, transform.recipe, transform.origin
    return {
        "id": transform.id,
        "name": version.name,
        "version": version.version,
        "created": version.created,
        "beta": recipe.beta,
        "gamma": recipe.gamma,
        "dimensions": recipe.dimensions,
        "input_dimensions": transform.width,
        "shrinkage": recipe.shrinkage.value,
        "shrinkage_intensity": transform.intensity,
        "samples": transform.samples,
        "floored_eigenvalues": transform.floored,
        "spectrum": asdict(transform.spectrum),
        **describe_origin(origin),
        "pooling": None if origin is None else origin.pooling,
        "sha256": version.sha256,
    }


def describe_in_detail(transform: Transform) -> dict[str, object]:
    """Return the card of one version with its eigenvalues."""
    spectrum = asdict(transform.spectrum) | {"eigenvalues": transform.eigenvalues}
    return describe_transform(transform) | {"spectrum": spectrum}


def describe_tuning(tuned: Tuned) -> dict[str, object]:
    """Return what a grid search found."""
    table = [
        {**asdict(cell), "spearman": float(found)}
        for cell, found in zip(tuned.cells, tuned.table, strict=True)
    ]
    return {
        "baseline": tuned.baseline,
        "table": table,
        "best": table[tuned.best],
        "held_out": tuned.held_out,
        "gain": tuned.held_out - tuned.baseline,
        "gain_interval": list(tuned.interval),
        "verdict": "gain" if tuned.gains else "no_gain",
    }


def describe_geometry(geometry: Geometry) -> dict[str, object]:
    """Return isotropy and hubness."""
    whitened = geometry.whitened
    return {
        **asdict(geometry.isotropy),
        "whitened": None if whitened is None else asdict(whitened),
        "hubness": {name: _hubness(found) for name, found in geometry.occurrences.items()},
        "left_out": geometry.left_out,
        "samples": geometry.samples,
        "dimensions": geometry.dimensions,
        "k": geometry.k,
        "hubness_samples": geometry.drawn,
        **describe_origin(geometry.origin),
    }


def _hubness(found: Occurrences) -> dict[str, object]:
    hubs = [
        {"index": int(index), "occurrences": int(count)}
        for index, count in zip(found.hubs, found.hub_counts, strict=True)
    ]
    return asdict(found.hubness) | {"hubs": hubs}


def npy_pieces(matrix: Matrix32) -> list[memoryview]:
    """Return a matrix as a `.npy` file, its numbers where they lie: none is copied."""
    whole = np.ascontiguousarray(matrix, dtype="<f4")
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, np.lib.format.header_data_from_array_1_0(whole))
    return [memoryview(header.getvalue()), whole.data.cast("B")]


def lengths(pieces: Sequence[memoryview]) -> dict[str, str]:
    """Return the header that says how long a file in pieces is."""
    return {"Content-Length": str(sum(piece.nbytes for piece in pieces))}


async def stream_pieces(pieces: Sequence[memoryview]) -> AsyncIterator[memoryview]:
    """Yield a file piece by piece, none so large that it would be copied as a whole."""
    for piece in pieces:
        for start in range(0, len(piece), _CHUNK_BYTES):
            yield piece[start : start + _CHUNK_BYTES]
