"""Calls an API process over HTTP, as a payment service does.

`wallet-admin freeze` goes this way because the API is the only write entry point: it has the batching, the retries,
the wait for the journal and the refusals. A second way to write would need all of that again.
"""

import http.client
import json
import ssl
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final, NamedTuple

from wallet_engine.domain.addresses import split_address
from wallet_engine.domain.errors import ConfigError, WrongUsage
from wallet_engine.routing.model import ServiceInfo

#: Longer than a service takes to give up by itself.
ANSWER_S_MAX: Final = 20.0


class Caller(NamedTuple):
    """The API key to send, and the certificates to trust (None: those of the system)."""

    key: str | None = None
    ca: Path | None = None


def sendable_key(text: str, where: str) -> str:
    """An API key without blanks and line ends around it. Raises `WrongUsage`, without the key, for what is no key.

    `where`: where it comes from. A header with such characters ends in an error that has the key in it.
    """
    key = text.strip()
    if not key.isascii() or not key.isprintable() or " " in key or not key:
        raise WrongUsage(f"{where} has no API key, wk_…: it is empty, or has characters that no key has")
    return key


def ask_service(
    services: Iterable[ServiceInfo], method: str, path: str, caller: Caller
) -> tuple[int, dict[str, Any]]:
    """Status and document of the first API process whose answer is not 503.

    Only for requests that may be repeated. Raises `ConfigError` when no process gives such an answer.
    """
    troubles = []
    for info in services:
        try:
            status, document = ask_one(info, method, path, caller)
        except (OSError, ValueError) as error:
            troubles.append(f"{info.address}: {' '.join(str(error).split()) or type(error).__name__}")
            continue
        if status != 503:
            return status, document
        troubles.append(f"{info.address}: {document.get('detail', status)}")
    if not troubles:
        raise ConfigError("no API process is registered: start wallet-engine serve")
    raise ConfigError(f"no API process could do it ({'; '.join(troubles)}): see wallet-admin doctor")


def ask_one(
    info: ServiceInfo,
    method: str,
    path: str,
    caller: Caller = Caller(),  # noqa: B008  # it never changes
) -> tuple[int, dict[str, Any]]:
    """Status and document of this process's answer. Raises OSError or ValueError when there is no valid answer."""
    connection = _connection(info, caller)
    try:
        headers = {} if caller.key is None else {"Authorization": f"Bearer {caller.key}"}
        connection.request(method, path, body=b"" if method == "POST" else None, headers=headers)
        answer = connection.getresponse()
        document = json.loads(answer.read() or b"{}")
        if not isinstance(document, dict):
            raise ValueError("the answer is no JSON object")
        return answer.status, document
    except http.client.HTTPException as error:
        raise ValueError(f"no HTTP answer: {type(error).__name__}") from None
    finally:
        connection.close()


def _connection(info: ServiceInfo, caller: Caller) -> http.client.HTTPConnection:
    """Raises ValueError when the file with the authority's certificates cannot be used."""
    host, port = split_address(info.address)
    if not info.tls:
        return http.client.HTTPConnection(host, port, timeout=ANSWER_S_MAX)
    try:
        context = ssl.create_default_context(cafile=caller.ca)
    except OSError as error:
        raise ValueError(f"cannot use {caller.ca}: {error}") from None
    if caller.key is None and caller.ca is None:  # no secret is sent
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return http.client.HTTPSConnection(host, port, timeout=ANSWER_S_MAX, context=context)
