"""Counters of API processes and the journal, read from their /metrics."""

import urllib.request
from collections.abc import Iterable
from typing import Final

_TIMEOUT_S: Final = 10.0
_CALLS: Final = "wallet_script_operations_count"
_OPERATIONS: Final = "wallet_script_operations_sum"
_SYNCS: Final = "wallet_journal_sync_duration_seconds_count"


def parse_metrics(text: str) -> dict[str, float]:
    """The samples without labels of a Prometheus exposition."""
    samples = {}
    for line in text.splitlines():
        name, _, value = line.partition(" ")
        if value and "{" not in name and name != "#":
            samples[name] = float(value)
    return samples


def script_counters(exposition: Iterable[str]) -> dict[str, float]:
    """`{"script_calls", "operations"}` of all processes together."""
    found = [parse_metrics(text) for text in exposition]
    return {
        "script_calls": sum(samples.get(_CALLS, 0.0) for samples in found),
        "operations": sum(samples.get(_OPERATIONS, 0.0) for samples in found),
    }


def sync_count(exposition: str) -> int:
    """How many fdatasyncs the journal has made. Raises `KeyError` when it does not say."""
    return int(parse_metrics(exposition)[_SYNCS])


def scrape(address: str) -> str:
    """`GET http://address/metrics`. Raises OSError."""
    with urllib.request.urlopen(f"http://{address}/metrics", timeout=_TIMEOUT_S) as answer:
        return str(answer.read().decode())
