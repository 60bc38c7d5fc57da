"""The figures that the engine is held to on a quiet two-core machine, load generator included."""

from typing import Final, NamedTuple


class ThroughputTarget(NamedTuple):
    """Transfers per second of a door, at a batch size, from so many callers."""

    door: str
    batch: int
    callers: int
    at_least: int
    aim: int


THROUGHPUT: Final = (
    ThroughputTarget("http", 1, 256, 5_000, 8_000),
    ThroughputTarget("http", 100, 32, 35_000, 70_000),
    ThroughputTarget("http", 1000, 8, 55_000, 100_000),
    ThroughputTarget("engine", 1, 256, 12_000, 25_000),
)
