"""The users of the ZooKeeper that `dev --auth` starts, over TLS alone: who changes what is said in `routing.access`.

zookeeper-sre.pw  zookeeper-journal.pw  zookeeper-api.pw    the password of each
"""

import secrets
from pathlib import Path
from typing import Final

from wallet_engine.dev.files import replace_file
from wallet_engine.dev.state import OWNER_ONLY
from wallet_engine.routing.access import Roles
from wallet_engine.routing.zookeeper import Credentials
from wallet_engine.telemetry.secrets import read_secret

SRE, JOURNAL, API = "sre", "journal", "api"
_PASSWORD_BYTES: Final = 32
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
        file = self._file(user)
        if not file.exists():
            self._folder.mkdir(mode=0o700, exist_ok=True)
            replace_file(file, f"{secrets.token_hex(_PASSWORD_BYTES)}\n".encode(), mode=OWNER_ONLY)
        return read_secret(file, f"ZooKeeper password of {user}")
