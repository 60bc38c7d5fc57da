"""Debian's Prometheus, with a configuration of ours."""

import contextlib
import json
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from wallet_engine.dev.ports import free_port


class Prometheus:
    """A running Prometheus; `asked` uses its own API."""

    def __init__(self, address: str) -> None:
        self._address = address

    def asked(self, what: str) -> Any:
        with urllib.request.urlopen(f"http://{self._address}/api/v1/{what}", timeout=30) as answer:
            return json.loads(answer.read())["data"]

    def health(self) -> list[tuple[str, str]]:
        """Job of each target, and its last scrape: `up`, `unknown` before the first one, or why it is down."""
        try:
            found = self.asked("targets")["activeTargets"]
        except OSError:  # it is starting
            return []
        return [(each["labels"]["job"], each["lastError"] or each["health"]) for each in found]


@contextlib.contextmanager
def prometheus(config: Path, folder: Path) -> Iterator[Prometheus]:
    """Its data and its log are in `folder`."""
    address = f"127.0.0.1:{free_port()}"
    flags = (f"--config.file={config}", f"--storage.tsdb.path={folder / 'tsdb'}")
    with (folder / "prometheus.log").open("wb") as log:
        argv = ("prometheus", *flags, f"--web.listen-address={address}")
        running = subprocess.Popen(argv, stdout=log, stderr=log)
    try:
        yield Prometheus(address)
    finally:
        running.terminate()
        running.wait(30)
