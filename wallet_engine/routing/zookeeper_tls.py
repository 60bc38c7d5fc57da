"""How this process reaches ZooKeeper: by TLS or not. Every connection to its servers uses it.

There is one `ZooKeeperTls` in a process, as there is one set of flags.
"""

import socket
import ssl
from collections.abc import MutableMapping
from pathlib import Path
from typing import Any, Final

from kazoo.hosts import collect_hosts

from wallet_engine.telemetry.client_tls import ClientTls

#: The longest that a server is asked why no session came about.
_TRY_S_MAX: Final = 1.0
#: The first byte of what a server says by TLS when it does not understand.
_TLS_ALERT: Final = b"\x15"


class ZooKeeperTls(ClientTls):
    """As kazoo, and a socket of our own, are to have it."""

    def options(self) -> dict[str, Any]:
        """For kazoo's client. Nothing for plain TCP."""
        if self.ca is None:
            return {}
        said: dict[str, Any] = {"use_ssl": True, "ca": str(self.ca), "check_hostname": True}
        if self.cert is not None:
            said |= {"certfile": str(self.cert), "keyfile": str(self.key)}
        return said


_current = ZooKeeperTls()


def zookeeper_tls() -> ZooKeeperTls:
    """That of this process."""
    return _current


def use(chosen: ZooKeeperTls) -> None:
    """From now on every connection is opened with it."""
    global _current
    _current = chosen


def read_tls(ca: Path | None, cert: Path | None, key: Path | None) -> ZooKeeperTls:
    """Raises `ConfigError`: see `ClientTls.check`."""
    made = ZooKeeperTls(ca, cert, key)
    made.check("ZooKeeper")
    return made


def use_flags(flags: MutableMapping[str, Any]) -> None:
    """Take `--zookeeper-ca`, `-cert` and `-key` out of a command's values, and `use` them. Raises as `read_tls`."""
    use(read_tls(*(flags.pop(f"zookeeper_{name}", None) for name in ("ca", "cert", "key"))))


def why_unopened(hosts: str) -> str:
    """Why no session came about: a server is asked once more, because kazoo does not tell."""
    tls = zookeeper_tls()
    for host, port in collect_hosts(hosts)[0]:
        try:
            with socket.create_connection((host, port), timeout=_TRY_S_MAX) as link:
                context = tls.context()
                if context is not None:
                    with context.wrap_socket(link, server_hostname=host) as wrapped:
                        wrapped.sendall(b"srvr")
                        wrapped.recv(1)  # a server that wants a certificate says so only now
                elif not _speaks_plainly(link):
                    return f"ZooKeeper at {hosts} speaks TLS only: set --zookeeper-ca, or its port for others"
        except ssl.SSLError as error:
            return (
                f"ZooKeeper at {hosts} cannot be reached by TLS ({error}): "
                f"see --zookeeper-ca, -cert and -key, and whether --zookeeper names its secureClientPort"
            )
        except OSError:
            continue
    return f"ZooKeeper at {hosts} does not answer: start it or set --zookeeper"


def _speaks_plainly(link: socket.socket) -> bool:
    """Whether the server does not hang up at words that are no TLS. Raises OSError for one that says nothing."""
    link.sendall(b"srvr\n")  # of fewer than five bytes a TLS server waits for more
    try:
        return link.recv(1) not in (b"", _TLS_ALERT)
    except ConnectionResetError:
        return False
