"""Counters of API processes and the journal, read from their /metrics."""

import ssl
import urllib.error
import urllib.request
from collections.abc import Iterable
from typing import Final

_TIMEOUT_S: Final = 10.0
#: A process under load may take seconds to accept: a run is not lost for that.
SCRAPES_MAX: Final = 6
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


def scrape(address: str, tls: ssl.SSLContext | None = None) -> str:
    """`GET http://address/metrics`, or https; again when it takes too long. Raises OSError."""
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
    """The body of an answer. Raises OSError, of it `HTTPError` for another status than 200."""
    url = f"{'http' if tls is None else 'https'}://{address}{path}"
    headers = {} if key is None else {"Authorization": f"Bearer {key}"}
    asked = urllib.request.Request(url, headers=headers)
    with urllib.request.urlopen(asked, timeout=_TIMEOUT_S, context=tls) as answer:
        return str(answer.read().decode())
