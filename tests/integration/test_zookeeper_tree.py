"""One suite for both trees, and cases that only a real ZooKeeper has: lost sessions, absence, return."""

import contextlib
import logging
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from kazoo.client import KazooClient

from wallet_engine.domain.errors import ConfigError
from wallet_engine.routing.directory import Directory, open_directory
from wallet_engine.routing.file_tree import FileTree
from wallet_engine.routing.model import ClusterConfig, JournalInfo, Shard, spread
from wallet_engine.routing.tree import (
    LockTimeout,
    Node,
    NodeExists,
    NodeMissing,
    NodeNotEmpty,
    StoreUnavailable,
    Tree,
    TreeError,
    Version,
    VersionConflict,
)
from wallet_engine.routing.zookeeper import ZooKeeperTree

JAR = Path("/usr/share/java/zookeeper.jar")
JAVA = (
    *("java", "-Xmx128m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-cp", f"/etc/zookeeper/conf:{JAR}"),
    "org.apache.zookeeper.server.quorum.QuorumPeerMain",
)
SESSION_S = 4.0

needs_zookeeper = pytest.mark.skipif(
    not JAR.exists() or shutil.which("java") is None, reason="ZooKeeper is not installed"
)


def open_patiently(hosts: str, timeout_s: float) -> ZooKeeperTree:
    """A tree with a short timeout, on a server that has only just started on a busy machine."""
    for _ in range(10):
        with contextlib.suppress(ConfigError):
            return ZooKeeperTree(hosts, timeout_s)
    return ZooKeeperTree(hosts, timeout_s)


def wait_for(condition: Callable[[], bool], timeout_s: float = 15.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.01)


class Server:
    """A ZooKeeper of this test's own."""

    def __init__(self, folder: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port = probe.getsockname()[1]
        self.hosts = f"127.0.0.1:{self.port}"
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        (folder / "zoo.cfg").write_text(
            f"dataDir={folder}/data\nclientPort={self.port}\nclientPortAddress=127.0.0.1\n"
            f"tickTime=500\nminSessionTimeout=1000\nmaxSessionTimeout=60000\nadmin.enableServer=false\n"
            f"maxClientCnxns=0\n4lw.commands.whitelist=ruok\n"
        )

    def start(self) -> None:
        with open(self._folder / "log", "ab") as log:
            self._process = subprocess.Popen(
                [*JAVA, str(self._folder / "zoo.cfg")],
                stdout=log,
                stderr=log,
                cwd=self._folder,
            )
        wait_for(self._answers, 60)

    def signal(self, number: int) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def lose_everything(self) -> None:
        """Kill it and wipe its disk."""
        self.kill()
        shutil.rmtree(self._folder / "data")

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def _answers(self) -> bool:
        with (
            contextlib.suppress(OSError),
            socket.create_connection(("127.0.0.1", self.port), 1) as connection,
        ):
            connection.sendall(b"ruok")
            return connection.recv(4) == b"imok"
        return False


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("zookeeper"))
    server.start()
    first = KazooClient(server.hosts)
    first.start(timeout=60)  # a new JVM takes longer for its first session than the trees wait
    first.stop()
    first.close()
    yield server
    server.kill()


@pytest.fixture
def opened() -> Iterator[list[Tree]]:
    trees: list[Tree] = []
    yield trees
    for tree in trees:
        tree.close()


@pytest.fixture
def connect(
    server: Server, opened: list[Tree], request: pytest.FixtureRequest
) -> Callable[[], ZooKeeperTree]:
    """Trees below a path of the server that only this test uses."""
    corner = request.node.name.replace("[", "-").replace("]", "")

    def one() -> ZooKeeperTree:
        tree = ZooKeeperTree(f"{server.hosts}/{corner}", SESSION_S)
        opened.append(tree)
        return tree

    return one


@pytest.fixture(params=["file", pytest.param("zookeeper", marks=needs_zookeeper)])
def open_tree(
    request: pytest.FixtureRequest, opened: list[Tree], tmp_path: Path
) -> Callable[[], FileTree | ZooKeeperTree]:
    if request.param == "zookeeper":
        connect: Callable[[], ZooKeeperTree] = request.getfixturevalue("connect")
        return connect

    def one() -> FileTree:
        tree = FileTree(tmp_path / "map.json")
        opened.append(tree)
        return tree

    return one


class TestConformance:
    """What every tree does."""

    @pytest.fixture
    def tree(self, open_tree: Callable[[], Tree]) -> Tree:
        return open_tree()

    @pytest.fixture
    def other(self, open_tree: Callable[[], Tree]) -> Tree:
        return open_tree()

    def test_a_node_is_created_with_its_parents_and_read_by_others(self, tree: Tree, other: Tree) -> None:
        assert tree.get("/a/b/c") is None
        tree.create("/a/b/c", b"\x00\xff text")
        assert other.get("/a/b/c") == Node(b"\x00\xff text", 0)
        assert other.get("/a/b") == Node(b"", 0)
        with pytest.raises(NodeExists, match="/a/b/c"):
            other.create("/a/b/c", b"")
        with pytest.raises(NodeExists):
            other.create("/a", b"")

    def test_set_compares_the_version(self, tree: Tree, other: Tree) -> None:
        tree.create("/a", b"0")
        assert tree.set("/a", b"1", 0) == 1
        assert other.set("/a", b"2", 1) == 2
        with pytest.raises(VersionConflict, match="/a"):
            tree.set("/a", b"lost", 1)
        assert tree.get("/a") == Node(b"2", 2)
        with pytest.raises(NodeMissing, match="/b"):
            tree.set("/b", b"", 0)

    def test_set_can_compare_the_version_of_another_node_too(self, tree: Tree, other: Tree) -> None:
        tree.create("/a", b"0")
        tree.create("/b", b"0")
        assert tree.set("/a", b"1", 0, beside=Version("/b", 0)) == 1
        assert other.set("/b", b"1", 0) == 1
        with pytest.raises(VersionConflict, match=r"/b (was changed|is at version 1)"):
            tree.set("/a", b"lost", 1, beside=Version("/b", 0))
        with pytest.raises(VersionConflict, match=r"/a (was changed|is at version 1)"):
            tree.set("/a", b"lost", 0, beside=Version("/b", 1))
        with pytest.raises(NodeMissing, match="/c"):
            tree.set("/a", b"lost", 1, beside=Version("/c", 0))
        assert other.get("/a") == Node(b"1", 1)

    def test_delete_compares_the_version_if_given_one(self, tree: Tree) -> None:
        tree.create("/a/b", b"")
        with pytest.raises(NodeNotEmpty, match="/a"):
            tree.delete("/a")
        with pytest.raises(VersionConflict, match="/a/b"):
            tree.delete("/a/b", 3)
        tree.delete("/a/b", 0)
        tree.delete("/a")
        with pytest.raises(NodeMissing, match="/a"):
            tree.delete("/a")

    def test_children_are_sorted_names(self, tree: Tree) -> None:
        assert tree.children("/a") == []
        for name in ("c", "a", "b/deep", "ba"):
            tree.create(f"/a/{name}", b"")
        assert tree.children("/a") == ["a", "b", "ba", "c"]
        assert tree.children("/a/c") == []
        assert "a" in tree.children("/")

    @pytest.mark.parametrize("path", ["", "a", "/a/", "//a"])
    def test_a_malformed_path_is_a_bug(self, tree: Tree, path: str) -> None:
        for call in (tree.get, tree.children, tree.delete, lambda p: tree.create(p, b"")):
            with pytest.raises(ValueError, match="not a path"):
                call(path)

    def test_of_many_competitors_for_one_version_one_wins(self, open_tree: Callable[[], Tree]) -> None:
        trees = [open_tree() for _ in range(4)]
        trees[0].create("/n", b"0")

        def count(tree: Tree) -> None:
            done = 0
            while done < 10:
                node = tree.get("/n")
                assert node is not None
                with contextlib.suppress(VersionConflict):
                    tree.set("/n", b"%d" % (int(node.data) + 1), node.version)
                    done += 1

        threads = [threading.Thread(target=count, args=(tree,)) for tree in trees]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert trees[0].get("/n") == Node(b"40", 40)

    def test_an_ephemeral_goes_with_its_tree(self, tree: Tree, other: Tree) -> None:
        other.create("/alive/a", b"x", ephemeral=True)
        tree.create("/alive/b", b"", ephemeral=True)
        assert tree.children("/alive") == ["a", "b"]
        with pytest.raises(NodeExists):
            tree.create("/alive/a", b"x", ephemeral=True)
        with pytest.raises(NodeExists):
            tree.create("/alive/b", b"", ephemeral=True)
        with pytest.raises(TreeError, match="ephemeral"):
            tree.create("/alive/a/below", b"")
        other.close()
        wait_for(lambda: tree.children("/alive") == ["b"])
        tree.delete("/alive/b")
        assert tree.children("/alive") == []

    def test_a_watch_gives_the_present_value_and_every_later_one(self, tree: Tree, other: Tree) -> None:
        seen: list[Node | None] = []
        threads: set[str] = set()

        def callback(node: Node | None) -> None:
            threads.add(threading.current_thread().name)
            seen.append(node)

        stop = tree.watch("/w/x", callback)
        wait_for(lambda: seen == [None])
        other.create("/w/x", b"0")
        wait_for(lambda: seen[-1] == Node(b"0", 0))
        other.set("/w/x", b"1", 0)
        wait_for(lambda: seen[-1] == Node(b"1", 1))
        tree.set("/w/x", b"2", 1)
        wait_for(lambda: seen[-1] == Node(b"2", 2))
        other.delete("/w/x")
        wait_for(lambda: seen[-1] is None)
        assert len(seen) == 5
        assert len(threads) == 1
        assert threading.current_thread().name not in threads
        stop()
        other.create("/w/x", b"unseen")
        time.sleep(0.25)
        assert len(seen) == 5

    def test_a_watch_of_children_sees_them_come_and_go(self, tree: Tree, other: Tree) -> None:
        seen: list[list[str]] = []
        stop = tree.watch_children("/w", seen.append)
        wait_for(lambda: seen == [[]])
        other.create("/w/b", b"")
        wait_for(lambda: seen[-1] == ["b"])
        other.create("/w/a", b"", ephemeral=True)
        wait_for(lambda: seen[-1] == ["a", "b"])
        other.close()
        wait_for(lambda: seen[-1] == ["b"])
        stop()

    def test_a_failing_callback_harms_neither_itself_nor_others(
        self, tree: Tree, caplog: pytest.LogCaptureFixture
    ) -> None:
        seen: list[Node | None] = []
        calls: list[Node | None] = []

        def fail(node: Node | None) -> None:
            calls.append(node)
            raise RuntimeError("a bug")

        tree.watch("/w", fail)
        tree.watch("/w", seen.append)
        wait_for(lambda: seen == [None])
        tree.create("/w", b"")
        wait_for(lambda: len(seen) == len(calls) == 2)
        assert "a watcher failed" in caplog.text

    def test_a_callback_may_call_the_tree_and_watch_more(self, tree: Tree) -> None:
        tree.create("/a", b"b")
        tree.create("/b", b"found")
        seen: list[bytes] = []

        def follow(node: Node | None) -> None:
            assert node is not None
            tree.watch(f"/{node.data.decode()}", lambda found: found and seen.append(found.data))
            assert tree.get("/b") is not None

        tree.watch("/a", follow)
        wait_for(lambda: seen == [b"found"])

    def test_a_lock_is_held_by_one(self, tree: Tree, other: Tree) -> None:
        with tree.lock("/locks/l", "first holder") as lock:
            assert lock.held
            with other.lock("/locks/m", "x"):
                pass
            for competitor in (other, tree):
                with (
                    pytest.raises(LockTimeout, match="/locks/l is held by first holder"),
                    competitor.lock("/locks/l", "second", timeout_s=0.1),
                ):
                    pass
        assert not lock.held
        with pytest.raises(KeyError), other.lock("/locks/l", "second", timeout_s=5):
            raise KeyError
        with tree.lock("/locks/l", "third", timeout_s=5) as lock:
            assert lock.held

    def test_a_lock_excludes_under_contention(self, open_tree: Callable[[], Tree]) -> None:
        inside: list[int] = []
        most: list[int] = []

        def compete(tree: Tree) -> None:
            for _ in range(5):
                with tree.lock("/locks/l", "me", timeout_s=30):
                    inside.append(1)
                    most.append(len(inside))
                    time.sleep(0.001)
                    inside.pop()

        threads = [threading.Thread(target=compete, args=(open_tree(),)) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert most == [1] * 15

    def test_a_closed_tree_says_so(self, tree: Tree) -> None:
        tree.create("/a", b"", ephemeral=True)
        assert tree.connected
        tree.close()
        tree.close()
        assert not tree.connected
        assert "closed" in repr(tree)
        for call in (tree.get, tree.children, tree.delete, lambda p: tree.create(p, b"")):
            with pytest.raises(StoreUnavailable, match="closed"):
                call("/a")

    def test_the_directory_works_on_it(self, tree: Tree, other: Tree) -> None:
        directory, second = Directory(tree), Directory(other)
        directory.initialise(ClusterConfig(4), [Shard("a", ("h:1",))], spread(4, ["a"]))
        with pytest.raises(ConfigError, match="already"):
            second.initialise(ClusterConfig(4), [Shard("a", ("h:1",))], spread(4, ["a"]))
        assert second.raise_epochs([1, 3]) == directory.partition_map()
        info = JournalInfo("j1", "h:7000", "/data", 1, "here")
        seen: list[dict[str, JournalInfo]] = []
        second.watch_journals(seen.append)
        directory.register_journal(info)
        wait_for(lambda: seen[-1:] == [{"j1": info}])


@needs_zookeeper
class TestRoot:
    """What the connect string puts before all paths."""

    @pytest.fixture
    def root(self, request: pytest.FixtureRequest) -> str:
        return f"/not/there/{request.node.name}"

    def test_it_is_made_by_who_writes_and_not_by_who_reads(
        self, server: Server, opened: list[Tree], root: str
    ) -> None:
        reader = ZooKeeperTree(f"{server.hosts}{root}", SESSION_S)
        whole = ZooKeeperTree(server.hosts, SESSION_S)
        opened += [reader, whole]
        seen: list[Node | None] = []
        reader.watch("/wallet/config", seen.append)
        assert (reader.get("/wallet/config"), reader.children("/")) == (None, [])
        assert "not" not in whole.children("/")

        writer = ZooKeeperTree(f"{server.hosts}{root}/", SESSION_S)
        opened.append(writer)
        writer.create("/wallet/config", b"x")
        assert whole.get(f"{root}/wallet/config") == Node(b"x", 0)
        wait_for(lambda: seen[-1:] == [Node(b"x", 0)])

    @pytest.mark.parametrize("first", ["top", "ephemeral", "lock"])
    def test_whatever_is_written_first(
        self, server: Server, opened: list[Tree], root: str, first: str
    ) -> None:
        tree = ZooKeeperTree(f"{server.hosts}{root}", SESSION_S)
        opened.append(tree)
        if first == "lock":
            with tree.lock("/locks/a", "me") as lock:
                assert lock.held
        elif first == "top":
            tree.create("/a", b"x")
        else:
            tree.create("/alive/a", b"x", ephemeral=True)
            assert tree.children("/alive") == ["a"]


class TestSessions:
    """ZooKeeper loses our session, or goes away."""

    @staticmethod
    def expire(tree: ZooKeeperTree, server: Server) -> None:
        """End the session from outside, as its timeout would: a client that knows its password can.

        If the tree has connected again before the thief's word came, the session is the tree's: then once more.
        """
        session = tree._session

        def ended() -> bool:
            thief = KazooClient(server.hosts, client_id=tree._client.client_id)
            thief.start()
            thief.stop()
            thief.close()
            deadline = time.monotonic() + 2
            while time.monotonic() < deadline and not (tree._session != session and tree.connected):
                time.sleep(0.02)
            return tree._session != session

        wait_for(ended, 40)

    def test_what_a_lost_session_took_is_created_again(
        self, connect: Callable[[], ZooKeeperTree], server: Server
    ) -> None:
        """Wound kazoo#2: ephemeral nodes vanish with the session while the process lives."""
        tree, other = connect(), connect()
        gone: list[list[str]] = []
        other.watch_children("/alive", gone.append)
        tree.create("/alive/j1", b"v0", ephemeral=True)
        tree.set("/alive/j1", b"v1", 0)
        tree.create("/alive/j2", b"w", ephemeral=True)
        tree.delete("/alive/j2")
        seen: list[Node | None] = []
        tree.watch("/map", seen.append)
        wait_for(lambda: gone[-1:] == [["j1"]] and seen == [None])
        with tree.lock("/lock", "me") as lock:
            assert lock.held
            session = tree._session
            self.expire(tree, server)
            wait_for(lambda: tree._session != session and tree.connected)
            assert not lock.held
        wait_for(lambda: other.get("/alive/j1") == Node(b"v1", 0))
        assert [] in gone[1:]
        assert other.children("/alive") == ["j1"]
        other.create("/map", b"m")
        wait_for(lambda: seen == [None, Node(b"m", 0)])
        tree.close()
        wait_for(lambda: other.children("/alive") == [])

    def test_a_name_taken_meanwhile_is_left_to_its_taker_and_watched(
        self, connect: Callable[[], ZooKeeperTree], server: Server, caplog: pytest.LogCaptureFixture
    ) -> None:
        tree, other = connect(), connect()
        tree.create("/alive/j1", b"ours", ephemeral=True)
        with tree._own:  # keeps the tree from repairing before the name is taken
            session = tree._session
            self.expire(tree, server)
            wait_for(lambda: other.get("/alive/j1") is None)
            other.create("/alive/j1", b"theirs", ephemeral=True)
            wait_for(lambda: tree._session != session and tree.connected)
        wait_for(lambda: "was taken by another" in caplog.text)
        assert other.get("/alive/j1") == Node(b"theirs", 0)
        other.close()
        wait_for(lambda: tree.get("/alive/j1") == Node(b"ours", 0))

    def test_a_killed_owner_and_a_killed_lock_holder_are_noticed(
        self, connect: Callable[[], ZooKeeperTree], server: Server
    ) -> None:
        tree = connect()
        code = (
            "import sys, time; from wallet_engine.routing.zookeeper import ZooKeeperTree\n"
            "t = ZooKeeperTree(sys.argv[1], 1.0); t.create('/alive/x', b'', ephemeral=True)\n"
            "l = t.lock('/lock', 'the killed'); l.__enter__(); print('up', flush=True); time.sleep(60)"
        )
        arguments = [sys.executable, "-c", code, tree._hosts]
        with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as owner:
            assert owner.stdout is not None
            assert owner.stdout.readline() == "up\n"
            with pytest.raises(LockTimeout, match="the killed"), tree.lock("/lock", "me", timeout_s=0.1):
                pass
            assert tree.children("/alive") == ["x"]
            owner.kill()
        with tree.lock("/lock", "me", timeout_s=10):
            pass
        wait_for(lambda: tree.children("/alive") == [])


@needs_zookeeper
class TestAbsence:
    @pytest.fixture
    def own_server(self, tmp_path: Path) -> Iterator[Server]:
        server = Server(tmp_path)
        server.start()
        yield server
        server.kill()

    def test_away_and_back(
        self, own_server: Server, opened: list[Tree], caplog: pytest.LogCaptureFixture
    ) -> None:
        tree = open_patiently(own_server.hosts, 1.0)
        opened.append(tree)
        tree.create("/wallet/map", b"0")
        tree.create("/alive/j1", b"x", ephemeral=True)
        seen: list[Node | None] = []
        names: list[list[str]] = []
        tree.watch("/wallet/map", seen.append)
        tree.watch_children("/alive", names.append)
        wait_for(lambda: seen == [Node(b"0", 0)] and names == [["j1"]])

        lock = tree.lock("/lock", "me")
        held = lock.__enter__()
        own_server.kill()
        wait_for(lambda: not tree.connected)
        assert not held.held
        begin = time.monotonic()
        for _ in range(100):
            with pytest.raises(StoreUnavailable, match="does not answer"):
                tree.get("/wallet/map")
            with pytest.raises(StoreUnavailable, match="does not answer"):
                tree.set("/wallet/map", b"never", 0)
        assert time.monotonic() - begin < 20  # each call alone would wait a second if it did not fail at once
        lock.__exit__(None, None, None)
        assert "away" in repr(tree)
        assert seen == [Node(b"0", 0)]

        own_server.start()
        wait_for(lambda: tree.connected, 30)
        assert tree.set("/wallet/map", b"1", 0) == 1
        wait_for(lambda: seen == [Node(b"0", 0), Node(b"1", 1)])
        wait_for(lambda: tree.get("/alive/j1") == Node(b"x", 0))
        # The lock was released while ZooKeeper was away, so its node outlived the release.
        with tree.lock("/lock", "me again", timeout_s=10) as again:
            assert again.held
        assert not [record for record in caplog.records if record.levelno > logging.WARNING]

    def test_a_server_that_lost_its_data_is_come_back_to(
        self, own_server: Server, opened: list[Tree]
    ) -> None:
        """It refuses clients that have seen newer transactions than it has; still no process needs a restart."""
        tree, other = (open_patiently(own_server.hosts, SESSION_S) for _ in range(2))
        opened += [tree, other]
        for number in range(50):  # an empty server reaches as many transactions soon, but not at once
            tree.create(f"/map/{number}", b"old")
        tree.create("/alive/a", b"v", ephemeral=True)
        seen: list[Node | None] = []
        tree.watch("/map/0", seen.append)
        wait_for(lambda: seen == [Node(b"old", 0)])
        with tree.lock("/lock", "me", timeout_s=5) as lock:
            own_server.lose_everything()
            wait_for(lambda: not tree.connected)
            own_server.start()
            wait_for(lambda: tree.connected and other.connected, 40)
            assert not lock.held
        wait_for(lambda: other.get("/alive/a") == Node(b"v", 0))
        wait_for(lambda: seen[-1] is None)
        other.create("/map/0", b"new")
        wait_for(lambda: seen[-1] == Node(b"new", 0))
        with other.lock("/lock", "somebody", timeout_s=5) as lock:
            assert lock.held
        tree.close()
        wait_for(lambda: other.children("/alive") == [])

    def test_a_server_that_hangs_holds_no_call_for_long(self, own_server: Server, opened: list[Tree]) -> None:
        tree = open_patiently(own_server.hosts, 1.0)
        opened.append(tree)
        own_server.signal(signal.SIGSTOP)
        begin = time.monotonic()
        with pytest.raises(StoreUnavailable):
            tree.get("/a")
        with pytest.raises(StoreUnavailable):
            tree.create("/alive/x", b"first", ephemeral=True)
        assert time.monotonic() - begin < 5
        own_server.signal(signal.SIGCONT)
        wait_for(lambda: tree.connected)
        # Whether or not the first attempt took effect, it can be repeated.
        tree.create("/alive/x", b"first", ephemeral=True)
        time.sleep(0.2)
        assert tree.get("/alive/x") == Node(b"first", 0)

    def test_nobody_there_at_start_is_said_in_one_line(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port = probe.getsockname()[1]
        with pytest.raises(ConfigError) as raised:
            open_directory(f"127.0.0.1:{port}", None, timeout_s=0.5)
        assert (
            str(raised.value) == f"ZooKeeper at 127.0.0.1:{port} does not answer: start it or set --zookeeper"
        )

    def test_a_server_that_never_answers_is_no_better(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as silent:
            hosts = f"127.0.0.1:{silent.getsockname()[1]}"
            with pytest.raises(ConfigError, match="does not answer"):
                ZooKeeperTree(hosts, 0.5)

    @pytest.mark.parametrize("hosts", ["", ",", "host:port", "/only/a/path"])
    def test_hosts_that_are_none(self, hosts: str) -> None:
        with pytest.raises(ConfigError, match="host:port"):
            ZooKeeperTree(hosts, 0.5)
