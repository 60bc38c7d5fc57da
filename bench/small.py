"""The table of small requests: what a report has measured beside its aims, PostgreSQL's rows among them."""

from collections.abc import Callable, Iterator, Mapping
from statistics import median
from typing import Any, Final, NamedTuple

from bench.result import Document
from bench.targets import cost_us

HEADINGS: Final = ("small requests", "aim", "measured", "reached")
#: Batch size -> minimum throughput in that of PostgreSQL.
TIMES_POSTGRESQL: Final[Mapping[int, float]] = {1: 6.0, 10: 2.5, 100: 2.0, 1000: 3.0}
_SINGLE_US: Final = {"redis": ("Redis", 15.0), "api": ("API", 28.0)}
_P99_MS: Final = 5.0
_REMEMBERED_BYTES: Final = 60.0
_COPIES_COST: Final = 1.15


class Aim(NamedTuple):
    """One row; `measured` is None where the report lacks it."""

    what: str
    aim: float
    measured: float | None
    unit: str
    #: Whether more is better.
    more: bool = False
    #: Lowest and highest of several turns.
    spread: tuple[float, float] | None = None

    def cells(self) -> list[str]:
        bound = f"{'≥' if self.more else '≤'} {self.aim:g}{self.unit}"
        if self.measured is None:
            return [self.what, bound, "not measured", ""]
        reached = self.measured >= self.aim if self.more else self.measured <= self.aim
        spread = f" ({self.spread[0]:.3g} to {self.spread[1]:.3g})" if self.spread else ""
        return [self.what, bound, f"{self.measured:.3g}{self.unit}{spread}", "yes" if reached else "no"]


def aims_of(report: Mapping[str, Any]) -> Iterator[Aim]:
    """All rows, from the document of a report."""
    yield from ratios_of(report["small"])
    singles = report["throughput"][0]["cpu_us_per_transfer"]
    for role, (name, us) in _SINGLE_US.items():
        yield Aim(f"CPU of a single transfer, {name}", us, singles[role], " µs")
    arriving = report["half_loads"][-1]
    yield Aim(
        f"p99 of singles at {arriving['arrivals_per_s']:,.0f}/s arriving",
        *(_P99_MS, arriving["latency_ms"]["p99"], " ms"),
    )
    known = [row["memory_bytes_per_remembered_transfer"] for row in report["memory"]]
    sizes = [size for size in known if size is not None]
    yield Aim("memory per remembered transfer", _REMEMBERED_BYTES, max(sizes, default=None), " B")


def ratios_of(small: Mapping[str, Any]) -> Iterator[Aim]:
    """The rows that are ratios, from the document of `measure_small`: each is the median of its turns."""
    pairs = {ours["batch"]: (ours, other) for ours, other in small["postgresql"]}
    for batch, times in TIMES_POSTGRESQL.items():
        what = f"transfers/s in batches of {batch:,}, in PostgreSQL's"
        yield _ratio(what, times, pairs.get(batch), lambda row: float(row["transfers_per_s"]), more=True)
    for alone, copies in small["copies"]:
        what = f"all CPU with {copies['journals']} journal copies over that with one, batches of {copies['batch']:,}"
        yield _ratio(what, _COPIES_COST, (copies, alone), cost_us, more=False)


def _ratio(
    what: str,
    aim: float,
    pair: tuple[Document, Document] | None,
    value: Callable[[Document], float],
    *,
    more: bool,
) -> Aim:
    """The ratio of two rows of `in_turns`, in each turn by itself."""
    if pair is None:
        return Aim(what, aim, None, "×", more)
    turns = zip(*(row.get("each_run", [row]) for row in pair), strict=True)
    ratios = [value(one) / value(other) for one, other in turns]
    spread = (min(ratios), max(ratios)) if len(ratios) > 1 else None
    return Aim(what, aim, median(ratios), "×", more, spread)
