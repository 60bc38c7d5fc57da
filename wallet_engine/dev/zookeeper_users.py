"""The users of the ZooKeeper that `dev --auth` starts, over TLS alone: who changes what is said in `routing.access`.

zookeeper-sre.pw  zookeeper-journal.pw  zookeeper-api.pw    the password of each
"""

from pathlib import Path
from typing import Final

from wallet_engine.dev.passwords import password_in
from wallet_engine.routing.access import Roles
from wallet_engine.routing.zookeeper import Credentials

SRE, JOURNAL, API = "sre", "journal", "api"
#: The user that a verb of `wallet-engine` logs in as.
_OF_VERB: Final = {"serve": API, "journal": JOURNAL, "follow": API}


class ZooKeeperUsers:
    """Those of one data directory; nothing is made before it is asked for."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __repr__(self) -> str:
        return f"<ZooKeeperUsers {self._folder}>"

    @property
    def are_there(self) -> bool:
        """Whether an earlier start has made them: then the tree is theirs, and stays so."""
        return self._file(SRE).exists()

    def roles(self) -> Roles:
        """`dev` itself is the SRE."""
        return Roles(*(Credentials(user, self._password(user)) for user in (SRE, JOURNAL, API)))

    def flags(self, verb: str) -> tuple[str, ...]:
        """For a process that runs this verb of `wallet-engine`."""
        user = _OF_VERB[verb]
        return ("--zookeeper-user", user, "--zookeeper-password-file", str(self._file(user)))

    def variables(self) -> dict[str, str]:
        """For `wallet-admin`, as variables without their prefix."""
        return {"ZOOKEEPER_USER": SRE, "ZOOKEEPER_PASSWORD_FILE": str(self._file(SRE))}

    def _file(self, user: str) -> Path:
        return self._folder / f"zookeeper-{user}.pw"

    def _password(self, user: str) -> str:
        return password_in(self._file(user), f"ZooKeeper password of {user}")
