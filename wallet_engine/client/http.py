"""The HTTP settings of both clients: connections, headers, and the errors of httpx that are retried."""

import ssl
from collections.abc import Mapping
from typing import Any, Final

import httpx

from wallet_engine.client.calls import Call

#: Few, since the pool of httpx scans all its connections for every request.
CONNECTIONS_MAX: Final = 32

#: The connection could not be made, broke, or gave no answer in time, or none that can be decoded.
LOST: Final = (
    *(httpx.NetworkError, httpx.TimeoutException, httpx.RemoteProtocolError, httpx.ProxyError),
    *(httpx.DecodingError, TimeoutError),
)

#: The errors of `LOST` where no connection could be made.
UNREACHED: Final = (httpx.ConnectError,)

_JSON: Final = {"content-type": "application/json"}


def settings(url: str, key: str | None, tls: ssl.SSLContext | None) -> dict[str, Any]:
    """The arguments of `httpx.Client` and `httpx.AsyncClient`.

    Raises `ValueError` for a URL that is not http(s), and for a key that is none.
    """
    given = httpx.URL(url)
    if given.scheme not in ("http", "https") or not given.host:
        raise ValueError(f"a wallet's URL is http://HOST:PORT or https://HOST:PORT, not {url!r}")
    headers: Mapping[str, str] = _authorization(key)
    limits = httpx.Limits(max_connections=CONNECTIONS_MAX, max_keepalive_connections=CONNECTIONS_MAX)
    more: dict[str, Any] = {} if tls is None else {"verify": tls}
    return {"base_url": given, "headers": headers, "limits": limits, **more}


def _authorization(key: str | None) -> dict[str, str]:
    """The header for a key, without blanks and line ends around it, as a file has them; none for an empty key.

    Raises `ValueError`, without the key: httpx's own error for such a header has it in its text.
    """
    bare = (key or "").strip()
    if not bare.isascii() or not bare.isprintable() or " " in bare:
        raise ValueError("key is no API key, wk_…: it has characters that no key has")
    return {"authorization": f"Bearer {bare}"} if bare else {}


def request_of(call: Call[Any], timeout_s: float) -> dict[str, Any]:
    """The arguments of httpx's `request` for a call."""
    body = {} if call.body is None else {"content": call.body, "headers": _JSON}
    return {"method": call.method, "url": call.path, "timeout": timeout_s, **body}
