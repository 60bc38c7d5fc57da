"""The two plots of the report, as SVG without a display."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure

from bench.result import Document

mpl.rcParams["svg.hashsalt"] = "wallet-engine"  # the same figures make the same file


def _save(figure: Figure, path: Path) -> None:
    figure.tight_layout()
    figure.savefig(path, format="svg", metadata={"Date": None})


def throughput_plot(series: Mapping[str, Sequence[Document]], path: Path) -> None:
    """Transfers per second against batch size, a line for each name."""
    figure = Figure(figsize=(8, 5))
    axes = figure.subplots()
    for name, documents in series.items():
        ordered = sorted(documents, key=lambda document: document["batch"])
        axes.plot(
            [document["batch"] for document in ordered],
            [document["transfers_per_s"] for document in ordered],
            marker="o",
            label=name,
        )
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("transfers in a request")
    axes.set_ylabel("transfers/s")
    axes.grid(visible=True, which="both", alpha=0.3)
    axes.legend()
    _save(figure, path)


def latency_plot(documents: Sequence[Document], path: Path) -> None:
    """Latency percentiles against the load that arrives (open loop)."""
    figure = Figure(figsize=(8, 5))
    axes = figure.subplots()
    ordered = sorted(documents, key=lambda document: document["arrivals_per_s"])
    for name in ("p50", "p90", "p99", "p999"):
        axes.plot(
            [document["arrivals_per_s"] for document in ordered],
            [document["latency_ms"][name] for document in ordered],
            marker="o",
            label=name.replace("p999", "p99.9"),
        )
    axes.set_yscale("log")
    axes.set_xlabel("single transfers arriving per second, by HTTP")
    axes.set_ylabel("ms from arrival to answer")
    axes.grid(visible=True, which="both", alpha=0.3)
    axes.legend()
    _save(figure, path)
