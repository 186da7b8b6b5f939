"""Name the two ways a model build can fail; both carry a sentence that says what to do."""

from __future__ import annotations


class RecipeError(ValueError):
    """A source cannot be turned into an artefact, and the message says what to change.

    Raised for a folder without a needed file, an unknown pooling, a graph with no usable
    output, an unknown model id.
    """


class PinMismatchError(RecipeError):
    """A file does not have the digest that `manifest.json` pins for it."""
