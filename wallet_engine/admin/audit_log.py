"""Records who changed what, when and from where: the newest `AUDIT_RECORDS_MAX` in `/wallet/audit/<number>`, and
all in syslog.

A record is written before its change begins, so nothing is changed without a record. It says `begun` until the
change has ended; the record of a command that was killed stays `begun`.
"""

import getpass
import os
import socket
import syslog
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

import msgspec

from wallet_engine.domain.errors import WalletError
from wallet_engine.routing.directory import AUDIT, Directory
from wallet_engine.routing.model import decode
from wallet_engine.routing.tree import NodeExists, NodeMissing, TreeError, VersionConflict

AUDIT_RECORDS_MAX: Final = 1000
_CREATE_ATTEMPTS_MAX: Final = 50


class AuditRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One change. `state` is `begun`, `done`, or `failed` with its reason in `error`."""

    number: int
    #: Unix milliseconds by the clock of `host`.
    time_ms: int
    #: The account on `host`, the user who called sudo, and the ZooKeeper user if credentials were given.
    user: str
    host: str
    pid: int
    verb: str
    what: str
    state: str
    error: str = ""


@contextmanager
def audited(
    directory: Directory, verb: str, what: str, *, zookeeper_user: str | None = None
) -> Iterator[None]:
    """Record the change that the block makes. Raises `TreeError`, before the block, when it cannot be recorded.

    An exception of the block is recorded as a failure, and raised again.
    """
    record = _begin(directory, verb, what, zookeeper_user)
    try:
        yield
    except BaseException as error:
        said = str(error) if isinstance(error, WalletError) else type(error).__name__
        _end(directory, msgspec.structs.replace(record, state="failed", error=" ".join(said.split())))
        raise
    _end(directory, msgspec.structs.replace(record, state="done"))


def audit_records(directory: Directory) -> list[AuditRecord]:
    """All records in the tree, oldest first."""
    nodes = ((name, directory.tree.get(f"{AUDIT}/{name}")) for name in directory.tree.children(AUDIT))
    return [decode(node.data, AuditRecord, f"{AUDIT}/{name}") for name, node in nodes if node is not None]


def _begin(directory: Directory, verb: str, what: str, zookeeper_user: str | None) -> AuditRecord:
    for _attempt in range(_CREATE_ATTEMPTS_MAX):
        names = directory.tree.children(AUDIT)
        record = AuditRecord(
            number=int(names[-1]) + 1 if names else 1,
            time_ms=time.time_ns() // 1_000_000,
            user=_user(zookeeper_user),
            host=socket.gethostname(),
            pid=os.getpid(),
            verb=verb,
            what=what,
            state="begun",
        )
        with suppress(NodeExists):
            directory.tree.create(_path(record), msgspec.json.encode(record))
            _log(record)
            for name in names[: max(0, len(names) + 1 - AUDIT_RECORDS_MAX)]:
                with suppress(NodeMissing):
                    directory.tree.delete(f"{AUDIT}/{name}")
            return record
    raise VersionConflict(f"{AUDIT} was written by others {_CREATE_ATTEMPTS_MAX} times in a row: try again")


def _end(directory: Directory, record: AuditRecord) -> None:
    _log(record)
    # The change is made: if ZooKeeper is away now, the command must not fail. The record stays `begun`.
    with suppress(TreeError):
        directory.tree.set(_path(record), msgspec.json.encode(record), 0)


def _path(record: AuditRecord) -> str:
    return f"{AUDIT}/{record.number:010d}"


def user_name() -> str:
    """The user of this process; its uid when it has no name, as in some containers."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"


def _user(zookeeper_user: str | None) -> str:
    words = [user_name()]
    if "SUDO_USER" in os.environ:
        words.append(f"(sudo by {os.environ['SUDO_USER']})")
    if zookeeper_user is not None:
        words.append(f"as {zookeeper_user}")
    return " ".join(words)


def _log(record: AuditRecord) -> None:
    syslog.openlog("wallet-admin", syslog.LOG_PID, syslog.LOG_AUTH)
    syslog.syslog(syslog.LOG_NOTICE, msgspec.json.encode(record).decode())
