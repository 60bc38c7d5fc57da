"""A standalone ZooKeeper process. Its data directory is kept when the process ends."""

import contextlib
import os
import socket
from pathlib import Path
from typing import Final, NamedTuple

from wallet_engine.dev import ports
from wallet_engine.dev.binaries import ZooKeeperInstall
from wallet_engine.dev.config_files import config_path
from wallet_engine.dev.files import replace_file
from wallet_engine.dev.ported import PortedChild
from wallet_engine.dev.state import OWNER_ONLY

START_S_MAX: Final = 30.0
ANSWER_S_MAX: Final = 2.0
#: While it starts. It may accept a connection that it never answers; another one is answered soon after.
START_ANSWER_S_MAX: Final = 0.5
HEAP_MIB_MAX: Final = 256
CONFIG_NAME: Final = "zoo.cfg"


#: The port takes both TLS and plain connections. A plain connection has no user: it may read only what is
#: readable for everybody.
_SECURED: Final = b"""
serverCnxnFactory=org.apache.zookeeper.server.NettyServerCnxnFactory
client.portUnification=true
authProvider.x509=org.apache.zookeeper.server.auth.X509AuthenticationProvider
ssl.keyStore.location=./keys.pem
ssl.trustStore.location=./ca.pem
"""


class Secured(NamedTuple):
    """What the server needs for TLS."""

    #: Private key and certificate, PEM, in one file.
    keys: bytes
    #: Certificates of the authorities that the server trusts, PEM.
    ca: bytes
    #: Jars that are added to the class path.
    jars: tuple[str, ...]


class ZooKeeperProcess(PortedChild):
    """ZooKeeper on 127.0.0.1. Acknowledged writes survive a kill: they are on disk in `directory`."""

    def __init__(
        self,
        install: ZooKeeperInstall,
        directory: Path,
        port: int | None = None,
        *,
        log: Path | None = None,
        name: str = "zookeeper",
        secured: Secured | None = None,
    ) -> None:
        self.directory = directory
        self.port = port or 0
        self._secured = secured
        argv = [
            str(install.java),
            f"-Xmx{HEAP_MIB_MAX}m",
            # The process is small and short-lived: this compiler and collector start fast and use little CPU.
            *("-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xshare:auto"),
            *("-Dzookeeper.jmx.log4j.disable=true", "-Djava.net.preferIPv4Stack=true"),
            "-Dorg.slf4j.simpleLogger.showDateTime=true",
            "-Dorg.slf4j.simpleLogger.dateTimeFormat=yyyy-MM-dd'T'HH:mm:ss.SSS",
            *("-cp", ":".join((install.classpath, *(secured.jars if secured else ())))),
            *("org.apache.zookeeper.server.quorum.QuorumPeerMain", CONFIG_NAME),
        ]
        # Java decodes file names by the locale and reads its configuration as Latin-1. So the locale is UTF-8,
        # and the configuration has relative paths only.
        environ = {**os.environ, "LC_ALL": "C.UTF-8"}
        super().__init__(name, argv, log or directory / "zookeeper.log", environ=environ, folder=directory)

    @property
    def address(self) -> str:
        """`host:port` for clients: a ZooKeeper connect string."""
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        data = self.directory / "data"
        data.mkdir(parents=True, exist_ok=True)
        if not self.port:
            self.port = ports.free_port()
        text = config_path("zoo.cfg").read_bytes()
        text += b"\ndataDir=./data\nclientPort=%d\nclientPortAddress=127.0.0.1\n" % self.port
        if self._secured is not None:
            text += _SECURED
            replace_file(self.directory / "keys.pem", self._secured.keys, mode=OWNER_ONLY)
            replace_file(self.directory / "ca.pem", self._secured.ca, mode=OWNER_ONLY)
        config = self.directory / CONFIG_NAME
        if not config.exists() or config.read_bytes() != text:
            replace_file(config, text)
        super().start()

    def wait_serving(self) -> None:
        """Return when ZooKeeper serves. Raises `StartFailed`."""
        self.wait_ready(lambda: self.serves(START_ANSWER_S_MAX), START_S_MAX)

    def serves(self, answer_s_max: float = ANSWER_S_MAX) -> bool:
        """Whether ZooKeeper answers the command `srvr` with its mode, as it does once it serves requests."""
        with (
            contextlib.suppress(OSError),
            socket.create_connection(("127.0.0.1", self.port), answer_s_max) as link,
        ):
            link.sendall(b"srvr")
            answer = b""
            while chunk := link.recv(4096):
                answer += chunk
            return b"Mode: " in answer
        return False
