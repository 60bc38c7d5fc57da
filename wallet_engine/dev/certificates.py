"""The certificates of `dev --certificates`: an authority in `ca/`, and a certificate for each process.

They are made when they are first needed. A process's certificate is renewed at a start shortly before it expires.
"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Final

from wallet_engine.domain.principals import PeerRole, Principal
from wallet_engine.routing.zookeeper_tls import ZooKeeperTls
from wallet_engine.telemetry.authority import Authority, Pair, holder_of, pair_of

_NAME: Final = "wallet-engine dev"
#: A start renews certificates that expire within this time: a development cluster seldom runs longer.
_RENEW_BEFORE: Final = timedelta(days=30)

_ADMIN: Final = Principal(PeerRole.ADMIN, "dev")
_ZOOKEEPER: Final = Principal(PeerRole.SERVER, "zookeeper")
_REDIS: Final = Principal(PeerRole.SERVER, "redis")
_HOSTS: Final = ("127.0.0.1",)
_ROLES: Final = {"journal": PeerRole.JOURNAL, "serve": PeerRole.SERVICE, "follow": PeerRole.FOLLOWER}


class Certificates:
    """The certificates of one data directory. Methods raise `ConfigError` when one cannot be made."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __repr__(self) -> str:
        return f"<Certificates {self._folder}>"

    @cached_property
    def _authority(self) -> Authority:
        if (self._folder / "ca.pem").exists():
            return Authority(self._folder)
        return Authority.create(self._folder, _NAME)

    def _of(self, principal: Principal, hosts: Sequence[str] = ()) -> Pair:
        pair = pair_of(self._folder, principal)
        authority = self._authority
        if pair.cert.exists():
            _, ends = holder_of(pair.cert)
            if ends - datetime.now(UTC) > _RENEW_BEFORE:
                return pair
        return authority.issue(principal, hosts=hosts, renew=True)

    def flags(self, verb: str, name: str) -> tuple[str, ...]:
        """Peer flags for a process of this name that runs this verb: `journal-j1` runs `journal`."""
        return _as_flags("peer", self._files(_holder(verb, name)))

    def zookeeper_flags(self, verb: str, name: str) -> tuple[str, ...]:
        """Flags for the same process's connections to ZooKeeper."""
        return _as_flags("zookeeper", self._files(_holder(verb, name)))

    def redis_flags(self, verb: str, name: str) -> tuple[str, ...]:
        """Flags for the same process's connections to Redis."""
        return _as_flags("redis", self._files(_holder(verb, name)))

    def variables(self, *to: str) -> dict[str, str]:
        """Environment variables for `wallet-admin`, without the prefix `WALLET_`.

        `to`: the servers they are for, of `PEER`, `ZOOKEEPER` and `REDIS`.
        """
        files = dict(zip(("CA", "CERT", "KEY"), map(str, self._files(_ADMIN)), strict=True))
        return {f"{other}_{name}": path for other in to for name, path in files.items()}

    def zookeeper_tls(self) -> ZooKeeperTls:
        """The TLS files of `dev` itself for ZooKeeper."""
        return ZooKeeperTls(*self.of_dev())

    def for_zookeeper(self) -> tuple[bytes, bytes]:
        """The PEM texts for the ZooKeeper server: its key and certificate in one, and the authority it trusts."""
        pair = self._of(_ZOOKEEPER, hosts=_HOSTS)
        return pair.key.read_bytes() + pair.cert.read_bytes(), self._authority.pair.cert.read_bytes()

    def for_redis(self) -> tuple[Path, Path, Path]:
        """Authority, certificate and key that all Redis nodes share, also for connections among them."""
        pair = self._of(_REDIS, hosts=_HOSTS)
        return self._authority.pair.cert, pair.cert, pair.key

    def of_dev(self) -> tuple[Path, Path, Path]:
        """Authority, certificate and key of `dev` itself."""
        return self._files(_ADMIN)

    def _files(self, principal: Principal) -> tuple[Path, Path, Path]:
        pair = self._of(principal)
        return self._authority.pair.cert, pair.cert, pair.key


def _holder(verb: str, name: str) -> Principal:
    return Principal(_ROLES[verb], name.removeprefix(f"{verb}-"))


def _as_flags(to: str, files: tuple[Path, Path, Path]) -> tuple[str, ...]:
    names = (f"--{to}-{name}" for name in ("ca", "cert", "key"))
    return tuple(word for name, path in zip(names, files, strict=True) for word in (name, str(path)))
