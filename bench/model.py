"""Predicts the machines for a million transfers per second, from the CPU cost of runs on this machine.

The CPU per transfer has a part of its own and a share of a fixed cost: a script call with k operations costs each of
them b / k. So `cost = a + b · x`, with x = 1 / operations per script call for Redis and journal, and x = 1 / transfers
per request for the API. The line is fitted by least squares to calibration runs, and checked with another run.
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
    """The share of the fixed cost that a transfer of this run has: x of the line."""
    if role == "api":
        return 1 / float(document["batch"])
    return 1 / float(document["operations_per_script_call"])


@dataclass(frozen=True, slots=True)
class Model:
    """The CPU per transfer: a line for each role."""

    lines: Mapping[str, Line]

    def cost_us(self, role: str, document: Document) -> float:
        """The predicted CPU per transfer of a run like this one, microseconds."""
        return self.lines[role].at(shared(role, document))

    def errors(self, document: Document) -> dict[str, float]:
        """Role -> predicted cost / measured cost - 1: 0.05 means 5 % too high."""
        measured = document["cpu_us_per_transfer"]
        return {
            role: self.cost_us(role, document) / measured[role] - 1 for role in ROLES if measured[role] > 0
        }


def calibrate(documents: Sequence[Document]) -> Model:
    """Fit a line for each role. Raises `ValueError` when all runs have the same batch size."""
    return Model(
        {
            role: fit([(shared(role, each), each["cpu_us_per_transfer"][role]) for each in documents])
            for role in ROLES
        }
    )


def _whole(amount: float) -> int:
    """Rounded up; errors of floating point below 1e-6 are ignored."""
    return math.ceil(round(amount, 6))


@dataclass(frozen=True, slots=True)
class Machines:
    """The machines that the plan is for."""

    #: Maximum utilisation of a core by one process: above it, latencies grow without bound.
    utilisation: float = 0.7
    #: Memory of a Redis node for balances and remembered ids.
    node_bytes: float = 64e9
    #: Bytes that one journal disk writes per second, each write followed by an fsync.
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
    """The nodes, processes, disks and memory for `transfers_per_s`, when batches are as full as in the run `like`.

    A node is a Redis primary with its own core. An id is remembered for one to two windows of 24 hours.
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
    """The plan as rows of a table."""
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
