"""A run's figures as a JSON document and as a row of a table."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from bench.cluster import Shape
from bench.measure import Usage
from bench.recorder import Counts


@dataclass(frozen=True, slots=True)
class Plan:
    """What to measure."""

    door: str
    workload: str
    batch: int
    callers: int
    seconds: float
    warmup_s: float
    seed: int

    @property
    def name(self) -> str:
        """`http uniform 1000 x 8`"""
        return f"{self.door} {self.workload} {self.batch} x {self.callers}"


@dataclass(frozen=True, slots=True)
class Figures:
    """What was counted in the measured time."""

    seconds: float
    counts: Counts
    latency_ms: Mapping[str, float]
    usage: Usage
    #: Microseconds inside each Redis command, all primaries together; a script includes what it calls.
    redis_usec: Mapping[str, int]
    redis_version: str
    journal_bytes: int
    #: Counters that only this door has: `operations`, `script_calls`.
    door: Mapping[str, float]
    bytes_per_account: float
    bytes_per_remembered: float


@dataclass(frozen=True, slots=True)
class Result:
    """Figures that may be reported: the books added up."""

    plan: Plan
    shape: Shape
    accounts: int
    figures: Figures
    machine: Mapping[str, object]
    journal_file_system: str
    commit: str

    @property
    def transfers_per_s(self) -> float:
        return self.figures.counts.transfers / self.figures.seconds

    @property
    def per_node_tps(self) -> float:
        """Transfers per CPU-second of the Redis primaries together."""
        return per(self.figures.counts.transfers, self.figures.usage.cpu_s["redis"])

    def cpu_us(self, role: str) -> float:
        """CPU microseconds of the role's processes per transfer."""
        return per(self.figures.usage.cpu_s.get(role, 0.0) * 1e6, self.figures.counts.transfers)

    def document(self) -> dict[str, Any]:
        """The document behind `--json`."""
        f, plan, transfers = self.figures, self.plan, self.figures.counts.transfers
        document = {
            "transfers_per_s": round(self.transfers_per_s, 1),
            "per_node_tps": round(self.per_node_tps),
            "cpu_us_per_transfer": {
                role: round(self.cpu_us(role), 2) for role in ("redis", "api", "journal", "load")
            },
            "cpu_cores": {role: round(cpu_s / f.seconds, 3) for role, cpu_s in f.usage.cpu_s.items()},
            "latency_ms": dict(f.latency_ms),
            "transfers": transfers,
            "requests": f.counts.requests,
            "declined": f.counts.declined,
            "repeated": f.counts.repeated,
            "conserved": True,
            "journal_bytes_per_transfer": round(per(f.journal_bytes, transfers), 1),
            "fdatasyncs_per_transfer": None,  # the journal process does not publish its metrics yet
            "redis_command_us_per_transfer": {
                name: round(per(usec, transfers), 2) for name, usec in f.redis_usec.items() if usec
            },
            "memory_bytes_per_account": round(f.bytes_per_account, 1),
            "memory_bytes_per_remembered_transfer": round(f.bytes_per_remembered, 1),
            "steal": f.usage.steal_percent,
            "load_average": f.usage.load_average,
            "other_cores": f.usage.other_cores,
            "other_processes_cores": dict(f.usage.others),
            "door": plan.door,
            "workload": plan.workload,
            "batch": plan.batch,
            "callers": plan.callers,
            "seconds": round(f.seconds, 3),
            "warmup_s": plan.warmup_s,
            "seed": plan.seed,
            "accounts": self.accounts,
            "shards": self.shape.shards,
            "partitions": self.shape.partitions,
            "apis": self.shape.apis,
            "embedded": self.shape.embedded,
            "redis_version": f.redis_version,
            "journal_file_system": self.journal_file_system,
            "machine": dict(self.machine),
            "commit": self.commit,
            "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        operations = f.door.get("operations", 0.0)
        if operations:
            document["operations_per_script_call"] = round(per(operations, f.door["script_calls"]), 1)
            document["redis_cpu_us_per_operation"] = round(per(f.usage.cpu_s["redis"] * 1e6, operations), 2)
        return document


def per(amount: float, units: float) -> float:
    """`amount / units`, 0 when there are no units: CPU below one tick of the kernel's clock."""
    return amount / units if units else 0.0


#: Heading and value of each column.
_COLUMNS: Final = (
    "door",
    "workload",
    "batch",
    "callers",
    "transfers/s",
    "per node",
    "redis µs",
    "api µs",
    "journal µs",
    "load µs",
    "p50 ms",
    "p99 ms",
    "p99.9 ms",
    "B/transfer",
    "steal %",
    "other cores",
)


def row(result: Result) -> list[str]:
    """The cells of a result."""
    plan, figures = result.plan, result.figures
    latency = figures.latency_ms
    cpu = [f"{result.cpu_us(role):.1f}" for role in ("redis", "api", "journal", "load")]
    return [
        *(plan.door, plan.workload, str(plan.batch), str(plan.callers)),
        *(f"{result.transfers_per_s:,.0f}", f"{result.per_node_tps:,.0f}", *cpu),
        *(f"{latency[name]:.1f}" for name in ("p50", "p99", "p999")),
        f"{per(figures.journal_bytes, figures.counts.transfers):.0f}",
        f"{figures.usage.steal_percent:.1f}",
        f"{figures.usage.other_cores:.2f}",
    ]


def table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Text in columns; what looks like a number stands right."""
    widths = [max(len(line[i]) for line in (headings, *rows)) for i in range(len(headings))]
    numeric = [all(not cell or cell[0].isdigit() for cell in column) for column in zip(*rows, strict=True)]

    def line(cells: Sequence[str]) -> str:
        placed = zip(cells, widths, numeric or [False] * len(widths), strict=True)
        return "  ".join(
            cell.rjust(width) if right else cell.ljust(width) for cell, width, right in placed
        ).rstrip()

    return "\n".join([line(headings), line(["-" * width for width in widths]), *map(line, rows)])


def results_table(results: Sequence[Result], extra: Mapping[str, Sequence[str]] | None = None) -> str:
    """One row per result, `extra` columns (heading -> cells) behind, and what was measured on below."""
    extra = extra or {}
    rows = [[*row(result), *(cells[i] for cells in extra.values())] for i, result in enumerate(results)]
    last = results[-1]
    facts = (
        f"{last.shape.shards} shards, {last.shape.partitions} partitions, {last.shape.apis} API processes, "
        f"{last.accounts:,} accounts, Redis {last.figures.redis_version}, journal on {last.journal_file_system}\n"
        f"{last.machine['cpu']}, {last.machine['cores']} cores (load generator included), commit {last.commit}; "
        f"memory {last.figures.bytes_per_account:.0f} B per account; books add up in every row"
    )
    return f"{table([*_COLUMNS, *extra], rows)}\n{facts}"
