"""Free loopback ports, chosen so that nothing else is likely to take them between the choice and the use.

A Redis node listens on two ports: its own and, for the cluster bus, its own + 10000 (6.2 knows no other bus
port). Both stay below 32768, where Linux begins to hand out ports for outgoing connections.
"""

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
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
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


def free_port(*, redis: bool = False) -> int:
    """A port that is free now and was not given out here before. `redis`: with its bus port."""
    candidates = list(range(PORT_MIN, PORT_MAX + 1))
    random.shuffle(candidates)
    for port in candidates:
        if port not in _given and (redis_port_is_free(port) if redis else port_is_free(port)):
            _given.add(port)
            return port
    raise ConfigError(f"no free port between {PORT_MIN} and {PORT_MAX} on 127.0.0.1")
