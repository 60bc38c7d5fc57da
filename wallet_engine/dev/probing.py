"""What an API process says of itself: read to wait until it serves."""

import http.client
import json
from typing import Final

PROBE_S_MAX: Final = 2.0


def probe(address: str) -> tuple[bool, str]:
    """Whether an API process takes transfers of every partition, and the beginning of what its `/readyz` says.

    Nothing is waited for that does not end by itself: partitions that are stopped.
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
