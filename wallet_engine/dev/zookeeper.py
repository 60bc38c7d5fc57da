"""A standalone ZooKeeper process with its data in a directory that outlives it."""

import contextlib
import socket
from pathlib import Path
from typing import Final

from wallet_engine.dev import ports
from wallet_engine.dev.binaries import ZooKeeperInstall
from wallet_engine.dev.config_files import config_path
from wallet_engine.dev.process import Child, StartFailed

START_S_MAX: Final = 30.0
ANSWER_S_MAX: Final = 2.0
HEAP_MIB_MAX: Final = 256
START_TRIES_MAX: Final = 5


class ZooKeeperProcess(Child):
    """ZooKeeper on 127.0.0.1; what was acknowledged survives a kill, as it is on disk in `directory`."""

    def __init__(
        self,
        install: ZooKeeperInstall,
        directory: Path,
        port: int | None = None,
        *,
        log: Path | None = None,
        name: str = "zookeeper",
    ) -> None:
        self.directory = directory
        self.port = port or 0
        config = directory / "zoo.cfg"
        argv = [
            str(install.java),
            f"-Xmx{HEAP_MIB_MAX}m",
            # Small and short-lived: the cheap compiler and collector start faster and leave the cores alone.
            *("-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xshare:auto"),
            *("-Dzookeeper.jmx.log4j.disable=true", "-Djava.net.preferIPv4Stack=true"),
            "-Dorg.slf4j.simpleLogger.showDateTime=true",
            "-Dorg.slf4j.simpleLogger.dateTimeFormat=yyyy-MM-dd'T'HH:mm:ss.SSS",
            *("-cp", install.classpath),
            *("org.apache.zookeeper.server.quorum.QuorumPeerMain", str(config)),
        ]
        super().__init__(name, argv, log or directory / "zookeeper.log")

    @property
    def address(self) -> str:
        """`host:port` for clients: a ZooKeeper connect string."""
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        data = self.directory / "data"
        data.mkdir(parents=True, exist_ok=True)
        if not self.port:
            self.port = ports.free_port()
        text = config_path("zoo.cfg").read_text()
        text += f"\ndataDir={data.resolve()}\nclientPort={self.port}\nclientPortAddress=127.0.0.1\n"
        (self.directory / "zoo.cfg").write_text(text)
        super().start()

    def start_and_wait(self) -> None:
        """Start, on another port if the wanted one is taken, and return when ZooKeeper serves."""
        for attempt in range(1, START_TRIES_MAX + 1):
            if self.port and not ports.port_is_free(self.port):
                self.port = 0
            self.start()
            try:
                self.wait_serving()
            except StartFailed:
                self.kill()
                if attempt == START_TRIES_MAX or ports.port_is_free(self.port):
                    raise
            else:
                return

    def wait_serving(self) -> None:
        """Return when it serves. Raises `StartFailed`."""
        self.wait_ready(self.serves, START_S_MAX)

    def serves(self) -> bool:
        """Whether it answers `srvr` as a server that serves requests."""
        with (
            contextlib.suppress(OSError),
            socket.create_connection(("127.0.0.1", self.port), ANSWER_S_MAX) as link,
        ):
            link.sendall(b"srvr")
            answer = b""
            while chunk := link.recv(4096):
                answer += chunk
            return b"Mode: " in answer
        return False
