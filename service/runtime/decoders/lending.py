"""Load graphs of language models on demand, and keep those that were used last."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from functools import partial
from pathlib import Path

import numpy as np
import structlog

from service.errors import ArtefactDamaged, Internal, UnknownModel
from service.metrics import Metrics
from service.runtime.decoders.feeds import Reading, position_feed
from service.runtime.decoders.graph import DecoderGraph, Giving, open_graph, read_graph
from service.runtime.decoders.opened import Decoder, Family, GraphForm
from service.runtime.decoders.tokenizers import open_decoder_tokenizer
from service.runtime.engine import Engine
from service.runtime.family import BYTES
from service.runtime.heap import release_freed_memory
from service.runtime.loading import SharedLoads
from service.runtime.manifest import DECODER, verify_files
from service.runtime.session import SessionOptions
from service.settings import Settings

_MIB = 2**20
_WARM_TOKENS = 8
Key = tuple[str, str, Giving]  # model, file, what it gives

logger = structlog.get_logger(__name__)


class Decoders:
    """Own every loaded graph of a language model.

    Belongs to one event loop. A graph that goes out of the memory bound lives on until the last
    request that works with it ends.

    Args:
        settings: default model, memory bound, providers, threads.
        engine: its library and its compute threads.
        metrics: instruments to write to.
    """

    def __init__(self, settings: Settings, engine: Engine, metrics: Metrics) -> None:
        self._settings = settings
        self._engine = engine
        self._metrics = metrics
        self._families: dict[str, Family] = {}
        self._opening: SharedLoads[str, Family] = SharedLoads()
        self._graphs: OrderedDict[Key, DecoderGraph] = OrderedDict()
        self._loading: SharedLoads[Key, DecoderGraph] = SharedLoads()

    async def family(self, model: str | None, *, deadline: float | None = None) -> Family:
        """Return a family with its tokenizer; no graph is loaded.

        Args:
            model: its id, or None for the default one.
            deadline: monotonic seconds until which the caller waits.

        Raises:
            UnknownModel: no such model, or it is no language model.
            ModelNotReady: shipped and not built.
            ArtefactDamaged: a file does not match its pin.
            DeadlineExceeded: the load goes on, and the caller waits no longer.
        """
        name = model or self._settings.default_decoder
        found = self._families.get(name)
        if found is not None:
            return found
        return await self._opening.wait(
            name, partial(self._open_family, name), what=f"The model {name}", deadline=deadline
        )

    async def decoder(
        self,
        model: str | None,
        variant: str | None,
        *,
        form: GraphForm = GraphForm.PLAIN,
        giving: Giving = Giving.CONTINUATION,
        deadline: float | None = None,
    ) -> Decoder:
        """Return a variant, loading and warming its graph first where it is not loaded yet.

        Args:
            model: its id, or None for the default one.
            variant: its name, or None for the model's default.
            form: which graph; `GraphForm.of(rope)` says which one a position scheme needs.
            giving: outputs that it must give besides logits and cache.
            deadline: monotonic seconds until which the caller waits.

        Raises:
            UnknownModel: no such model, or it is no language model.
            VariantNotAvailable: the model lacks that variant, or that graph of it.
            ModelNotReady: shipped and not built.
            ArtefactDamaged: a file does not match its pin.
            DeadlineExceeded: the load goes on, and the caller waits no longer.
        """
        family = await self.family(model, deadline=deadline)
        chosen = family.variant(variant)
        file = family.file(chosen, form)
        key = (family.manifest.id, file, giving)
        graph = self._graphs.get(key)
        if graph is None:
            what = f"The graph {file} of {family.manifest.id}"
            load = partial(self._load, key, family)
            graph = await self._loading.wait(key, load, what=what, deadline=deadline)
        if key in self._graphs:
            self._graphs.move_to_end(key)
        return Decoder(family.manifest, family.entry, chosen, family.tokenizer, graph)

    def loaded(self) -> dict[str, DecoderGraph]:
        """Return a loaded graph of each model that has one, by id."""
        return {model: graph for (model, _, _), graph in self._graphs.items()}

    @property
    def held_bytes(self) -> int:
        """Return the memory of the loaded graphs, as it is counted."""
        return sum(graph.held_bytes for graph in self._graphs.values())

    async def aclose(self) -> None:
        """Give up what is being loaded."""
        self._opening.cancel()
        self._loading.cancel()
        await asyncio.sleep(0)  # the cancelled tasks end

    async def _open_family(self, name: str) -> Family:
        family = await self._engine.compute(self._read_family, name)
        self._families[name] = family
        return family

    def _read_family(self, name: str) -> Family:
        folder, manifest = self._engine.library.find(name)
        if manifest.family is None:
            raise UnknownModel(
                f"{name!r} is of the kind {manifest.kind!r}; this operation needs one of the kind "
                f"{DECODER!r}, a language model."
            )
        entry = manifest.family
        if entry.tokenizer != BYTES:
            verify_files(folder, manifest, [entry.tokenizer])
        return Family(folder, manifest, entry, open_decoder_tokenizer(folder, entry))

    async def _load(self, key: Key, family: Family) -> DecoderGraph:
        started = time.monotonic()
        _, file, giving = key
        graph = await self._engine.compute(self._open, family, file, giving)
        self._graphs[key] = graph
        self._drop_oldest()
        report = graph.provider
        labels = (family.manifest.id, report.used, str(report.as_wished).lower())
        self._metrics.provider.labels(*labels).set(1)
        logger.info(
            "decoder_loaded",
            model=family.manifest.id,
            graph=file,
            giving=giving.value,
            seconds=round(time.monotonic() - started, 3),
        )
        return graph

    def _drop_oldest(self) -> None:
        bound = self._settings.decoder_memory_mb * _MIB
        while len(self._graphs) > 1 and self.held_bytes > bound:
            self._graphs.popitem(last=False)

    def _open(self, family: Family, file: str, giving: Giving) -> DecoderGraph:
        path: Path = family.folder / file
        verify_files(family.folder, family.manifest, [file])
        pruned = read_graph(path, giving)
        verify_files(family.folder, family.manifest, sorted(pruned.weights))
        options = SessionOptions(
            providers=self._settings.providers,
            policy=self._settings.provider_policy,
            threads_per_run=self._settings.threads_per_run,
        )
        graph = open_graph(path, pruned, options)
        if file != family.entry.serving:  # whose cache belongs to whoever runs it
            _warm(family, graph, file)
        release_freed_memory()
        return graph


def _warm(family: Family, graph: DecoderGraph, file: str) -> None:
    """Run a few tokens once: what fails fails here, and lazy kernels are made."""
    feed = position_feed(
        graph, Reading(), base=family.entry.rope_base, rows=1, past=0, new=_WARM_TOKENS
    )
    for name in graph.inputs - set(feed):
        if name.endswith("_far"):
            feed[name] = feed[name.removesuffix("_far")]
    tokens = _WARM_TOKENS
    if "near" in graph.inputs:
        feed["near"] = np.ones((1, tokens, tokens), np.bool_)
    feed |= {
        f"past.{part.name}": array
        for part, array in zip(graph.parts, graph.empty_cache(1), strict=True)
    }
    feed |= {"input_ids": np.zeros((1, tokens), np.int64), "logits_from": np.zeros(1, np.int64)}
    try:
        logits = graph.run(feed, ["logits"])["logits"]
    except Internal as error:
        raise ArtefactDamaged(
            f"The graph {file} of {family.manifest.id} does not run: {error.detail}"
        ) from error
    if logits.shape != (1, tokens, family.entry.vocabulary):
        raise ArtefactDamaged(
            f"The graph {file} of {family.manifest.id} gives logits of the shape {logits.shape}; "
            f"(1, {tokens}, {family.entry.vocabulary}) was to come."
        )
