"""The document of a run, which scripts read, and its table."""

import asyncio
import json
from dataclasses import replace
from typing import Any

import pytest

from bench.cluster import Shape
from bench.measure import Usage
from bench.recorder import Counts
from bench.redis_figures import KeyMemory
from bench.result import Figures, Plan, Result, cost_of_key, results_table, spread_table
from bench.runner import remembered_bytes
from bench.runs import in_turns, summarise

RESULT = Result(
    plan=Plan("http", "uniform", 1000, 8, 10, 3, 42),
    shape=Shape(3, 64, 1, False),
    accounts=100_000,
    figures=Figures(
        seconds=10,
        counts=Counts(requests=500, transfers=500_000, declined=3, repeated=0),
        latency_ms={"p50": 1.0, "p90": 2.0, "p99": 3.0, "p999": 4.0, "max": 5.0},
        usage=Usage(
            10,
            {"redis": 5.0, "api": 4.5, "journal": 1.0, "load": 0.5},
            1.25,
            0.8,
            2.5,
            0.1,
            {"java (9)": 0.1},
        ),
        redis_usec={"evalsha": 4_000_000},
        redis_version="7.0.15",
        journal_bytes=75_000_000,
        journal_syncs=2_000,
        door={"operations": 1_000_000, "script_calls": 10_000},
        bytes_per_account=80.04,
        bytes_per_remembered=99.0,
        funding_s=2.04,
    ),
    machine={"cpu": "Some CPU", "cores": 2},
    journal_file_system="ext4",
    commit="abc1234",
)


def test_the_document_has_every_figure() -> None:
    document = json.loads(json.dumps(RESULT.document()))
    assert document["transfers_per_s"] == 50_000
    assert document["per_node_tps"] == 100_000
    assert document["cpu_us_per_transfer"] == {"redis": 10, "api": 9, "journal": 2, "load": 1}
    assert document["latency_ms"]["p999"] == 4
    assert document["conserved"] is True
    assert (document["declined"], document["steal"], document["core_speed"]) == (3, 1.25, 0.8)
    assert document["seed"] == 42
    assert document["journal_bytes_per_transfer"] == 150
    assert document["operations_per_script_call"] == 100
    assert document["redis_cpu_us_per_operation"] == 5
    assert document["fsyncs_per_transfer"] == 0.004
    assert (document["fsyncs_per_s"], document["funding_s"]) == (200, 2)
    assert document["textbook"][-1] == ["measured", "200,000", "10"]
    assert (document["loop"], document["arrivals_per_s"]) == ("closed", None)
    assert document["redis_command_us_per_transfer"] == {"evalsha": 8}
    assert document["machine"]["cores"] == 2


def test_a_door_without_an_api_has_none_of_its_cpu() -> None:
    figures = replace(RESULT.figures, usage=replace(RESULT.figures.usage, cpu_s={"redis": 0.0, "load": 1.0}))
    result = replace(RESULT, figures=figures)
    assert result.cpu_us("api") == 0
    assert result.per_node_tps == 0  # less than a tick of CPU gives no rate


@pytest.mark.parametrize(("rate", "kept_up"), [(51.0, True), (52.0, False)])
def test_an_overloaded_open_loop_says_so(rate: float, kept_up: bool) -> None:
    document = replace(RESULT, plan=replace(RESULT.plan, rate=rate)).document()
    assert document["kept_up"] is kept_up  # 50 requests per second were answered
    assert ("(overloaded)" in results_table([document])) is not kept_up
    assert (document["loop"], document["arrivals_per_s"]) == ("open", rate)


def test_rows_name_what_was_measured() -> None:
    document = summarise([RESULT.document()])
    text = results_table([document, document], {"aim": ["58,000", ""]})
    lines = text.splitlines()
    assert lines[0].split()[-1] == "aim"
    assert "50,000   100,000      10.0     9.0         2.0      1.0" in lines[2]
    assert lines[2].endswith("58,000")
    assert "3 shards, 64 partitions" in text
    assert "commit abc1234" in text


def test_several_runs_show_their_spread() -> None:
    faster = replace(RESULT, figures=replace(RESULT.figures, seconds=5.0)).document()
    lines = spread_table(summarise([RESULT.document(), faster])).splitlines()
    assert lines[2].split() == ["transfers/s", "50,000.00", "75,000.00", "100,000.00"]
    assert lines[-1].split() == ["core", "speed", "0.80", "0.80", "0.80"]


def test_memory_of_a_transfer_is_told_only_when_the_run_added_most_of_it() -> None:
    before = KeyMemory(1_000, 10)
    assert remembered_bytes(before, KeyMemory(3_000, 30), 20) == 100
    assert remembered_bytes(before, KeyMemory(1_500, 19), 9) is None
    assert remembered_bytes(KeyMemory(0, 0), KeyMemory(0, 0), 0) is None


def test_what_a_key_costs_is_told_by_pairs_of_turns() -> None:
    def of(*turns: tuple[float, float]) -> dict[str, Any]:
        figures = [
            {"cpu_us_per_transfer": {"api": api, "journal": 1.0, "redis": redis}} for api, redis in turns
        ]
        return summarise(figures)

    plain, with_key = of((10, 9), (20, 9), (40, 9)), of((11, 9), (20, 9), (42, 7))
    assert cost_of_key(plain, with_key) == [
        ["API CPU", "1.000", "1.050", "1.100"],
        ["all CPU", "1.000", "1.000", "1.050"],
    ]
    assert cost_of_key(of((10, 9)), of((11, 9)))[0] == ["API CPU", "1.100", "1.100", "1.100"]


def test_every_other_turn_goes_backwards() -> None:
    measured = []

    async def measure(row: str, turn: int) -> dict[str, Any]:
        measured.append((row, turn))
        return {"row": row}

    documents = asyncio.run(in_turns(measure, ["a", "b", "c"], 2))
    assert measured == [("a", 1), ("b", 1), ("c", 1), ("c", 2), ("b", 2), ("a", 2)]
    assert [document["row"] for document in documents] == ["a", "b", "c"]
