"""Reads counters from `/metrics` of API processes and the journal."""

import ssl
import urllib.error
import urllib.request
from collections.abc import Iterable
from typing import Final

_TIMEOUT_S: Final = 10.0
#: Attempts of a scrape: a process under load may take seconds to accept a connection.
SCRAPES_MAX: Final = 6
_CALLS: Final = "wallet_script_operations_count"
_OPERATIONS: Final = "wallet_script_operations_sum"
_SYNCS: Final = "wallet_journal_sync_duration_seconds_count"


def parse_metrics(text: str) -> dict[str, float]:
    """Name -> value of the samples without labels in a Prometheus exposition."""
    samples = {}
    for line in text.splitlines():
        name, _, value = line.partition(" ")
        if value and "{" not in name and name != "#":
            samples[name] = float(value)
    return samples


def script_counters(exposition: Iterable[str]) -> dict[str, float]:
    """`{"script_calls", "operations"}`: sums over the expositions of all processes."""
    found = [parse_metrics(text) for text in exposition]
    return {
        "script_calls": sum(samples.get(_CALLS, 0.0) for samples in found),
        "operations": sum(samples.get(_OPERATIONS, 0.0) for samples in found),
    }


def sync_count(exposition: str) -> int:
    """The number of the journal's fdatasyncs until now. Raises `KeyError` when the exposition does not have it."""
    return int(parse_metrics(exposition)[_SYNCS])


def scrape(address: str, tls: ssl.SSLContext | None = None) -> str:
    """`GET /metrics`, by HTTPS with `tls`. Retried after a time-out or a broken connection. Raises OSError."""
    for _ in range(SCRAPES_MAX - 1):
        try:
            return get(address, "/metrics", tls=tls)
        except OSError as error:
            if not _took_too_long(error):
                raise
    return get(address, "/metrics", tls=tls)


def _took_too_long(error: OSError) -> bool:
    reason = error.reason if isinstance(error, urllib.error.URLError) else error
    return isinstance(reason, TimeoutError | ConnectionError)


def get(address: str, path: str, *, tls: ssl.SSLContext | None = None, key: str | None = None) -> str:
    """The body of a `GET`. Raises OSError; for an error status its subclass `HTTPError`."""
    url = f"{'http' if tls is None else 'https'}://{address}{path}"
    headers = {} if key is None else {"Authorization": f"Bearer {key}"}
    asked = urllib.request.Request(url, headers=headers)
    with urllib.request.urlopen(asked, timeout=_TIMEOUT_S, context=tls) as answer:
        return str(answer.read().decode())
