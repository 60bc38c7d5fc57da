"""Commands that `doctor` prints, run in the state that printed them, as by one who says yes."""

import re
import shlex
from contextlib import chdir
from pathlib import Path

from support.dev_process import DevCluster
from support.shell import run_line
from unit.admin.made import admin


def run_advice(line: str, folder: Path, cluster: DevCluster, **fill: str) -> tuple[int, str]:
    """Run it in the folder, its capitals filled in: the exit status, and what was printed.

    A verb alone is run in this process, for time; what is more than that by a shell.
    """
    for name, value in fill.items():
        line = re.sub(rf"\b{name}\b", value, line)
    words, zookeeper = shlex.split(line), cluster.state()["zookeeper"]
    where = (
        {"WALLET_ZOOKEEPER": zookeeper}
        if zookeeper
        else {"WALLET_MAP_FILE": str(cluster.data_dir / "map.json")}
    )
    if words[0] == "wallet-admin" and "&&" not in words:
        with chdir(folder):
            result = admin(*words[1:], input="y\n", env=where)
        status, said = result.exit_code, result.output
    else:
        done = run_line(line, cwd=folder, zookeeper=zookeeper)
        status, said = done.returncode, done.stdout + done.stderr
    print(f"$ {line}\n{said}")
    return status, said
