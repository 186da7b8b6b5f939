"""Every kind of break is found, and nothing that only widens is called one."""

from __future__ import annotations

import copy
import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[3]
FILE = ROOT / "openapi" / "check_breaking.py"
_spec = importlib.util.spec_from_file_location("check_breaking", FILE)
assert _spec is not None
assert _spec.loader is not None
check = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(check)

DOCUMENT: dict[str, Any] = {
    "paths": {
        "/things": {
            "post": {
                "operationId": "make_thing",
                "parameters": [
                    {"name": "dry", "in": "query", "required": False, "schema": {"type": "boolean"}}
                ],
                "requestBody": {
                    "required": True,
                    "content": {
                        "application/json": {"schema": {"$ref": "#/components/schemas/Wish"}}
                    },
                },
                "responses": {
                    "200": {
                        "content": {
                            "application/json": {"schema": {"$ref": "#/components/schemas/Thing"}},
                            "image/png": {"schema": {"type": "string"}},
                        }
                    },
                    "404": {},
                },
            }
        }
    },
    "components": {
        "schemas": {
            "Wish": {
                "type": "object",
                "required": ["name"],
                "properties": {
                    "name": {"type": "string", "maxLength": 10},
                    "kind": {"enum": ["a", "b"]},
                    "size": {"anyOf": [{"type": "integer"}, {"type": "null"}]},
                    "inner": {"$ref": "#/components/schemas/Wish"},
                },
            },
            "Thing": {
                "type": "object",
                "required": ["id", "state"],
                "properties": {
                    "id": {"type": "string"},
                    "state": {"enum": ["new", "old"]},
                    "parts": {"type": "array", "items": {"type": "integer"}},
                },
            },
        }
    },
}


def changed(change: Callable[[dict[str, Any], dict[str, Any], dict[str, Any]], Any]) -> list[str]:
    """Return the breaks that a change of (operation, Wish, Thing) makes."""
    new = copy.deepcopy(DOCUMENT)
    schemas = new["components"]["schemas"]
    change(new["paths"]["/things"]["post"], schemas["Wish"], schemas["Thing"])
    return list(check.breaks(DOCUMENT, new))


BREAKS: dict[str, tuple[Callable[..., Any], str]] = {
    "renamed": (lambda op, w, t: op.update(operationId="x"), "is called x"),
    "answer gone": (lambda op, w, t: op["responses"].pop("404"), "no longer answers 404"),
    "media type gone": (
        lambda op, w, t: op["responses"]["200"]["content"].pop("image/png"),
        "no longer comes as image/png",
    ),
    "parameter gone": (lambda op, w, t: op["parameters"].clear(), "parameter dry is gone"),
    "parameter required": (
        lambda op, w, t: op["parameters"][0].update(required=True),
        "has become required",
    ),
    "new parameter required": (
        lambda op, w, t: op["parameters"].append(
            {"name": "n", "in": "query", "required": True, "schema": {}}
        ),
        "parameter n is new and required",
    ),
    "field required": (lambda op, w, t: w["required"].append("kind"), "/kind: is required now"),
    "field gone from a request": (lambda op, w, t: w["properties"].pop("kind"), "/kind: is gone"),
    "choice gone": (
        lambda op, w, t: w["properties"]["kind"].update(enum=["a"]),
        "no longer takes b",
    ),
    "shorter": (lambda op, w, t: w["properties"]["name"].update(maxLength=5), "went down to 5"),
    "longer": (lambda op, w, t: w["properties"]["name"].update(minLength=2), "went up to 2"),
    "pattern": (lambda op, w, t: w["properties"]["name"].update(pattern="a+"), "pattern is a+"),
    "type": (lambda op, w, t: w["properties"]["name"].update(type="integer"), "takes string"),
    "null gone": (
        lambda op, w, t: w["properties"]["size"]["anyOf"].pop(),
        "takes null",
    ),
    "field gone from an answer": (lambda op, w, t: t["properties"].pop("parts"), "/parts: is gone"),
    "field may be missing": (lambda op, w, t: t["required"].remove("id"), "/id: may be missing"),
    "new choice in an answer": (
        lambda op, w, t: t["properties"]["state"]["enum"].append("lost"),
        "may be lost",
    ),
    "wider type in an answer": (
        lambda op, w, t: t["properties"]["parts"]["items"].update(type="number"),
        "may be number",
    ),
}


@pytest.mark.parametrize("name", BREAKS)
def test_a_break_is_found(name: str) -> None:
    change, said = BREAKS[name]
    found = changed(change)
    assert any(said in line for line in found), found


@pytest.mark.parametrize(
    "change",
    [
        lambda op, w, t: op.update(summary="other words"),
        lambda op, w, t: op["responses"].update({"429": {}}),
        lambda op, w, t: w["properties"].update(more={"type": "string"}),
        lambda op, w, t: w["properties"]["kind"]["enum"].append("c"),
        lambda op, w, t: w["properties"]["name"].update(maxLength=20),
        lambda op, w, t: t["properties"].update(more={"type": "string"}),
        lambda op, w, t: t["required"].append("parts"),
        lambda op, w, t: t["properties"]["state"].update(enum=["new"]),
    ],
    ids=range(8),
)
def test_widening_is_no_break(change: Callable[..., Any]) -> None:
    assert changed(change) == []


def test_a_path_that_is_gone_is_found() -> None:
    assert list(check.breaks(DOCUMENT, {"paths": {}})) == ["POST /things: is gone"]


def test_the_committed_document_breaks_nothing() -> None:
    old, new = (
        json.loads((ROOT / "openapi" / name).read_text(encoding="utf-8"))
        for name in ("baseline.json", "openapi.json")
    )
    assert list(check.breaks(old, new)) == []
