"""Hold a generated run to the reasons for which a request that fits the schema may be refused.

Loaded by schemathesis itself, through `SCHEMATHESIS_HOOKS`.
"""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path

import schemathesis

_REFUSED = {409, 413, 422}
_REASONS = re.compile(
    "|".join(
        reason
        for path in sorted((Path(__file__).parent / "reasons").glob("[a-z]*.py"))
        for reason in import_module(f"tests.contract.reasons.{path.stem}").REASONS
    )
)


@schemathesis.check
def refused_for_a_known_reason(
    ctx: schemathesis.CheckContext, response: schemathesis.Response, case: schemathesis.Case
) -> None:
    """Check that a refusal of a request that fits the schema has one of the listed reasons."""
    if case.meta is None or not case.meta.generation.mode.is_positive:
        return
    if response.status_code in _REFUSED:
        detail = response.json()["detail"]
        assert _REASONS.search(detail), f"refused though the schema allows it: {detail}"
