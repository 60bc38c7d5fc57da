"""Makes every command that `doctor` may advise, from a fixed list of commands that destroy nothing.

A line for `redis-cli` may only use `REDIS_COMMANDS`, a line for another program only `PROGRAMS`. So no finding can
advise to delete a key, or to empty or reset a node. Data is only removed by verbs of `wallet-admin`, which first
check that it is not live.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from shlex import quote
from typing import Final, NewType

from wallet_engine.domain.addresses import split_address
from wallet_engine.redis_store.login import REDIS_CLI_VARIABLE, login

#: Commands for a node.
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
#: Other programs. Those for clocks, disks and ZooKeeper differ between machines, so advice for them is in words.
PROGRAMS: Final = frozenset({"curl -s"})

#: Stands for the shell's variable, which must not be quoted.
_SLOT: Final = "_slot_"

#: A line for a shell. Only names in capitals must be replaced.
Line = NewType("Line", str)


@dataclass(frozen=True, slots=True)
class Mend:
    """A line to run, a note about it, and other lines: to run instead, or afterwards, as the note says.

    Without a line no command helps, and the note says what to do.
    """

    line: Line | None
    note: str = ""
    others: tuple[Line, ...] = ()

    @property
    def lines(self) -> tuple[Line, ...]:
        return self.others if self.line is None else (self.line, *self.others)

    def __str__(self) -> str:
        """If there is a line, the text can be pasted into a shell: the rest is a comment."""
        remark = ": ".join(filter(None, (self.note, " or ".join(self.others))))
        return "  # ".join(filter(None, (self.line, remark)))


def by_hand(what: str) -> Mend:
    """A mend without a command."""
    return Mend(None, what)


def wallet_admin(*words: object) -> Line:
    return _line("wallet-admin", *words)


def wallet_engine(*words: object) -> Line:
    return _line("wallet-engine", *words)


def redis_cli(address: str, *words: object) -> Line:
    """A command for one node. Raises `ValueError` if it is not in `REDIS_COMMANDS`."""
    _check(REDIS_COMMANDS, words)
    return Line(_password() + _line(*_client(address), *words))


def program(*words: object) -> Line:
    """A command of another program. Raises `ValueError` if it is not in `PROGRAMS`."""
    _check(PROGRAMS, words)
    return _line(*words)


def in_turn(*lines: Line) -> Line:
    """Each line runs only if the one before it succeeded."""
    return Line(" && ".join(lines))


def take_slots(address: str, node_id: str, slots: Sequence[int]) -> Line:
    """Make a node the owner of these slots (ascending), in its own view, over one connection.

    The other nodes need not be told: they accept the claim with the highest epoch, and could not obey while they hold
    keys. Hence BUMPEPOCH: under its old epoch the node would lose each slot at once to the present owner.
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
    """Prefix that gives `redis-cli` the password through a variable, so that no list of processes shows it."""
    file = login().password_file
    return "" if file is None else f'{REDIS_CLI_VARIABLE}="$(head -n 1 {quote(str(file))})" '


def _line(*words: object) -> Line:
    return Line(" ".join(quote(str(word)) for word in words))


def _check(known: frozenset[str], words: Sequence[object]) -> None:
    command = " ".join(map(str, words[:2]))
    if command not in known and words[0] not in known:
        raise ValueError(f"{command} is no command that doctor may advise")
