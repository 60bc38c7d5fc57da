"""A ZooKeeper that takes plain connections on one port and TLS on another, or one of both."""

from pathlib import Path

from wallet_engine.dev.binaries import find_zookeeper, netty_jars
from wallet_engine.dev.config_files import config_path
from wallet_engine.dev.ports import free_port
from wallet_engine.dev.process import Child

STOP_S_MAX = 60.0


class TwoPorts:
    """One server with its data in `folder`. The caller waits for the ports that it needs, and ends `child`."""

    def __init__(self, folder: Path, key: Path, cert: Path, ca: Path) -> None:
        self._folder = folder
        stored = folder / "zookeeper.pem"  # both in one, as ZooKeeper reads PEM
        stored.write_text(key.read_text() + cert.read_text())
        (folder / "zookeeper").mkdir()
        self.plain, self.secure = free_port(), free_port()
        self._common = f"{config_path('zoo.cfg').read_text('utf-8')}\ndataDir={folder / 'zookeeper'}\n"
        self._plain = f"clientPort={self.plain}\nclientPortAddress=127.0.0.1\n"
        self._secure = (
            f"secureClientPort={self.secure}\nsecureClientPortAddress=127.0.0.1\n"
            "serverCnxnFactory=org.apache.zookeeper.server.NettyServerCnxnFactory\n"
            f"ssl.keyStore.location={stored}\nssl.trustStore.location={ca}\n"
        )
        install = find_zookeeper()
        java = (str(install.java), "-Xmx128m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC")
        jars = ":".join((install.classpath, *netty_jars()))
        main = "org.apache.zookeeper.server.quorum.QuorumPeerMain"
        argv = (*java, "-cp", jars, main, str(folder / "zoo.cfg"))
        self.child = Child("zookeeper", argv, folder / "zookeeper.log")

    def start(self, *, plain: bool, secure: bool) -> None:
        """Start it, or start it again, with these ports."""
        if self.child.alive:
            self.child.terminate()
            self.child.wait(STOP_S_MAX)
        ports = (self._plain if plain else "") + (self._secure if secure else "")
        (self._folder / "zoo.cfg").write_text(self._common + ports)
        self.child.start()
