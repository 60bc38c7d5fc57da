"""Every command that `doctor` may tell a person to type is made here, of words that are known to destroy nothing.

A line for `redis-cli` is made of `REDIS_COMMANDS` only, and one for another program of `PROGRAMS`: no finding can ask
for what deletes a key, or empties or resets a node. What has to go is removed by a verb of `wallet-admin`, which first
asks the nodes whether it is live.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from shlex import quote
from typing import Final, NewType

from wallet_engine.domain.addresses import split_address
from wallet_engine.redis_store.login import REDIS_CLI_VARIABLE, login

#: What a node may be asked to do.
REDIS_COMMANDS: Final = frozenset(
    {
        "CLUSTER BUMPEPOCH",
        "CLUSTER FAILOVER",
        "CLUSTER REPLICATE",
        "CLUSTER SETSLOT",
        "CONFIG SET",
        "HPERSIST",
        "INFO persistence",
        "INFO replication",
        "PERSIST",
    }
)
#: What else may be run. Clocks, disks and ZooKeeper have other programs on each machine: that is said in words.
PROGRAMS: Final = frozenset({"curl -s"})

#: Stands for the shell's variable, which is not to be quoted.
_SLOT: Final = "_slot_"

#: For a shell, as it stands but for names in capitals, which are to be filled in.
Line = NewType("Line", str)


@dataclass(frozen=True, slots=True)
class Mend:
    """A line to run, what to know of it, and lines to run in its place, or afterwards, where that says so.

    Without a line no command can: the note says what to do.
    """

    line: Line | None
    note: str = ""
    others: tuple[Line, ...] = ()

    @property
    def lines(self) -> tuple[Line, ...]:
        return self.others if self.line is None else (self.line, *self.others)

    def __str__(self) -> str:
        """All of it may be given to a shell when there is a line: the rest is a comment."""
        remark = ": ".join(filter(None, (self.note, " or ".join(self.others))))
        return "  # ".join(filter(None, (self.line, remark)))


def by_hand(what: str) -> Mend:
    """No command can do that."""
    return Mend(None, what)


def wallet_admin(*words: object) -> Line:
    return _line("wallet-admin", *words)


def wallet_engine(*words: object) -> Line:
    return _line("wallet-engine", *words)


def redis_cli(address: str, *words: object) -> Line:
    """Have one node execute a command. Raises `ValueError` for one that is not in `REDIS_COMMANDS`."""
    _check(REDIS_COMMANDS, words)
    return Line(_password() + _line(*_client(address), *words))


def program(*words: object) -> Line:
    """Raises `ValueError` for one that is not in `PROGRAMS`."""
    _check(PROGRAMS, words)
    return _line(*words)


def in_turn(*lines: Line) -> Line:
    """Each when the one before it has succeeded."""
    return Line(" && ".join(lines))


def take_slots(address: str, node_id: str, slots: Sequence[int]) -> Line:
    """Have a node say that these slots, in ascending order, are its own, by one connection for all.

    No need to tell the others: they believe the highest epoch, and could not obey while they hold keys. Under its old
    one the owner of now would take each slot back at once.
    """
    in_a_row = slots[-1] - slots[0] == len(slots) - 1
    some = f"$(seq {slots[0]} {slots[-1]})" if in_a_row else " ".join(map(str, slots))
    take = _line("CLUSTER", "SETSLOT", _SLOT, "NODE", node_id).replace(_SLOT, "$slot")
    said = f"echo CLUSTER BUMPEPOCH; for slot in {some}; do echo {take}; done"
    return Line(f"({said}) | {_password()}{_line(*_client(address))}")


def _client(address: str) -> tuple[object, ...]:
    host, port = split_address(address)
    return "redis-cli", "-h", host, "-p", port, *login().cli_flags()


def _password() -> str:
    """What stands in front of `redis-cli` for it to find the password, which nobody may see in a list of processes."""
    file = login().password_file
    return "" if file is None else f'{REDIS_CLI_VARIABLE}="$(head -n 1 {quote(str(file))})" '


def _line(*words: object) -> Line:
    return Line(" ".join(quote(str(word)) for word in words))


def _check(known: frozenset[str], words: Sequence[object]) -> None:
    command = " ".join(map(str, words[:2]))
    if command not in known and words[0] not in known:
        raise ValueError(f"{command} is no command that doctor may advise")
