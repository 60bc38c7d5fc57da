"""Credentials of the cluster's processes: certificates, Redis users and ZooKeeper users, as `dev`'s flags demand."""

from pathlib import Path

from wallet_engine.dev.beginning import DevOptions
from wallet_engine.dev.binaries import netty_jars
from wallet_engine.dev.certificates import Certificates
from wallet_engine.dev.redis_users import RedisUsers
from wallet_engine.dev.zookeeper import Secured
from wallet_engine.dev.zookeeper_users import ZooKeeperUsers
from wallet_engine.redis_store import login
from wallet_engine.routing import zookeeper_tls
from wallet_engine.routing.access import protect
from wallet_engine.routing.directory import Directory, open_directory
from wallet_engine.routing.zookeeper import ZooKeeperTree


class Credentials:
    """The credentials of one data directory; without `--auth` and `--certificates` there are none."""

    def __init__(self, data_dir: Path, options: DevOptions, *, redis_tls: bool) -> None:
        """`redis_tls`: whether the Redis binary supports TLS."""
        folder = data_dir / "credentials"
        known = Certificates(data_dir / "ca")
        users = ZooKeeperUsers(folder)
        self._certificates = known if options.certificates else None
        self._redis = RedisUsers(folder, known if redis_tls else None) if options.auth else None
        #: A tree that was once protected stays protected, also when `dev` starts without --auth.
        self._zookeeper: tuple[ZooKeeperUsers, Certificates] | None = (
            (users, known) if options.auth or users.are_there else None
        )

    def __repr__(self) -> str:
        return f"<Credentials {self._certificates} {self._redis} {self._zookeeper}>"

    @property
    def redis_tls(self) -> bool:
        """Whether Redis nodes speak TLS."""
        return self._redis is not None and self._redis.tls

    def node_flags(self) -> tuple[str, ...]:
        """Flags for every Redis node. From then on this process logs in to Redis as *admin*."""
        if self._redis is None:
            return ()
        login.use(self._redis.login())
        return self._redis.node_flags()

    def for_zookeeper(self) -> Secured | None:
        """TLS files for the ZooKeeper server. From then on this process connects to it over TLS."""
        if self._zookeeper is None:
            return None
        _, certificates = self._zookeeper
        zookeeper_tls.use(certificates.zookeeper_tls())
        return Secured(*certificates.for_zookeeper(), netty_jars())

    def open_directory(self, zookeeper: str | None, map_file: Path) -> Directory:
        """Open the directory, as the user *sre* when ZooKeeper has users. Raises as `open_directory` does."""
        if zookeeper is None:
            return open_directory(None, map_file)
        sre = self._zookeeper[0].roles().sre if self._zookeeper is not None else None
        return open_directory(zookeeper, None, credentials=sre)

    def protect(self, directory: Directory) -> None:
        """Set the access control lists of the tree, unless they are set already."""
        if self._zookeeper is not None and isinstance(directory.tree, ZooKeeperTree):
            protect(directory.tree, self._zookeeper[0].roles())

    def flags(self, verb: str, name: str) -> tuple[str, ...]:
        """Peer and Redis flags for a process that runs a verb of `wallet-engine`, such as `journal`, `journal-j1`."""
        certificates = () if self._certificates is None else self._certificates.flags(verb, name)
        return certificates if self._redis is None else (*certificates, *self._redis.flags(verb, name))

    def zookeeper_flags(self, verb: str, name: str) -> tuple[str, ...]:
        """ZooKeeper flags for the same process; empty without users."""
        if self._zookeeper is None:
            return ()
        users, certificates = self._zookeeper
        return (*users.flags(verb), *certificates.zookeeper_flags(verb, name))

    def variables(self, *, zookeeper: bool) -> dict[str, str]:
        """Environment variables for `wallet-admin`, without the prefix `WALLET_`."""
        found = {} if self._certificates is None else self._certificates.variables("PEER")
        if self._redis is not None:
            found |= self._redis.variables()
        if zookeeper and self._zookeeper is not None:
            users, certificates = self._zookeeper
            found |= users.variables() | certificates.variables("ZOOKEEPER")
        return found
