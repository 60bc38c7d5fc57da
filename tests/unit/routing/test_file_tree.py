"""Properties of the tree in a file alone. The conformance suite tests those that it shares with ZooKeeper."""

import json
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from wallet_engine.domain.errors import ConfigError, Corruption
from wallet_engine.routing.file_tree import FileTree
from wallet_engine.routing.processes import birth_of
from wallet_engine.routing.tree import LockTimeout, StoreUnavailable

OPEN = "import sys, time; from wallet_engine.routing.file_tree import FileTree; t = FileTree(sys.argv[1]);"


def wait_for(condition: Callable[[], bool], timeout_s: float = 5.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.01)


def start(code: str, *args: str | Path) -> "subprocess.Popen[str]":
    return subprocess.Popen([sys.executable, "-c", code, *map(str, args)], stdout=subprocess.PIPE, text=True)


def first_line(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def end(process: "subprocess.Popen[str]") -> None:
    process.kill()
    process.communicate()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "map.json"


@pytest.fixture
def tree(path: Path) -> Iterator[FileTree]:
    tree = FileTree(path)
    yield tree
    tree.close()


def test_the_ephemerals_of_a_killed_process_go_before_it_is_even_collected(
    tree: FileTree, path: Path
) -> None:
    seen: list[list[str]] = []
    tree.watch_children("/wallet/journals", seen.append)
    owner = start(
        OPEN
        + "t.create('/wallet/journals/j1', b'x', ephemeral=True); print('up', flush=True); time.sleep(60)",
        path,
    )
    try:
        assert first_line(owner) == "up"
        assert tree.children("/wallet/journals") == ["j1"]
        wait_for(lambda: seen == [[], ["j1"]])
        os.kill(owner.pid, signal.SIGKILL)
        wait_for(lambda: seen == [[], ["j1"], []])  # meanwhile the process is a zombie
        assert tree.get("/wallet/journals/j1") is None
        tree.create("/wallet/journals/j1", b"y", ephemeral=True)
    finally:
        end(owner)


def test_a_reused_pid_is_told_apart(tree: FileTree, path: Path) -> None:
    tree.create("/e", b"", ephemeral=True)
    document = json.loads(path.read_text())
    document["nodes"]["/e"]["owner"]["birth"] = "of another process that had this pid"
    other = path.with_suffix(".edited")
    other.write_text(json.dumps(document))
    other.rename(path)
    assert tree.children("/") == []


def test_no_increment_of_four_processes_is_lost(tree: FileTree, path: Path) -> None:
    tree.create("/n", b"0")
    code = OPEN + (
        "from wallet_engine.routing.tree import VersionConflict\n"
        "done = 0\n"
        "while done < 25:\n"
        "    node = t.get('/n')\n"
        "    try: t.set('/n', b'%d' % (int(node.data) + 1), node.version)\n"
        "    except VersionConflict: continue\n"
        "    done += 1\n"
    )
    racers = [start(code, path) for _ in range(4)]
    assert [racer.wait(60) for racer in racers] == [0] * 4
    for racer in racers:
        racer.communicate()
    node = tree.get("/n")
    assert node is not None
    assert (node.data, node.version) == (b"100", 100)


def test_a_watch_sees_what_another_process_did(tree: FileTree, path: Path) -> None:
    seen: list[bytes | None] = []
    tree.watch("/wallet/map", lambda node: seen.append(node and node.data))
    wait_for(lambda: seen == [None])
    other = start(OPEN + "t.create('/wallet/map', b'from outside')", path)
    assert other.wait(30) == 0
    other.communicate()
    wait_for(lambda: seen == [None, b"from outside"])


def test_a_lock_of_a_killed_process_is_free(tree: FileTree, path: Path) -> None:
    holder = start(
        OPEN + "l = t.lock('/locks/a', 'the other'); l.__enter__(); print('up', flush=True); time.sleep(60)",
        path,
    )
    try:
        assert first_line(holder) == "up"
        with (
            pytest.raises(LockTimeout, match="/locks/a is held by the other"),
            tree.lock("/locks/a", "me", timeout_s=0.05),
        ):
            pass
        holder.kill()
        with tree.lock("/locks/a", "me", timeout_s=5) as lock:
            assert lock.held
        assert not lock.held
    finally:
        end(holder)


def test_any_bytes_survive(tree: FileTree, path: Path) -> None:
    data = bytes(range(256)) + "€ 𝄞".encode() + b"\xed\xa0\x80"
    tree.create("/x", data)
    again = FileTree(path)
    node = again.get("/x")
    again.close()
    assert node is not None
    assert node.data == data


def test_a_missing_file_is_an_empty_tree_and_its_folder_comes_with_the_first_change(tmp_path: Path) -> None:
    tree = FileTree(tmp_path / "new" / "map.json")
    assert tree.get("/a") is None
    assert not (tmp_path / "new").exists()
    tree.create("/a", b"")
    assert tree.children("/") == ["a"]
    tree.close()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        '{"format": 1}',
        '{"format": 2, "nodes": {}}',
        '{"format": 1, "nodes": {"/a": {}}}',
        '{"format": 1, "nodes": {"/a": 3}}',
    ],
)
def test_a_damaged_file_is_corruption_that_names_it(path: Path, text: str) -> None:
    path.write_text(text)
    with pytest.raises(Corruption, match=r"map\.json"):
        FileTree(path)


def test_a_folder_in_place_of_the_file_is_a_config_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--map-file"):
        FileTree(tmp_path)


def test_a_failed_write_changes_nothing(tree: FileTree, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree.create("/a", b"1")

    def full(_fd: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(StoreUnavailable, match="No space left"):
            tree.set("/a", b"2", 0)
    assert tree.set("/a", b"3", 0) == 1
    assert sorted(p.name for p in path.parent.iterdir()) == ["map.json", "map.json.lock"]


def test_a_file_damaged_under_a_watch_keeps_the_last_value(
    tree: FileTree, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tree.create("/a", b"1")
    good = path.read_bytes()
    seen: list[bytes | None] = []
    tree.watch("/a", lambda node: seen.append(node and node.data))
    wait_for(lambda: seen == [b"1"])
    for text in (b"garbage", good.replace(b'"1"', b'"2"')):
        other = path.with_suffix(".edited")
        other.write_bytes(text)
        other.rename(path)
        time.sleep(0.3)
    wait_for(lambda: seen == [b"1", b"2"])
    assert sum("keep their last values" in record.message for record in caplog.records) == 1


def test_readers_beside_a_writer_see_whole_states(tree: FileTree, path: Path) -> None:
    tree.create("/a", b"0")
    stop = threading.Event()
    versions: list[int] = []

    def read() -> None:
        reader = FileTree(path)
        while not stop.is_set():
            node = reader.get("/a")
            assert node is not None
            assert node.data == b"%d" % node.version
            versions.append(node.version)
        reader.close()

    thread = threading.Thread(target=read)
    thread.start()
    for version in range(40):
        tree.set("/a", b"%d" % (version + 1), version)
    stop.set()
    thread.join()
    assert versions == sorted(versions)


def test_state_shows(tree: FileTree) -> None:
    tree.watch("/a", lambda node: None)
    assert repr(tree) == "<FileTree map.json open watches=1>"
    tree.close()
    assert repr(tree) == "<FileTree map.json closed watches=0>"


@contextmanager
def descriptors_left(count: int) -> Iterator[None]:
    """This process can open only so many more files."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken = [os.open("/dev/null", os.O_RDONLY) for _ in range(count + 1)]
    resource.setrlimit(resource.RLIMIT_NOFILE, (taken[-1], before[1]))
    # Below the limit there may be gaps: close them.
    filled = []
    with suppress(OSError):
        while True:
            filled.append(os.open("/dev/null", os.O_RDONLY))
    for descriptor in taken[:count]:
        os.close(descriptor)
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
        for descriptor in (*filled, taken[-1]):
            os.close(descriptor)


def test_g9_without_descriptors_nobody_is_taken_for_dead(path: Path) -> None:
    """Everybody was: a change then removed the registrations of all live processes from the file."""
    child = start(
        f"{OPEN} t.create('/wallet/journals/j1', b'', ephemeral=True); print(1, flush=True); time.sleep(60)",
        path,
    )
    try:
        assert first_line(child) == "1"
        tree = FileTree(path)
        for left in range(4):
            with descriptors_left(left), suppress(StoreUnavailable):
                tree.create(f"/wallet/services/s{left}", b"")
            with descriptors_left(left), suppress(StoreUnavailable):
                assert tree.children("/wallet/journals") == ["j1"]
            assert tree.children("/wallet/journals") == ["j1"]
        tree.close()
    finally:
        end(child)


def test_g9_an_unforeseen_error_does_not_end_the_watches(
    tree: FileTree, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their thread ended unseen, and the process went on with an old map for ever."""
    seen: list[list[str]] = []
    tree.watch_children("/wallet", seen.append)
    wait_for(lambda: seen == [[]])
    upkeep, failed = tree._upkeep, threading.Event()

    def fail_once() -> bool:
        if not failed.is_set():
            failed.set()
            raise RuntimeError("can't start new thread")
        return upkeep()

    monkeypatch.setattr(tree, "_upkeep", fail_once)
    assert failed.wait(5)
    tree.create("/wallet/config", b"")
    wait_for(lambda: seen[-1] == ["config"])


def test_birth_tells_the_living_from_the_dead() -> None:
    child = start("import time; time.sleep(60)")
    assert birth_of(os.getpid()) == birth_of(os.getpid())
    assert birth_of(child.pid) not in (None, birth_of(os.getpid()))
    child.kill()
    wait_for(lambda: birth_of(child.pid) is None)
    child.communicate()
    assert birth_of(child.pid) is None
