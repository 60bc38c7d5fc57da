"""Simulated hosts: network namespaces with an address each, on one bridge. Needs root and `ip`."""

import os
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from wallet_engine.dev.process import Child

#: Reserved for documentation (RFC 5737): no real host has such an address.
NETWORK = "198.51.100"


class Host:
    """One host; processes started in it use `address`."""

    def __init__(self, number: int, namespace: str, folder: Path) -> None:
        self.number = number
        self.namespace = namespace
        self.address = f"{NETWORK}.{number}"
        self.folder = folder
        self.children: dict[str, Child] = {}

    def __repr__(self) -> str:
        return f"<Host {self.number} {sorted(self.children)}>"

    def start(self, name: str, argv: Sequence[str], environ: Mapping[str, str] | None = None) -> Child:
        """Start it, or start it again."""
        inside = ("ip", "netns", "exec", self.namespace, *argv)
        known = {**os.environ, **(environ or {})}
        child = self.children.get(name) or Child(name, inside, self.folder / f"{name}.log", environ=known)
        self.children[name] = child
        child.start()
        return child

    def fall(self) -> None:
        """All of its processes die at once."""
        for child in self.children.values():
            child.kill()

    def rise(self) -> None:
        for child in self.children.values():
            child.start()


@contextmanager
def hosts(count: int, folder: Path) -> Iterator[list[Host]]:
    """`count` hosts, connected with each other and with this process. Raises OSError where that is not possible."""
    tag = f"wh{os.getpid() % 100_000}"
    made: list[tuple[str, ...]] = []

    def ip(*words: str) -> None:
        done = subprocess.run(("ip", *words), capture_output=True, text=True, check=False)
        if done.returncode:
            raise OSError(f"ip {' '.join(words)}: {done.stderr.strip()}")

    found: list[Host] = []
    try:
        ip("link", "add", tag, "type", "bridge")
        made.append(("link", "del", tag))
        ip("addr", "add", f"{NETWORK}.254/24", "dev", tag)
        ip("link", "set", tag, "up")
        for number in range(1, count + 1):
            namespace, near = f"{tag}-{number}", f"{tag}v{number}"
            ip("netns", "add", namespace)
            made.append(("netns", "del", namespace))
            ip("link", "add", near, "type", "veth", "peer", "name", "eth0", "netns", namespace)
            ip("link", "set", near, "master", tag, "up")
            ip("-n", namespace, "addr", "add", f"{NETWORK}.{number}/24", "dev", "eth0")
            for device in ("eth0", "lo"):
                ip("-n", namespace, "link", "set", device, "up")
            place = folder / f"host-{number}"
            place.mkdir()
            found.append(Host(number, namespace, place))
        yield found
    finally:
        for host in found:
            host.fall()
        for words in reversed(made):
            subprocess.run(("ip", *words), capture_output=True, check=False)
