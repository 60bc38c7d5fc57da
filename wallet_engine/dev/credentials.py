"""Credentials between the processes of a cluster, by the flags of `dev`: certificates, users of Redis and ZooKeeper."""

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
    """Those of one data directory; without `--auth` and `--certificates` it gives nothing."""

    def __init__(self, data_dir: Path, options: DevOptions, *, redis_tls: bool) -> None:
        """`redis_tls`: whether the nodes can speak TLS."""
        folder = data_dir / "credentials"
        known = Certificates(data_dir / "ca")
        users = ZooKeeperUsers(folder)
        self._certificates = known if options.certificates else None
        self._redis = RedisUsers(folder, known if redis_tls else None) if options.auth else None
        #: A tree that has been given to users stays theirs.
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
        """For Redis nodes; from then on this process logs in as *admin*."""
        if self._redis is None:
            return ()
        login.use(self._redis.login())
        return self._redis.node_flags()

    def for_zookeeper(self) -> Secured | None:
        """For the server; from then on this process speaks TLS to it."""
        if self._zookeeper is None:
            return None
        _, certificates = self._zookeeper
        zookeeper_tls.use(certificates.zookeeper_tls())
        return Secured(*certificates.for_zookeeper(), netty_jars())

    def open_directory(self, zookeeper: str | None, map_file: Path) -> Directory:
        """As the SRE, where there are users."""
        if zookeeper is None:
            return open_directory(None, map_file)
        sre = self._zookeeper[0].roles().sre if self._zookeeper is not None else None
        return open_directory(zookeeper, None, credentials=sre)

    def protect(self, directory: Directory) -> None:
        """Give the tree to its users; one that is theirs stays as it is."""
        if self._zookeeper is not None and isinstance(directory.tree, ZooKeeperTree):
            protect(directory.tree, self._zookeeper[0].roles())

    def flags(self, verb: str, name: str) -> tuple[str, ...]:
        """For the process of this name that runs this verb of `wallet-engine`: `journal`, `journal-j1`."""
        certificates = () if self._certificates is None else self._certificates.flags(verb, name)
        return certificates if self._redis is None else (*certificates, *self._redis.flags(verb, name))

    def zookeeper_flags(self, verb: str, name: str) -> tuple[str, ...]:
        """The same, where there is a ZooKeeper."""
        if self._zookeeper is None:
            return ()
        users, certificates = self._zookeeper
        return (*users.flags(verb), *certificates.zookeeper_flags(verb, name))

    def variables(self, *, zookeeper: bool) -> dict[str, str]:
        """For `wallet-admin`, as variables without their prefix."""
        found = {} if self._certificates is None else self._certificates.variables("PEER")
        if self._redis is not None:
            found |= self._redis.variables()
        if zookeeper and self._zookeeper is not None:
            users, certificates = self._zookeeper
            found |= users.variables() | certificates.variables("ZOOKEEPER")
        return found
