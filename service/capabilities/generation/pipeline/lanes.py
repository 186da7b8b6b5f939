"""Find the graph that a request runs on, and the lane where others run on it."""

from __future__ import annotations

from collections import OrderedDict
from functools import partial

import numpy as np

from service.runtime.decoders.graph import DecoderGraph
from service.runtime.decoders.lending import Decoders
from service.runtime.decoders.opened import Decoder, Family, GraphForm
from service.runtime.serving.arena import Arena
from service.runtime.serving.jobs import Stepper
from service.runtime.serving.scheduler import Lane, Scheduler
from service.runtime.serving.single import SingleFile

_FLOAT = np.dtype(np.float32).itemsize


def choose_form(family: Family, variant: str | None, *, windowed: bool) -> GraphForm:
    """Return which graph generates: the fast one, unless a variant is named or cannot be it.

    A variant that a request names runs in its own float graph, where it is exact; so do position
    schemes with a window, which need a graph of their own.
    """
    if windowed:
        return GraphForm.WINDOWED
    fast = variant is None and family.entry.serving is not None
    return GraphForm.SERVING if fast else GraphForm.PLAIN


class Lanes:
    """Keep one lane for each graph that was used last; belongs to one event loop.

    Args:
        decoders: language models.
        scheduler: where lanes run.
        most: lanes kept.
        capacity: longest sequence.
    """

    def __init__(
        self, decoders: Decoders, scheduler: Scheduler, *, most: int, capacity: int
    ) -> None:
        self._decoders = decoders
        self._scheduler = scheduler
        self._most = most
        self._capacity = capacity
        self._lanes: OrderedDict[tuple[str, str], tuple[DecoderGraph, Lane]] = OrderedDict()

    async def find(
        self, family: Family, variant: str | None, *, form: GraphForm, deadline: float
    ) -> tuple[Decoder, Lane]:
        """Return a decoder and its lane, the graph loaded first where it is not.

        Raises:
            VariantNotAvailable: the model lacks the variant, or that graph of it.
            ArtefactDamaged: a file does not match its pin.
            DeadlineExceeded: the load goes on, and the caller waits no longer.
        """
        model = family.manifest.id
        decoder = await self._decoders.decoder(model, variant, form=form, deadline=deadline)
        key = (model, family.file(decoder.variant, form))
        found = self._lanes.get(key)
        if found is None or found[0] is not decoder.graph:
            if found is not None:  # it was unloaded and loaded again
                self._scheduler.retire(found[1])
            opener = partial(open_stepper, decoder, form, self._capacity)
            found = self._lanes[key] = decoder.graph, Lane(token_bytes(decoder.graph), opener)
        self._lanes.move_to_end(key)
        while len(self._lanes) > self._most:
            _, (_, oldest) = self._lanes.popitem(last=False)
            self._scheduler.retire(oldest)
        return decoder, found[1]


def token_bytes(graph: DecoderGraph) -> int:
    """Return the bytes of cache that one token takes."""
    return _FLOAT * sum(part.heads * part.width for part in graph.parts)


def open_stepper(decoder: Decoder, form: GraphForm, capacity: int, slots: int) -> Stepper:
    """Return what computes so many sequences of a decoder."""
    if form is not GraphForm.SERVING:
        return SingleFile(decoder, slots=slots)
    return Arena(
        decoder.graph,
        base=decoder.family.rope_base,
        vocabulary=decoder.family.vocabulary,
        slots=slots,
        capacity=capacity,
    )
