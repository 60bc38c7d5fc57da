"""Chooses free loopback ports that other programs are unlikely to take before they are used.

A Redis node listens on two ports: its own, and its own + 10000 for the cluster bus (Redis 6.2 cannot choose another
bus port). Both are below 32768, where Linux begins with the ports of outgoing connections.

A claimed port belongs to the process that claimed it until that process ends, even while nothing listens there. Other
calls, in this process or in another one of the same user, get other ports.

`WALLET_DEV_PORTS=11000-15999` limits the range.
"""

import fcntl
import os
import random
import socket
import tempfile
from functools import cache
from pathlib import Path
from typing import Final

from wallet_engine.domain.errors import ConfigError

BUS_OFFSET: Final = 10_000
PORT_MIN: Final = 11_000
PORT_MAX: Final = 20_999
#: The last port there is.
PORT_LAST: Final = 65_535

_given: set[int] = set()


def port_is_free(port: int, host: str = "127.0.0.1") -> bool:
    """Whether a server could listen on the port now. Connections in TIME_WAIT do not matter."""
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
    return 0 < port <= PORT_LAST - BUS_OFFSET and port_is_free(port) and port_is_free(port + BUS_OFFSET)


def reserve(port: int) -> bool:
    """Claim the port until this process ends. Returns False when this or another process has claimed it before."""
    if port in _given:
        return False
    try:
        fcntl.lockf(_book(), fcntl.LOCK_EX | fcntl.LOCK_NB, 1, port)
    except OSError:
        return False
    _given.add(port)
    return True


def free_port(*, redis: bool = False, run: int = 1) -> int:
    """Choose and claim a port that is free and unclaimed. Raises `ConfigError` when there is none.

    `redis`: the bus port is free too. `run`: claim so many ports in a row, and return the first.
    """
    is_free = redis_port_is_free if redis else port_is_free
    first, last = _bounds()
    candidates = list(range(first, last + 2 - run))
    random.shuffle(candidates)
    for port in candidates:
        ports = range(port, port + run)
        # Check all ports before claiming any: a claim cannot be released.
        if not _given.intersection(ports) and all(map(is_free, ports)) and all(map(reserve, ports)):
            return port
    raise ConfigError(f"no free port between {first} and {last} on 127.0.0.1")


@cache
def _book() -> int:
    """The descriptor of the claims file: a process that claims port N locks byte N. Its end releases the lock."""
    path = Path(tempfile.gettempdir()) / f"wallet-engine-{os.getuid()}.ports"
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)


def _bounds() -> tuple[int, int]:
    text = os.environ.get("WALLET_DEV_PORTS") or f"{PORT_MIN}-{PORT_MAX}"
    try:
        first, last = map(int, text.split("-"))
        if not 0 < first <= last <= PORT_LAST:
            raise ValueError(text)
    except ValueError:
        raise ConfigError(f"WALLET_DEV_PORTS must be FIRST-LAST, from 1 to {PORT_LAST}: {text}") from None
    return first, last
