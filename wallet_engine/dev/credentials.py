"""What the processes of a cluster show each other: certificates, and users of Redis, as far as `dev` was told to."""

from pathlib import Path

from wallet_engine.dev.beginning import DevOptions
from wallet_engine.dev.certificates import Certificates
from wallet_engine.dev.redis_users import RedisUsers
from wallet_engine.redis_store import login


class Credentials:
    """Those of one data directory; without either of the two it gives nothing."""

    def __init__(self, data_dir: Path, options: DevOptions) -> None:
        self._certificates = Certificates(data_dir / "ca") if options.certificates else None
        self._redis = RedisUsers(data_dir / "credentials") if options.auth else None

    def __repr__(self) -> str:
        return f"<Credentials {self._certificates} {self._redis}>"

    def node_flags(self) -> tuple[str, ...]:
        """For Redis nodes; from then on this process logs in as *admin*."""
        if self._redis is None:
            return ()
        login.use(self._redis.login())
        return self._redis.node_flags()

    def flags(self, verb: str, name: str) -> tuple[str, ...]:
        """For the process of this name that runs this verb of `wallet-engine`: `journal`, `journal-j1`."""
        certificates = () if self._certificates is None else self._certificates.flags(verb, name)
        return certificates if self._redis is None else (*certificates, *self._redis.flags(verb))

    def variables(self) -> dict[str, str]:
        """For `wallet-admin`, as variables without their prefix."""
        certificates = {} if self._certificates is None else self._certificates.variables()
        return certificates if self._redis is None else certificates | self._redis.variables()
