"""The breaker, on a clock that the test turns."""

from __future__ import annotations

import pytest

from service.stores.breaker import LONGEST_PAUSE, SHORTEST_PAUSE, Breaker, BreakerState


class Bench:
    """Hold a breaker with its clock, its jitter and what it announced."""

    def __init__(self) -> None:
        self.now = 100.0
        self.factor = 1.0
        self.changes: list[tuple[BreakerState, float]] = []
        self.breaker = Breaker(
            clock=lambda: self.now,
            jitter=lambda: self.factor,
            on_change=lambda state, pause: self.changes.append((state, pause)),
        )

    def fail(self, times: int, *, timed_out: bool = False) -> None:
        for _ in range(times):
            self.breaker.failed(timed_out=timed_out)

    def pause(self) -> float:
        """Return how long the breaker stays open from now, to a hundredth of a second."""
        began = self.now
        while not self.breaker.begin_probe():
            self.now += 0.01
        return self.now - began


@pytest.fixture
def bench() -> Bench:
    return Bench()


@pytest.mark.parametrize(("timed_out", "enough"), [(False, 5), (True, 2)])
def test_failures_in_a_row_open_it(bench: Bench, *, timed_out: bool, enough: int) -> None:
    bench.fail(enough - 1, timed_out=timed_out)
    assert bench.breaker.closed
    bench.fail(1, timed_out=timed_out)
    assert bench.breaker.state is BreakerState.OPEN
    assert bench.changes == [(BreakerState.OPEN, SHORTEST_PAUSE)]


def test_a_success_forgives(bench: Bench) -> None:
    for _ in range(10):
        bench.fail(4)
        bench.breaker.succeeded()
    assert bench.breaker.closed
    assert not bench.changes


def test_only_one_caller_probes(bench: Bench) -> None:
    bench.fail(5)
    allowed = [bench.breaker.begin_probe()]
    bench.now += SHORTEST_PAUSE
    allowed += [bench.breaker.begin_probe() for _ in range(2)]
    assert allowed == [False, True, False]
    assert not bench.breaker.closed


def test_a_good_probe_closes_it_and_the_next_failure_opens_it_again(bench: Bench) -> None:
    bench.fail(5)
    bench.pause()
    bench.breaker.end_probe(succeeded=True)
    assert bench.breaker.closed
    assert bench.changes[-1] == (BreakerState.CLOSED, 0.0)
    bench.fail(1)
    assert bench.changes[-1] == (BreakerState.OPEN, 2 * SHORTEST_PAUSE)
    assert bench.pause() == pytest.approx(2 * SHORTEST_PAUSE, abs=0.02)


def test_a_success_after_the_probe_starts_all_over(bench: Bench) -> None:
    bench.fail(5)
    for _ in range(3):
        bench.pause()
        bench.breaker.end_probe(succeeded=False)
    bench.pause()
    bench.breaker.end_probe(succeeded=True)
    bench.breaker.succeeded()
    bench.fail(4)
    assert bench.breaker.closed
    bench.fail(1)
    assert bench.pause() == pytest.approx(SHORTEST_PAUSE, abs=0.02)


@pytest.mark.parametrize("factor", [0.75, 1.0, 1.25])
def test_pauses_grow_with_jitter_between_two_bounds(bench: Bench, factor: float) -> None:
    bench.factor = factor
    bench.fail(5)
    pauses = []
    for _ in range(7):
        pauses.append(round(bench.pause(), 3))
        bench.breaker.end_probe(succeeded=False)
    assert pauses == sorted(pauses)
    assert pauses[0] == pytest.approx(max(SHORTEST_PAUSE, factor * SHORTEST_PAUSE), abs=0.02)
    assert pauses[2] == pytest.approx(factor * 8, abs=0.02)
    assert pauses[-1] == pytest.approx(min(factor * LONGEST_PAUSE, LONGEST_PAUSE), abs=0.02)
    assert len(bench.changes) == 1  # a failed probe is no news


def test_late_news_of_earlier_calls_changes_nothing(bench: Bench) -> None:
    bench.fail(5)
    bench.fail(20, timed_out=True)
    bench.breaker.succeeded()
    assert bench.breaker.state is BreakerState.OPEN
    assert bench.pause() == pytest.approx(SHORTEST_PAUSE, abs=0.02)
