"""`wallet-engine dev` as a subprocess, as a person would start it."""

import contextlib
import http.client
import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil
from support.http_client import KEYS

from wallet_engine.dev.ports import free_port
from wallet_engine.redis_store.login import Login, read_login

READY_S_MAX = 90.0
STOP_S_MAX = 60.0
DEAD_S_MAX = 10.0


class DevCluster:
    """One data directory and the `dev` that runs on it; can be stopped, killed and started again."""

    def __init__(
        self,
        data_dir: Path,
        *,
        shards: int = 1,
        replicas: int = 0,
        partitions: int = 16,
        apis: int = 1,
        embedded: bool = False,
        extra: Sequence[str] = (),
        environ: Mapping[str, str] | None = None,
    ) -> None:
        """`environ` is added to the environment of this process."""
        self._environ = {**os.environ, **(environ or {})}
        self.data_dir = data_dir
        self.port = free_port(run=apis)
        self.argv = [
            *(sys.executable, "-m", "wallet_engine", "dev", "--data-dir", str(data_dir)),
            *("--port", str(self.port), "--shards", str(shards), "--replicas", str(replicas)),
            *("--partitions", str(partitions), "--apis", str(apis)),
            *(("--embedded",) if embedded else ()),
            *extra,
        ]
        self.urls = [f"http://127.0.0.1:{self.port + i}" for i in range(apis)]
        self.process: subprocess.Popen[bytes] | None = None
        self.stderr_path = data_dir.with_name(data_dir.name + ".stderr")
        self.ready_line = ""
        #: pid -> name of every process that `dev.json` has named so far.
        self._names: dict[int, str] = {}

    def __repr__(self) -> str:
        return f"<DevCluster {self.url} {self.data_dir.name} running={self.running}>"

    @property
    def url(self) -> str:
        """`http://127.0.0.1:N` of the first API process."""
        return self.urls[0]

    @property
    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def start(self, timeout_s: float = READY_S_MAX) -> "DevCluster":
        """Start, and return when it has printed `ready http://…`. Otherwise fails with its standard error."""
        assert not self.running
        with self.stderr_path.open("ab") as stderr:
            self.process = subprocess.Popen(
                self.argv,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=stderr,
                start_new_session=True,
                env=self._environ,
            )
        # A dev that hangs is killed, which ends the read below.
        timer = threading.Timer(timeout_s, self.process.kill)
        timer.start()
        try:
            assert self.process.stdout is not None
            self.ready_line = self.process.stdout.readline().decode().strip()
        finally:
            timer.cancel()
            timer.join()
        if self.ready_line != f"ready {self.url}":
            said = self.stderr_path.read_text(errors="replace")[-4000:]
            self.kill_all()
            raise AssertionError(f"dev said {self.ready_line!r} instead of ready {self.url}:\n{said}")
        if "--auth" in self.argv:
            key = json.loads((self.data_dir / "keys.json").read_bytes())["admin"]
            KEYS.update((url.removeprefix("http://"), key) for url in self.urls)
        return self

    def state(self) -> dict[str, Any]:
        """`dev.json` as it is now."""
        document: dict[str, Any] = json.loads((self.data_dir / "dev.json").read_bytes())
        self._names.update((process["pid"], process["name"]) for process in document["processes"])
        return document

    def processes(self, role: str | None = None) -> list[dict[str, Any]]:
        """The processes of a role (`redis`, `zookeeper`, `journal`, `api`), or all."""
        return [p for p in self.state()["processes"] if role in (None, p["role"])]

    def pids(self, role: str | None = None) -> list[int]:
        return [process["pid"] for process in self.processes(role)]

    def coordination_flags(self) -> list[str]:
        """What `wallet-admin` needs to find this cluster."""
        zookeeper = self.state()["zookeeper"]
        if zookeeper:
            return ["--zookeeper", zookeeper]
        return ["--map-file", str(self.data_dir / "map.json")]

    def admin_flags(self) -> list[str]:
        """The same, with the credentials that it needs on a closed cluster."""
        shown = ("WALLET_ZOOKEEPER_", "WALLET_REDIS_", "WALLET_PEER_")
        known = {name: value for name, value in admin_environment(self).items() if name.startswith(shown)}
        flags = (f"{name.removeprefix('WALLET_').replace('_', '-').lower()}={v}" for name, v in known.items())
        return [*self.coordination_flags(), *(f"--{flag}" for flag in flags)]

    def ready(self, url: str) -> bool:
        """Whether the API process there takes transfers of every partition."""
        try:
            with urllib.request.urlopen(f"{url}/readyz", timeout=10) as answer:
                return bool(json.loads(answer.read())["status"] == "ready")
        except urllib.error.HTTPError as error:
            error.close()
        except (OSError, http.client.HTTPException):
            pass
        return False

    def wait_ready(self, timeout_s: float = 60.0) -> None:
        """Return when every API process takes transfers."""
        deadline = time.monotonic() + timeout_s
        while not all(self.ready(url) for url in self.urls):
            assert time.monotonic() < deadline, f"{self} is not ready"
            time.sleep(0.05)

    def living(self, which: str, timeout_s: float = 30.0) -> dict[str, Any]:
        """The process of that name, or the first of that role, as soon as `dev.json` names one that is alive.

        Between a death and the restart, `dev.json` names the dead process or none.
        """
        deadline = time.monotonic() + timeout_s
        while True:
            for process in self.processes():
                if which in (process["name"], process["role"]) and _alive(process["pid"]):
                    return process
            assert time.monotonic() < deadline, f"no {which} lives: {self.state()}"
            time.sleep(0.02)

    def kill(self, which: str) -> int:
        """SIGKILL the process as soon as it is alive; returns its pid when it is dead."""
        pid = int(self.living(which)["pid"])
        end(pid)
        return pid

    def restart(self, which: str) -> None:
        """Kill it, and return when `dev.json` names its replacement, which may still be starting."""
        self.wait_replaced(self.kill(which))

    def wait_replaced(self, pid: int, timeout_s: float = 30.0) -> None:
        """Return when `dev.json` names a replacement of this process, which it has named before."""
        name = self._names[pid]
        deadline = time.monotonic() + timeout_s
        while not any(p["name"] == name and p["pid"] != pid for p in self.processes()):
            assert time.monotonic() < deadline, f"process {pid} was not replaced: {self.state()}"
            time.sleep(0.05)

    def stop(self) -> int:
        """SIGTERM, as a person would with Ctrl-C; the exit status."""
        assert self.process is not None
        self.process.terminate()
        try:
            return self.process.wait(STOP_S_MAX)
        finally:
            self.kill_all()

    def kill_supervisor(self) -> None:
        """SIGKILL `dev` alone; its children go on."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            if self.process.stdout is not None:
                self.process.stdout.close()

    def kill_all(self) -> None:
        """SIGKILL every process at once, the supervisor first so that it restarts nothing."""
        if self.process is None:
            return
        pids = set(self._children())
        self.kill_supervisor()
        with contextlib.suppress(FileNotFoundError):
            pids.update(self.pids())
        end(*pids)

    def _children(self) -> list[int]:
        """The running supervisor's children, even those that `dev.json` does not name (yet)."""
        assert self.process is not None
        try:
            return [child.pid for child in psutil.Process(self.process.pid).children(recursive=True)]
        except psutil.Error:
            return []


def run_admin(cluster: DevCluster, *words: str) -> tuple[int, str]:
    """Run `wallet-admin` on a cluster: its exit status, and all that it printed."""
    program = str(Path(sys.executable).with_name("wallet-admin"))
    run = subprocess.run(
        [program, *cluster.admin_flags(), *words],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return run.returncode, run.stdout + run.stderr


def admin_environment(cluster: DevCluster) -> dict[str, str]:
    """What `admin.env` sets."""
    lines = (cluster.data_dir / "admin.env").read_text("utf-8").splitlines()
    return {name: value.strip("'") for name, _, value in (line.partition("=") for line in lines)}


def admin_login(cluster: DevCluster) -> Login:
    """How `wallet-admin` logs in to Redis there."""
    known = admin_environment(cluster)
    user = known.get("WALLET_REDIS_USER")
    password, *tls = (known.get(f"WALLET_REDIS_{name}") for name in ("PASSWORD_FILE", "CA", "CERT", "KEY"))
    return read_login(user, *(Path(path) if path else None for path in (password, *tls)))


def json_admin(cluster: DevCluster, *words: str) -> tuple[int, dict[str, Any]]:
    """Run `wallet-admin … --json` with the variables of `admin.env`: its exit status, and its document."""
    argv = [str(Path(sys.executable).with_name("wallet-admin")), *words, "--json", "--yes"]
    environ = {**os.environ, **admin_environment(cluster)}
    done = subprocess.run(argv, capture_output=True, env=environ, check=False, timeout=90)
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


def end(*pids: int) -> None:
    """SIGKILL all, and wait until they are dead. A process may be gone already."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + DEAD_S_MAX
    while any(map(_alive, pids)) and time.monotonic() < deadline:
        time.sleep(0.01)


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False
