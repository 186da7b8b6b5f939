"""Say which encoder vectors come from, as far as a request tells."""

from __future__ import annotations

from service.embedding.transform import Origin
from service.errors import DimensionMismatch, Fault, InvalidInput
from service.numerics.dtypes import Matrix32
from service.runtime.engine import Engine


async def find_origin(
    engine: Engine,
    vectors: Matrix32 | None,
    *,
    model: str | None,
    pooling: str | None,
    deadline: float,
) -> Origin | None:
    """Return the encoder that vectors come from, None where nobody says so.

    Args:
        engine: knows the encoders.
        vectors: (n, d) float32, or None where texts are to be embedded.
        model: encoder id; None for the default one of texts, and for an unknown one of vectors.
        pooling: of the encoder; None for its own.
        deadline: monotonic seconds until which the caller waits.

    Raises:
        UnknownModel: no such encoder.
        InvalidInput: it lacks the pooling, or a pooling is given for vectors without a model.
        DimensionMismatch: the vectors cannot be that encoder's.
    """
    if vectors is not None and model is None:
        if pooling is not None:
            raise InvalidInput(
                f"The pooling {pooling!r} was given for vectors without a model. Name "
                "the model that they came from, or leave the pooling out.",
                faults=(Fault("/pooling", "says nothing without a model"),),
            )
        return None
    encoder = await engine.encoder(model, deadline=deadline)
    manifest = encoder.manifest
    pooling = pooling or manifest.pooling
    if pooling not in manifest.poolings:
        raise InvalidInput(
            f"The model {manifest.id} has no pooling {pooling!r}; "
            f"it has {', '.join(manifest.poolings)}.",
            faults=(Fault("/pooling", f"{pooling!r} is not offered by the model"),),
        )
    if vectors is not None and vectors.shape[1] != manifest.dimensions:
        raise DimensionMismatch(
            f"The vectors have {vectors.shape[1]} dimensions and {manifest.id} gives "
            f"{manifest.dimensions}: they did not come from it.",
            faults=(Fault("/vectors", "are not of the model's dimensions"),),
        )
    return Origin(manifest.id, encoder.sha256, pooling)
