"""Compares two runs row by row; the table of targets."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from bench.__main__ import main
from bench.compare import compare, rows_of
from bench.targets import Target


def row(name: str, tps: float, redis: float = 5.0, **more: object) -> dict[str, Any]:
    cpu = {"redis": redis, "api": 5.0, "load": 99.0}
    return {"name": name, "transfers_per_s": tps, "cpu_us_per_transfer": cpu, **more}


def test_a_machine_of_another_speed_drifts_nothing() -> None:
    first = [row("a", 100.0), row("b", 1000.0)]
    second = [row("b", 2000.0, redis=10.0), row("a", 200.0)]
    found = {each.name: each for each in compare(first, second)}
    assert [round(found[name].drift, 6) for name in "ab"] == [1, 1]
    assert (found["b"].first_us, found["b"].second_us) == (10, 15)
    assert found["a"].cells()[3] == "2.00"
    assert found["b"].cells()[6:8] == ["1.500", "1.000"]


def test_a_row_that_lost_its_place_shows() -> None:
    found = {
        each.name: each.drift
        for each in compare(
            [row("a", 100.0), row("b", 100.0), row("c", 100.0)],
            [row("a", 100.0), row("b", 100.0), row("c", 50.0)],
        )
    }
    assert found["c"] == pytest.approx(0.5 / 0.5 ** (1 / 3))
    assert found["a"] > 1


def test_rows_are_found_wherever_they_stand() -> None:
    document = {
        "throughput": [row("a", 1.0, each_run=[row("single", 1.0)])],
        "scale": {"held_out": row("b", 2.0)},
        "load": [row("open", 3.0, loop="open")],
        "peers": [{"name": "missing", "not_run": "no"}],
    }
    assert rows_of(document).keys() == {"a", "b"}


def test_nothing_in_common_is_an_error(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / name).write_text(json.dumps(row(name, 1.0)))
    result = CliRunner().invoke(main, ["compare", str(tmp_path / "a"), str(tmp_path / "b")])
    assert result.exit_code == 2
    assert "no row in common" in result.output
    same = CliRunner().invoke(main, ["compare", str(tmp_path / "a"), str(tmp_path / "a")])
    assert same.exit_code == 0
    assert "drift is between 1.00 and 1.00; for 1 of 1 rows it is within 10 %" in same.output


@pytest.mark.parametrize(
    ("measured", "more", "reached"),
    [
        (5, True, "missed"),
        (10, True, "at least"),
        (20, True, "aim"),
        (21, False, "missed"),
        (15, False, "at least"),
        (10, False, "aim"),
    ],
)
def test_a_target_is_reached_from_its_side(measured: float, more: bool, reached: str) -> None:
    at_least, aim = (10, 20) if more else (20, 10)
    target = Target("x", at_least, aim, measured, " µs", more)
    assert target.reached == reached
    assert target.cells()[3] == f"{measured} µs"


@pytest.mark.parametrize(
    ("measured", "shown", "reached"),
    [
        (15.04, "15.04 ms", "missed"),
        (14.96, "14.96 ms", "at least"),
        (15.0, "15 ms", "at least"),
        (6.0004, "6.0004 ms", "at least"),
        (8.06, "8.06 ms", "at least"),
        (1234.5, "1,234 ms", "missed"),
    ],
)
def test_what_missed_by_little_is_not_shown_as_what_was_wanted(
    measured: float, shown: str, reached: str
) -> None:
    assert Target("p99", 15, 6, measured, " ms", more=False).cells()[-2:] == [shown, reached]


def test_a_rate_that_missed_by_little_is_shown_apart() -> None:
    assert Target("http", 55_000, 100_000, 54_999.7, "/s", more=True).cells()[-2:] == ["54,999.7/s", "missed"]
