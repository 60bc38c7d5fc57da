"""Measures everything for the report: the rows of the table of targets, the plots and the other sections."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from bench.cluster import Cluster
from bench.commands.memory import measure_memory
from bench.commands.peers import ENGINE_CALLERS, engine_row, measure_others
from bench.commands.scale import SHARDS, SIZES, measure_scale
from bench.commands.session import Session, shape_of
from bench.commands.small import COPIES_BATCHES, measure_small, renamed
from bench.machine import commit, machine
from bench.model import Machines
from bench.parts import Parts
from bench.peers.measure import PeerPlan
from bench.result import Document, Plan
from bench.runner import Prepared
from bench.runs import summarise
from bench.small import TIMES_POSTGRESQL
from bench.targets import THROUGHPUT, targets_of
from bench.workload import WORKLOADS

#: Arrival rates of the plot of latencies, as parts of the throughput of single transfers.
LOADS: Final = (0.1, 0.25, 0.5, 0.75, 0.9)
#: Arrival rate of a row of the targets, as part of the throughput that the run just before it had.
HALF: Final = 0.5
#: Arrivals per second of another row, the same on every machine: half of the aim for single transfers.
HALF_OF_AIM: Final = THROUGHPUT[0].aim // 2
#: Batch size -> callers of the engine's door.
ENGINE_DOOR_CALLERS: Final = {1: 256, 10: 64, 100: 32, 1000: 8, 8000: 2}
MANY_APIS: Final = 2
_LARGE: Final = (1000, 8)
_SINGLE: Final = ("http", "uniform", 1, 256)
_SCRIPT: Final = (300, 6)
#: For estimates of the time left, on two quiet cores: start of a cluster, overhead of a run, funding of accounts.
_CLUSTER_S: Final = 8.0
_ROW_S: Final = 2.0
_FUNDED_PER_S: Final = 60_000


@dataclass(frozen=True, slots=True)
class Extent:
    """The size of the report: accounts, seconds and runs."""

    accounts: int = 100_000
    accounts_many: int = 10_000_000
    memory_accounts: tuple[int, ...] = (100_000, 1_000_000)
    seconds: float = 5.0
    warmup_s: float = 2.0
    #: Runs of each row of the table of targets. All other rows run once.
    runs: int = 3

    def section_s(self, rows: float, accounts: int, clusters: int = 1) -> float:
        """Estimated seconds of `rows` runs on `clusters` new clusters with `accounts` accounts each."""
        begun_s = _CLUSTER_S + accounts / _FUNDED_PER_S
        return rows * (self.seconds + self.warmup_s + _ROW_S) + clusters * begun_s

    @property
    def targets_s(self) -> float:
        rows = (len(THROUGHPUT) + 3) * self.runs
        return self.section_s(rows, self.accounts, clusters=rows)

    @property
    def main_s(self) -> float:
        return self.section_s(len(LOADS) + len(WORKLOADS) + 5, self.accounts)

    @property
    def memory_s(self) -> float:
        # Each account is opened and funded, and three transfers per account are sent.
        return sum(self.section_s(0, 4 * count) for count in self.memory_accounts)

    @property
    def small_s(self) -> float:
        rows = 2 * len(TIMES_POSTGRESQL) * self.runs + 2 * len(COPIES_BATCHES) * self.runs
        return self.section_s(rows, self.accounts, clusters=1 + 2 * self.runs)

    @property
    def peers_s(self) -> float:
        return self.section_s(3 * len(ENGINE_CALLERS), 0, clusters=3)

    @property
    def scale_s(self) -> float:
        return self.section_s(len(SHARDS) * len(SIZES) + 1, self.accounts, clusters=len(SHARDS))

    def quick(self) -> "Extent":
        """The same rows in less time, with less certain figures."""
        return dataclasses.replace(
            self, accounts_many=1_000_000, memory_accounts=(100_000,), seconds=2.0, warmup_s=1.0, runs=1
        )


class Matrix:
    """Measures all sections of the report."""

    def __init__(
        self,
        bench: Session,
        extent: Extent,
        parts: Parts,
        folder: Path | None,
        tigerbeetle: Path | None,
        many_accounts: Document | None = None,
    ) -> None:
        """`many_accounts`: a finished run to use in place of measuring that row (see `check_many_accounts`)."""
        self._bench = bench
        self._parts = parts
        self._many_accounts = many_accounts
        self._extent = extent
        self._folder = folder
        self._tigerbeetle = tigerbeetle

    def measure(self) -> dict[str, Any]:
        """Measure, and return the report's document. Finished parts are kept if a run ends the program."""
        extent = self._extent
        sections: dict[str, tuple[float, Callable[[], Any]]] = {
            "targets": (extent.targets_s, self._on_new_clusters),
            "main": (extent.main_s, self._main),
            "many_apis": (extent.section_s(3, extent.accounts), self._on_many_apis),
            "small": (extent.small_s, self._small),
            "many_accounts": (
                0.0 if self._many_accounts else extent.section_s(extent.runs, extent.accounts_many),
                self._on_many_accounts,
            ),
            "memory": (extent.memory_s, self._memory),
            "other_peers": (extent.peers_s, self._others),
            "scale": (extent.scale_s, self._scale),
        }
        found: dict[str, Any] = {}
        for number, (name, (_, work)) in enumerate(sections.items(), 1):
            left_s = sum(seconds for later, (seconds, _) in sections.items() if later not in self._parts)
            self._bench.say(
                f"section {number} of {len(sections)}, {name}: about {left_s / 60:.0f} minutes to go"
            )
            found[name] = self._parts.get(name, work)
        rows, main = found.pop("targets"), found.pop("main")
        peers = [*map(engine_row, main["http_by_batch"]), *found.pop("other_peers")]
        targets = targets_of(**rows, memory=found["memory"], many_accounts=found["many_accounts"])
        return {
            "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "took_s": round(self._parts.spent_s),
            "resumed": self._parts.resumed > 0,
            "machine": machine(),
            "commit": commit(),
            "extent": dataclasses.asdict(extent),
            "targets": [
                {**target._asdict(), "reached": target.reached, "cells": target.cells()} for target in targets
            ],
            **rows,
            **main,
            **found,
            "peers": peers,
        }

    def _on_many_apis(self) -> list[Document]:
        plans = [self._plan(row.door, "uniform", row.batch, row.callers) for row in THROUGHPUT[:3]]
        shape = shape_of(3, 64, MANY_APIS, embedded=False)
        return renamed(self._bench.measure(shape, self._extent.accounts, plans), f"{MANY_APIS} API processes")

    def _small(self) -> dict[str, Any]:
        extent = self._extent
        plan = PeerPlan(
            *(extent.accounts, tuple(TIMES_POSTGRESQL), extent.seconds, extent.warmup_s, self._bench.seed())
        )
        return measure_small(self._bench, plan, extent.runs, self._folder)

    def _on_many_accounts(self) -> Document:
        extent = self._extent
        documents = (
            [self._many_accounts]
            if self._many_accounts
            else self._bench.measure(
                shape_of(3, 64, 1, embedded=False),
                extent.accounts_many,
                [self._plan("http", "across", *_LARGE)],
                runs=extent.runs,
            )
        )
        [document] = renamed(documents, f"{documents[0]['accounts']:,} accounts")
        return document

    def _memory(self) -> list[Document]:
        return [
            measure_memory(self._bench, count, None, embedded=False) for count in self._extent.memory_accounts
        ]

    def _others(self) -> list[Document]:
        extent = self._extent
        batches, seed = tuple(ENGINE_CALLERS), self._bench.seed()
        plan = PeerPlan(extent.accounts, batches, extent.seconds, extent.warmup_s, seed)
        return measure_others(self._bench, plan, self._folder, self._tigerbeetle)

    def _scale(self) -> dict[str, Any]:
        extent = self._extent
        return measure_scale(
            self._bench, extent.accounts, extent.seconds, extent.warmup_s, 1, 1, Machines(), embedded=False
        )

    def _plan(self, door: str, workload: str, batch: int, callers: int, rate: float | None = None) -> Plan:
        extent = self._extent
        seed = self._bench.seed()
        return Plan(door, workload, batch, callers, extent.seconds, extent.warmup_s, seed, rate)

    def _on_new_clusters(self) -> dict[str, Any]:
        """Measure the rows of the targets in turns, each run on a new cluster as `bench run` does.

        On one cluster for all, the tables of remembered ids would grow, and some runs would fall into their resizing.
        """
        plans = [self._plan(each.door, "uniform", each.batch, each.callers) for each in THROUGHPUT]
        plans += [self._plan("http", "across", *_LARGE), self._plan(*_SINGLE, rate=HALF_OF_AIM)]
        half_plan = self._plan(*_SINGLE, rate=0.0)

        def once(plan: Plan, turn: int) -> Document:
            [document] = self._parts.get(
                f"targets: {plan.name}, run {turn}",
                lambda: self._bench.measure(
                    shape_of(3, 64, 1, embedded=False), self._extent.accounts, [plan]
                ),
            )
            return dict(document)

        turns = []
        for turn in range(1, self._extent.runs + 1):
            single = once(plans[0], turn)
            half = once(dataclasses.replace(half_plan, rate=round(HALF * single["transfers_per_s"])), turn)
            turns.append([half, single, *(once(plan, turn) for plan in plans[1:])])
        half, *throughput, across, half_of_aim = (
            summarise(documents) for documents in zip(*turns, strict=True)
        )
        half["name"] = dataclasses.replace(half_plan, rate=half["arrivals_per_s"]).name
        return {"throughput": throughput, "half_loads": [half, half_of_aim], "across": across}

    def _main(self) -> dict[str, Any]:
        """Measure the other rows with 3 shards and one API process, one after the other on one cluster."""
        found: dict[str, Any] = self._bench.on_cluster(
            shape_of(3, 64, 1, embedded=False), self._extent.accounts, self._on_main
        )
        return found

    async def _on_main(self, cluster: Cluster, prepared: Prepared) -> dict[str, Any]:
        async def row(plan: Plan) -> Document:
            name = f"main: {plan.name}"
            if name not in self._parts:
                self._parts.put(name, await self._bench.measure_on(cluster, prepared, plan))
            return summarise([self._parts[name]])

        throughput, across = self._parts["targets"]["throughput"], self._parts["targets"]["across"]
        load = []
        for part in LOADS:
            rate = round(part * throughput[0]["transfers_per_s"])
            load.append({**await row(self._plan(*_SINGLE, rate=rate)), "load": part})
        known = {(each["door"], each["batch"]): each for each in throughput}
        by_batch = {
            door: [
                known.get((door, batch)) or await row(self._plan(door, "uniform", batch, count))
                for batch, count in callers.items()
            ]
            for door, callers in (("http", ENGINE_CALLERS), ("engine", ENGINE_DOOR_CALLERS))
        }
        workloads = [
            await row(self._plan("http", workload, *_LARGE))
            for workload in WORKLOADS
            if workload not in ("uniform", "across")
        ]
        return {
            "load": load,
            "http_by_batch": by_batch["http"],
            "engine_by_batch": by_batch["engine"],
            "workloads": [throughput[2], across, *workloads],
            "script": await row(self._plan("script", "across", *_SCRIPT)),
        }


def check_many_accounts(document: Any, accounts: int) -> Document:
    """Return the document of `bench run` if it fits into the row of many accounts. Raises `ValueError`."""
    wanted = {"door": "http", "workload": "across", "batch": _LARGE[0], "callers": _LARGE[1], "shards": 3}
    wanted |= {"partitions": 64, "apis": 1, "loop": "closed", "commit": commit(), "machine": machine()}
    if not isinstance(document, dict):
        raise ValueError("not the JSON file of one `bench run`")
    differ = [f"{name} {value}" for name, value in wanted.items() if document.get(name) != value]
    if differ:
        raise ValueError(f"the row of many accounts takes a run with {', '.join(differ)}")
    if document["accounts"] <= accounts:
        raise ValueError(f"{document['accounts']:,} accounts are not more than the report's {accounts:,}")
    return document
