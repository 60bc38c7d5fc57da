"""Free loopback ports, chosen so that nothing else is likely to take them between the choice and the use.

A Redis node listens on two ports: its own and, for the cluster bus, its own + 10000 (6.2 knows no other bus
port). Both stay below 32768, where Linux begins to hand out ports for outgoing connections.

`WALLET_DEV_PORTS=11000-15999` narrows them: those who start clusters at the same time, each in a range of its own,
never take each other's port while its process is being started again.
"""

import os
import random
import socket
from typing import Final

from wallet_engine.domain.errors import ConfigError

BUS_OFFSET: Final = 10_000
PORT_MIN: Final = 11_000
PORT_MAX: Final = 20_999

_given: set[int] = set()


def port_is_free(port: int, host: str = "127.0.0.1") -> bool:
    """Whether a server could listen there now. Connections in TIME_WAIT do not count as taken."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
            probe.listen(1)
        except OSError:
            return False
    return True


def redis_port_is_free(port: int) -> bool:
    """Whether both the port and its cluster bus port are free."""
    return 0 < port <= 65_535 - BUS_OFFSET and port_is_free(port) and port_is_free(port + BUS_OFFSET)


def reserve(port: int) -> None:
    """Somebody will listen there later: `free_port` does not give it out."""
    _given.add(port)


def free_port(*, redis: bool = False) -> int:
    """A port that is free now and was neither given out here before nor reserved. `redis`: with its bus port."""
    first, last = _bounds()
    candidates = list(range(first, last + 1))
    random.shuffle(candidates)
    for port in candidates:
        if port not in _given and (redis_port_is_free(port) if redis else port_is_free(port)):
            _given.add(port)
            return port
    raise ConfigError(f"no free port between {first} and {last} on 127.0.0.1")


def _bounds() -> tuple[int, int]:
    text = os.environ.get("WALLET_DEV_PORTS") or f"{PORT_MIN}-{PORT_MAX}"
    try:
        first, last = map(int, text.split("-"))
    except ValueError:
        raise ConfigError(f"WALLET_DEV_PORTS must be FIRST-LAST: {text}") from None
    return first, last
