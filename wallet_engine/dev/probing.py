"""Asks an API process whether it is ready."""

import http.client
import json
from typing import Final

PROBE_S_MAX: Final = 2.0


def probe(address: str) -> tuple[bool, str]:
    """Whether an API process takes transfers of every partition, and the first 300 bytes of its `/readyz`.

    Stopped partitions do not matter: waiting does not help them. Never raises for a process that does not answer.
    """
    connection = http.client.HTTPConnection(address, timeout=PROBE_S_MAX)
    try:
        connection.request("GET", "/readyz")
        answer = connection.getresponse()
        body = answer.read()
        said = json.loads(body)
        only_stopped = said["ready"] and all(c["condition"] == "stopped" for c in said["conditions"])
        return said["status"] == "ready" or only_stopped, body[:300].decode(errors="replace")
    except (OSError, http.client.HTTPException, ValueError, LookupError) as error:
        return False, f"no answer ({error})"
    finally:
        connection.close()
