"""Addresses that a webhook may use: by default only public ones, as a caller's URL must not reach our own
network.

A name is resolved at connection time, and the connection goes to the checked address. So a name that answers
differently the second time (DNS rebinding) gains nothing.

A look-up blocks a thread until the resolver gives up. So look-ups never use the threads of the event loop, for
which others would have to wait: each endpoint has its own.
"""

import asyncio
import ipaddress
import socket
from concurrent.futures import Executor, ThreadPoolExecutor
from functools import partial
from typing import Final
from urllib.parse import urlsplit

from wallet_engine.domain.errors import InvalidInput, WalletError

URL_LENGTH_MAX: Final = 2_048
#: How long the check of a new URL waits for its addresses.
LOOK_UP_S_MAX: Final = 5.0

_for_checks: Final = ThreadPoolExecutor(2, thread_name_prefix="webhook-names")

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address
#: IPv6 addresses that carry an IPv4 address, which a gateway may unpack (RFC 6052, 8215).
_NAT64: Final = tuple(map(ipaddress.IPv6Network, ("64:ff9b::/96", "64:ff9b:1::/48")))


class Unreachable(WalletError):
    """The host has no permitted address; the text says why."""


def check_url(url: object, *, allow_private: bool) -> str:
    """Check the form of an endpoint's URL. Raises `InvalidInput`."""
    try:
        if not isinstance(url, str) or not url.isascii() or len(url) > URL_LENGTH_MAX:
            raise ValueError
        if any(character <= " " or character in '"<>\\^`{|}\x7f' for character in url):
            raise ValueError
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise _wrong(f"must be a URL of at most {URL_LENGTH_MAX} characters") from None
    if parts.scheme not in ("https", "http") or not host or port == 0:
        raise _wrong("must be https://HOST[:PORT][/PATH]")
    if parts.username is not None or parts.password is not None or parts.fragment:
        raise _wrong("must name neither a user nor a fragment")
    if parts.scheme == "http" and not allow_private:
        raise _wrong("must be https: amounts would be readable on their way")
    if not allow_private and (why := _refused_literal(host)):
        raise _wrong(f"{parts.netloc} {why}")
    return url


async def check_host(url: str) -> None:
    """Refuse a host that is now known to be private. A name without an address yet is checked when sending.

    Raises `InvalidInput`.
    """
    parts = urlsplit(url)
    assert parts.hostname is not None  # `check_url` has checked it
    try:
        async with asyncio.timeout(LOOK_UP_S_MAX):
            found = await _addresses(parts.hostname, parts.port or 443, _for_checks)
    except (Unreachable, TimeoutError):
        return
    for address in found:
        if why := _refused(address):
            raise _wrong(f"{parts.hostname} is {address}, which {why}")


async def resolve(host: str, port: int, threads: Executor, *, allow_private: bool) -> list[str]:
    """The addresses to connect to, looked up in `threads`. Raises `Unreachable` if any of them is private."""
    found = await _addresses(host, port, threads)
    for address in found:
        why = None if allow_private else _refused(address)
        if why is not None:
            raise Unreachable(f"{host} is {address}, which {why}")
    return [str(address) for address in found]


async def _addresses(host: str, port: int, threads: Executor) -> list[_Address]:
    asking = partial(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM)
    try:
        infos = await asyncio.get_running_loop().run_in_executor(threads, asking)
        # Only private addresses have a scope, as in fe80::1%eth0: drop it.
        found = [ipaddress.ip_address(str(info[4][0]).partition("%")[0]) for info in infos]
    except (OSError, UnicodeError, ValueError) as error:
        raise Unreachable(f"{host} has no address: {error}") from None
    if not found:
        raise Unreachable(f"{host} has no address")
    return list(dict.fromkeys(found))


def _refused_literal(host: str) -> str | None:
    try:
        return _refused(ipaddress.ip_address(host))
    except ValueError:
        return None


def _refused(address: _Address) -> str | None:
    """Why the address is not permitted; None if it is."""
    for inner in (address, *_carried_in(address)):
        site_local = isinstance(inner, ipaddress.IPv6Address) and inner.is_site_local  # is global, for Python
        if not inner.is_global or inner.is_multicast or inner.is_reserved or site_local:
            return "is not on the public internet (--webhooks-allow-private lets it pass)"
    return None


def _carried_in(address: _Address) -> list[ipaddress.IPv4Address]:
    if isinstance(address, ipaddress.IPv4Address):
        return []
    carried = [address.ipv4_mapped, address.sixtofour, *(address.teredo or ())]
    if any(address in network for network in _NAT64):
        carried.append(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
    return [inner for inner in carried if inner is not None]


def _wrong(why: str) -> InvalidInput:
    return InvalidInput("invalid_request", f"url {why}")
