"""Name what this room lends to its routes."""

from __future__ import annotations

from dataclasses import dataclass

from service.capabilities.summarization.pipeline import SummarizationPipeline
from service.capabilities.summarization.sets import ReviewSets


@dataclass(frozen=True, slots=True)
class Opinions:
    """Hold the two ways of reviews into a summary.

    Attributes:
        given: reviews that come with the request.
        stored: sets of reviews that grow.
    """

    given: SummarizationPipeline
    stored: ReviewSets
