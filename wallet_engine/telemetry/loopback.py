"""Recognises loopback addresses. Listening on one needs no authentication: only this machine can connect."""

import ipaddress
import socket


def is_loopback(host: str) -> bool:
    """Whether all addresses of a host are loopback. False when the name cannot be resolved."""
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError:
        return False
    return all(ipaddress.ip_address(str(address[0]).partition("%")[0]).is_loopback for *_, address in found)
