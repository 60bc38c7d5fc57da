"""The users of the ZooKeeper that `dev --auth` starts. `routing.access` defines what each may change.

They log in over TLS only.

zookeeper-sre.pw  zookeeper-journal.pw  zookeeper-api.pw    the password of each user
"""

from pathlib import Path
from typing import Final

from wallet_engine.dev.passwords import password_in
from wallet_engine.routing.access import Roles
from wallet_engine.routing.zookeeper import Credentials

SRE, JOURNAL, API = "sre", "journal", "api"
#: The ZooKeeper user of each verb of `wallet-engine`.
_OF_VERB: Final = {"serve": API, "journal": JOURNAL, "follow": API}


class ZooKeeperUsers:
    """The ZooKeeper users of one data directory. A password is made when it is first needed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __repr__(self) -> str:
        return f"<ZooKeeperUsers {self._folder}>"

    @property
    def are_there(self) -> bool:
        """Whether an earlier start made the users. Then the tree is protected, and stays protected."""
        return self._file(SRE).exists()

    def roles(self) -> Roles:
        """All users with their passwords. `dev` itself uses *sre*."""
        return Roles(*(Credentials(user, self._password(user)) for user in (SRE, JOURNAL, API)))

    def flags(self, verb: str) -> tuple[str, ...]:
        """Flags for a process that runs this verb of `wallet-engine`."""
        user = _OF_VERB[verb]
        return ("--zookeeper-user", user, "--zookeeper-password-file", str(self._file(user)))

    def variables(self) -> dict[str, str]:
        """Environment variables for `wallet-admin`, without the prefix `WALLET_`."""
        return {"ZOOKEEPER_USER": SRE, "ZOOKEEPER_PASSWORD_FILE": str(self._file(SRE))}

    def _file(self, user: str) -> Path:
        return self._folder / f"zookeeper-{user}.pw"

    def _password(self, user: str) -> str:
        return password_in(self._file(user), f"ZooKeeper password of {user}")
