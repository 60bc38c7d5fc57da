"""What a million transfers per second would take, from what runs of this machine cost.

CPU per transfer is a line in the part of a fixed cost that each transfer carries: a script call shared by k operations
adds b / k to what its transfer costs by itself. So `cost = a + b · x`, with x = 1 / operations per script call for
Redis and journal, and x = 1 / transfers per request for the API. The line is fitted by least squares over calibration
runs, and tried on a run that it has not seen.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from bench.result import Document

DAY_S: Final = 24 * 3600
ROLES: Final = ("redis", "api", "journal")


@dataclass(frozen=True, slots=True)
class Line:
    """`cost(x) = fixed + slope · x`, microseconds."""

    fixed: float
    slope: float

    def at(self, x: float) -> float:
        return self.fixed + self.slope * x


def fit(points: Sequence[tuple[float, float]]) -> Line:
    """The least-squares line through (x, cost). Raises `ValueError` for fewer than two different x."""
    if len({x for x, _ in points}) < 2:
        raise ValueError("a line needs two different points")
    mean_x = sum(x for x, _ in points) / len(points)
    mean_y = sum(y for _, y in points) / len(points)
    slope = sum((x - mean_x) * (y - mean_y) for x, y in points) / sum((x - mean_x) ** 2 for x, _ in points)
    return Line(mean_y - slope * mean_x, slope)


def shared(role: str, document: Document) -> float:
    """The part of a fixed cost that a transfer carries: x of the line."""
    if role == "api":
        return 1 / float(document["batch"])
    return 1 / float(document["operations_per_script_call"])


@dataclass(frozen=True, slots=True)
class Model:
    """CPU per transfer by role."""

    lines: Mapping[str, Line]

    def cost_us(self, role: str, document: Document) -> float:
        """What a run like this one should cost."""
        return self.lines[role].at(shared(role, document))

    def errors(self, document: Document) -> dict[str, float]:
        """Predicted over measured cost of a run, less one: 0.05 is 5 % too much."""
        measured = document["cpu_us_per_transfer"]
        return {
            role: self.cost_us(role, document) / measured[role] - 1 for role in ROLES if measured[role] > 0
        }


def calibrate(documents: Sequence[Document]) -> Model:
    """Fit a line per role. Raises `ValueError` when the runs do not differ in batch size."""
    return Model(
        {
            role: fit([(shared(role, each), each["cpu_us_per_transfer"][role]) for each in documents])
            for role in ROLES
        }
    )


def _whole(amount: float) -> int:
    """Rounded up, without a float's dust."""
    return math.ceil(round(amount, 6))


@dataclass(frozen=True, slots=True)
class Machines:
    """What the plan may assume of the machines it is for."""

    #: Part of a core that a process may be busy: above it, latencies grow without bound.
    utilisation: float = 0.7
    #: Memory of a Redis node that money and memory of ids may take.
    node_bytes: float = 64e9
    #: What one journal disk writes in a second, each write followed by an fsync.
    disk_bytes_per_s: float = 500e6
    accounts: int = 100_000_000


def plan_for(
    transfers_per_s: int,
    model: Model,
    like: Document,
    *,
    account_bytes: float,
    remembered_bytes: float,
    machines: Machines,
) -> dict[str, Any]:
    """What `transfers_per_s` take when batches fill as in the run `like`: nodes, processes, disks, memory.

    A node here is a Redis primary with a core of its own. An id is remembered for one to two windows of 24 hours.
    """
    core_us = machines.utilisation * 1e6
    by_role = {role: _whole(transfers_per_s * model.cost_us(role, like) / core_us) for role in ROLES}
    window = transfers_per_s * DAY_S * remembered_bytes
    accounts = machines.accounts * account_bytes
    per_second = transfers_per_s * float(like["journal_bytes_per_transfer"])
    return {
        "transfers_per_s": transfers_per_s,
        "redis_nodes_for_cpu": by_role["redis"],
        "api_processes": by_role["api"],
        "journal_processes": by_role["journal"],
        "journal_bytes_per_s": round(per_second),
        "journal_disks_for_bytes": _whole(per_second / machines.disk_bytes_per_s),
        "journal_fsyncs_per_s_per_process": like["fsyncs_per_s"],
        "journal_bytes_per_day": round(per_second * DAY_S),
        "dedupe_bytes_24h": round(window),
        "dedupe_bytes_48h": round(2 * window),
        "accounts_bytes": round(accounts),
        "redis_nodes_for_memory_24h": _whole((window + accounts) / machines.node_bytes),
        "redis_nodes_for_memory_48h": _whole((2 * window + accounts) / machines.node_bytes),
        "assumed": {
            "utilisation": machines.utilisation,
            "node_bytes": machines.node_bytes,
            "disk_bytes_per_s": machines.disk_bytes_per_s,
            "accounts": machines.accounts,
            "operations_per_script_call": like["operations_per_script_call"],
            "transfers_per_request": like["batch"],
        },
    }


def plan_rows(plan: Mapping[str, Any]) -> list[list[str]]:
    """The plan in words."""
    assumed = plan["assumed"]
    gib = 2**30
    return [
        [
            f"Redis nodes of a core and {assumed['node_bytes'] / 1e9:.0f} GB",
            f"{plan['redis_nodes_for_cpu']:,} by CPU, {plan['redis_nodes_for_memory_24h']:,} by memory of ids of 24 h "
            f"({plan['redis_nodes_for_memory_48h']:,} of 48 h)",
        ],
        ["memory of ids of 24 h", f"{plan['dedupe_bytes_24h'] / gib:,.0f} GiB"],
        [f"memory of {assumed['accounts']:,} accounts", f"{plan['accounts_bytes'] / gib:,.1f} GiB"],
        ["API processes", f"{plan['api_processes']:,}"],
        ["journal processes, for their CPU", f"{plan['journal_processes']:,}"],
        [
            f"journal disks of {assumed['disk_bytes_per_s'] / 1e6:,.0f} MB/s",
            f"{plan['journal_disks_for_bytes']:,}",
        ],
        ["journal MB/s in all", f"{plan['journal_bytes_per_s'] / 1e6:,.0f}"],
        ["journal GB a day in all", f"{plan['journal_bytes_per_day'] / 1e9:,.0f}"],
        ["fsyncs/s of each journal process", f"{plan['journal_fsyncs_per_s_per_process']:,.0f}"],
    ]
