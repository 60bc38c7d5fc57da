"""Ports, child processes, orphans, the files that `dev` writes, and restarts."""

import functools
import io
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from wallet_engine.dev import keeper, ports, process
from wallet_engine.dev.beginning import DevOptions, claim_ports
from wallet_engine.dev.config_files import config_path
from wallet_engine.dev.files import replace_file
from wallet_engine.dev.keeper import BACKOFF_S_MAX, Keeper, Kept, backoff_s
from wallet_engine.dev.layout import Wishes
from wallet_engine.dev.postgresql import PostgresProcess
from wallet_engine.dev.process import (
    STOP_S_MAX,
    Child,
    Identity,
    StartFailed,
    identify,
    stop_all,
    stop_identified,
    wait_until,
)
from wallet_engine.dev.state import DevState, ProcessInfo, StateFiles
from wallet_engine.dev.supervisor import Supervisor
from wallet_engine.domain.errors import ConfigError
from wallet_engine.routing.file_tree import FileTree
from wallet_engine.routing.tree import StoreUnavailable

SLEEPER = [sys.executable, "-c", "import time; print('awake', flush=True); time.sleep(60)"]
STUBBORN = [
    sys.executable,
    "-c",
    "import signal, time; signal.signal(15, signal.SIG_IGN); print('awake', flush=True); time.sleep(60)",
]


def awake(child: Child) -> bool:
    return "awake" in child.log.read_text()


@pytest.fixture
def child(tmp_path: Path) -> Iterator[Child]:
    child = Child("sleeper", SLEEPER, tmp_path / "logs" / "sleeper.log")
    child.start()
    child.wait_ready(lambda: awake(child), 10)
    yield child
    child.kill()


@pytest.fixture
def claims(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of claims of this test's own: another run on this machine may hold the same ports till it ends."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(ports, "_book", functools.cache(ports._book.__wrapped__))


class TestPorts:
    def test_a_listening_port_is_not_free(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
            assert not ports.port_is_free(port)
        assert ports.port_is_free(port)

    def test_a_redis_port_needs_its_bus_port(self) -> None:
        port = ports.free_port(redis=True)
        with socket.create_server(("127.0.0.1", port + ports.BUS_OFFSET)):
            assert ports.port_is_free(port)
            assert not ports.redis_port_is_free(port)
        assert ports.redis_port_is_free(port)
        assert not ports.redis_port_is_free(0)
        assert not ports.redis_port_is_free(60_000)

    def test_no_port_is_given_twice_and_all_stay_clear_of_outgoing_ones(self) -> None:
        given = [ports.free_port(redis=True) for _ in range(20)]
        assert len(set(given)) == 20
        assert all(port >= ports.PORT_MIN and port + ports.BUS_OFFSET < 32_768 for port in given)

    @pytest.mark.usefixtures("claims")
    def test_only_ports_of_the_range_that_was_set_and_none_reserved(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(ports, "_given", set())
        monkeypatch.setattr(ports, "port_is_free", lambda port: True)
        monkeypatch.setenv("WALLET_DEV_PORTS", "5000-5006")
        assert ports.reserve(5_002)
        assert not ports.reserve(5_002)
        assert ports.free_port(run=4) == 5_003
        assert {ports.free_port() for _ in range(2)} == {5_000, 5_001}
        with pytest.raises(ConfigError, match="no free port between 5000 and 5006"):
            ports.free_port()
        for range_ in ("15000", "0-100", "600-500", "65000-65536", "-5-7"):
            monkeypatch.setenv("WALLET_DEV_PORTS", range_)
            with pytest.raises(ConfigError, match=f"must be FIRST-LAST.*: {range_}"):
                ports.free_port()

    def test_ports_past_the_last_one_are_refused(self, tmp_path: Path) -> None:
        options = DevOptions(tmp_path, 65_535, Wishes(), apis=2)
        with pytest.raises(ConfigError, match="port 65536 is above 65535: give another --port"):
            claim_ports(options, 1, {})
        options = DevOptions(tmp_path, ports.free_port(), Wishes())
        with pytest.raises(ConfigError, match="port 70000 is above 65535: give another WALLET_METRICS_PORT"):
            claim_ports(options, 1, {"WALLET_METRICS_PORT": "70000"})

    @pytest.mark.usefixtures("claims")
    def test_what_another_process_was_given_is_not_given_here(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Until that process ends, even while nothing listens on the port."""
        code = "from wallet_engine.dev import ports; print(ports.free_port(), flush=True); input()"
        environ = {**os.environ, "WALLET_DEV_PORTS": "5010-5010"}
        pipe = subprocess.PIPE
        with subprocess.Popen([sys.executable, "-c", code], stdin=pipe, stdout=pipe, env=environ) as other:
            assert other.stdout is not None
            assert other.stdout.readline() == b"5010\n"
            monkeypatch.setenv("WALLET_DEV_PORTS", "5010-5011")
            assert ports.free_port() == 5_011
            with pytest.raises(ConfigError, match="no free port"):
                ports.free_port()
            other.communicate(b"\n")
        assert ports.free_port() == 5_010


class TestChild:
    def test_it_runs_in_a_session_of_its_own_and_stops(self, child: Child) -> None:
        assert child.alive
        assert os.getsid(child.pid) == child.pid
        assert repr(child) == f"<Child sleeper pid={child.pid}>"
        child.stop()
        assert not child.alive
        assert child.status == -signal.SIGTERM

    def test_one_that_ignores_sigterm_is_killed(self, tmp_path: Path) -> None:
        child = Child("stubborn", STUBBORN, tmp_path / "log")
        child.start()
        child.wait_ready(lambda: awake(child), 10)
        child.stop(grace_s=0.1)
        assert child.status == -signal.SIGKILL

    def test_each_has_its_own_time_to_end(self, tmp_path: Path) -> None:
        """PostgreSQL needs longer for its last checkpoint than other processes, but had only their time."""
        began_s = time.monotonic()
        child = Child("stubborn", STUBBORN, tmp_path / "log")
        child.grace_s = 0.1
        child.start()
        child.wait_ready(lambda: awake(child), 10)
        stop_all([child])
        assert child.status == -signal.SIGKILL
        assert time.monotonic() - began_s < STOP_S_MAX
        assert PostgresProcess.grace_s > STOP_S_MAX

    def test_one_that_ends_while_starting_is_reported_with_its_last_line(self, tmp_path: Path) -> None:
        child = Child("brief", [sys.executable, "-c", "print('no such port')"], tmp_path / "brief.log")
        child.start()
        with pytest.raises(
            StartFailed, match=r"brief ended with status 0: no such port \(see .*brief\.log\)"
        ):
            child.wait_ready(lambda: False, 10)

    def test_one_that_is_not_ready_in_time_is_reported(self, child: Child) -> None:
        with pytest.raises(StartFailed, match="sleeper is not ready after 0 s: awake"):
            child.wait_ready(lambda: False, 0.05)

    def test_a_missing_program_is_reported(self, tmp_path: Path) -> None:
        with pytest.raises(StartFailed, match="ghost cannot be started"):
            Child("ghost", [str(tmp_path / "ghost")], tmp_path / "log").start()

    def test_a_large_log_is_moved_aside(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("wallet_engine.dev.process.LOG_BYTES_MAX", 3)
        log = tmp_path / "x.log"
        log.write_text("old text")
        child = Child("x", [sys.executable, "-c", "print('new')"], log)
        child.start()
        assert child.wait(10)
        assert log.read_text() == "new\n"
        assert (tmp_path / "x.old.log").read_text() == "old text"


class TestIdentity:
    def test_it_is_recognised_and_stopped(self, child: Child) -> None:
        identity = identify(child.pid)
        assert identity is not None
        assert identity == child.identity
        assert list(identity.argv) == SLEEPER
        assert stop_identified(identity)
        assert child.wait(1)
        assert not stop_identified(identity)

    def test_a_child_is_known_by_its_command_line_from_its_first_moment(self, tmp_path: Path) -> None:
        """Right after the start it was empty in 35 of 1,000 cases. Then the orphan was not recognised later."""
        for _ in range(100):
            child = Child("sleep", ["/bin/sleep", "60"], tmp_path / "log")
            child.start()
            child.kill()
            assert child.identity is not None
            assert list(child.identity.argv) == child.argv

    def test_a_child_that_cannot_be_looked_at_runs_all_the_same(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Nobody had a descriptor left for a moment: `dev` ended, and everything with it."""

        def scarce(pid: int) -> None:
            raise StoreUnavailable("cannot tell whether a process lives: Too many open files")

        child = Child("sleep", ["/bin/sleep", "60"], tmp_path / "log")
        child.start()
        child.kill()
        monkeypatch.setattr(process, "birth_of", scarce)
        Keeper(lambda _: None, lambda: None).start(Kept("redis", child, "127.0.0.1:1"))
        assert child.alive
        assert child.identity is None
        child.kill()

    def test_another_process_with_the_same_id_is_left_alone(self, child: Child) -> None:
        real = identify(child.pid)
        assert real is not None
        for other in (
            Identity(real.pid, real.birth + "1", real.argv),
            Identity(real.pid, real.birth, ("redis-server",)),
        ):
            assert not stop_identified(other)
        assert child.alive

    def test_a_dead_process_that_nobody_waited_for_is_gone(self) -> None:
        process = subprocess.Popen([sys.executable, "-c", ""])
        assert wait_until(lambda: identify(process.pid) is None, 10)
        process.wait()


class TestFullDisk:
    def test_a_file_that_cannot_be_replaced_stays_as_it_was(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        open_file = os.open
        path = tmp_path / "x.json"
        replace_file(path, b"old")
        with monkeypatch.context() as patch:
            patch.setattr(os, "open", lambda *_: open_file("/dev/full", os.O_WRONLY))
            with pytest.raises(OSError, match="No space left on device"):
                replace_file(path, b"new")
        assert path.read_bytes() == b"old"
        replace_file(path, b"new", mode=0o600)
        assert path.read_bytes() == b"new"
        assert path.stat().st_mode & 0o777 == 0o600
        assert os.listdir(tmp_path) == ["x.json"]

    def test_a_process_runs_without_its_log(self, tmp_path: Path) -> None:
        (tmp_path / "logs").write_bytes(b"not a folder")
        child = Child("silent", [sys.executable, "-c", "print('x')"], tmp_path / "logs" / "silent.log")
        child.start()
        assert child.wait(10)
        assert child.status == 0

    def test_the_supervisor_does_not_mind_that_nobody_can_hear_it(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with open("/dev/full", "wb", buffering=0) as full:
            monkeypatch.setattr(sys, "stderr", io.TextIOWrapper(full, "utf-8", write_through=True))
            supervisor = Supervisor(DevOptions(tmp_path / "nowhere", 8080, Wishes()))
            supervisor._say("what nobody hears")
            supervisor._write_state()

    def test_a_lock_of_the_map_file_needs_no_space(self, tmp_path: Path) -> None:
        tree = FileTree(tmp_path / "map.json")
        locks = tmp_path / "map.json.locks"
        locks.mkdir()
        (locks / "a.lock").symlink_to("/dev/full")
        with tree.lock("/a", "me") as lock:
            assert lock.held
        tree.close()


class TestStateFiles:
    STATE = DevState(
        (
            ProcessInfo("redis", "s1-1", 11, "127.0.0.1:7000", "s1"),
            ProcessInfo("api", "api-1", 12, "127.0.0.1:8080"),
        ),
        "http://127.0.0.1:8080",
        None,
    )

    def test_dev_json_has_the_stated_shape(self, tmp_path: Path) -> None:
        files = StateFiles(tmp_path)
        files.write(self.STATE, [])
        assert json.loads(files.dev_json.read_bytes()) == {
            "processes": [
                {"role": "redis", "name": "s1-1", "pid": 11, "address": "127.0.0.1:7000", "shard": "s1"},
                {"role": "api", "name": "api-1", "pid": 12, "address": "127.0.0.1:8080"},
            ],
            "api": "http://127.0.0.1:8080",
            "zookeeper": None,
        }
        assert files.read() == self.STATE
        assert self.STATE.address_of("s1-1") == "127.0.0.1:7000"
        assert self.STATE.address_of("s9-1") is None

    def test_a_missing_or_damaged_dev_json_is_no_obstacle(self, tmp_path: Path) -> None:
        files = StateFiles(tmp_path)
        assert files.read() is None
        assert files.stop_orphans() == []
        files.dev_json.write_text("{")
        (tmp_path / "children.json").write_text("[]")
        assert files.read() is None
        assert files.stop_orphans() == []

    def test_orphans_are_stopped_and_nothing_else(self, tmp_path: Path, child: Child) -> None:
        files = StateFiles(tmp_path)
        assert child.identity is not None
        stranger = Identity(os.getpid(), "another boot", ("python",))
        files.write(self.STATE, [child.identity, stranger])
        assert files.stop_orphans() == [child.identity]
        assert child.wait(1)

    def test_a_directory_has_one_supervisor(self, tmp_path: Path) -> None:
        files = StateFiles(tmp_path)
        with files.lock(), pytest.raises(ConfigError, match=f"in use by .* {os.getpid()}"), files.lock():
            pass
        with files.lock():
            pass


class TestKeeper:
    def test_the_dead_are_started_again(self, child: Child) -> None:
        said: list[str] = []
        changes: list[int] = []
        kept = Keeper(said.append, lambda: changes.append(1))
        one = kept.keep(Kept("api", child, "127.0.0.1:1"))
        first = child.pid
        child.kill()
        kept.tend()
        assert child.alive
        assert child.pid != first
        assert one.deaths == 1
        assert len(changes) == 3
        assert "sleeper ended with status -9" in said[0]
        kept.stop()
        assert not child.alive

    def test_who_may_not_start_yet_waits_and_is_not_listed(self, child: Child) -> None:
        kept = Keeper(lambda text: None, lambda: None)
        allowed: list[bool] = []
        kept.keep(Kept("redis", child, "127.0.0.1:1", "s1", lambda dead_s: bool(allowed)))
        child.kill()
        kept.tend()
        assert kept.living == []
        allowed.append(True)
        kept.tend()
        assert [one.child for one in kept.living] == [child]

    def test_who_keeps_dying_waits_longer_and_ends_the_start(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(keeper, "BACKOFF_S_FIRST", 0.01)
        child = Child("brief", [sys.executable, "-c", "print('no')"], tmp_path / "log")
        kept = Keeper(lambda text: None, lambda: None)
        one = kept.start(Kept("journal", child, "127.0.0.1:1"))

        def died_three_times() -> bool:
            kept.tend()
            kept.check_deaths([one], 3)
            return False

        with pytest.raises(StartFailed, match="brief ended 3 times while starting: no"):
            wait_until(died_three_times, 10)
        kept.stop()

    def test_the_wait_is_bounded(self) -> None:
        waits = [backoff_s(deaths) for deaths in range(1, 40)]
        assert waits[:4] == [0.0, 0.1, 0.2, 0.4]
        assert waits == sorted(waits)
        assert waits[-1] == BACKOFF_S_MAX


@pytest.mark.parametrize("name", ["redis.conf", "zoo.cfg"])
def test_the_configuration_files_are_part_of_the_installation(name: str) -> None:
    assert config_path(name).read_text()


def test_redis_conf_says_what_money_needs() -> None:
    lines = config_path("redis.conf").read_text().splitlines()
    for line in ("maxmemory-policy noeviction", "cluster-enabled yes", "protected-mode yes", "appendonly no"):
        assert line in lines
    with pytest.raises(ConfigError, match=r"cluster_config/nothing\.conf is not part of this installation"):
        config_path("nothing.conf")
