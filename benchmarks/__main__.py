"""Command line: `python -m benchmarks setup | run | report`."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence

from benchmarks import compare, cost, memory, overload, redis_faults, results
from benchmarks.compare import Plan
from benchmarks.contestants import SetUpError
from benchmarks.peers.setup import set_up
from benchmarks.process import ServerError
from benchmarks.results import say
from benchmarks.wrk import ClientError, find_wrk

SCENARIOS: dict[str, Callable[[Plan], None]] = {
    compare.TUNING: compare.tune_peers,
    "short": compare.run_short,
    "batch32": compare.run_batch32,
    "reviews": compare.run_reviews,
    "overhead": cost.run_overhead,
    "hits": cost.run_hits,
    "memory": memory.run_memory,
    "overload": overload.run_overload,
    "redis": redis_faults.run_redis,
}


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Return what was asked on the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    actions = parser.add_subparsers(dest="action", required=True)
    actions.add_parser("setup", help="install the peers and make their model folder")
    actions.add_parser("report", help="print the table of bars from the result files")
    run = actions.add_parser("run", help="measure, write results/*.json, print the table")
    run.add_argument("--only", action="append", choices=SCENARIOS, metavar="NAME",
                     help=f"one scenario, may be repeated: {', '.join(SCENARIOS)}")  # fmt: skip
    run.add_argument("--rounds", type=int, default=5, help="times each server is measured")
    run.add_argument("--seconds", type=float, default=3, help="length of one measurement")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Do what the command line asks."""
    given = parse_arguments(arguments)
    try:
        act(given)
    except (ClientError, ServerError, SetUpError) as error:
        sys.exit(f"benchmarks: {error}")


def act(given: argparse.Namespace) -> None:
    """Set up, measure or report."""
    if given.action == "setup":
        set_up()
    elif given.action == "run":
        find_wrk()
        run_scenarios(given.only or list(SCENARIOS), plan=Plan(given.rounds, given.seconds))
        say(results.report(given.only or list(SCENARIOS)))
    else:
        say(results.report(list(SCENARIOS)))


def run_scenarios(names: Sequence[str], *, plan: Plan) -> None:
    """Run scenarios one after another; each writes its result before the next begins."""
    for name in names:
        say(f"{name}:")
        started = time.monotonic()
        SCENARIOS[name](plan)
        say(f"  took {time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    main()
