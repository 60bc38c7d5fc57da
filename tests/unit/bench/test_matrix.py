"""The order in which a report measures, and how it continues after an interruption."""

import asyncio
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any, cast

import pytest

from bench.commands.session import Session
from bench.matrix import LOADS, Extent, Matrix
from bench.parts import Parts
from bench.result import Plan

SINGLE = "http uniform 1 x 256"
OTHERS = [
    *("http uniform 100 x 32", "http uniform 1000 x 8", "engine uniform 1 x 256", "http across 1000 x 8"),
    f"{SINGLE} at 4,000/s",
]


class Interrupted(Exception):
    """Raised after a given number of runs."""


class Bench:
    """A session whose runs take no time. The throughput of a run is the number of runs before it."""

    def __init__(self, runs_max: int, before: int = 0) -> None:
        self.names: list[str] = []
        self.clusters = 0
        self._runs_max = runs_max
        self._before = before
        self.seed = count().__next__

    def say(self, text: str) -> None:
        pass

    def on_cluster(self, shape: object, accounts: int, work: Callable[[Any, Any], Any]) -> Any:
        self.clusters += 1
        return asyncio.run(work(None, None))

    async def measure_on(self, cluster: object, prepared: object, plan: Plan) -> dict[str, Any]:
        return self._measured(plan)

    def measure(self, shape: object, accounts: int, plans: list[Plan], runs: int = 1) -> list[dict[str, Any]]:
        self.clusters += 1
        return [self._measured(plan) for plan in plans]

    def _measured(self, plan: Plan) -> dict[str, Any]:
        if len(self.names) == self._runs_max:
            raise Interrupted
        self.names.append(plan.name)
        return {
            "name": plan.name,
            "door": plan.door,
            "batch": plan.batch,
            "arrivals_per_s": plan.rate,
            "transfers_per_s": 100 * (self._before + len(self.names)),
        }


def measured(bench: Bench, parts: Parts) -> list[str]:
    """The names of the runs until an interruption."""
    with pytest.raises(Interrupted):
        Matrix(cast(Session, bench), Extent(runs=3), parts, None, None).measure()
    return bench.names


def test_the_rows_of_the_targets_take_turns_on_new_clusters(tmp_path: Path) -> None:
    parts = Parts(tmp_path / "partial.json", {}, resume=False)
    bench = Bench(21)
    names = measured(bench, parts)
    # Runs 1, 8 and 15 are of single transfers. The run after each has half of its throughput as arrival rate.
    turns = [[SINGLE, f"{SINGLE} at {half}/s", *OTHERS] for half in (50, 400, 750)]
    assert names == [name for turn in turns for name in turn]
    assert bench.clusters == 21 + 1
    rows = parts["targets"]
    assert [row["runs"] for row in (*rows["throughput"], *rows["half_loads"], rows["across"])] == [3] * 7
    assert [row["transfers_per_s"] for row in rows["throughput"]] == [800, 1000, 1100, 1200]
    assert [row["name"] for row in rows["half_loads"]] == [f"{SINGLE} at 400/s", f"{SINGLE} at 4,000/s"]


def test_all_others_run_once_on_one_cluster(tmp_path: Path) -> None:
    parts = Parts(tmp_path / "partial.json", {}, resume=False)
    bench = Bench(21 + 20)
    names = measured(bench, parts)[21:]
    assert bench.clusters == 21 + 1 + 1
    main = parts["main"]
    assert [(row["load"], row["name"]) for row in main["load"]] == [
        (part, f"{SINGLE} at {800 * part:.0f}/s") for part in LOADS
    ]
    assert len(names) == len(set(names)) == 20
    assert {row["runs"] for row in main["load"]} == {1}


def test_an_interruption_costs_one_run(tmp_path: Path) -> None:
    path = tmp_path / "partial.json"
    first = measured(Bench(7), Parts(path, {}, resume=False))
    second = measured(Bench(33, before=7), Parts(path, {}, resume=True))
    assert first + second == measured(Bench(40), Parts(tmp_path / "whole.json", {}, resume=False))
