"""Reports an unknown host name at once, and not as a server that does not answer."""

import queue
import socket
import threading
import time
from collections.abc import Sequence
from typing import Final

from kazoo.hosts import collect_hosts

from wallet_engine.domain.errors import ConfigError

#: Maximum time for name servers; a name without an answer by then does not count as unknown.
NAMES_S_MAX: Final = 1.5


def check_names_known(hosts: str) -> None:
    """Check `zk1:2181,zk2:2181/root`. Raises `ConfigError` when none of the names is known."""
    try:
        names = list(dict.fromkeys(name for name, _ in collect_hosts(hosts)[0]))
    except ValueError:
        return  # the client says what is wrong with it
    unknown = unknown_names(names)
    if names and len(unknown) == len(names):
        raise ConfigError(f"no host has the name {' or '.join(unknown)}: see --zookeeper, or /etc/hosts")


def unknown_names(names: Sequence[str]) -> list[str]:
    """The names that certainly belong to no host."""
    answers: queue.SimpleQueue[tuple[str, bool]] = queue.SimpleQueue()
    for name in names:
        # Daemon threads: a silent name server does not keep a command from ending.
        threading.Thread(target=lambda n=name: answers.put((n, _is_unknown(n))), daemon=True).start()
    unknown, until_s = set(), time.monotonic() + NAMES_S_MAX
    for _ in names:
        try:
            name, is_unknown = answers.get(timeout=max(0.0, until_s - time.monotonic()))
        except queue.Empty:
            break
        if is_unknown:
            unknown.add(name)
    return [name for name in names if name in unknown]


def _is_unknown(name: str) -> bool:
    try:
        socket.getaddrinfo(name, None)
    except socket.gaierror as error:
        return error.errno == socket.EAI_NONAME
    except (OSError, UnicodeError):
        return False
    return False
