"""Summarises several runs of one plan: medians of all figures, and their spread."""

from collections.abc import Awaitable, Callable, Sequence
from statistics import median
from typing import Any, Final, TypeVar

Row = TypeVar("Row")

#: Figures whose lowest and highest values are given beside the median.
SPREAD_OF: Final = (
    *("transfers_per_s", "per_node_tps", "cpu_us_per_transfer", "latency_ms"),
    *("steal", "core_speed"),
)


def medians(values: Sequence[Any]) -> Any:
    """One document with the median of each number; other values are those of the first document."""
    first = values[0]
    if isinstance(first, dict):
        return {
            key: medians([value[key] for value in values if isinstance(value, dict) and key in value])
            for key in first
        }
    numbers = [value for value in values if isinstance(value, int | float) and not isinstance(value, bool)]
    if len(numbers) < len(values):
        return first
    middle = median(numbers)
    return round(middle) if all(isinstance(number, int) for number in numbers) else round(middle, 3)


def _spread(values: Sequence[Any]) -> Any:
    first = values[0]
    if isinstance(first, dict):
        return {key: _spread([value[key] for value in values]) for key in first}
    return [min(values), max(values)]


def summarise(documents: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """One document for all runs: medians, `runs` (their number), `spread` (lowest, highest) and `each_run` (all)."""
    if len(documents) == 1:
        return {**documents[0], "runs": 1}
    summary: dict[str, Any] = medians(documents)
    summary["runs"] = len(documents)
    summary["spread"] = {
        name: _spread([document[name] for document in documents])
        for name in SPREAD_OF
        if name in documents[0]
    }
    summary["each_run"] = list(documents)
    return summary


async def in_turns(
    measure: Callable[[Row, int], Awaitable[dict[str, Any]]], rows: Sequence[Row], runs: int
) -> list[dict[str, Any]]:
    """Measure each row `runs` times: a summary for each row. `measure` gets the row and the turn, from 1.

    In a turn every row is measured once, so a slow minute of the machine affects all rows. Every other turn goes
    backwards, because later runs find more in memory.
    """
    found: list[list[dict[str, Any]]] = [[] for _ in rows]
    for turn in range(1, runs + 1):
        for number in range(len(rows))[:: 1 if turn % 2 else -1]:
            found[number].append(await measure(rows[number], turn))
    return [summarise(documents) for documents in found]


def p99_ratios(row: dict[str, Any], alone: dict[str, Any]) -> tuple[float, float, float]:
    """The ratio of the p99 of two rows of `in_turns` in each turn: (lowest, median, highest)."""
    pairs = zip(row.get("each_run", [row]), alone.get("each_run", [alone]), strict=True)
    ratios = [one["latency_ms"]["p99"] / other["latency_ms"]["p99"] for one, other in pairs]
    return min(ratios), median(ratios), max(ratios)
