"""Hold a generated run to the reasons for which a request that fits the schema may be refused.

Loaded by schemathesis itself, through `SCHEMATHESIS_HOOKS`.
"""

from __future__ import annotations

import re

import schemathesis

# What JSON Schema cannot say: it depends on the model, or on how values hang together.
REASONS = re.compile(
    r"Token id \d+ is not one of this model's"
    r"|\d+ dimensions were asked for"
    r"|the vectors have different lengths"
    r"|Vector \d+ is all zeros"
    r"|data holds \d+ bytes and shape"
    r"|data is not base64"
    r"|every number must be finite in float32"
)


@schemathesis.check
def refused_for_a_known_reason(
    ctx: schemathesis.CheckContext, response: schemathesis.Response, case: schemathesis.Case
) -> None:
    """Check that a 422 on a request that fits the schema has one of the reasons above."""
    if case.meta is None or not case.meta.generation.mode.is_positive:
        return
    if response.status_code == 422:
        detail = response.json()["detail"]
        assert REASONS.search(detail), f"refused though the schema allows it: {detail}"
