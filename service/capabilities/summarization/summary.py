"""Make one summary out of some statements: filter, rank, choose, find who agrees."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from service.capabilities.summarization.corpus import Corpus
from service.capabilities.summarization.numerics.manifold import (
    Distance,
    Manifold,
    build_manifold,
    distance_table,
    mean_distances,
    within,
)
from service.capabilities.summarization.numerics.ranking import (
    centroid_scores,
    consensus_ranks,
    lexrank_scores,
    ranks,
)
from service.capabilities.summarization.numerics.selection import (
    MOST_COVERING,
    Coverage,
    Relevance,
    Worth,
    choose,
)
from service.capabilities.summarization.numerics.statements import Statements
from service.capabilities.summarization.options import (
    MAX_WORDS,
    MIN_WORDS,
    Options,
    Strategy,
    Unit,
)
from service.numerics.dtypes import Bools, Ids32, Ids64, Progress, Vector64

LIMITS_LIFTED = (
    f"No sentence has {MIN_WORDS} to {MAX_WORDS} words, so sentences of any length were allowed."
)


@dataclass(frozen=True, slots=True)
class View:
    """Hold the statements that one summary is about.

    Attributes:
        rows: (m,) which statements of the corpus, rising.
        statements: those.
        manifold: their own graph.
        tokens: (m,) of the encoder.
        polarity: (m,) -1 to 1.
        favour: (m,) ranks to prefer, of closeness to an aspect; None prefers none.
    """

    rows: Ids64
    statements: Statements
    manifold: Manifold
    tokens: Ids64
    polarity: Vector64
    favour: Vector64 | None = None


@dataclass(frozen=True, slots=True)
class Pick:
    """Hold one sentence of a summary.

    Attributes:
        row: its statement in the corpus.
        score: what it was worth when it was chosen.
        reviews: reviews of the corpus that support it, rising.
        rows: statements of the corpus that support it, nearest first, itself among them.
    """

    row: int
    score: float
    reviews: Ids64
    rows: Ids64


@dataclass(frozen=True, slots=True)
class Section:
    """Hold one summary.

    Attributes:
        picks: its sentences, best first.
        reason: why there is none: `no_sentences`, `no_support`, `filtered` or `budget`.
        radius: of support, in radians.
        used: of the budget.
        dropped: statements left out, by filter.
        warnings: what the caller should know.
    """

    picks: tuple[Pick, ...] = ()
    reason: str | None = None
    radius: float = 0.0
    used: int = 0
    dropped: dict[str, int] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()


def view_all(corpus: Corpus, polarity: Vector64) -> View:
    """Return the view of all statements of a corpus that has some."""
    assert corpus.manifold is not None  # there are statements
    rows = np.arange(corpus.statements.count)
    return View(rows, corpus.statements, corpus.manifold, corpus.tokens, polarity)


def view_some(
    corpus: Corpus,
    polarity: Vector64,
    rows: Ids64,
    *,
    k: int,
    closeness: Vector64 | None = None,
    progress: Progress,
) -> View:
    """Return the view of some statements, at least one, with a graph of their own.

    Args:
        corpus: of n statements.
        polarity: (n,).
        rows: which, rising.
        k: neighbours of each.
        closeness: (n,) to an aspect, or None.
        progress: told how far the neighbours are.
    """
    statements = corpus.statements.of(rows)
    return View(
        rows,
        statements,
        build_manifold(statements.vectors, k=k, progress=progress),
        corpus.tokens[rows],
        polarity[rows],
        None if closeness is None else ranks(closeness[rows]),
    )


def summarize(
    view: View,
    options: Options,
    progress: Progress,
    *,
    means: Callable[[Distance, Progress], Vector64] | None = None,
) -> Section:
    """Return the summary of a view.

    Args:
        view: at least one statement.
        options: strategy, budget, filters.
        progress: told how far the distances are.
        means: mean distances that are known; None computes them.
    """
    radius = view.manifold.edge if options.radius is None else options.radius
    costs = _costs(view, options.unit)
    allowed, dropped, warnings = _filter(view, options)
    too_dear = allowed & (costs > options.budget)
    dropped["budget"] = int(np.count_nonzero(too_dear))
    allowed &= ~too_dear
    found: dict[int, tuple[Ids64, Ids32]] = {}

    def accept(row: int) -> bool:
        near = within(view.manifold, row, radius=radius)
        reviews = view.statements.reviews_saying(near)
        if len(reviews) < options.min_support:
            dropped["support"] += 1
            return False
        progress("select", len(found), len(found) + 1)
        found[row] = reviews, near
        return True

    worth = _worth(view, options, allowed, progress, means)
    chosen = choose(worth, allowed=allowed, costs=costs, budget=options.budget, accept=accept)
    picks = tuple(
        Pick(int(view.rows[row]), score, found[row][0], view.rows[found[row][1]])
        for row, score in chosen
    )
    used = int(sum(costs[row] for row, _ in chosen))
    reason = None if picks else _reason(dropped)
    return Section(picks, reason, radius, used, dropped, warnings)


def _costs(view: View, unit: Unit) -> Ids64:
    if unit is Unit.WORDS:
        return view.statements.words
    if unit is Unit.TOKENS:
        return view.tokens
    return np.ones(view.statements.count, np.int64)


def _filter(view: View, options: Options) -> tuple[Bools, dict[str, int], tuple[str, ...]]:
    """Return which statements may be chosen, how many each filter left out, and warnings."""
    words = view.statements.words
    short = words < (MIN_WORDS if options.min_words is None else options.min_words)
    long = words > (MAX_WORDS if options.max_words is None else options.max_words)
    warnings: tuple[str, ...] = ()
    asked = options.min_words is not None or options.max_words is not None
    if (short | long).all() and not asked:
        short, long = np.zeros_like(short), np.zeros_like(long)
        warnings = (LIMITS_LIFTED,)
    mild = ~(short | long) & (np.abs(view.polarity) < options.min_opinion)
    dropped = {
        "short": int(np.count_nonzero(short)),
        "long": int(np.count_nonzero(long)),
        "opinion": int(np.count_nonzero(mild)),
        "support": 0,
    }
    return ~(short | long | mild), dropped, warnings


def _reason(dropped: dict[str, int]) -> str:
    return "budget" if dropped["budget"] else "filtered"


def _worth(
    view: View,
    options: Options,
    allowed: Bools,
    progress: Progress,
    means: Callable[[Distance, Progress], Vector64] | None,
) -> Worth:
    def central() -> Vector64:
        if means is not None:
            return -means(options.distance, progress)
        table = distance_table(view.manifold, distance=options.distance, progress=progress)
        return -mean_distances(table, view.statements.mentions)

    if options.strategy is Strategy.COVERAGE:
        return Coverage(
            view.manifold,
            view.statements.mentions,
            _covering(allowed, central),
            distance=options.distance,
            progress=progress,
        )
    relevance = _relevance(view.statements, options.strategy, central)
    if view.favour is not None:
        relevance = (relevance + view.favour) / 2
    return Relevance(relevance, view.statements.vectors, redundancy=options.redundancy)


def _covering(allowed: Bools, central: Callable[[], Vector64]) -> Ids64:
    """Return the candidates of coverage: of too many, the most central."""
    candidates = np.flatnonzero(allowed)
    if len(candidates) <= MOST_COVERING:
        return candidates
    best = np.argsort(-central()[candidates], kind="stable")[:MOST_COVERING]
    return np.sort(candidates[best])


def _relevance(
    statements: Statements, strategy: Strategy, central: Callable[[], Vector64]
) -> Vector64:
    """Return ranks of 0 to 1; a mean of ranks stays as it is."""
    if strategy is Strategy.CENTROID:
        return ranks(centroid_scores(statements))
    if strategy is Strategy.LEXRANK:
        return ranks(lexrank_scores(statements))
    if strategy is Strategy.CENTRALITY:
        return ranks(central())
    return consensus_ranks(central(), statements)
