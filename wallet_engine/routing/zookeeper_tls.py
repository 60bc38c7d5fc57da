"""How this process reaches ZooKeeper: by TLS or not. Every connection to a server of it is opened so.

There is one `ZooKeeperTls` in a process, as there is one set of flags. Certificates are read anew for each connection.
"""

import socket
import ssl
from collections.abc import MutableMapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from kazoo.hosts import collect_hosts

from wallet_engine.domain.errors import ConfigError
from wallet_engine.telemetry.secrets import check_secret_file

#: The longest that a server is asked why no session came about.
_TRY_S_MAX: Final = 1.0
#: The first byte of what a server says by TLS when it does not understand.
_TLS_ALERT: Final = b"\x15"


@dataclass(frozen=True, slots=True)
class ZooKeeperTls:
    """The empty one is plain TCP. With `ca` it is TLS, and the server's name is checked."""

    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None

    def options(self) -> dict[str, Any]:
        """For kazoo's client. Nothing for plain TCP."""
        if self.ca is None:
            return {}
        said: dict[str, Any] = {"use_ssl": True, "ca": str(self.ca), "check_hostname": True}
        if self.cert is not None:
            said |= {"certfile": str(self.cert), "keyfile": str(self.key)}
        return said

    def context(self) -> ssl.SSLContext | None:
        """For a socket of our own; None for plain TCP. Raises OSError, as `ssl.SSLError` is, for unusable files."""
        if self.ca is None:
            return None
        context = ssl.create_default_context(cafile=str(self.ca))
        if self.cert is not None:
            context.load_cert_chain(self.cert, self.key)
        return context


_current = ZooKeeperTls()


def zookeeper_tls() -> ZooKeeperTls:
    """That of this process."""
    return _current


def use(chosen: ZooKeeperTls) -> None:
    """From now on every connection is opened with it."""
    global _current
    _current = chosen


def read_tls(ca: Path | None, cert: Path | None, key: Path | None) -> ZooKeeperTls:
    """Raises `ConfigError` for flags that do not belong together and files that cannot be used."""
    if (cert is None) != (key is None):
        raise ConfigError("--zookeeper-cert and --zookeeper-key are given together or not at all")
    if cert is not None and ca is None:
        raise ConfigError("--zookeeper-cert is given with --zookeeper-ca, of who vouches for ZooKeeper")
    if key is not None:
        check_secret_file(key)
    made = ZooKeeperTls(ca, cert, key)
    try:
        made.context()
    except (OSError, ValueError) as error:
        files = ", ".join(str(path) for path in (ca, cert, key) if path is not None)
        raise ConfigError(f"cannot use the certificates for ZooKeeper ({files}): {error}") from None
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
