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
    # whitening and geometry: what vectors are to each other, to k, and to a transform
    r"|1 vector came; a whitening needs"
    r"|vectors are the same"
    r"|samples span only"
    r"|was given for vectors without a model"
    r"|they did not come from it"
    r"|has no pooling"
    r"|vectors have no geometry"
    r"|\d+ neighbours were asked for"
    r"|looks at neighbours, and a single vector"
    r"|is so long that its image does not fit"
    r"|pairs are too few"
    r"|a rank correlation needs scores that differ"
    r"|names row \d+"
    r"|pairs of row numbers need them"
    r"|dimensions and the transform \S+ takes"
    r"|/seed: must be a whole number"  # the schema's largest, as a float, is one more
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
