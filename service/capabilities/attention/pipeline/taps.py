"""Take queries, keys and values out of a layer of a language model."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from service.capabilities.attention.pipeline.model_texts import read_texts
from service.capabilities.attention.settings import AttentionSettings
from service.errors import Fault, InvalidInput, VariantNotAvailable
from service.numerics.attention.forms import Heads, require_bounded
from service.numerics.attention.reference import Layout
from service.runtime.attention.layouts import read_layout
from service.runtime.decoders.feeds import Reading
from service.runtime.decoders.forward import read_text
from service.runtime.decoders.graph import Giving
from service.runtime.decoders.lending import Decoders
from service.runtime.decoders.opened import Decoder
from service.runtime.decoders.reading import ReadingChoice, choose_reading
from service.runtime.engine import Engine

_PARTS = ("query", "key", "value")


@dataclass(frozen=True, slots=True)
class TappedLayer:
    """Hold what one layer of a model made of a text, before positions turned it.

    Attributes:
        heads: of batch 1.
        base: of the model's rotary angles.
        layout: of the pairs that it turns.
        model: id of the family.
        model_sha256: digest of its files.
    """

    heads: Heads
    base: float
    layout: Layout
    model: str
    model_sha256: str


class Taps:
    """Read layers of language models, in their default variant.

    Args:
        decoders: language models.
        engine: compute threads.
        settings: limits.
    """

    def __init__(self, decoders: Decoders, engine: Engine, settings: AttentionSettings) -> None:
        self._decoders = decoders
        self._engine = engine
        self._settings = settings

    async def layer(
        self, model: str | None, *, layer: int, text: str, deadline: float
    ) -> TappedLayer:
        """Return queries, keys and values of a text in one layer.

        Args:
            model: id, or None for the default one.
            layer: counted from 0.
            text: two tokens at least.
            deadline: monotonic seconds until which the caller waits for a load.

        Raises:
            UnknownModel: no such language model.
            ModelNotReady: shipped and not built.
            VariantNotAvailable: the model's graph has no taps.
            InvalidInput: the model has no such layer.
            TooManyItems: the text has more tokens than a layer may.
            SequenceTooLong: the text is longer than the model was trained to read.
        """
        family = await self._decoders.family(model, deadline=deadline)
        if layer >= family.entry.layers:
            raise InvalidInput(
                f"{family.manifest.id} has no layer {layer}; its {family.entry.layers} layers are "
                "counted from 0.",
                faults=(Fault("/layer", f"is {layer}, at most {family.entry.layers - 1}"),),
            )
        most = self._settings.max_tokens
        read = await self._engine.compute(lambda: read_texts(family, [text], ["/text"], most=most))
        variant = family.variant(None)
        reading = choose_reading(
            family, variant, ReadingChoice(), tokens=len(read[0].ids), pointer="/text"
        )
        decoder = await self._decoders.decoder(model, None, giving=Giving.TAPS, deadline=deadline)
        if f"query.{layer}" not in decoder.graph.outputs:
            raise VariantNotAvailable(
                f"The graph {variant.file} of {family.manifest.id} does not give its queries; send "
                "q, k and v.",
                faults=(Fault("/model", "gives no queries"),),
            )
        heads = await self._engine.compute(_tapped, decoder, read[0].ids, reading, layer)
        layout = await self._engine.compute(read_layout, family.folder / variant.file)
        return TappedLayer(
            heads, family.entry.rope_base, layout, family.manifest.id, family.manifest.sha256
        )


def _tapped(decoder: Decoder, ids: list[int], reading: Reading, layer: int) -> Heads:
    names = [f"{part}.{layer}" for part in _PARTS]
    steps = [step.extras for step in read_text(decoder, ids, reading, extras=names)]
    arrays = [np.concatenate([step[name] for step in steps], axis=2) for name in names]
    for name, array in zip(names, arrays, strict=True):
        require_bounded(array, name)
    return Heads(*arrays)
