"""The targets of the engine on a quiet machine with two cores, load generator included."""

from collections.abc import Sequence
from typing import Final, NamedTuple

from bench.result import Document


class ThroughputTarget(NamedTuple):
    """Transfers per second at a door, with a batch size and a number of callers."""

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


#: Maximum significant digits of a figure in the table.
_DIGITS_MAX: Final = 12


class Target(NamedTuple):
    """One row of the table: a target and the measured value."""

    what: str
    at_least: float
    aim: float
    measured: float
    unit: str
    #: Whether more is better.
    more: bool

    @property
    def reached(self) -> str:
        """`aim`, `at least` or `missed`."""
        for bound, name in ((self.aim, "aim"), (self.at_least, "at least")):
            if self.measured >= bound if self.more else self.measured <= bound:
                return name
        return "missed"

    def cells(self) -> list[str]:
        """A row of the table."""
        return [self.what, *map(self._shown, (self.at_least, self.aim)), self._shown_apart(), self.reached]

    def _shown(self, value: float, digits: int = 3) -> str:
        if value >= 10**digits:
            return f"{value:,.0f}{self.unit}"
        return f"{value:,.{digits}g}{self.unit}"

    def _shown_apart(self) -> str:
        """The measured value, with digits enough to differ from the bounds: 15.04 ms and not 15 ms, which is missed."""
        others = [bound for bound in (self.at_least, self.aim) if bound != self.measured]
        for digits in range(3, _DIGITS_MAX):
            text = self._shown(self.measured, digits)
            if all(text != self._shown(bound, digits) for bound in others):
                break
        return text


HEADINGS: Final = ("door, batch, callers", "at least", "aim", "measured", "reached")


def cost_us(document: Document) -> float:
    """CPU microseconds per transfer of all processes of the engine."""
    cpu = document["cpu_us_per_transfer"]
    return float(cpu["redis"] + cpu["api"] + cpu["journal"])


def targets_of(
    throughput: Sequence[Document],
    half_loads: Sequence[Document],
    across: Document,
    memory: Sequence[Document],
    many_accounts: Document,
) -> list[Target]:
    """All rows of the table.

    `throughput`: runs in the order of `THROUGHPUT`. `half_loads`: a run at half of the measured throughput, and one at
    half of the aim. `many_accounts`: a run as `across`, with more accounts.
    """
    large = throughput[2]["cpu_us_per_transfer"]
    many, few = many_accounts["accounts"], across["accounts"]
    account_bytes = max(row["memory_bytes_per_account"] for row in memory)
    known = [row["memory_bytes_per_remembered_transfer"] for row in memory]
    remembered_bytes = max((size for size in known if size is not None), default=0.0)
    return [
        *(
            Target(
                f"{wanted.door}, {wanted.batch:,}, {wanted.callers}",
                *(wanted.at_least, wanted.aim, document["transfers_per_s"], "/s", True),
            )
            for wanted, document in zip(THROUGHPUT, throughput, strict=True)
        ),
        Target(
            "Redis CPU per transfer across partitions, batch 1,000",
            *(9.0, 6.0, across["cpu_us_per_transfer"]["redis"], " µs", False),
        ),
        Target("API CPU per transfer, HTTP batch 1,000", 12.0, 7.0, large["api"], " µs", False),
        Target("journal CPU per transfer, batch 1,000", 2.0, 1.0, large["journal"], " µs", False),
        *(
            Target(
                f"p99 of a single HTTP transfer at half {of_what} ({document['arrivals_per_s']:,.0f}/s arriving)",
                *(15.0, 6.0, document["latency_ms"]["p99"], " ms", False),
            )
            for of_what, document in zip(("load", "of the throughput aimed at"), half_loads, strict=True)
        ),
        Target(
            "journal bytes per transfer across partitions, batch 1,000",
            *(250.0, 150.0, across["journal_bytes_per_transfer"], " B", False),
        ),
        Target("memory per account", 110.0, 80.0, account_bytes, " B", False),
        Target("memory per remembered transfer", 110.0, 50.0, remembered_bytes, " B", False),
        Target(
            f"cost per transfer with {many:,} accounts against {few:,}",
            *(1.5, 1.2, cost_us(many_accounts) / cost_us(across), "×", False),
        ),
    ]
