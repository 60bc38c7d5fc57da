"""The report made from figures: it has every section, its plots are SVG, and two reports can be compared."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from bench import plots
from bench.cluster import Shape
from bench.compare import compare
from bench.machine import commit, machine
from bench.measure import Usage
from bench.model import Machines, calibrate, plan_for
from bench.past_table import check_history
from bench.recorder import Counts
from bench.result import Figures, Plan, Result
from bench.runs import summarise
from bench.targets import targets_of
from bench.written import LATENCY_FILE, RAW_FILE, THROUGHPUT_FILE, write_report

LATENCIES = ("p50", "p90", "p99", "p999")
MACHINE = {"cpu": "Some CPU", "cores": 2, "memory_gib": 4, "kernel": "6.1", "python": "3.11.2"}


def measured(
    door: str, batch: int, tps: int, *, rate: float | None = None, accounts: int = 100_000, runs: int = 1
) -> dict[str, Any]:
    """The document of a run, with all CPU figures in proportion."""
    figures = Figures(
        seconds=10.0,
        counts=Counts(tps * 10 // batch, tps * 10, 0, 0),
        latency_ms={"p50": 1.0, "p90": 2.0, "p99": 3.0, "p999": 4.0, "max": 5.0},
        usage=Usage(
            10.0,
            {"redis": tps * 1e-4, "api": tps * 9e-5, "journal": tps * 1e-5, "load": 0.1},
            *(0.5, 0.7, 2.5, 0.1, {"java (9)": 0.1}),
        ),
        redis_usec={"evalsha": tps * 80},
        redis_version="7.0.15",
        journal_bytes=tps * 1000,
        journal_syncs=500,
        door={"operations": tps * 20, "script_calls": tps * 20 / min(batch, 50)},
        bytes_per_account=80.0,
        bytes_per_remembered=50.0,
        funding_s=2.0,
    )
    plan = Plan(door, "uniform", batch, 8, 10.0, 3.0, 42, rate)
    made = Result(plan, Shape(3, 64, 1, False), accounts, figures, MACHINE, "ext4", "abc1234").document()
    return summarise([made] * runs)


def _server(us: float) -> dict[str, Any]:
    """A peer has one server in place of API, Redis and journal."""
    return {"cpu_us_per_transfer": {"server": us, "load": 1.0}}


def report() -> dict[str, Any]:
    throughput = [
        measured("http", 1, 6_000, runs=3),
        measured("http", 100, 40_000, runs=3),
        measured("http", 1000, 90_000, runs=3),
        measured("engine", 1, 30_000, runs=3),
    ]
    across, many = measured("http", 1000, 80_000), measured("http", 1000, 70_000, accounts=10**7)
    load = [{**measured("http", 1, 3_000, rate=3_000.0), "load": 0.5}]
    memory = {
        "accounts": 100_000,
        "transfers": 300_000,
        "memory_bytes_per_account": 75.0,
        "memory_bytes_per_remembered_transfer": 160.0,
        "used_memory_bytes_per_account_with_funding": 200.0,
        "funding_s": 2.0,
    }
    rows = [measured("http", 1000, 90_000), measured("http", 10, 90_000)]
    model = calibrate(rows)
    plan = plan_for(10**6, model, rows[0], account_bytes=75.0, remembered_bytes=160.0, machines=Machines())
    targets = targets_of(throughput, load * 2, across, [memory], many)
    return {
        "measured_at": "2026-11-21T00:00:00+00:00",
        "took_s": 1200,
        "resumed": False,
        "command": "python -m bench report",
        "machine": MACHINE,
        "commit": "abc1234",
        "extent": {"accounts": 100_000, "runs": 3, "seconds": 5.0},
        "targets": [
            {**target._asdict(), "reached": target.reached, "cells": target.cells()} for target in targets
        ],
        "throughput": throughput,
        "half_loads": load * 2,
        "across": across,
        "load": load,
        "http_by_batch": throughput[:3],
        "engine_by_batch": throughput[3:],
        "workloads": [throughput[2]],
        "script": measured("script", 300, 100_000),
        "many_apis": throughput[:3],
        "many_accounts": many,
        "memory": [memory],
        "small": {
            "postgresql": [],
            "copies": [[throughput[0], {**throughput[0], "name": "3 copies", "journals": 3}]],
        },
        "peers": [
            {"name": "tigerbeetle", "peer": "tigerbeetle", "not_run": "no binary"},
            {**throughput[0], "name": "a store", "peer": "a store", "durability": "none", **_server(5.0)},
        ],
        "scale": {
            "rows": rows,
            "held_out": rows[0],
            "errors": {"redis": 0.03},
            "flatness": {"1000": {"redis": 1.1}},
            "model": {"redis": {"fixed_us": 6.0, "shared_us": 400.0}},
            "plan": plan,
        },
    }


def test_a_report_has_every_section_and_its_plots(tmp_path: Path) -> None:
    write_report(report(), tmp_path)
    text = (tmp_path / "README.md").read_text()
    for heading in (
        *(
            "Targets",
            "Small requests",
            "Nodes for a million transfers per second",
            "Throughput against batch size",
        ),
        *("Latency against load", "Workloads", "Peers", "Scale", "Memory"),
    ):
        assert f"\n## {heading}\n" in text
    assert "| http, 1, 256 | 5,000/s | 8,000/s | 6,000/s | at least |" in text
    assert "| memory per remembered transfer | 110 B | 50 B | 160 B | missed |" in text
    assert "| cost per transfer with 10,000,000 accounts against 100,000 | 1.5× | 1.2× | 1× | aim |" in text
    assert "`python -m bench report` in 20 minutes" in text
    assert "tigerbeetle: not run: no binary" in text
    assert "java (9) 0.1" in text
    assert "Core speed: 0.70 to 0.70" in text
    for name in (THROUGHPUT_FILE, LATENCY_FILE):
        assert "<svg" in (tmp_path / name).read_text()
    raw = json.loads(gzip.decompress((tmp_path / RAW_FILE).read_bytes()))
    assert all(round(row.drift, 6) == 1 for row in compare(raw, report()))


def test_plots_number_their_axes_as_people_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With labels such as 2,000, not powers of ten, and enough of them to read a point."""
    drawn: list[Figure] = []
    monkeypatch.setattr(plots, "_save", lambda figure, path: drawn.append(figure))
    runs = [
        {
            "batch": batch,
            "transfers_per_s": rate,
            "arrivals_per_s": rate,
            "latency_ms": dict.fromkeys(LATENCIES, ms),
        }
        for batch, rate, ms in ((1, 900, 2.5), (10, 4_000, 4.0), (1_000, 11_000, 60.0))
    ]
    plots.throughput_plot({"ours": runs}, tmp_path)
    plots.latency_plot(runs, tmp_path)
    labels = []
    for figure in drawn:
        FigureCanvasAgg(figure).draw()
        (axes,) = figure.axes
        for axis, (low, high) in ((axes.xaxis, axes.get_xlim()), (axes.yaxis, axes.get_ylim())):
            seen = [tick for tick in axis.get_major_ticks() if low <= tick.get_loc() <= high]
            labels.append([tick.label1.get_text() for tick in seen])
            assert not any(tick.label1.get_text() for tick in axis.get_minor_ticks())
    assert labels[:2] == [["1", "10", "1,000"], ["1,000", "2,000", "5,000", "10,000"]]
    assert {"2,000", "10,000"} <= set(labels[2])
    assert labels[3] == ["5", "10", "20", "50"]


def past() -> dict[str, Any]:
    return {
        "rebuild": {
            "transfers_per_s": 21_000.0,
            "rows_per_s": 63_000.0,
            "follower_us": 40.0,
            "database_us": 30.0,
        },
        "bytes_per_transfer": 1200.0,
        "lag_ms": {"p50": 90.0, "p99": 400.0},
        "lag_samples": 500,
        "lag_rate": 5_000.0,
        "listing_ms": {"p50": 2.0, "p99": 6.0},
        "listed_rows": 1_000_000,
        "bytes_per_row": 350.0,
        "machine": machine(),
        "commit": commit(),
    }


def test_the_past_stands_in_the_report_that_was_given_it(tmp_path: Path) -> None:
    write_report(report() | {"history": check_history(past())}, tmp_path)
    text = (tmp_path / "README.md").read_text()
    assert "| transfers made anew from the journal | 20,000/s | 40,000/s | 21,000/s | at least |" in text
    assert "| p99 of the newest 50 of 1,000,000 rows | 5 ms | 5 ms | 6 ms | missed |" in text
    assert "| growth by a million transfers | 1.20 GB |" in text


@pytest.mark.parametrize("wrong", [{"commit": "of another day"}, {"machine": {}}, {"lag_ms": None}])
def test_a_past_of_something_else_is_refused(wrong: dict[str, Any]) -> None:
    found = {name: value for name, value in (past() | wrong).items() if value is not None}
    with pytest.raises(ValueError, match=r"another|not the JSON"):
        check_history(found)
