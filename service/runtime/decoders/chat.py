"""Write a conversation the way a model was trained to read it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from service.errors import ArtefactDamaged, Fault, InvalidInput
from service.runtime.decoders.opened import Family

_BEGIN, _END = "<|im_start|>", "<|im_end|>"


@dataclass(frozen=True, slots=True)
class Message:
    """Hold one turn of a conversation: who speaks (`system`, `user`, `assistant`), and what."""

    role: str
    content: str


def chat_ids(family: Family, messages: Sequence[Message]) -> list[int]:
    """Return the ids of a conversation up to where the model speaks next, in ChatML.

    ```
    <|im_start|>role⏎content<|im_end|>⏎ … <|im_start|>assistant⏎
    ```
    The marks are ids; the same letters inside of a message are letters.

    Args:
        family: the model.
        messages: at least one.

    Raises:
        InvalidInput: the model was not trained to chat.
        ArtefactDamaged: its tokenizer lacks the marks.
    """
    if family.entry.chat != "chatml":
        raise InvalidInput(
            f"{family.manifest.id} was not trained to chat, so it has no form for messages. "
            "Send text.",
            faults=(Fault("/messages", "cannot be read by this model"),),
        )
    tokenizer = family.tokenizer
    try:
        begin, end = tokenizer.special[_BEGIN], tokenizer.special[_END]
    except KeyError as error:
        raise ArtefactDamaged(f"{family.manifest.id} has no piece {error} for its chat.") from None
    line = tokenizer.encode("\n")
    ids: list[int] = []
    for message in messages:
        # one text: the pieces of a line break may go on into what follows it
        said = tokenizer.encode(f"{message.role}\n{message.content}")
        ids += [begin, *said, end, *line]
    return [*ids, begin, *tokenizer.encode("assistant\n")]
