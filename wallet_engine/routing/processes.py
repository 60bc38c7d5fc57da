"""Distinguishes processes of this machine, even when the kernel reuses a pid."""

import errno
import os
from pathlib import Path
from typing import Final

from wallet_engine.routing.tree import StoreUnavailable

#: This process lacks descriptors or memory, which says nothing about the other one.
_SCARCE: Final = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOMEM))
_DEAD_STATES = frozenset("ZXx")


def birth_of(pid: int) -> str | None:
    """Boot and start time, which distinguish this process from others with its pid. None when it is not
    alive.

    A killed process whose parent has not yet collected it (a zombie) is not alive. Without /proc the answer
    is the same text for every live process, so a reused pid is not noticed there.

    Raises `StoreUnavailable` when this process has no descriptor or memory to look.
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace")
    except OSError as error:
        _check_not_scarce(error)
        return None if Path("/proc/self/stat").exists() else _birth_without_proc(pid)
    # proc(5): the command name stands in parentheses and may hold anything: count from the last ")".
    fields = stat[stat.rindex(")") + 2 :].split(" ")
    if fields[0] in _DEAD_STATES:
        return None
    return f"{_boot_id()}.{fields[19]}"


def _boot_id() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()[:8]
    except OSError as error:
        _check_not_scarce(error)
        return "-"


def _check_not_scarce(error: OSError) -> None:
    if error.errno in _SCARCE:
        raise StoreUnavailable(f"cannot tell whether a process lives: {error.strerror}")


def _birth_without_proc(pid: int) -> str | None:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        pass
    return "alive"
