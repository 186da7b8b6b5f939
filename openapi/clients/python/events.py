"""Read an answer that is streamed: `text/event-stream`, one event at a time.

```
accept = {"Accept": "text/event-stream"}
with httpx.stream("POST", url, json=body, headers=accept, timeout=600) as answer:
    for event in events(answer.iter_lines()):
        print(event.name, event.data)
```
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Event:
    """Hold one event: `progress`, `token`, `result`, `error` or another; its parsed data."""

    name: str
    data: Any


class StreamError(Exception):
    """Carry the problem body of an `error` event."""

    def __init__(self, problem: dict[str, Any]) -> None:
        super().__init__(problem.get("detail", "The stream ended with an error."))
        self.problem = problem


def events(lines: Iterable[str]) -> Iterator[Event]:
    """Yield each event of a stream.

    Args:
        lines: the body's lines without their ends.

    Raises:
        StreamError: the stream carried an `error` event.
    """
    name, data = "message", []
    for line in lines:
        if line:
            field, _, value = line.partition(":")
            value = value.removeprefix(" ")
            if field == "event":
                name = value
            elif field == "data":
                data.append(value)
            continue
        if data and data != ["[DONE]"]:
            event = Event(name, json.loads("\n".join(data)))
            if event.name == "error":
                raise StreamError(event.data)
            yield event
        name, data = "message", []
