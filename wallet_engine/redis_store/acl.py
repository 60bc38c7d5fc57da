"""What the engine's Redis users may do: the rules of their `ACL SETUSER` (redis.io, "ACL").

    api      an API process: calls loaded scripts, and reads. It loads no script and changes no setting.
    journal  a journal process: also loads scripts, restores partitions, and tells nodes the owners of slots
    admin    a person who runs wallet-admin

A script runs with its caller's rights. So *api* needs the commands of the service's scripts, and could call them
without a script: these users separate the roles of our processes; they do not protect the money from an API process.
Every user has all keys: Redis would compare patterns for each key of each command of a script, and there are no others.
"""

import hashlib
import re
from dataclasses import dataclass
from typing import Final

from wallet_engine.redis_store.scripts import Script, load_script, service_scripts

API: Final = "api"
JOURNAL: Final = "journal"
ADMIN: Final = "admin"
#: Stands in place of the digest of an unknown password.
PASSWORD_UNKNOWN: Final = "#SHA256-OF-THE-PASSWORD"

_calls = re.compile(r"\bcall\(\s*'([A-Z]+)'(?:\s*,\s*'([A-Z]+)')?").findall
#: Commands that are called with a subcommand.
_CONTAINERS: Final = frozenset({"CLUSTER"})
#: Scripts that a journal process sends as whole text.
_JOURNAL_SCRIPTS: Final = (
    "trim",
    "claim",
    "clear",
    "certify",
    "forget",
    "restream",
    "restored",
    "restore_part",
    "distrust",
    "condemn",
    "set_aside",
    "release",
    "turn",
    "unstream",
)

#: Besides the commands of the scripts: used by `engine/`, `saga/`, `service/`.
API_COMMANDS: Final = frozenset(
    {
        "cluster|nodes",
        "evalsha",
        "hget",
        "hlen",
        "hmget",
        "hscan",
        "info",
        "persist",
        "ping",
        "time",
        "xlen",
        "xrange",
        "zcard",
        "zrange",
        "zrangebyscore",
        "zscore",
    }
)
#: Besides those, and the commands of its scripts: used by `recovery/`, `drain/`, `slots_owner.py`. It changes keys by
#: scripts alone, which check whose the partition is.
_JOURNAL_COMMANDS: Final = frozenset(
    {
        "cluster|bumpepoch",
        "cluster|getkeysinslot",
        "cluster|setslot",
        "eval",
        "role",
        "script|exists",
        "script|load",
    }
)
#: Commands that wallet-admin never uses, and that would end a node or bring foreign code into it.
_NEVER: Final = ("debug", "migrate", "module", "monitor", "replicaof", "shutdown", "slaveof", "swapdb")


@dataclass(frozen=True, slots=True)
class AclUser:
    """`rules` without the password."""

    name: str
    rules: tuple[str, ...]

    def words(self, password: str | None) -> tuple[str, ...]:
        """`ACL SETUSER …`, which replaces the user's rules. It contains the SHA-256 of the password."""
        digest = PASSWORD_UNKNOWN if password is None else f"#{hashlib.sha256(password.encode()).hexdigest()}"
        return ("ACL", "SETUSER", self.name, "reset", "on", digest, *self.rules)


def acl_users() -> dict[str, AclUser]:
    """The users by name."""
    api = API_COMMANDS.union(*map(commands_of, service_scripts()))
    scripts = [load_script("apply", replay=True), *map(load_script, _JOURNAL_SCRIPTS)]
    journal = api | _JOURNAL_COMMANDS.union(*map(commands_of, scripts))
    rules = {
        API: ("~*", *_allowed(api)),
        JOURNAL: ("~*", *_allowed(journal)),
        ADMIN: ("~*", "&*", "+@all", *(f"-{name}" for name in _NEVER)),
    }
    return {name: AclUser(name, said) for name, said in rules.items()}


def commands_of(script: Script) -> frozenset[str]:
    """The commands that a script calls by name, as ACL rules name them."""
    return frozenset(
        f"{command}|{sub}".lower() if command in _CONTAINERS else command.lower()
        for command, sub in _calls(script.text)
    )


def _allowed(commands: frozenset[str]) -> list[str]:
    return [f"+{name}" for name in sorted(commands)]
