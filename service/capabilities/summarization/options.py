"""Hold what a summary is asked to be."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from service.capabilities.summarization.numerics.manifold import Distance


class Strategy(StrEnum):
    """Name how sentences are ranked; `numerics/ranking.py` has the formulas."""

    CONSENSUS = "consensus"
    CENTRALITY = "centrality"
    COVERAGE = "coverage"
    LEXRANK = "lexrank"
    CENTROID = "centroid"


class Unit(StrEnum):
    """Name what a budget counts."""

    WORDS = "words"
    SENTENCES = "sentences"
    TOKENS = "tokens"


# Found on the development sets, together with k and redundancy; docs/decisions/0020.
MIN_WORDS = 3
MAX_WORDS = 25
NEIGHBOURS = 5
REDUNDANCY = 0.4
BUDGET_WORDS = 75


@dataclass(frozen=True, slots=True)
class Options:
    """Hold the choices of one summary.

    Attributes:
        strategy: how statements are ranked.
        distance: for consensus, centrality and coverage.
        unit: what the budget counts.
        budget: how much of it.
        redundancy: weight of likeness to what is chosen already, 0 to 1.
        min_support: least number of supporting reviews.
        min_words: shortest sentence; None is 3, given up where no sentence fits the limits.
        max_words: longest sentence; None is 25, likewise.
        min_opinion: least strength of opinion, 0 to 1.
        radius: of support in radians; None is the median edge of the graph.
    """

    strategy: Strategy = Strategy.CONSENSUS
    distance: Distance = Distance.GEODESIC
    unit: Unit = Unit.WORDS
    budget: int = BUDGET_WORDS
    redundancy: float = REDUNDANCY
    min_support: int = 1
    min_words: int | None = None
    max_words: int | None = None
    min_opinion: float = 0.0
    radius: float | None = None
