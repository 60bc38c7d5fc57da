"""Writes the report as Markdown, with its plots and its raw figures."""

import gzip
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from bench.commands import memory, peers, scale
from bench.compare import rows_of
from bench.model import plan_rows
from bench.past_table import HEADINGS as PAST_HEADINGS
from bench.past_table import OTHER_HEADINGS, others_of
from bench.past_table import targets_of as past_targets_of
from bench.plots import latency_plot, throughput_plot
from bench.result import HEADINGS, Document, row
from bench.small import HEADINGS as SMALL_HEADINGS
from bench.small import aims_of
from bench.targets import HEADINGS as TARGET_HEADINGS
from bench.text import markdown
from bench.textbook import TEXTBOOK_HEADINGS

THROUGHPUT_FILE: Final = "throughput.svg"
LATENCY_FILE: Final = "latency.svg"
RAW_FILE: Final = "report.json.gz"


def write_report(report: dict[str, Any], folder: Path) -> None:
    """Write `README.md`, two plots, and all figures compressed (`RAW_FILE`)."""
    folder.mkdir(parents=True, exist_ok=True)
    raw = json.dumps(report, ensure_ascii=False, separators=(",", ":")).encode()
    (folder / RAW_FILE).write_bytes(gzip.compress(raw, mtime=0))
    throughput_plot(_series(report), folder / THROUGHPUT_FILE)
    latency_plot(report["load"], folder / LATENCY_FILE)
    (folder / "README.md").write_text("\n\n".join(_parts(report)) + "\n", "utf-8")


def _series(report: dict[str, Any]) -> dict[str, list[Document]]:
    series = {
        "wallet-engine, HTTP": report["http_by_batch"],
        "wallet-engine, in process": report["engine_by_batch"],
    }
    for document in report["peers"]:
        if document["peer"] != peers.ENGINE and "not_run" not in document:
            series.setdefault(document["peer"], []).append(document)
    return series


def _measured(documents: Sequence[Document]) -> str:
    return markdown(HEADINGS, [row(document) for document in documents])


def _medians(runs: int) -> str:
    return "one run" if runs == 1 else f"medians of {runs} runs"


def _circumstances(report: dict[str, Any]) -> str:
    machine, extent = report["machine"], report["extent"]
    rows = list(rows_of(report).values())
    busiest = max(rows, key=lambda each: each["other_cores"])
    others = ", ".join(f"{name} {cores}" for name, cores in busiest["other_processes_cores"].items())
    steal, speed = [each["steal"] for each in rows], [each["core_speed"] for each in rows]
    return (
        f"Measured {report['measured_at']} with commit `{report['commit']}` by `{report['command']}` in "
        f"{report['took_s'] / 60:.0f} minutes"
        + (", interrupted and resumed" if report["resumed"] else "")
        + ".\n\n"
        f"- Machine: {machine['cpu']}, {machine['cores']} cores, {machine['memory_gib']} GiB, "
        f"kernel {machine['kernel']}, Python {machine['python']}; everything on it, the load generator included.\n"
        f"- Engine: 3 shards (Redis {rows[0].get('redis_version', '')}), 64 partitions, one journal on "
        f"{rows[0].get('journal_file_system', '')}, ZooKeeper, {extent['accounts']:,} accounts; "
        f"each transfer answered after fdatasync.\n"
        f"- Rows of the targets: {_medians(extent['runs'])} of {extent['seconds']:g} s, each on a new cluster "
        f"({report['many_accounts']['accounts']:,} accounts: one cluster for all); all others one run each, one after "
        "the other on one cluster.\n"
        f"- Steal: {min(steal):.1f} to {max(steal):.1f} % of all cores. What else ran took up to "
        f"{busiest['other_cores']:.2f} cores" + (f" ({others})." if others else ".") + "\n"
        f"- Core speed: {min(speed):.2f} to {max(speed):.2f}; 1 is the best that was seen. A core that shares its "
        "execution units with somebody else's is slower, which steal does not tell.\n"
        "- The books were added up after every run: a run with a cent too many or too few has no row."
    )


def _parts(report: dict[str, Any]) -> Iterator[str]:
    yield "# Benchmark report"
    yield _circumstances(report)
    yield (
        f"What changed the figures and what did not is told in [../NOTES.md](../NOTES.md); all figures are in "
        f"[{RAW_FILE}]({RAW_FILE}), two of them are compared by `python -m bench compare A.json B.json`."
    )
    yield "## Targets"
    yield markdown(TARGET_HEADINGS, [target["cells"] for target in report["targets"]])
    yield _measured(_target_rows(report))
    yield (
        f"The last row has {report['many_accounts']['accounts']:,} accounts, opened and funded in "
        f"{report['many_accounts']['funding_s']:.0f} s, "
        f"measured {report['many_accounts']['measured_at']}. Columns in µs are CPU per transfer; *per node* is "
        "transfers per CPU-second of Redis; *load* is the load generator, which in the engine's rows is part of *api*."
    )
    spreads = list(_spreads(report))
    if spreads:
        yield "Spread over the runs (lowest to highest):"
        yield markdown(("row", "transfers/s", "redis µs", "api µs", "p99 ms"), spreads)
    yield "## Small requests"
    yield markdown(SMALL_HEADINGS, [aim.cells() for aim in aims_of(report)])
    yield (
        "A ratio is of two rows measured one right after the other: the median of the turns, lowest and highest. "
        "PostgreSQL decides a whole batch in a few statements (*Peers*). With several journal copies a transfer is "
        "answered once most of them have it on disk."
    )
    yield "## Nodes for a million transfers per second"
    yield markdown(TEXTBOOK_HEADINGS, report["across"]["textbook"])
    yield "A transfer is two operations, one on each account; the measured node did whole transfers, dedupe included."
    yield "## Throughput against batch size"
    yield f"![transfers/s against batch size]({THROUGHPUT_FILE})"
    yield _measured([*report["http_by_batch"], *report["engine_by_batch"], report["script"]])
    yield "With two API processes:"
    yield _measured(report["many_apis"])
    copies = [copies for _, copies in report["small"]["copies"]]
    yield f"With {copies[0]['journals']} journal copies:"
    yield _measured(copies)
    yield "## Latency against load"
    yield f"![latency against arriving load]({LATENCY_FILE})"
    yield _measured(report["load"])
    yield (
        "Open loop: transfers arrive in a Poisson process and their latency counts from the arrival, also when all "
        "callers were busy. The closed loop's latencies in the other tables say how long a queue of so many callers is."
    )
    yield "## Workloads"
    yield _measured(report["workloads"])
    yield "## Peers"
    yield markdown(peers.HEADINGS, [peers.cells(each) for each in report["peers"]])
    yield "\n".join(f"- {note}" for note in peers.notes(report["peers"]))
    yield "Same accounts, amounts and batch sizes, random ids, on the same machine in the same report."
    yield "## Scale"
    held_out = report["scale"]["held_out"]
    yield markdown(scale.HEADINGS, [scale.cells(each) for each in (*report["scale"]["rows"], held_out)])
    yield "\n".join(f"- {line}" for line in scale.model_lines(report["scale"]))
    yield markdown(("for 1,000,000 transfers/s", "it takes"), plan_rows(report["scale"]["plan"]))
    yield "## Memory"
    yield markdown(memory.HEADINGS, [memory.cells(each) for each in report["memory"]])
    if "history" in report:
        yield "## The past"
        yield markdown(PAST_HEADINGS, [target.cells() for target in past_targets_of(report["history"])])
        yield markdown(OTHER_HEADINGS, others_of(report["history"]))
        yield "Measured by `bench history`, with the load, its generator and PostgreSQL on the same machine."


def _target_rows(report: dict[str, Any]) -> list[Document]:
    return [*report["throughput"], *report["half_loads"], report["across"], report["many_accounts"]]


def _spreads(report: dict[str, Any]) -> Iterator[list[str]]:
    for document in _target_rows(report):
        if "spread" not in document:
            continue
        spread = document["spread"]
        bounds = (
            spread["transfers_per_s"],
            spread["cpu_us_per_transfer"]["redis"],
            spread["cpu_us_per_transfer"]["api"],
            spread["latency_ms"]["p99"],
        )
        shown = [
            f"{low:,.0f} to {high:,.0f}" if high > 999 else f"{low:.1f} to {high:.1f}" for low, high in bounds
        ]
        yield [document["name"], *shown]
