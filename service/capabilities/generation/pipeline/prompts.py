"""Turn what a request sends into the ids that a model continues."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from service.capabilities.generation.settings import GenerationSettings
from service.errors import EmptyInput, Fault, SequenceTooLong, TooManyItems
from service.runtime.decoders.chat import Message, chat_ids
from service.runtime.decoders.feeds import Reading
from service.runtime.decoders.opened import Family
from service.runtime.decoders.reading import Beyond, ReadingChoice, choose_reading, reach
from service.runtime.family import VariantEntry

Source = str | Sequence[int] | Sequence[Message]
# What is longer than this for each token of the limit is refused before it is tokenized.
_MOST_CHARACTERS_A_TOKEN = 64


@dataclass(frozen=True, slots=True)
class Prompt:
    """Hold a prompt as it came, and where it stands in the request."""

    source: Source
    pointer: str


def read_prompt(family: Family, prompt: Prompt, *, most: int) -> list[int]:
    """Return the ids of a prompt; of a text, behind the model's mark where it has one.

    Raises:
        EmptyInput: there is no id.
        InvalidInput: an id is not one of the model's, or it reads no messages.
        SequenceTooLong: a text cannot fit, whatever its tokens are.
    """
    source = prompt.source
    if isinstance(source, str):
        _require_short(source, prompt, most)
        mark = [] if family.entry.bos_id is None else [family.entry.bos_id]
        ids = mark + family.tokenizer.encode(source)
    elif source and isinstance(source[0], Message):
        messages = [each for each in source if isinstance(each, Message)]
        for message in messages:
            _require_short(message.content, prompt, most)
        ids = chat_ids(family, messages)
    else:
        ids = [each for each in source if isinstance(each, int)]
        family.tokenizer.require_ids(ids, pointer=prompt.pointer)
    if not ids:
        raise EmptyInput(
            f"At {prompt.pointer} stands nothing to continue: {family.manifest.id} puts no mark "
            "before a text, so send at least one token.",
            faults=(Fault(prompt.pointer, "is empty"),),
        )
    return ids


def _require_short(text: str, prompt: Prompt, most: int) -> None:
    if len(text) > most * _MOST_CHARACTERS_A_TOKEN:
        raise SequenceTooLong(
            f"At {prompt.pointer} stand {len(text)} characters; no model here reads so many.",
            faults=(Fault(prompt.pointer, f"has {len(text)} characters"),),
        )


@dataclass(frozen=True, slots=True)
class Room:
    """Say how much a prompt is continued by, and how positions are read for that."""

    most: int
    reading: Reading


def find_room(
    family: Family,
    variant: VariantEntry,
    choice: ReadingChoice,
    *,
    length: int,
    asked: int | None,
    pointer: str,
    settings: GenerationSettings,
) -> Room:
    """Return how many tokens may follow a prompt: those asked for, or what the context has left.

    Args:
        family: says what the model was trained to.
        variant: says what scale it was trained with.
        choice: what the request says of positions.
        length: tokens of the prompt.
        asked: tokens to generate; None for the default number, or fewer where they do not fit.
        pointer: where the prompt stands in the request.
        settings: limits.

    Raises:
        SequenceTooLong: prompt and tokens asked for are more than the model reads.
        TooManyItems: they are more than this service runs.
    """
    if asked is not None:
        most = asked
    else:
        most = min(settings.default_tokens, _left(family, variant, choice, length, pointer))
    total = length + most
    if total > settings.max_context_tokens:
        raise TooManyItems(
            f"The prompt has {length} tokens and {most} are to be generated; together "
            f"{settings.max_context_tokens} are run at most. Send less.",
            faults=(Fault(pointer, f"has {length} tokens"),),
        )
    try:
        reading = choose_reading(family, variant, choice, tokens=total, pointer=pointer)
    except SequenceTooLong as error:
        raise SequenceTooLong(
            f"The prompt has {length} tokens and {most} are to be generated. {error.detail}",
            faults=error.faults,
        ) from None
    return Room(most, reading)


def _left(
    family: Family, variant: VariantEntry, choice: ReadingChoice, length: int, pointer: str
) -> int:
    """Return how many tokens the position scheme reaches beyond a prompt, at least one."""
    if choice.beyond is Beyond.RUN or (choice.rope.factor is None and _stretches(choice)):
        return 2**31
    least = choose_reading(family, variant, choice, tokens=length + 1, pointer=pointer)
    longest = reach(least.rope, trained=family.manifest.max_tokens)
    return 2**31 if math.isinf(longest) else int(longest) - length


def _stretches(choice: ReadingChoice) -> bool:
    """Return whether a scheme without a factor takes the one that reaches the text's end."""
    return choice.rope.name.value not in {"none", "direct", "rerope"}
