"""Draws the two plots of the report as SVG files, without a display."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullFormatter

from bench.result import Document

mpl.rcParams["svg.hashsalt"] = "wallet-engine"  # so that the same figures give the same file


#: The multiples of each power of ten that have a label.
_NUMBERED = (1.0, 2.0, 5.0)


def _number(value: float, _: int) -> str:
    return f"{value:,.10g}"


def _log_scale(axes: Axes, which: str) -> None:
    """Make an axis logarithmic, with labels such as 2,000 at 1, 2 and 5 of each power of ten."""
    getattr(axes, f"set_{which}scale")("log")
    axis = getattr(axes, f"{which}axis")
    axis.set_major_locator(LogLocator(subs=_NUMBERED))
    axis.set_major_formatter(FuncFormatter(_number))
    axis.set_minor_formatter(NullFormatter())


def _save(figure: Figure, path: Path) -> None:
    figure.tight_layout()
    figure.savefig(path, format="svg", metadata={"Date": None})


def throughput_plot(series: Mapping[str, Sequence[Document]], path: Path) -> None:
    """Plot transfers per second against batch size, a line for each name."""
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
    _log_scale(axes, "x")
    _log_scale(axes, "y")
    axes.xaxis.set_major_locator(FixedLocator(_batches(series)))
    axes.set_xlabel("transfers in a request")
    axes.set_ylabel("transfers/s")
    axes.grid(visible=True, which="both", alpha=0.3)
    axes.legend()
    _save(figure, path)


def _batches(series: Mapping[str, Sequence[Document]]) -> list[int]:
    return sorted({document["batch"] for documents in series.values() for document in documents})


def latency_plot(documents: Sequence[Document], path: Path) -> None:
    """Plot latency percentiles against the arrival rate (open loop)."""
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
    _log_scale(axes, "y")
    axes.xaxis.set_major_formatter(FuncFormatter(_number))
    axes.set_xlabel("single transfers arriving per second, by HTTP")
    axes.set_ylabel("ms from arrival to answer")
    axes.grid(visible=True, which="both", alpha=0.3)
    axes.legend()
    _save(figure, path)
