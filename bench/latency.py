"""Latencies of a run: kept one by one during the run, and summarised by an HdrHistogram afterwards.

To add a value to the histogram takes 1.3 µs in Python, to keep it 0.05 µs. The load generator shares its cores with the
measured processes.
"""

from array import array
from collections import Counter
from collections.abc import Iterable
from typing import Final

from hdrh.histogram import HdrHistogram

#: The histogram covers latencies up to an hour, with three significant digits.
MICROS_MAX: Final = 3600 * 10**6
DIGITS: Final = 3
PERCENTS: Final = {"p50": 50.0, "p90": 90.0, "p99": 99.0, "p999": 99.9}
#: Maximum measured time of a run. It bounds the memory: 8 bytes per request.
SECONDS_MAX: Final = 600.0


class Latencies:
    """The latencies of all requests; `record` takes seconds."""

    __slots__ = ("_seconds", "record")

    def __init__(self) -> None:
        self._seconds = array("d")
        #: Keeps one latency, in seconds.
        self.record = self._seconds.append

    def __repr__(self) -> str:
        return f"<Latencies count={len(self._seconds)}>"

    def __len__(self) -> int:
        return len(self._seconds)

    def summary_ms(self) -> dict[str, float]:
        """`{"p50", "p90", "p99", "p999", "max"}` in milliseconds; zeros when nothing was recorded."""
        return summary_ms(self._seconds)


def summary_ms(seconds: Iterable[float]) -> dict[str, float]:
    """Percentiles as `Latencies.summary_ms` gives them."""
    histogram = HdrHistogram(1, MICROS_MAX, DIGITS)
    for micros, count in Counter(min(max(round(s * 1e6), 1), MICROS_MAX) for s in seconds).items():
        histogram.record_value(micros, count)
    if not histogram.get_total_count():
        return {**dict.fromkeys(PERCENTS, 0.0), "max": 0.0}
    found = {name: histogram.get_value_at_percentile(percent) for name, percent in PERCENTS.items()}
    return {name: round(micros / 1000, 3) for name, micros in (*found.items(), ("max", histogram.max_value))}
