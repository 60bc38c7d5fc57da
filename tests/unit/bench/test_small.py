"""The table of small requests says yes or no for each aim, and what a report has not measured."""

import json
from pathlib import Path
from typing import Any

from click.testing import CliRunner

from bench.__main__ import main
from bench.commands.compare import compare_ratios
from bench.runs import summarise
from bench.small import aims_of, ratios_of


def row(batch: int, per_s: float, us: float, **more: Any) -> dict[str, Any]:
    return {
        "batch": batch,
        "transfers_per_s": per_s,
        "cpu_us_per_transfer": {"redis": us / 2, "api": us / 2, "journal": 0.0, "load": 9.0},
        **more,
    }


def report(**more: Any) -> dict[str, Any]:
    return {
        "throughput": [row(1, 12_000, 40)],
        "half_loads": [{}, {"arrivals_per_s": 4000.0, "latency_ms": {"p99": 5.01}}],
        "memory": [{"memory_bytes_per_remembered_transfer": size} for size in (59.9, None, 60.0)],
        "small": {
            "postgresql": [
                [
                    turns(row(1, 12_000, 40), row(1, 6_000, 80), row(1, 12_600, 38)),
                    turns(*[row(1, 2_000, 300)] * 3),
                ]
            ],
            "copies": [
                [row(1, 12_000, 40), row(1, 9_000, 46, journals=3)],
                [row(1000, 90_000, 10), row(1000, 70_000, 11.6, journals=3)],
            ],
        },
        **more,
    }


def turns(*rows: dict[str, Any]) -> dict[str, Any]:
    return summarise(rows)


def table(document: dict[str, Any]) -> dict[str, list[str]]:
    return {cells[0]: cells[1:] for cells in (aim.cells() for aim in aims_of(document))}


def test_each_aim_is_reached_or_not() -> None:
    cost = "all CPU with 3 journal copies over that with one"
    assert table(report()) == {
        "transfers/s in batches of 1, in PostgreSQL's": ["≥ 6×", "6× (3 to 6.3)", "yes"],
        "transfers/s in batches of 10, in PostgreSQL's": ["≥ 2.5×", "not measured", ""],
        "transfers/s in batches of 100, in PostgreSQL's": ["≥ 2×", "not measured", ""],
        "transfers/s in batches of 1,000, in PostgreSQL's": ["≥ 3×", "not measured", ""],
        "CPU of a single transfer, Redis": ["≤ 15 µs", "20 µs", "no"],
        "CPU of a single transfer, API": ["≤ 28 µs", "20 µs", "yes"],
        "p99 of singles at 4,000/s arriving": ["≤ 5 ms", "5.01 ms", "no"],
        "memory per remembered transfer": ["≤ 60 B", "60 B", "yes"],
        f"{cost}, batches of 1": ["≤ 1.15×", "1.15×", "yes"],
        f"{cost}, batches of 1,000": ["≤ 1.15×", "1.16×", "no"],
    }


def test_a_slow_turn_changes_both_rows_and_no_ratio() -> None:
    """One turn at half the speed: medians of each row are of different turns, their ratio is of the same."""
    ours = turns(row(1, 12_000, 40), row(1, 6_000, 80), row(1, 6_000, 80))
    other = turns(row(1, 2_000, 300), row(1, 1_000, 600), row(1, 1_000, 600))
    [aim, *_] = ratios_of({"postgresql": [(ours, other)], "copies": []})
    assert (aim.measured, aim.spread) == (6, (6, 6))


def test_two_files_are_compared_by_these_ratios(tmp_path: Path) -> None:
    first, second = report()["small"], report()["small"]
    second["postgresql"][0][0] = turns(*[row(1, 9_000, 40)] * 3)
    assert compare_ratios(first, second) == [
        ["transfers/s in batches of 1, in PostgreSQL's", "6", "4.5", "0.75"],
        ["all CPU with 3 journal copies over that with one, batches of 1", "1.15", "1.15", "1.00"],
        ["all CPU with 3 journal copies over that with one, batches of 1,000", "1.16", "1.16", "1.00"],
    ]
    for name, small in (("a", first), ("b", second)):
        for number, document in enumerate(small["postgresql"][0]):
            document["name"] = f"row {number}"
        (tmp_path / name).write_text(json.dumps({"small": small}))
    result = CliRunner().invoke(main, ["compare", str(tmp_path / "a"), str(tmp_path / "b")])
    assert result.exit_code == 0, result.output
    assert "0.75" in result.output
