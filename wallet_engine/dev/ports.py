"""Free loopback ports, chosen so that nothing else is likely to take them between the choice and the use.

A Redis node listens on two ports: its own and, for the cluster bus, its own + 10000 (6.2 knows no other bus
port). Both stay below 32768, where Linux begins to hand out ports for outgoing connections.

A port that was given out stays its owner's until that process ends, also before anything listens there and during
restarts: the next call, in this process or another of the same user, gets another port.

`WALLET_DEV_PORTS=11000-15999` narrows them.
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


def reserve(port: int) -> bool:
    """Claim the port until this process ends. False: it is claimed already, by this process or another one."""
    if port in _given:
        return False
    try:
        fcntl.lockf(_book(), fcntl.LOCK_EX | fcntl.LOCK_NB, 1, port)
    except OSError:
        return False
    _given.add(port)
    return True


def free_port(*, redis: bool = False, run: int = 1) -> int:
    """A port that is free now and that nobody has claimed; claimed from now on. `redis`: with its bus port.

    `run`: the first of so many in a row.
    """
    is_free = redis_port_is_free if redis else port_is_free
    first, last = _bounds()
    candidates = list(range(first, last + 2 - run))
    random.shuffle(candidates)
    for port in candidates:
        ports = range(port, port + run)
        # All are looked at before any is claimed: a claim is not given back.
        if not _given.intersection(ports) and all(map(is_free, ports)) and all(map(reserve, ports)):
            return port
    raise ConfigError(f"no free port between {first} and {last} on 127.0.0.1")


@cache
def _book() -> int:
    """A file in which the process that has claimed port N locks byte N. The kernel unlocks when a process ends."""
    path = Path(tempfile.gettempdir()) / f"wallet-engine-{os.getuid()}.ports"
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)


def _bounds() -> tuple[int, int]:
    text = os.environ.get("WALLET_DEV_PORTS") or f"{PORT_MIN}-{PORT_MAX}"
    try:
        first, last = map(int, text.split("-"))
    except ValueError:
        raise ConfigError(f"WALLET_DEV_PORTS must be FIRST-LAST: {text}") from None
    return first, last
