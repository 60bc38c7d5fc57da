"""The table of small requests: what a report has measured beside its aims, PostgreSQL's rows among them."""

from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

from bench.commands.peers import ENGINE
from bench.result import Document
from bench.targets import cost_us

HEADINGS: Final = ("small requests", "aim", "measured", "reached")
POSTGRESQL: Final = "postgresql"
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

    def cells(self) -> list[str]:
        bound = f"{'≥' if self.more else '≤'} {self.aim:g}{self.unit}"
        if self.measured is None:
            return [self.what, bound, "not measured", ""]
        reached = self.measured >= self.aim if self.more else self.measured <= self.aim
        return [self.what, bound, f"{self.measured:.3g}{self.unit}", "yes" if reached else "no"]


def aims_of(report: Mapping[str, Any]) -> Iterator[Aim]:
    """All rows, from the document of a report."""
    rates = {
        (row["peer"], row["batch"]): row["transfers_per_s"] for row in report["peers"] if "not_run" not in row
    }
    for batch, times in TIMES_POSTGRESQL.items():
        ours, other = rates.get((ENGINE, batch)), rates.get((POSTGRESQL, batch))
        ratio = None if ours is None or not other else ours / other
        yield Aim(f"transfers/s in batches of {batch:,}, in PostgreSQL's", times, ratio, "×", more=True)
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
    alone = {row["batch"]: row for row in report["http_by_batch"]}
    copies: list[Document] = report.get("copies", [])
    for row in copies:
        yield Aim(
            f"all CPU with {row['journals']} journal copies over that with one, batches of {row['batch']:,}",
            *(_COPIES_COST, cost_us(row) / cost_us(alone[row["batch"]]), "×"),
        )
    if not copies:
        yield Aim("all CPU with 3 journal copies over that with one", _COPIES_COST, None, "×")
