"""The tables of `bench history`: figures beside their targets, for the terminal and for the report."""

from typing import Any, Final

from bench.machine import commit, machine
from bench.result import Document
from bench.targets import HEADINGS as TARGET_HEADINGS
from bench.targets import Target

HEADINGS: Final = ("the past", *TARGET_HEADINGS[1:])
OTHER_HEADINGS: Final = ("the past", "measured")
_PARTS: Final = {
    *("rebuild", "bytes_per_transfer", "lag_ms", "lag_samples", "lag_rate"),
    *("listing_ms", "listed_rows", "bytes_per_row"),
}


def targets_of(document: Document) -> list[Target]:
    """The targets of the history store, with the measured values."""
    rebuild, lag, listed = document["rebuild"], document["lag_ms"], document["listing_ms"]
    return [
        Target(
            "transfers made anew from the journal",
            *(20_000.0, 40_000.0, rebuild["transfers_per_s"], "/s", True),
        ),
        Target(
            f"p99 of the lag at {document['lag_rate']:,.0f} transfers/s",
            *(1_000.0, 1_000.0, lag["p99"], " ms", False),
        ),
        Target(
            f"p99 of the newest 50 of {document['listed_rows']:,} rows",
            *(5.0, 5.0, listed["p99"], " ms", False),
        ),
    ]


def others_of(document: Document) -> list[tuple[str, str]]:
    """Figures without a target: (name, value)."""
    rebuild, lag, listed = document["rebuild"], document["lag_ms"], document["listing_ms"]
    costs = f"{rebuild['follower_us']:.1f}, {rebuild['database_us']:.1f} µs"
    listed_gb = document["bytes_per_row"] * document["listed_rows"] / 1e9
    return [
        ("rows/s of transfers and postings made anew", f"{rebuild['rows_per_s']:,.0f}"),
        ("CPU per transfer of the follower, of PostgreSQL", costs),
        ("growth by a million transfers", f"{document['bytes_per_transfer'] / 1000:,.2f} GB"),
        (f"growth by {document['listed_rows']:,} rows of one account", f"{listed_gb:,.2f} GB"),
        ("p50 of the lag, and samples", f"{lag['p50']:.0f} ms, {document['lag_samples']:,}"),
        ("p50 of a listing, by HTTP", f"{listed['p50']:.2f} ms"),
    ]


def check_history(document: Any) -> Document:
    """Return the document of `bench history` if it fits into a report of this commit and machine.

    Raises `ValueError`.
    """
    if not isinstance(document, dict) or not document.keys() >= _PARTS:
        raise ValueError("not the JSON file of `bench history`")
    wanted = {"commit": commit(), "machine": machine()}
    differ = [name for name, value in wanted.items() if document.get(name) != value]
    if differ:
        raise ValueError(f"the history was measured with another {' and '.join(differ)}")
    return document
