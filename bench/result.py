"""Turns a run's figures into a JSON document and a row of a table."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from statistics import median
from typing import Any, Final

from bench.cluster import Shape
from bench.measure import Usage
from bench.recorder import Counts
from bench.text import table
from bench.textbook import textbook_rows

#: An open loop is overloaded when it answers less than this part of the arriving requests.
KEPT_UP_MIN: Final = 0.97


@dataclass(frozen=True, slots=True)
class Plan:
    """The parameters of a run."""

    door: str
    workload: str
    batch: int
    callers: int
    seconds: float
    warmup_s: float
    seed: int
    #: Arriving requests per second (open loop); None: every caller sends when it has its answer (closed loop).
    rate: float | None = None
    #: Callers send a key.
    auth: bool = False

    @property
    def name(self) -> str:
        """`http uniform 1000 x 8`"""
        arriving = "" if self.rate is None else f" at {self.rate:,.0f}/s"
        with_key = " with a key" if self.auth else ""
        return f"{self.door} {self.workload} {self.batch} x {self.callers}{arriving}{with_key}"


@dataclass(frozen=True, slots=True)
class Figures:
    """The figures of the measured time."""

    seconds: float
    counts: Counts
    latency_ms: Mapping[str, float]
    usage: Usage
    #: Microseconds inside each Redis command, all primaries together; a script includes what it calls.
    redis_usec: Mapping[str, int]
    redis_version: str
    journal_bytes: int
    journal_syncs: int
    #: Counters that only this door has: `operations`, `script_calls`.
    door: Mapping[str, float]
    bytes_per_account: float
    #: Bytes to remember a transfer, on both sides; None when the run added too few.
    bytes_per_remembered: float | None
    #: Seconds from an empty cluster to funded accounts.
    funding_s: float


@dataclass(frozen=True, slots=True)
class Result:
    """A run that may be reported: its books add up."""

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

    def document(self) -> "Document":
        """The document that `--json` writes."""
        f, plan, transfers = self.figures, self.plan, self.figures.counts.transfers
        document = {
            "name": plan.name,
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
            "fsyncs_per_transfer": round(per(f.journal_syncs, transfers), 5),
            "fsyncs_per_s": round(f.journal_syncs / f.seconds, 1),
            "redis_command_us_per_transfer": {
                name: round(per(usec, transfers), 2) for name, usec in f.redis_usec.items() if usec
            },
            "textbook": textbook_rows(self.per_node_tps),
            "memory_bytes_per_account": round(f.bytes_per_account, 1),
            "memory_bytes_per_remembered_transfer": (
                None if f.bytes_per_remembered is None else round(f.bytes_per_remembered, 1)
            ),
            **f.usage.circumstances(),
            "door": plan.door,
            "workload": plan.workload,
            "batch": plan.batch,
            "callers": plan.callers,
            "loop": "closed" if plan.rate is None else "open",
            "arrivals_per_s": plan.rate,
            "seconds": round(f.seconds, 3),
            "warmup_s": plan.warmup_s,
            "seed": plan.seed,
            "accounts": self.accounts,
            "funding_s": round(f.funding_s, 1),
            "shards": self.shape.shards,
            "partitions": self.shape.partitions,
            "apis": self.shape.apis,
            "journals": self.shape.journals,
            "embedded": self.shape.embedded,
            "auth": plan.auth,
            "tls": self.shape.tls,
            "https": self.shape.https,
            "redis_version": f.redis_version,
            "journal_file_system": self.journal_file_system,
            "machine": dict(self.machine),
            "commit": self.commit,
            "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        if plan.rate is not None:
            answered = f.counts.requests / f.seconds
            document["kept_up"] = answered >= KEPT_UP_MIN * plan.rate
        operations = f.door.get("operations", 0.0)
        if operations:
            document["operations_per_script_call"] = round(per(operations, f.door["script_calls"]), 1)
            document["redis_cpu_us_per_operation"] = round(per(f.usage.cpu_s["redis"] * 1e6, operations), 2)
        return document


def per(amount: float, units: float) -> float:
    """`amount / units`; 0 when `units` is 0, as with CPU time below one tick of the kernel."""
    return amount / units if units else 0.0


Document = dict[str, Any]

#: The last columns of every table of rows, see `circumstance_cells`.
CIRCUMSTANCES: Final = ("steal %", "core speed", "other cores")
HEADINGS: Final = (
    *("door", "workload", "batch", "callers", "transfers/s", "per node", "redis µs", "api µs", "journal µs"),
    *("load µs", "p50 ms", "p90 ms", "p99 ms", "p99.9 ms", "B/transfer", "fsyncs/s"),
    *CIRCUMSTANCES,
)


def circumstance_cells(document: Document) -> list[str]:
    """The cells of the columns `CIRCUMSTANCES`, for a row of any door or peer."""
    return [f"{document['steal']:.1f}", f"{document['core_speed']:.2f}", f"{document['other_cores']:.2f}"]


def row(document: Document) -> list[str]:
    """The cells of a run's document, below `HEADINGS`."""
    d, latency, cpu = document, document["latency_ms"], document["cpu_us_per_transfer"]
    arriving = "" if d["arrivals_per_s"] is None else f" at {d['arrivals_per_s']:,.0f}/s"
    if not d.get("kept_up", True):
        arriving += " (overloaded)"
    if d.get("auth"):
        arriving += " with a key"
    return [
        *(d["door"], d["workload"], str(d["batch"]), f"{d['callers']}{arriving}"),
        *(f"{d['transfers_per_s']:,.0f}", f"{d['per_node_tps']:,.0f}"),
        *(f"{cpu[role]:.1f}" for role in ("redis", "api", "journal", "load")),
        *(f"{latency[name]:.1f}" for name in ("p50", "p90", "p99", "p999")),
        *(f"{d['journal_bytes_per_transfer']:.0f}", f"{d['fsyncs_per_s']:.0f}"),
        *circumstance_cells(d),
    ]


def results_table(documents: Sequence[Document], extra: Mapping[str, Sequence[str]] | None = None) -> str:
    """A table with a row for each document, and lines about cluster and machine below.

    `extra`: more columns on the right, heading -> cells.
    """
    extra = extra or {}
    rows = [[*row(each), *(cells[i] for cells in extra.values())] for i, each in enumerate(documents)]
    last = documents[-1]
    runs = f"medians of {last['runs']} runs, " if last.get("runs", 1) > 1 else ""
    known = [d["memory_bytes_per_remembered_transfer"] for d in documents]
    largest = max((size for size in known if size is not None), default=None)
    remembered = "" if largest is None else f", up to {largest:.0f} B per remembered transfer"
    facts = (
        f"{runs}{last['shards']} shards, {last['partitions']} partitions, {last['apis']} API processes, "
        f"{last['accounts']:,} accounts (opened and funded in {last['funding_s']:.0f} s), "
        f"Redis {last['redis_version']}, journal on {last['journal_file_system']}\n"
        f"{last['machine']['cpu']}, {last['machine']['cores']} cores (load generator included), "
        f"commit {last['commit']}; memory {last['memory_bytes_per_account']:.0f} B per account{remembered}; "
        f"books add up in every row"
    )
    return f"{table([*HEADINGS, *extra], rows)}\n{facts}"


KEY_HEADINGS: Final = ("with a key / without", "lowest", "median", "highest")


def cost_of_key(plain: Document, with_key: Document) -> list[list[str]]:
    """The CPU with a key divided by that without, lowest to highest over the pairs of runs.

    Two rows: the API alone, and all processes but the load generator.
    """
    pairs = list(zip(plain.get("each_run", [plain]), with_key.get("each_run", [with_key]), strict=True))
    rows = []
    for name, roles in (("API CPU", ("api",)), ("all CPU", ("api", "journal", "redis"))):
        ratios = [_cpu_us(second, roles) / _cpu_us(first, roles) for first, second in pairs]
        rows.append([name, *(f"{ratio:.3f}" for ratio in (min(ratios), median(ratios), max(ratios)))])
    return rows


def _cpu_us(document: Document, roles: Sequence[str]) -> float:
    return float(sum(document["cpu_us_per_transfer"][role] for role in roles))


def spread_table(document: Document) -> str:
    """A table with the lowest, median and highest figures of several runs."""
    spread, latency = document["spread"], document["latency_ms"]
    lines = [("transfers/s", spread["transfers_per_s"], document["transfers_per_s"])]
    lines += [
        (f"{role} µs", bounds, document["cpu_us_per_transfer"][role])
        for role, bounds in spread["cpu_us_per_transfer"].items()
    ]
    lines += [(f"{name} ms", bounds, latency[name]) for name, bounds in spread["latency_ms"].items()]
    lines += [
        ("steal %", spread["steal"], document["steal"]),
        ("core speed", spread["core_speed"], document["core_speed"]),
    ]
    rows = [[name, *(f"{x:,.2f}" for x in (low, middle, high))] for name, (low, high), middle in lines]
    return table(["of each run", "lowest", "median", "highest"], rows)
