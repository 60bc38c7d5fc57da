"""Which addresses are reached from this machine alone: there nobody is asked who he is."""

import ipaddress
import socket


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches it."""
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError:
        return False
    return all(ipaddress.ip_address(str(address[0]).partition("%")[0]).is_loopback for *_, address in found)
