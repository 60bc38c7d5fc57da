"""Describes where a figure was measured: machine, file system, commit."""

import os
import platform
import re
import subprocess
from pathlib import Path

_REPOSITORY = Path(__file__).resolve().parent.parent
#: Paths whose changes can change figures. The report is one of its own results, so it is excluded.
_MEASURED = (
    "wallet_engine",
    "lua",
    "cluster_config",
    "bench",
    ":(exclude)bench/report",
    ":(exclude)bench/*.md",
)


def machine() -> dict[str, object]:
    """`{"cpu", "cores", "memory_gib", "kernel", "python"}`."""
    try:
        model = cpu_model(Path("/proc/cpuinfo").read_text("utf-8"))
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    except OSError:
        model, memory = platform.processor(), 0.0
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "memory_gib": round(memory, 1),
        "kernel": platform.release(),
        "python": platform.python_version(),
    }


def cpu_model(cpuinfo: str) -> str:
    """The first `model name` of /proc/cpuinfo."""
    found = re.search(r"^model name\s*:\s*(.+)$", cpuinfo, re.MULTILINE)
    return found[1].strip() if found else "unknown"


def file_system(path: Path, mounts: str | None = None) -> str:
    """The type of the file system of a path. A journal on `tmpfs` is not durable, even with fsync."""
    if mounts is None:
        mounts = Path("/proc/mounts").read_text("utf-8")
    sought, best, kind = str(path.resolve()), "", "unknown"
    for line in mounts.splitlines():
        _, mounted, found, *_ = line.split(" ")
        inside = mounted == "/" or sought == mounted or sought.startswith(mounted + "/")
        if inside and len(mounted) >= len(best):
            best, kind = mounted, found
    return kind


def commit() -> str:
    """The commit of this checkout, with `-dirty` when `_MEASURED` has changes; `unknown` outside a checkout."""
    try:
        revision = _git("rev-parse", "--short", "HEAD")
        changed = _git("status", "--porcelain", "--", *_MEASURED)
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return revision + ("-dirty" if changed else "")


def _git(*words: str) -> str:
    command = ["git", "-C", str(_REPOSITORY), *words]
    return subprocess.run(
        command, capture_output=True, encoding="utf-8", check=True, timeout=10
    ).stdout.strip()
