"""What the report measures: every row of the table of targets, and what its plots and sections show."""

import dataclasses
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from bench.cluster import Cluster
from bench.commands.memory import measure_memory
from bench.commands.peers import ENGINE_CALLERS, engine_row, measure_others
from bench.commands.scale import measure_scale
from bench.commands.session import Session, shape_of
from bench.machine import commit, machine
from bench.model import Machines
from bench.peers.measure import PeerPlan
from bench.result import Document, Plan
from bench.runner import Prepared
from bench.targets import THROUGHPUT, targets_of
from bench.workload import WORKLOADS

#: Arrival rates of the plot of latencies, as parts of what single transfers reached.
LOADS: Final = (0.1, 0.25, 0.5, 0.75, 0.9)
HALF: Final = 0.5
#: Batch sizes of the engine's door, with their callers.
ENGINE_DOOR_CALLERS: Final = {1: 256, 10: 64, 100: 32, 1000: 8, 8000: 2}
MANY_APIS: Final = 2
_LARGE: Final = (1000, 8)
_SCRIPT: Final = (300, 6)


@dataclass(frozen=True, slots=True)
class Extent:
    """How long everything may take."""

    accounts: int = 100_000
    accounts_many: int = 10_000_000
    memory_accounts: tuple[int, ...] = (100_000, 1_000_000)
    seconds: float = 5.0
    warmup_s: float = 2.0
    #: Runs of each row of the table of targets; all others run once.
    runs: int = 3

    def quick(self) -> "Extent":
        """The same rows in a fraction of the time, each less certain."""
        return dataclasses.replace(
            self, accounts_many=1_000_000, memory_accounts=(100_000,), seconds=2.0, warmup_s=1.0, runs=1
        )


class Matrix:
    """Measures everything, section by section."""

    def __init__(self, bench: Session, extent: Extent, folder: Path | None, tigerbeetle: Path | None) -> None:
        self._bench = bench
        self._extent = extent
        self._folder = folder
        self._tigerbeetle = tigerbeetle

    def measure(self) -> dict[str, Any]:
        """The report's document. Ends the program when a run may not be reported."""
        began_s, extent = time.monotonic(), self._extent
        main = self._main()
        many_apis = self._bench.measure(
            shape_of(3, 64, MANY_APIS, embedded=False),
            extent.accounts,
            [self._plan(row.door, "uniform", row.batch, row.callers) for row in THROUGHPUT[:3]],
        )
        [many_accounts] = self._bench.measure(
            shape_of(3, 64, 1, embedded=False),
            extent.accounts_many,
            [self._plan("http", "across", *_LARGE)],
            runs=extent.runs,
        )
        _rename(many_apis, f"{MANY_APIS} API processes")
        _rename([many_accounts], f"{extent.accounts_many:,} accounts")
        memory = [
            measure_memory(self._bench, count, None, embedded=False) for count in extent.memory_accounts
        ]
        plan = PeerPlan(
            extent.accounts, tuple(ENGINE_CALLERS), extent.seconds, extent.warmup_s, self._bench.seed()
        )
        peers = [
            *map(engine_row, main["http_by_batch"]),
            *measure_others(self._bench, plan, self._folder, self._tigerbeetle),
        ]
        scale = measure_scale(
            self._bench, extent.accounts, extent.seconds, extent.warmup_s, 1, 1, Machines(), embedded=False
        )
        half_load = next(row for row in main["load"] if row["load"] == HALF)
        targets = targets_of(main["throughput"], main["across"], half_load, memory, many_accounts)
        return {
            "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "took_s": round(time.monotonic() - began_s),
            "machine": machine(),
            "commit": commit(),
            "extent": dataclasses.asdict(extent),
            "targets": [
                {**target._asdict(), "reached": target.reached, "cells": target.cells()} for target in targets
            ],
            **main,
            "many_apis": many_apis,
            "many_accounts": many_accounts,
            "memory": memory,
            "peers": peers,
            "scale": scale,
        }

    def _plan(self, door: str, workload: str, batch: int, callers: int, rate: float | None = None) -> Plan:
        extent = self._extent
        seed = self._bench.seed()
        return Plan(door, workload, batch, callers, extent.seconds, extent.warmup_s, seed, rate)

    def _main(self) -> dict[str, Any]:
        """All that runs on one cluster of 3 shards with one API process."""
        found: dict[str, Any] = self._bench.on_cluster(
            shape_of(3, 64, 1, embedded=False), self._extent.accounts, self._on_main
        )
        return found

    async def _on_main(self, cluster: Cluster, prepared: Prepared) -> dict[str, Any]:
        async def row(
            door: str, workload: str, batch: int, callers: int, rate: float | None = None, runs: int = 1
        ) -> Document:
            plan = self._plan(door, workload, batch, callers, rate)
            return await self._bench.measure_on(cluster, prepared, plan, runs)

        runs = self._extent.runs
        throughput = [
            await row(wanted.door, "uniform", wanted.batch, wanted.callers, runs=runs)
            for wanted in THROUGHPUT
        ]
        single, across = throughput[0], await row("http", "across", *_LARGE, runs=runs)
        load = []
        for part in LOADS:
            rate = round(part * single["transfers_per_s"])
            document = await row("http", "uniform", 1, 256, rate, runs if part == HALF else 1)
            load.append({**document, "load": part})
        known = {(each["door"], each["batch"]): each for each in throughput}
        by_batch = {
            door: [
                known.get((door, batch)) or await row(door, "uniform", batch, count)
                for batch, count in callers.items()
            ]
            for door, callers in (("http", ENGINE_CALLERS), ("engine", ENGINE_DOOR_CALLERS))
        }
        workloads = [
            await row("http", workload, *_LARGE)
            for workload in WORKLOADS
            if workload not in ("uniform", "across")
        ]
        return {
            "throughput": throughput,
            "across": across,
            "load": load,
            "http_by_batch": by_batch["http"],
            "engine_by_batch": by_batch["engine"],
            "workloads": [throughput[2], across, *workloads],
            "script": await row("script", "across", *_SCRIPT),
        }


def _rename(documents: Sequence[Document], prefix: str) -> None:
    for document in documents:
        document["name"] = f"{prefix}, {document['name']}"
