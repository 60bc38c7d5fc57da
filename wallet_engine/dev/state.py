"""Files in which `dev` describes itself, for other programs and for its next start.

dev.json        the processes that run now (`DevState`)
children.json   the same processes with start time and command line, to recognise orphans
admin.env       variables for `wallet-admin`, `NAME=value` lines for a shell: set -a; . DIR/admin.env
dev.lock        locked (flock) while a supervisor runs; contains its process id
"""

import contextlib
import fcntl
import os
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from wallet_engine.dev.files import replace_file
from wallet_engine.dev.process import Identity, stop_identified
from wallet_engine.domain.errors import ConfigError

#: The order in which roles are stopped: clients before their servers.
STOP_ORDER: Final = ("oracle", "api", "follower", "journal", "redis", "database", "zookeeper")
OWNER_ONLY: Final = 0o600


class ProcessInfo(msgspec.Struct, frozen=True, omit_defaults=True):
    """One line of `dev.json`."""

    #: `redis`, `zookeeper`, `database`, `journal`, `follower`, `api` or `oracle`
    role: str
    name: str
    pid: int
    #: `host:port`
    address: str
    #: Name of the shard; only for a Redis process.
    shard: str | None = None
    #: `host:port` of `/metrics`; only for a journal copy.
    metrics: str | None = None


class DevState(msgspec.Struct, frozen=True):
    """The contents of `dev.json`."""

    processes: tuple[ProcessInfo, ...]
    #: URL of the first API process: `http://…`
    api: str
    #: `host:port`; None when the partition map is a file.
    zookeeper: str | None

    def address_of(self, name: str) -> str | None:
        """`host:port` at which the process of this name listened; None when the state does not have it."""
        return next((process.address for process in self.processes if process.name == name), None)

    def metrics_of(self, name: str) -> str | None:
        """`host:port` of this process's `/metrics`; None when the state does not have it."""
        return next((process.metrics for process in self.processes if process.name == name), None)


@dataclass(frozen=True, slots=True)
class _Children:
    children: tuple[Identity, ...] = ()


@dataclass(frozen=True, slots=True)
class StateFiles:
    """The files of one data directory (see the module)."""

    data_dir: Path

    @property
    def dev_json(self) -> Path:
        return self.data_dir / "dev.json"

    @property
    def admin_environment(self) -> Path:
        return self.data_dir / "admin.env"

    def read(self) -> DevState | None:
        """`dev.json` of the last run; None when it is missing or damaged."""
        try:
            return msgspec.json.decode(self.dev_json.read_bytes(), type=DevState)
        except (FileNotFoundError, msgspec.MsgspecError):
            return None

    def write(self, state: DevState, children: Sequence[Identity]) -> None:
        """Replace children.json, on which the next start relies, then dev.json; each atomically. Raises OSError."""
        replace_file(self.data_dir / "children.json", _text(_Children(tuple(children))))
        replace_file(self.dev_json, _text(state))

    def write_admin_environment(self, variables: Mapping[str, str]) -> None:
        """Replace admin.env. Only its owner can read it, since it may contain a key."""
        text = "".join(f"{name}={shlex.quote(value)}\n" for name, value in variables.items())
        replace_file(self.admin_environment, text.encode(), mode=OWNER_ONLY)

    def stop_orphans(self) -> list[Identity]:
        """Stop processes that a killed supervisor has left running. Returns those that still ran."""
        try:
            text = (self.data_dir / "children.json").read_bytes()
            orphans = msgspec.json.decode(text, type=_Children).children
        except (FileNotFoundError, msgspec.MsgspecError):
            return []
        ordered = reversed(orphans)  # the file has them in order of start; clients end before their servers
        return [identity for identity in ordered if stop_identified(identity)]

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the lock of this directory. Raises `ConfigError` with the process id of another holder."""
        try:
            file = os.open(self.data_dir / "dev.lock", os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise ConfigError(f"cannot use --data-dir {self.data_dir}: {error.strerror}") from None
        try:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                pid = os.read(file, 32).decode(errors="replace").strip() or "unknown"
                raise ConfigError(
                    f"{self.data_dir} is in use by a running wallet-engine dev (process {pid})"
                ) from None
            with contextlib.suppress(OSError):  # with a full disk the lock is still held
                os.truncate(file, 0)
                os.pwrite(file, f"{os.getpid()}\n".encode(), 0)
            yield
        finally:
            os.close(file)


def _text(value: DevState | _Children) -> bytes:
    return msgspec.json.format(msgspec.json.encode(value)) + b"\n"
