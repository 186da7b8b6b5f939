"""Check what belongs together, and begin to generate."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from weakref import WeakKeyDictionary

import numpy as np

from service.capabilities.generation.numerics.choosing import Sampling, Stream
from service.capabilities.generation.pipeline.generation import Generation, Mailbox, Origin
from service.capabilities.generation.pipeline.healing import HealedLaw, Reader, weigh_ends
from service.capabilities.generation.pipeline.lanes import Lanes, choose_form
from service.capabilities.generation.pipeline.merging import MergedLaw, Merging
from service.capabilities.generation.pipeline.prompts import (
    Prompt,
    Room,
    find_room,
    read_prompt,
)
from service.capabilities.generation.pipeline.writing import Law, Manner, OwnLaw, Writer
from service.capabilities.generation.settings import GenerationSettings
from service.errors import Fault, TooManyItems
from service.metrics import Metrics
from service.numerics.dtypes import Vector32
from service.numerics.healing.covers import Healing
from service.numerics.healing.reopening import Reopened
from service.runtime.decoders.healing import Healer
from service.runtime.decoders.lending import Decoders
from service.runtime.decoders.opened import Decoder, Family, GraphForm
from service.runtime.decoders.reading import ReadingChoice
from service.runtime.decoders.tokenizers import DecoderTokenizer
from service.runtime.engine import Engine
from service.runtime.serving.jobs import Job
from service.runtime.serving.scheduler import Lane, Scheduler


class PromptEnd(StrEnum):
    """Say what becomes of the last tokens of a prompt: they stand, or are opened again."""

    AS_IT_IS = "as_it_is"
    HEALED = "healed"


@dataclass(frozen=True, slots=True)
class _End:
    """Hold how a prompt ends.

    Attributes:
        kept: ids that stand.
        removed: bytes that are written again.
        law: makes the law of one text.
    """

    kept: int
    removed: int
    law: Callable[[], Law]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """Hold what a request asks for, whatever its route.

    Attributes:
        prompts: what is continued.
        prompt_end: whether a prompt that breaks off inside a word is healed.
        choices: texts for each prompt.
        model: None for the default one.
        variant: None for the model's default.
        choice: how positions are read.
        sampling: how tokens are chosen.
        asked: tokens to generate; None for the default number.
        stops: strings that end a text.
        seed: of every random number.
        deadline: monotonic seconds.
    """

    prompts: Sequence[Prompt]
    prompt_end: PromptEnd = PromptEnd.AS_IT_IS
    choices: int = 1
    model: str | None
    variant: str | None
    choice: ReadingChoice
    sampling: Sampling
    asked: int | None
    stops: tuple[str, ...]
    seed: int
    deadline: float


@dataclass(frozen=True, slots=True)
class _Place:
    """Hold where a request runs, and every prompt of it with its room."""

    decoder: Decoder
    form: GraphForm
    lane: Lane
    prompts: Sequence[list[int]]
    rooms: Sequence[Room]


class GenerationRoom:
    """Begin what this room's routes ask for.

    Args:
        decoders: language models.
        engine: compute threads, for tokenizers.
        scheduler: runs sequences.
        settings: limits.
        metrics: instruments to write to.
    """

    def __init__(
        self,
        decoders: Decoders,
        engine: Engine,
        scheduler: Scheduler,
        settings: GenerationSettings,
        metrics: Metrics,
    ) -> None:
        self._metrics = metrics
        self._healers: WeakKeyDictionary[DecoderTokenizer, Healer] = WeakKeyDictionary()
        self.settings = settings
        self._decoders = decoders
        self._engine = engine
        self._scheduler = scheduler
        self._lanes = Lanes(
            decoders,
            scheduler,
            most=settings.graphs,
            capacity=settings.max_context_tokens,
        )

    async def begin(self, ask: Ask) -> Generation:
        """Return texts that are being generated; the caller closes them.

        Raises:
            UnknownModel: no such language model.
            VariantNotAvailable: the model lacks the variant, or a graph for the position scheme.
            ModelNotReady: shipped and not built.
            SequenceTooLong: a prompt, or what is to follow it, is beyond what the model reads.
            TooManyItems: more was asked for than one request may.
            InvalidInput: an id is not one of the model's, or it reads no messages.
            EmptyInput: there is nothing to continue.
            Overloaded: as many sequences wait already as may.
        """
        _require_at_most(
            len(ask.prompts) * ask.choices, self.settings.max_choices, "/n", what="texts"
        )
        place = await self._place(ask)
        generation, mailbox = self._open(ask, place)
        try:
            for number, (ids, room) in enumerate(zip(place.prompts, place.rooms, strict=True)):
                end = await self._end(ask, place, ids, room)
                # each byte that was taken back may take a token
                most = min(room.most + end.removed, self.settings.max_context_tokens - end.kept)
                prompt = (np.array(ids[: end.kept], np.int64),)
                for index in range(ask.choices):
                    writer = Writer(
                        self._manner(ask, place, room),
                        choice=number * ask.choices + index,
                        stream=Stream(ask.seed, index),
                        law=end.law(),
                        skip_bytes=end.removed,
                        room=most,
                        publish=mailbox.publish,
                    )
                    job = Job(prompt, most, room.reading, writer, ask.deadline)
                    generation.submit(place.lane, job)
        except BaseException:
            generation.close()
            raise
        return generation

    async def begin_merged(self, ask: Ask, merging: Merging) -> Generation:
        """Return one text over several contexts; the last prompt is the one without a context.

        Raises:
            TooManyItems: more contexts than one request may merge.
            ServiceError: as `begin`.
        """
        _require_at_most(
            len(ask.prompts) - 1, self.settings.max_contexts, "/contexts", what="contexts"
        )
        place = await self._place(ask)
        # one reading for all rows, that of the longest; and no row may run out of room
        longest = max(place.rooms, key=lambda room: room.reading.rope.factor)
        room = Room(min(each.most for each in place.rooms), longest.reading)
        generation, mailbox = self._open(ask, place)
        law: Law = MergedLaw(merging)
        writer = Writer(
            self._manner(ask, place, room),
            choice=0,
            stream=Stream(ask.seed),
            law=law,
            skip_bytes=0,
            room=room.most,
            publish=mailbox.publish,
        )
        rows = tuple(np.array(ids, np.int64) for ids in place.prompts)
        generation.submit(place.lane, Job(rows, room.most, room.reading, writer, ask.deadline))
        return generation

    async def _end(self, ask: Ask, place: _Place, ids: list[int], room: Room) -> _End:
        """Return what is kept of a prompt, and how the rest of it is written again."""
        if ask.prompt_end is PromptEnd.AS_IT_IS:
            return _End(len(ids), 0, OwnLaw)
        healer, reopened = await self._engine.compute(self._reopen, place.decoder, ids)
        kept = ids[: reopened.kept]

        async def read(asked: Sequence[int]) -> Vector32:
            reader = Reader()
            prompt = (np.array(asked, np.int64),)
            job = Job(prompt, 1, room.reading, reader, ask.deadline)
            self._scheduler.submit(place.lane, job)
            try:
                return await reader.logits
            finally:
                if not job.over:
                    self._scheduler.leave(job)

        # asked once for all choices; each is led by a state of its own
        ahead = await weigh_ends(healer, reopened, kept, read)
        return _End(
            len(kept),
            len(reopened.removed),
            lambda: HealedLaw(Healing(reopened, healer.pieces, ahead=ahead)),
        )

    def _reopen(self, decoder: Decoder, ids: list[int]) -> tuple[Healer, Reopened]:
        healer = self._healers.get(decoder.tokenizer)
        if healer is None:
            healer = self._healers[decoder.tokenizer] = Healer(decoder.tokenizer)
        return healer, healer.reopen(ids)

    def _open(self, ask: Ask, place: _Place) -> tuple[Generation, Mailbox]:
        origin = Origin(
            place.decoder, place.form.value, place.rooms[0].reading, ask.seed, place.prompts
        )
        mailbox = Mailbox()
        counter = self._metrics.generated_tokens.labels(place.decoder.manifest.id)
        texts = Generation(
            origin, mailbox, self._scheduler, deadline=ask.deadline, count=counter.inc
        )
        return texts, mailbox

    async def _place(self, ask: Ask) -> _Place:
        if ask.asked is not None:
            _require_at_most(ask.asked, self.settings.max_tokens, "/max_tokens", what="tokens")
        family = await self._decoders.family(ask.model, deadline=ask.deadline)
        family.tokenizer.require_ids(list(ask.sampling.logit_bias), pointer="/logit_bias")
        entry = family.variant(ask.variant)
        prompts = await self._engine.compute(self._read, family, ask.prompts)
        rooms = [
            find_room(
                family,
                entry,
                ask.choice,
                length=len(ids),
                asked=ask.asked,
                pointer=prompt.pointer,
                settings=self.settings,
            )
            for ids, prompt in zip(prompts, ask.prompts, strict=True)
        ]
        form = choose_form(family, ask.variant, windowed=rooms[0].reading.rope.windowed)
        decoder, lane = await self._lanes.find(
            family, ask.variant, form=form, deadline=ask.deadline
        )
        return _Place(decoder, form, lane, prompts, rooms)

    def _read(self, family: Family, prompts: Sequence[Prompt]) -> list[list[int]]:
        most = self.settings.max_context_tokens
        return [read_prompt(family, prompt, most=most) for prompt in prompts]

    def _manner(self, ask: Ask, place: _Place, room: Room) -> Manner:
        return Manner(
            tokenizer=place.decoder.tokenizer,
            ends=frozenset(place.decoder.family.eos_ids),
            sampling=ask.sampling,
            most=room.most,
            stops=ask.stops,
        )


def _require_at_most(count: int, limit: int, pointer: str, *, what: str) -> None:
    if count > limit:
        raise TooManyItems(
            f"{count} {what} were asked for and one request may have {limit}. Ask for fewer.",
            faults=(Fault(pointer, f"leads to {count} {what}, at most {limit} are allowed"),),
        )
