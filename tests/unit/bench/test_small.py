"""The table of small requests says yes or no for each aim, and what a report has not measured."""

from typing import Any

from bench.small import aims_of


def row(batch: int, per_s: float, us: float, **more: Any) -> dict[str, Any]:
    return {
        "batch": batch,
        "transfers_per_s": per_s,
        "cpu_us_per_transfer": {"redis": us / 2, "api": us / 2, "journal": 0.0, "load": 9.0},
        **more,
    }


def report(**more: Any) -> dict[str, Any]:
    single, large = row(1, 12_000, 40), row(1000, 90_000, 10)
    return {
        "throughput": [single, row(100, 1, 1), large],
        "http_by_batch": [single, large],
        "half_loads": [{}, {"arrivals_per_s": 4000.0, "latency_ms": {"p99": 5.01}}],
        "memory": [{"memory_bytes_per_remembered_transfer": size} for size in (59.9, None, 60.0)],
        "peers": [
            {"peer": "wallet-engine", **single},
            {"peer": "wallet-engine", **large},
            {"peer": "postgresql", **row(1, 2_000, 300)},
            {"peer": "tigerbeetle", "not_run": "no binary"},
        ],
        **more,
    }


def table(document: dict[str, Any]) -> dict[str, list[str]]:
    return {cells[0]: cells[1:] for cells in (aim.cells() for aim in aims_of(document))}


def test_each_aim_is_reached_or_not() -> None:
    copies = [row(1, 9_000, 46, journals=3), row(1000, 70_000, 11.6, journals=3)]
    cost = "all CPU with 3 journal copies over that with one"
    assert table(report(copies=copies)) == {
        "transfers/s in batches of 1, in PostgreSQL's": ["≥ 6×", "6×", "yes"],
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


def test_a_report_from_before_has_no_row_of_journal_copies() -> None:
    assert table(report())["all CPU with 3 journal copies over that with one"] == [
        "≤ 1.15×",
        "not measured",
        "",
    ]
