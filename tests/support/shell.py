"""Command lines as a person runs them: in a shell, with the project's commands in the path, and yes as the answer."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

RUN_S_MAX: Final = 90.0


def run_line(
    line: str, *, cwd: Path, zookeeper: str, known: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run it with `WALLET_ZOOKEEPER` and the variables in `known`."""
    return subprocess.run(
        ["bash", "-c", line],
        cwd=cwd,
        env={**environment(zookeeper), **(known or {})},
        input="y\n",
        capture_output=True,
        text=True,
        timeout=RUN_S_MAX,
        check=False,
    )


def environment(zookeeper: str) -> dict[str, str]:
    """This process's environment, with the project's commands first in the path."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "WALLET_ZOOKEEPER": zookeeper}
