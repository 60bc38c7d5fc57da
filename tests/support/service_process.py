"""One more API process of a cluster, with flags of its own."""

import os
import subprocess
import sys
from pathlib import Path

from support.dev_process import DevCluster

from wallet_engine.dev.ports import free_port
from wallet_engine.dev.probing import probe
from wallet_engine.dev.process import wait_until

START_S_MAX = 60.0


class Service:
    """`with Service(cluster, log, "--flag"):` it is ready inside the block, and killed after it."""

    def __init__(self, cluster: DevCluster, log: Path, *flags: str, **environ: str) -> None:
        self.log, port = log, free_port()
        self.address = f"127.0.0.1:{port}"
        self.url = f"http://{self.address}"
        argv = [sys.executable, "-m", "wallet_engine", "serve", *cluster.coordination_flags()]
        self._argv = [*argv, "--port", str(port), "--service-id", log.stem, *flags]
        self._environ = {**os.environ, "OTEL_BSP_SCHEDULE_DELAY": "100", **environ}
        self.start()

    def start(self) -> None:
        """Start it, when it does not run."""
        with self.log.open("ab") as file:
            self.process = subprocess.Popen(self._argv, stderr=file, env=self._environ)

    def __enter__(self) -> "Service":
        assert wait_until(lambda: probe(self.address)[0], START_S_MAX), self.log.read_text()
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
