"""How this process logs in to Redis: its user, and whether it uses TLS. Every connection to a node uses it.

A process has one `Login`, as it has one set of flags. It reads the certificates again for each connection, so
renewed ones are used without a restart; it reads the password once.
"""

import socket
import ssl
from collections.abc import MutableMapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import redis
from redis.backoff import NoBackoff
from redis.connection import SSLConnection
from redis.driver_info import DriverInfo
from redis.retry import Retry

from wallet_engine.domain.errors import WrongUsage
from wallet_engine.telemetry.client_tls import ClientTls
from wallet_engine.telemetry.secrets import read_secret

#: A login with a password and no name uses this user (redis.io, "ACL").
DEFAULT_USER: Final = "default"
#: Where `redis-cli` looks for a password.
REDIS_CLI_VARIABLE: Final = "REDISCLI_AUTH"


class _TlsConnection(SSLConnection):
    """Trusts `--redis-ca` alone.

    The context of redis-py would trust the authorities of the system too, and would not know a list of revoked
    certificates. It also reads all authorities of the system for each connection, which takes 0.15 s.
    """

    def _wrap_socket_with_ssl(self, sock: socket.socket) -> ssl.SSLSocket:
        ca, cert, key = (
            None if file is None else Path(file) for file in (self.ca_certs, self.certfile, self.keyfile)
        )
        context = ClientTls(ca, cert, key).context()
        assert context is not None, "it is made for a login with an authority"
        return context.wrap_socket(sock, server_hostname=self.host)


@dataclass(frozen=True, slots=True)
class Login:
    """The empty one sends no AUTH and uses plain TCP. With `ca` it uses TLS and checks the node's name."""

    user: str | None = None
    password: str | None = field(default=None, repr=False)
    password_file: Path | None = None
    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None

    @property
    def who(self) -> str:
        return self.user or DEFAULT_USER

    def auth(self) -> tuple[str, ...]:
        """The first command on a new connection, or nothing."""
        if self.password is None:
            return ()
        # Redis before version 6 has no users.
        return ("AUTH", self.password) if self.user is None else ("AUTH", self.user, self.password)

    @property
    def client_tls(self) -> ClientTls:
        return ClientTls(self.ca, self.cert, self.key)

    def tls(self) -> ssl.SSLContext | None:
        """See `ClientTls.context`."""
        return self.client_tls.context()

    def client(self, host: str, port: int, timeout_s: float, **options: Any) -> redis.Redis:
        """A redis-py client of one node, without retries. The caller closes it."""
        made = redis.Redis(
            host=host,
            port=port,
            socket_timeout=timeout_s,
            socket_connect_timeout=timeout_s,
            retry=Retry(NoBackoff(), 0),
            **self._options(),
            **options,
        )
        if self.ca is not None:
            made.connection_pool.connection_class = _TlsConnection
        return made

    def _options(self) -> dict[str, Any]:
        # With its version given, redis-py does not read package metadata for each client, which takes 4 ms.
        said: dict[str, Any] = {"driver_info": DriverInfo(lib_version=redis.__version__)}
        if self.password is not None:
            # With `driver_info` None redis-py sends no CLIENT SETINFO. Our users may not call it; ACL LOG
            # would show it. Without AUTH it must send something first: it takes what a node sends by itself (a
            # refusal in protected mode, TLS session tickets) for a reply that nobody read.
            said |= {"username": self.user, "password": self.password, "driver_info": None}
        if self.ca is not None:
            said |= {"ssl": True, "ssl_ca_certs": str(self.ca)}
        if self.cert is not None:
            said |= {"ssl_certfile": str(self.cert), "ssl_keyfile": str(self.key)}
        return said

    def cli_flags(self) -> tuple[str, ...]:
        """The login as flags for `redis-cli`, which gets the password by `REDIS_CLI_VARIABLE`."""
        flags: list[str] = []
        if self.user is not None:
            flags += ["--user", self.user]
        if self.ca is not None:
            flags += ["--tls", "--cacert", str(self.ca)]
        if self.cert is not None:
            flags += ["--cert", str(self.cert), "--key", str(self.key)]
        return tuple(flags)


_current = Login()


def login() -> Login:
    """The login of this process."""
    return _current


def use(chosen: Login) -> None:
    """Every new connection uses this login from now on."""
    global _current
    _current = chosen


def read_login(
    user: str | None, password_file: Path | None, ca: Path | None, cert: Path | None, key: Path | None
) -> Login:
    """The login. Raises `ConfigError` for flags that do not fit together and files that cannot be used."""
    if user is not None and password_file is None:
        raise WrongUsage("--redis-user is given with --redis-password-file")
    if user is not None and (not user or not user.isprintable() or " " in user):
        raise WrongUsage(f"--redis-user {user!r} must be a name without spaces")
    password = None
    if password_file is not None:
        password = read_secret(password_file, f"Redis password of {user or DEFAULT_USER}")
    made = Login(user, password, password_file, ca, cert, key)
    made.client_tls.check("Redis")
    return made


def use_flags(flags: MutableMapping[str, Any]) -> None:
    """Take the values of `telemetry.flags.redis_options` out of `flags` and `use` them.

    Raises as `read_login`.
    """
    names = ("user", "password_file", "ca", "cert", "key")
    use(read_login(*(flags.pop(f"redis_{name}", None) for name in names)))
