"""The address on which a process listens, and the address under which others find it."""

import socket
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any, Final

import click

from wallet_engine.domain.addresses import join_address, split_address
from wallet_engine.domain.errors import ConfigError, WrongUsage, as_usage
from wallet_engine.routing.model import check_address
from wallet_engine.telemetry.logging import get_logger

#: Reserved for documentation (RFC 5737, RFC 3849). The route to it shows our address; nothing is sent.
_ELSEWHERE: Final = {4: (socket.AF_INET, "192.0.2.1"), 6: (socket.AF_INET6, "2001:db8::1")}
_ANY_PORT: Final = 9

log = get_logger(__name__)


def advertise_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """`--advertise`, for `Listening`."""
    return click.option(
        "--advertise",
        metavar="HOST[:PORT]",
        help="Address under which others find this process, if it differs from --host.  "
        "[default: --host, or this machine's address if --host is every address]",
    )(command)


@dataclass(frozen=True, slots=True)
class Listening:
    """`--host`, `--port` and `--advertise` of a process, checked before anything else starts."""

    host: str
    port: int
    advertise: str | None

    @classmethod
    def checked(cls, host: str, port: int, advertise: str | None) -> "Listening":
        """Raises `ConfigError` for an address that cannot be listened on, or that others cannot reach."""
        listening = cls(_bare(host), port, advertise)
        if not 0 <= port <= 65535:
            raise WrongUsage(f"{listening} is not an address: --port is 0 to 65535")
        try:
            family = socket.getaddrinfo(listening.host, port, type=socket.SOCK_STREAM)[0][0]
            socket.create_server((listening.host, port), family=family).close()
        except OSError as error:
            raise ConfigError(f"cannot listen on {listening}: {error.strerror or error}") from None
        listening._address(port or 1)
        return listening

    def __str__(self) -> str:
        return join_address(self.host, self.port)

    def advertised(self, port: int) -> str:
        """The address to register for the process, which has bound this port."""
        address = self._address(port)
        if self.advertise is None and _is_every(self.host):
            log.warning("listens on every address; --advertise says which one others use", address=address)
        return address

    def _address(self, port: int) -> str:
        if self.advertise is not None:
            return _as_given(self.advertise, port)
        host = own_host(self.host) if _is_every(self.host) else self.host
        if host is None:
            raise ConfigError(
                f"--host {self.host} is no address that others could reach: give --advertise HOST"
            )
        return join_address(host, port)


def own_host(every: str) -> str | None:
    """This machine's address towards others, of the IP version of `every`; None when it has only loopback."""
    family, elsewhere = _ELSEWHERE[ip_address(every).version]
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((elsewhere, _ANY_PORT))
            host = str(probe.getsockname()[0])
    except OSError:
        return None
    return None if ip_address(host).is_loopback else host


def _as_given(advertise: str, port: int) -> str:
    host, colon, _ = advertise.rpartition(":")
    has_port = colon and (host.endswith("]") or ":" not in host)
    # Without a port it is a name, an IPv4 address, or an IPv6 address with or without brackets.
    address = advertise if has_port else join_address(_bare(advertise), port)
    with as_usage():
        check_address(address, "--advertise")
    if _is_every(split_address(address)[0]):
        raise WrongUsage(f"--advertise {advertise} is no address that others could reach")
    return address


def _bare(host: str) -> str:
    """The host without brackets: `::1` for `[::1]`."""
    return host.removeprefix("[").removesuffix("]")


def _is_every(host: str) -> bool:
    try:
        return ip_address(host).is_unspecified
    except ValueError:
        return False
