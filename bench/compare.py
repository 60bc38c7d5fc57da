"""Compares two reports row by row. The machine's speed changes from day to day; ratios within a run should not."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

#: Key of the single runs that medians were made of: not compared.
_PASSED_OVER: Final = "each_run"


def rows_of(document: Any) -> dict[str, dict[str, Any]]:
    """Every measured row in a JSON document of any subcommand, by its name."""
    rows: dict[str, dict[str, Any]] = {}
    if isinstance(document, list):
        for each in document:
            rows.update(rows_of(each))
    elif isinstance(document, dict):
        if "name" in document and "transfers_per_s" in document:
            if document.get("loop") != "open":  # an open loop has a given rate
                rows[document["name"]] = document
        else:
            for key, value in document.items():
                if key != _PASSED_OVER:
                    rows.update(rows_of(value))
    return rows


@dataclass(frozen=True, slots=True)
class Compared:
    """A row of both reports: transfers per second, CPU per transfer (without the load generator), that of the API."""

    name: str
    first_per_s: float
    second_per_s: float
    first_us: float
    second_us: float
    first_api_us: float
    second_api_us: float
    #: Ratio of the two rates, divided by the geometric mean of this ratio over all rows: 1 when ratios repeat.
    drift: float

    def cells(self) -> list[str]:
        return [
            *(self.name, f"{self.first_per_s:,.0f}", f"{self.second_per_s:,.0f}"),
            f"{self.second_per_s / self.first_per_s:.2f}",
            *(f"{self.first_us:.1f}", f"{self.second_us:.1f}"),
            _ratio(self.first_us, self.second_us),
            _ratio(self.first_api_us, self.second_api_us),
            f"{self.drift:.2f}",
        ]


HEADINGS: Final = ("row", "A/s", "B/s", "B/A", "A µs", "B µs", "B/A µs", "B/A API", "drift")


def compare(first: Any, second: Any) -> list[Compared]:
    """The rows that both documents have. Raises `ValueError` when there are none."""
    before, after = rows_of(first), rows_of(second)
    names = [name for name in before if name in after]
    if not names:
        raise ValueError("the two have no row in common")
    pairs = {name: (_rate(before[name]), _rate(after[name])) for name in names}
    # The geometric mean of all ratios is how much faster the second run was as a whole.
    overall = math.exp(sum(math.log(b / a) for a, b in pairs.values()) / len(pairs))
    return [
        Compared(
            name,
            a,
            b,
            _cost_us(before[name]),
            _cost_us(after[name]),
            _api_us(before[name]),
            _api_us(after[name]),
            b / a / overall,
        )
        for name, (a, b) in pairs.items()
    ]


def _ratio(first: float, second: float) -> str:
    return f"{second / first:.3f}" if first else ""


def _rate(row: Mapping[str, Any]) -> float:
    return float(row["transfers_per_s"])


def _api_us(row: Mapping[str, Any]) -> float:
    return float(row["cpu_us_per_transfer"].get("api", 0.0))  # a peer has no API


def _cost_us(row: Mapping[str, Any]) -> float:
    return float(sum(us for role, us in row["cpu_us_per_transfer"].items() if role != "load"))
