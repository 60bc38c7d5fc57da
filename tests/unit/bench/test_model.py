"""The model of the cost per transfer, and the plan that uses it."""

from typing import Any

import pytest

from bench.commands.scale import flatness
from bench.model import Line, Machines, calibrate, fit, plan_for, plan_rows


def document(batch: int, operations: float, redis: float, api: float, journal: float) -> dict[str, Any]:
    return {
        "batch": batch,
        "operations_per_script_call": operations,
        "cpu_us_per_transfer": {"redis": redis, "api": api, "journal": journal, "load": 1.0},
        "journal_bytes_per_transfer": 100.0,
        "fsyncs_per_s": 200.0,
    }


#: Costs in µs of exactly 6 + 400 / operations, 10 + 1000 / batch and 1 + 100 / operations.
RUNS = [document(1000, 100, 10, 11, 2), document(100, 20, 26, 20, 6), document(10, 4, 106, 110, 26)]


def test_a_line_goes_through_its_points() -> None:
    line = fit([(0.0, 5.0), (1.0, 7.0), (2.0, 9.0)])
    assert (line.fixed, line.slope) == (5, 2)
    assert line.at(10) == 25


def test_a_line_goes_between_points_that_disagree() -> None:
    line = fit([(0.0, 1.0), (0.0, 3.0), (1.0, 4.0), (1.0, 6.0)])
    assert (line.fixed, line.slope) == (2, 3)


@pytest.mark.parametrize("points", [[], [(1.0, 2.0)], [(1.0, 2.0), (1.0, 3.0)]])
def test_one_point_makes_no_line(points: list[tuple[float, float]]) -> None:
    with pytest.raises(ValueError, match="two different points"):
        fit(points)


def test_the_model_finds_what_made_the_costs_and_predicts_a_run_it_has_not_seen() -> None:
    model = calibrate(RUNS)
    assert model.lines["redis"] == Line(pytest.approx(6), pytest.approx(400))
    assert model.lines["api"] == Line(pytest.approx(10), pytest.approx(1000))
    unseen = document(500, 50, 14, 12, 3)
    assert model.errors(unseen) == pytest.approx({"redis": 0, "api": 0, "journal": 0}, abs=1e-9)
    dearer = document(500, 50, 28, 12, 3)
    assert model.errors(dearer)["redis"] == pytest.approx(-0.5)


def test_a_million_transfers_are_planned_in_whole_machines() -> None:
    plan = plan_for(
        1_000_000,
        calibrate(RUNS),
        RUNS[0],
        account_bytes=80.0,
        remembered_bytes=100.0,
        machines=Machines(utilisation=0.5, node_bytes=64e9, disk_bytes_per_s=30e6, accounts=10**8),
    )
    # Per second: 10 s of Redis CPU, 11 s of API, 2 s of journal, on cores that may be half busy.
    assert (plan["redis_nodes_for_cpu"], plan["api_processes"], plan["journal_processes"]) == (20, 22, 4)
    assert plan["journal_bytes_per_s"] == 100_000_000
    assert plan["journal_disks_for_bytes"] == 4
    assert plan["dedupe_bytes_24h"] == 86_400 * 10**6 * 100
    assert plan["redis_nodes_for_memory_24h"] == 136  # 8,640 GB and 8 GB
    assert plan["redis_nodes_for_memory_48h"] == 271
    assert all(len(row) == 2 for row in plan_rows(plan))
    by_cpu, by_ids = plan["redis_nodes_for_cpu"], plan["redis_nodes_for_memory_24h"]
    assert plan_rows(plan)[0][1].startswith(f"{by_cpu:,} by CPU, {by_ids:,} by memory of ids of 24 h")


def test_flatness_is_the_largest_over_the_smallest() -> None:
    rows = [document(1000, 1, 10, 5, 2), document(1000, 1, 12, 5, 3), document(100, 1, 7, 7, 7)]
    assert flatness(rows) == {
        "1000": {"redis": 1.2, "api": 1.0, "journal": 1.5},
        "100": {"redis": 1.0, "api": 1.0, "journal": 1.0},
    }
