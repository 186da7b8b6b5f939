"""Answer the protocol's requests with the encoders that `/v1/embeddings` uses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from service.capabilities.inference.settings import InferenceSettings
from service.capabilities.inference.tensors import BYTES, INT64, Tensor, write_answer
from service.embedding.embedder import Embedded, Embedder, EmbeddingOptions, Inputs
from service.errors import EmptyInput, Fault, InvalidInput, TooManyItems
from service.numerics.dtypes import Matrix32
from service.runtime.engine import Encoder, Engine

TEXT, IDS, MASK = "text", "input_ids", "attention_mask"
_RAW = "_raw"
_MATRIX = 2


@dataclass(frozen=True, slots=True)
class Inferred:
    """Hold outputs in the order asked for, and who made them."""

    outputs: Mapping[str, Matrix32]
    encoder: Encoder


class InferencePipeline:
    """Answer this room's requests.

    Args:
        engine: loaded models.
        embedder: texts and ids to vectors, cached.
        settings: limits.
    """

    def __init__(self, engine: Engine, embedder: Embedder, settings: InferenceSettings) -> None:
        self._engine = engine
        self._embedder = embedder
        self._settings = settings

    async def encoder(self, model: str, *, deadline: float) -> Encoder:
        """Return a loaded encoder.

        Raises:
            UnknownModel: no such encoder.
            ModelNotReady: shipped and not built.
        """
        return await self._engine.encoder(model, deadline=deadline)

    async def infer(
        self, model: str, tensors: Sequence[Tensor], *, outputs: Sequence[str], deadline: float
    ) -> Inferred:
        """Return the outputs asked for, one row an input row.

        Args:
            model: encoder id.
            tensors: `text`, or `input_ids` with `attention_mask`.
            outputs: poolings, or poolings with `_raw`; none takes the model's own.
            deadline: monotonic seconds until which the caller waits.

        Raises:
            InvalidInput: inputs or outputs that the model does not have.
            TooManyItems: more rows than one call may carry.
        """
        encoder = await self.encoder(model, deadline=deadline)
        inputs = _read_inputs({tensor.name: tensor for tensor in tensors}, len(tensors))
        if len(inputs) > self._settings.max_rows:
            raise TooManyItems(
                f"{len(inputs)} rows; one call may carry {self._settings.max_rows}.",
                faults=(Fault("/inputs/0/shape", f"has {len(inputs)} rows"),),
            )
        wanted = list(dict.fromkeys(outputs)) or [encoder.manifest.pooling]
        made = {name: await self._embed(encoder, inputs, name, deadline) for name in wanted}
        return Inferred({name: each.vectors for name, each in made.items()}, encoder)

    async def write(
        self,
        head: Mapping[str, Any],
        outputs: Sequence[tuple[str, Matrix32, bool]],
    ) -> tuple[bytes, int | None]:
        """Return an answer's body, and the length of its JSON part where tensors follow it."""
        return await self._engine.compute(write_answer, head, outputs)

    async def _embed(
        self, encoder: Encoder, inputs: Inputs, output: str, deadline: float
    ) -> Embedded:
        pooling = output.removesuffix(_RAW)
        if pooling not in encoder.manifest.poolings:
            known = ", ".join(f"{each}, {each}{_RAW}" for each in encoder.manifest.poolings)
            raise InvalidInput(
                f"{encoder.manifest.id} has no output {output[:60]!r}; it has {known}.",
                faults=(Fault("/outputs", f"{output[:60]!r} is unknown"),),
            )
        options = EmbeddingOptions(pooling, normalize=not output.endswith(_RAW))
        return await self._embedder.embed(
            inputs, model=encoder.manifest.id, options=options, deadline=deadline
        )


def _read_inputs(tensors: Mapping[str, Tensor], given: int) -> Inputs:
    """Return texts, or rows of ids without their padding."""
    if len(tensors) != given or set(tensors) not in ({TEXT}, {IDS, MASK}, {IDS}):
        raise InvalidInput(
            f"The inputs are {sorted(tensors)}; send {TEXT!r} alone, or {IDS!r} with {MASK!r}.",
            faults=(Fault("/inputs", f"are {sorted(tensors)}"),),
        )
    if TEXT in tensors:
        return _texts(tensors[TEXT])
    ids = _matrix(tensors[IDS])
    mask = _matrix(tensors[MASK]) if MASK in tensors else np.ones_like(ids)
    if mask.shape != ids.shape:
        raise InvalidInput(
            f"{MASK} has shape {list(mask.shape)} and {IDS} {list(ids.shape)}.",
            faults=(Fault("/inputs/1/shape", "differs from that of input_ids"),),
        )
    return [row[keep].tolist() for row, keep in zip(ids, mask.astype(bool), strict=True)]


def _texts(tensor: Tensor) -> list[str]:
    if tensor.datatype != BYTES or (len(tensor.shape) == _MATRIX and tensor.shape[1] != 1):
        raise InvalidInput(
            f"{TEXT} is {tensor.datatype} {list(tensor.shape)}; it must be BYTES [n] or [n, 1].",
            faults=(Fault("/inputs/0/shape", f"is {list(tensor.shape)}"),),
        )
    if not tensor.values:
        raise EmptyInput("There is no text.", faults=(Fault("/inputs/0/data", "is empty"),))
    return [str(value) for value in tensor.values]


def _matrix(tensor: Tensor) -> np.ndarray[tuple[int, int], np.dtype[np.int64]]:
    if tensor.datatype != INT64 or len(tensor.shape) != _MATRIX:
        raise InvalidInput(
            f"{tensor.name} is {tensor.datatype} {list(tensor.shape)}; not INT64 [n, length].",
            faults=(Fault("/inputs/0/shape", f"is {list(tensor.shape)}"),),
        )
    assert isinstance(tensor.values, np.ndarray)
    return tensor.values
