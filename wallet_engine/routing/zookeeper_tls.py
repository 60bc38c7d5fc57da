"""The TLS settings for ZooKeeper. Every connection of this process to its servers uses them.

A process has one `ZooKeeperTls`, from its flags.
"""

import socket
import ssl
from collections.abc import MutableMapping
from pathlib import Path
from typing import Any, Final

from kazoo.hosts import collect_hosts

from wallet_engine.telemetry.client_tls import ClientTls

#: Maximum time to ask one server why no session could be opened.
_TRY_S_MAX: Final = 1.0
#: The first byte of a TLS server's alert when it does not understand the client.
_TLS_ALERT: Final = b"\x15"


class ZooKeeperTls(ClientTls):
    """The settings, for kazoo and for our own sockets."""

    def options(self) -> dict[str, Any]:
        """The arguments for kazoo's client; empty for plain TCP."""
        if self.ca is None:
            return {}
        said: dict[str, Any] = {"use_ssl": True, "ca": str(self.ca), "check_hostname": True}
        if self.cert is not None:
            said |= {"certfile": str(self.cert), "keyfile": str(self.key)}
        return said


_current = ZooKeeperTls()


def zookeeper_tls() -> ZooKeeperTls:
    """The settings of this process."""
    return _current


def use(chosen: ZooKeeperTls) -> None:
    """Use these settings for every later connection."""
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
    """Why no session could be opened. It asks the servers itself, because kazoo does not say."""
    tls = zookeeper_tls()
    for host, port in collect_hosts(hosts)[0]:
        try:
            with socket.create_connection((host, port), timeout=_TRY_S_MAX) as link:
                context = tls.context()
                if context is not None:
                    with context.wrap_socket(link, server_hostname=host) as wrapped:
                        wrapped.sendall(b"srvr")
                        wrapped.recv(1)  # a server that requires a certificate reports it only now
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
    """Whether the server answers plain text. Raises OSError if it sends nothing."""
    link.sendall(b"srvr\n")  # at least five bytes: a TLS server waits for those
    try:
        return link.recv(1) not in (b"", _TLS_ALERT)
    except ConnectionResetError:
        return False
