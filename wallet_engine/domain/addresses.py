"""`host:port` as text, with an IPv6 host in brackets. Only this file parses such an address."""


def split_address(address: str) -> tuple[str, int]:
    """Host, without brackets, and port. Raises `ValueError` when there is no port."""
    host, _, port = address.rpartition(":")
    return host.removeprefix("[").removesuffix("]"), int(port)


def join_address(host: str, port: int) -> str:
    """The address of a host that is a name, an IPv4 or an IPv6 address."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
