"""Say what in a new OpenAPI document would break a client of an old one.

```
python openapi/check_breaking.py openapi/baseline.json openapi/openapi.json
```

`baseline.json` is the document of the last release. What a client sends may only widen: no new
required field, no narrower type, range or choice. What it gets may only be more: no field, answer
or media type may go, and no new choice may come, which a strict client could not read. Names of
operations are the names of functions in generated clients.

The exit code is 1 where something breaks; every break stands on a line of its own.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

Schema = Mapping[str, Any]
Document = Mapping[str, Any]
Compare = Callable[[str, Schema, Schema, "_Pair"], Iterator[str]]
METHODS = ("get", "put", "post", "delete", "patch", "head", "options")
_UPPER = ("maximum", "exclusiveMaximum", "maxLength", "maxItems")
_LOWER = ("minimum", "exclusiveMinimum", "minLength", "minItems")


def breaks(old: Document, new: Document) -> Iterator[str]:
    """Yield every break, as a sentence that begins with the operation."""
    for path, operations in old["paths"].items():
        for method in METHODS:
            if method not in operations:
                continue
            where = f"{method.upper()} {path}"
            after = new["paths"].get(path, {}).get(method)
            if after is None:
                yield f"{where}: is gone"
                continue
            yield from _operation(where, operations[method], after, _Pair(old, new))


class _Pair:
    """Resolve references on both sides, and remember which pairs were compared already."""

    def __init__(self, old: Document, new: Document) -> None:
        self._documents = (old, new)
        self._seen: set[tuple[str, str, str]] = set()

    def resolve(self, before: Schema, after: Schema) -> tuple[Schema, Schema]:
        """Return both schemas with references at their top followed."""
        return _follow(before, self._documents[0]), _follow(after, self._documents[1])

    def is_new(self, direction: str, before: Schema, after: Schema) -> bool:
        """Return whether a pair of named schemas is new; some are recursive."""
        if "$ref" not in before and "$ref" not in after:
            return True
        key = (direction, str(before.get("$ref", before)), str(after.get("$ref", after)))
        known = key in self._seen
        self._seen.add(key)
        return not known


def _follow(schema: Schema, document: Document) -> Schema:
    while "$ref" in schema:
        found: Any = document
        for part in schema["$ref"].removeprefix("#/").split("/"):
            found = found[part]
        schema = found
    return schema


def _operation(where: str, old: Schema, new: Schema, pair: _Pair) -> Iterator[str]:
    if old["operationId"] != new["operationId"]:
        yield f"{where}: was called {old['operationId']} and is called {new['operationId']}"
    yield from _parameters(where, old, new, pair)
    yield from _bodies(where, old, new, pair)
    for status, answer in old["responses"].items():
        if status not in new["responses"]:
            yield f"{where}: no longer answers {status}"
            continue
        before, after = pair.resolve(answer, new["responses"][status])
        for kind, content in before.get("content", {}).items():
            if kind not in after.get("content", {}):
                yield f"{where}: {status} no longer comes as {kind}"
                continue
            place = f"{where}: {status} {kind}"
            yield from _answer(place, content["schema"], after["content"][kind]["schema"], pair)


def _parameters(where: str, old: Schema, new: Schema, pair: _Pair) -> Iterator[str]:
    before = _by_name(old, pair, 0)
    after = _by_name(new, pair, 1)
    for name in before.keys() - after.keys():
        yield f"{where}: parameter {name[1]} is gone"
    for name, parameter in after.items():
        if name not in before:
            if parameter.get("required"):
                yield f"{where}: parameter {name[1]} is new and required"
            continue
        if parameter.get("required") and not before[name].get("required"):
            yield f"{where}: parameter {name[1]} has become required"
        place = f"{where}: parameter {name[1]}"
        yield from _request(place, before[name]["schema"], parameter["schema"], pair)


def _by_name(operation: Schema, pair: _Pair, side: int) -> dict[tuple[str, str], Schema]:
    found = {}
    for parameter in operation.get("parameters", []):
        resolved = pair.resolve(parameter, parameter)[side]
        found[resolved["in"], resolved["name"]] = resolved
    return found


def _bodies(where: str, old: Schema, new: Schema, pair: _Pair) -> Iterator[str]:
    before, after = old.get("requestBody"), new.get("requestBody")
    if before is None:
        if after is not None and after.get("required"):
            yield f"{where}: needs a body now"
        return
    if after is None:
        yield f"{where}: reads no body any more"
        return
    for kind, content in before["content"].items():
        if kind not in after["content"]:
            yield f"{where}: no longer reads {kind}"
            continue
        place = f"{where}: body"
        yield from _request(place, content["schema"], after["content"][kind]["schema"], pair)


def _request(place: str, before: Schema, after: Schema, pair: _Pair) -> Iterator[str]:
    """Yield what was accepted and is not any more."""
    if not pair.is_new("request", before, after):
        return
    old, new = pair.resolve(before, after)
    gone = _kinds(old) - _kinds(new)
    if _kinds(new) and gone:
        yield f"{place}: no longer takes {', '.join(sorted(gone))}"
    if "enum" in new:
        lost = set(map(str, old.get("enum", ()))) - set(map(str, new["enum"]))
        if "enum" not in old:
            yield f"{place}: takes only {new['enum']} now"
        elif lost:
            yield f"{place}: no longer takes {', '.join(sorted(lost))}"
    yield from _bounds(place, old, new)
    for name in sorted(set(new.get("required", ())) - set(old.get("required", ()))):
        yield f"{place}/{name}: is required now"
    yield from _members(place, old, new, pair, _request)
    yield from _alternatives(place, old, new, "takes")


def _answer(place: str, before: Schema, after: Schema, pair: _Pair) -> Iterator[str]:
    """Yield what a client could rely on and cannot any more."""
    if not pair.is_new("answer", before, after):
        return
    old, new = pair.resolve(before, after)
    come = _kinds(new) - _kinds(old)
    if _kinds(old) and come:
        yield f"{place}: may be {', '.join(sorted(come))} now"
    come = set(map(str, new.get("enum", ()))) - set(map(str, old.get("enum", ())))
    if "enum" in old and come:
        yield f"{place}: may be {', '.join(sorted(come))} now"
    for name in sorted(set(old.get("required", ())) - set(new.get("required", ()))):
        yield f"{place}/{name}: may be missing now"
    yield from _members(place, old, new, pair, _answer)
    yield from _alternatives(place, new, old, "can be")


def _members(place: str, old: Schema, new: Schema, pair: _Pair, compare: Compare) -> Iterator[str]:
    for name, schema in old.get("properties", {}).items():
        if name not in new.get("properties", {}):
            yield f"{place}/{name}: is gone"
        else:
            yield from compare(f"{place}/{name}", schema, new["properties"][name], pair)
    for inner in ("items", "additionalProperties"):
        if isinstance(old.get(inner), Mapping) and isinstance(new.get(inner), Mapping):
            yield from compare(f"{place}/*", old[inner], new[inner], pair)


def _alternatives(place: str, wider: Schema, narrower: Schema, verb: str) -> Iterator[str]:
    """Compare unions by what each alternative names; a renamed alternative counts as another."""
    for union in ("anyOf", "oneOf"):
        lost = _named(wider.get(union, ())) - _named(narrower.get(union, ()))
        if union in wider and union in narrower and lost:
            yield f"{place}: {verb} {', '.join(sorted(lost))}, not so on the other side"


def _named(alternatives: Sequence[Schema]) -> set[str]:
    return {
        each["$ref"].rpartition("/")[2] if "$ref" in each else str(each.get("type", "anything"))
        for each in alternatives
    }


def _kinds(schema: Schema) -> set[str]:
    """Return the JSON types of a schema; a whole number is a number too."""
    given = schema.get("type", ())
    kinds = {given} if isinstance(given, str) else set(given)
    return kinds | ({"integer"} if "number" in kinds else set())


def _bounds(place: str, old: Schema, new: Schema) -> Iterator[str]:
    for name in _UPPER:
        if name in new and new[name] < old.get(name, float("inf")):
            yield f"{place}: {name} went down to {new[name]}"
    for name in _LOWER:
        if name in new and new[name] > old.get(name, float("-inf")):
            if name in {"minLength", "minItems"} and new[name] <= old.get(name, 0):
                continue
            yield f"{place}: {name} went up to {new[name]}"
    if "pattern" in new and new["pattern"] != old.get("pattern"):
        yield f"{place}: pattern is {new['pattern']} now"


def main(arguments: Sequence[str]) -> int:
    """Compare two files; print every break."""
    old, new = (json.loads(Path(name).read_text(encoding="utf-8")) for name in arguments)
    found = list(breaks(old, new))
    for line in found:
        sys.stdout.write(line + "\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
