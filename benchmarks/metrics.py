"""Read the service's own Prometheus figures."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.process import Server


@dataclass(frozen=True, slots=True)
class BatchCount:
    """Hold what the batcher has run since the service started."""

    runs: float
    texts: float
    padded_tokens: float

    def since(self, earlier: BatchCount) -> dict[str, float]:
        """Return texts and padded tokens of a mean run since `earlier`."""
        runs = max(1.0, self.runs - earlier.runs)
        return {
            "texts_per_run": round((self.texts - earlier.texts) / runs, 3),
            "tokens_per_run": round((self.padded_tokens - earlier.padded_tokens) / runs, 3),
        }


def read_total(server: Server, name: str) -> float:
    """Return a figure summed over its labels; 0 where it is not shown."""
    total = 0.0
    for line in server.fetch("/metrics").splitlines():
        if line.startswith((f"{name} ", f"{name}{{")):
            total += float(line.rpartition(" ")[2])
    return total


def read_batches(server: Server) -> BatchCount:
    """Return the batcher's counts."""
    return BatchCount(
        runs=read_total(server, "isotrope_batch_texts_count"),
        texts=read_total(server, "isotrope_batch_texts_sum"),
        padded_tokens=read_total(server, "isotrope_batch_tokens_sum"),
    )
