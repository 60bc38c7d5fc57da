"""Counts the answers while the callers of a door run."""

from typing import Final, NamedTuple

from bench.latency import Latencies

#: Maximum unexpected answers that are kept as examples.
_SHOWN_MAX: Final = 5


class Counts(NamedTuple):
    """Counts of the measured part. `transfers` includes the declined and the repeated ones."""

    requests: int
    transfers: int
    declined: int
    repeated: int


class Recorder:
    """Counts answers. `reset` begins the measured part and `freeze` ends it; the totals cover the whole run."""

    def __init__(self) -> None:
        self.latency = Latencies()
        self.requests = 0
        self.transfers = 0
        self.declined = 0
        self.repeated = 0
        #: Totals of the whole run, including warm-up and end.
        self.total_transfers = 0
        self.total_repeated = 0
        self.unexpected = 0
        self.unexpected_shown: list[str] = []
        self._frozen = False

    def __repr__(self) -> str:
        return f"<Recorder transfers={self.transfers} unexpected={self.unexpected}>"

    def reset(self) -> None:
        """Begin the measured part now."""
        self.latency = Latencies()
        self.requests = self.transfers = self.declined = self.repeated = 0

    def freeze(self) -> Counts:
        """End the measured part now, and return its counts."""
        self._frozen = True
        return Counts(self.requests, self.transfers, self.declined, self.repeated)

    def answered(self, latency_s: float, transfers: int, declined: int, *, repeated: bool = False) -> None:
        """Count a request that was answered as expected. `transfers` includes the declined ones."""
        self.total_transfers += transfers
        if repeated:
            self.total_repeated += transfers
        if self._frozen:
            return
        self.latency.record(latency_s)
        self.requests += 1
        self.transfers += transfers
        self.declined += declined
        if repeated:
            self.repeated += transfers

    def surprised(self, text: str) -> None:
        """Count an answer that is neither a success nor an expected decline."""
        self.unexpected += 1
        if len(self.unexpected_shown) < _SHOWN_MAX:
            self.unexpected_shown.append(text[:300])
