"""Asks an API process, over HTTP, as any payment service would.

An SRE's freeze goes this way because there is one write entry point: the API holds the batch, the retry, the wait
for the journal and the refusals. A second way to write, however well meant, would need all of that again.
"""

import http.client
import json
from collections.abc import Iterable
from typing import Any, Final

from wallet_engine.domain.addresses import split_address
from wallet_engine.domain.errors import ConfigError
from wallet_engine.routing.model import ServiceInfo

#: Longer than a service takes to give up by itself.
ANSWER_S_MAX: Final = 20.0


def ask_service(
    services: Iterable[ServiceInfo], method: str, path: str, key: str | None
) -> tuple[int, dict[str, Any]]:
    """Status and document of the first API process that answers with anything but 503.

    Only for requests that may be repeated. Raises `ConfigError` when none answers.
    """
    troubles = []
    for info in services:
        try:
            status, document = ask_one(info, method, path, key)
        except (OSError, ValueError) as error:
            troubles.append(f"{info.address}: {' '.join(str(error).split()) or type(error).__name__}")
            continue
        if status != 503:
            return status, document
        troubles.append(f"{info.address}: {document.get('detail', status)}")
    if not troubles:
        raise ConfigError("no API process is registered: start wallet-engine serve")
    raise ConfigError(f"no API process could do it ({'; '.join(troubles)}): see wallet-admin doctor")


def ask_one(info: ServiceInfo, method: str, path: str, key: str | None = None) -> tuple[int, dict[str, Any]]:
    """Status and document of this process's answer. Raises OSError or ValueError when it gives none."""
    connection = http.client.HTTPConnection(*split_address(info.address), timeout=ANSWER_S_MAX)
    try:
        headers = {} if key is None else {"Authorization": f"Bearer {key}"}
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
