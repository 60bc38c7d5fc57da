"""The users of the Redis nodes that `dev --auth` starts. The default user is off; passwords are random.

When the Redis binary supports TLS, the nodes listen for TLS only and require a client certificate.

redis-api.pw  redis-journal.pw  redis-admin.pw    the password of each user
redis-replica.pw                                  the password of replicas towards their primaries
redis-users.acl  redis-auth.conf                  configuration that the nodes read
"""

from pathlib import Path
from typing import Final

from wallet_engine.dev.certificates import Certificates
from wallet_engine.dev.files import replace_file
from wallet_engine.dev.passwords import password_in
from wallet_engine.dev.state import OWNER_ONLY
from wallet_engine.redis_store.acl import ADMIN, API, JOURNAL, AclUser, acl_users
from wallet_engine.redis_store.login import Login

_REPLICA: Final = AclUser("replica", ("+psync", "+replconf", "+ping"))
#: The Redis user of each verb of `wallet-engine`. The oracle (`follow`) stops partitions, which JOURNAL may.
_OF_VERB: Final = {"serve": API, "journal": JOURNAL, "follow": JOURNAL}


class RedisUsers:
    """The Redis users of one data directory."""

    def __init__(self, folder: Path, certificates: Certificates | None) -> None:
        """`certificates`: those of the nodes and their clients, for TLS; None for plain TCP."""
        self._folder = folder
        self._certificates = certificates

    def __repr__(self) -> str:
        return f"<RedisUsers {self._folder}>"

    @property
    def tls(self) -> bool:
        return self._certificates is not None

    def node_flags(self) -> tuple[str, ...]:
        """Write the nodes' configuration, and return the flags that make every node read it. Raises OSError."""
        self._folder.mkdir(mode=0o700, exist_ok=True)
        lines = ["user default off"]
        for user in (*acl_users().values(), _REPLICA):
            _, _, name, _, *rules = user.words(self._password(user.name))
            lines.append(" ".join(("user", name, *rules)))
        acl, config = self._folder / "redis-users.acl", self._folder / "redis-auth.conf"
        replace_file(acl, "".join(f"{line}\n" for line in lines).encode(), mode=OWNER_ONLY)
        said = {"masteruser": _REPLICA.name, "masterauth": self._password(_REPLICA.name), "aclfile": acl}
        if self._certificates is not None:
            said |= {"tls-cluster": "yes", "tls-replication": "yes"}
            files = ("tls-ca-cert-file", "tls-cert-file", "tls-key-file")
            said |= zip(files, self._certificates.for_redis(), strict=True)
        replace_file(config, "".join(f'{name} "{v}"\n' for name, v in said.items()).encode(), mode=OWNER_ONLY)
        return ("--include", str(config))

    def flags(self, verb: str, name: str) -> tuple[str, ...]:
        """Flags for a process of this name that runs this verb of `wallet-engine`."""
        user = _OF_VERB[verb]
        shown = () if self._certificates is None else self._certificates.redis_flags(verb, name)
        return ("--redis-user", user, "--redis-password-file", str(self._file(user)), *shown)

    def variables(self) -> dict[str, str]:
        """Environment variables for `wallet-admin`, without the prefix `WALLET_`."""
        shown = {} if self._certificates is None else self._certificates.variables("REDIS")
        return {"REDIS_USER": ADMIN, "REDIS_PASSWORD_FILE": str(self._file(ADMIN)), **shown}

    def login(self) -> Login:
        """The login of `dev` itself."""
        shown = () if self._certificates is None else self._certificates.of_dev()
        return Login(ADMIN, self._password(ADMIN), self._file(ADMIN), *shown)

    def _file(self, user: str) -> Path:
        return self._folder / f"redis-{user}.pw"

    def _password(self, user: str) -> str:
        return password_in(self._file(user), f"Redis password of {user}")
