"""The tree in ZooKeeper, on kazoo.

It adds to kazoo: every wait is bounded; ephemeral nodes are created again when this process survives the loss
of its session; watches are set again after every reconnect; a lock says when it is no longer certain; and no
kazoo exception leaves it.

A client reports the last transaction that it has seen, for as long as it lives. A server that lost its data
silently refuses clients that have seen more than it has. So after a session timeout without ZooKeeper, when
the session is over, the process starts again with a new client. That client reads nothing older than its
connection: opening a session is a transaction itself, and its server has applied all earlier ones.
"""

import logging
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Final

from kazoo import exceptions as kazoo_errors
from kazoo.client import KazooClient
from kazoo.handlers.threading import KazooTimeoutError
from kazoo.protocol.states import KazooState
from kazoo.retry import KazooRetry
from kazoo.security import ACL, CREATOR_ALL_ACL, OPEN_ACL_UNSAFE, READ_ACL_UNSAFE

from wallet_engine.domain.errors import ConfigError, WrongUsage
from wallet_engine.routing.tree import (
    LOCK_TIMEOUT_S,
    HeldLock,
    LockTimeout,
    Node,
    NodeExists,
    NodeMissing,
    NotAllowed,
    StoreUnavailable,
    TreeError,
    Version,
    VersionConflict,
    check_path,
)
from wallet_engine.routing.watches import Touch, WatchingTree
from wallet_engine.routing.zookeeper_answers import LOST, MEANING, refusal, set_async, stat_of
from wallet_engine.routing.zookeeper_tls import why_unopened, zookeeper_tls

logger = logging.getLogger(__name__)
_NOISE: Final = f"{__name__}.kazoo"

#: A dead process's ephemeral nodes and locks go after this long.
SESSION_TIMEOUT_S: Final = 10.0
#: The longest that a call waits for an answer; not at all once the store was away for as long.
ANSWER_WAIT_S_MAX: Final = 3.0
#: The longest that opening waits for a first answer of one server: to elect a leader takes a second or two, and someone
#: who gave a wrong address should not wait for a whole session timeout. Of several servers the first may have vanished.
OPEN_WAIT_S_MAX: Final = 5.0
_RECONNECT_S_MAX: Final = 1.0
_RETRY_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class Credentials:
    """A ZooKeeper digest user: a role, not a person."""

    user: str
    password: str = field(repr=False)


class ZooKeeperTree(WatchingTree):
    """`Tree` in the ensemble at `hosts` (`host:port,host:port` and, if wanted, `/prefix` of all paths).

    `timeout_s` is the session timeout asked for. Raises `ConfigError` when ZooKeeper does not answer in it, nor in
    `OPEN_WAIT_S_MAX` if that is shorter; with several servers, in both together.
    It speaks TLS if this process does (`zookeeper_tls`). With `credentials`, what is created can be read by everybody
    and changed by that user alone.
    """

    def __init__(
        self, hosts: str, timeout_s: float = SESSION_TIMEOUT_S, *, credentials: Credentials | None = None
    ) -> None:
        super().__init__("zookeeper-watches")
        self._hosts = hosts
        self._timeout_s = timeout_s
        self._credentials = credentials
        self._tls = zookeeper_tls()
        self._wait_s = min(timeout_s, ANSWER_WAIT_S_MAX)
        self._up = threading.Event()
        self._away_since = time.monotonic()
        #: When to start a new session if there is no connection by then.
        self._anew_at_s = self._away_since + timeout_s
        self._session: int | None = None
        #: Held while a client is exchanged, and while a client's change of state is handled.
        self._exchange = threading.Lock()
        #: Serialises everything that creates or deletes nodes of our own session.
        self._own = threading.RLock()
        #: Ephemeral nodes that must exist as long as this tree is open: path -> data.
        self._ephemerals: dict[str, bytes] = {}
        #: Nodes (path, data) that a call which failed half-way may have left in our session.
        self._leftovers: set[tuple[str, bytes]] = set()
        noise = logging.getLogger(_NOISE)
        if noise.level == logging.NOTSET:
            noise.setLevel(logging.CRITICAL)  # it logs every attempt to reconnect; we log what matters
        try:
            self._client = self._new_client()
        except ValueError:
            raise WrongUsage(f"--zookeeper {hosts!r} must be host:port,host:port,…") from None
        self._client.start_async()
        first_s = timeout_s if "," in hosts else 0.0
        if not self._up.wait(first_s + min(timeout_s, OPEN_WAIT_S_MAX)):
            self.close()
            raise ConfigError(why_unopened(hosts))
        self._start_watching()

    def __str__(self) -> str:
        return f"ZooKeeper at {self._hosts}"

    def __repr__(self) -> str:
        state = "closed" if self._closing else "connected" if self.connected else "away"
        return (
            f"<ZooKeeperTree {self._hosts} {state} session={self._session or 0:#x} "
            f"watches={len(self._watches)} ephemerals={len(self._ephemerals)}>"
        )

    @property
    def connected(self) -> bool:
        return self._up.is_set()

    def get(self, path: str) -> Node | None:
        return self._look_node(check_path(path), None)

    def children(self, path: str) -> list[str]:
        try:
            return sorted(self._read(path, lambda: self._client.get_children_async(check_path(path))))
        except NodeMissing:
            return []

    def create(self, path: str, data: bytes, *, ephemeral: bool = False) -> None:
        check_path(path)
        if not ephemeral:
            self._create(path, data, ephemeral=False)
            return
        with self._own:
            if path in self._ephemerals or not self._claim_or_note(path, data):
                raise NodeExists(f"{path} exists already")
            self._ephemerals[path] = data
        self._wake()  # the session may have ended between the two lines above

    def set(self, path: str, data: bytes, version: int, *, beside: Version | None = None) -> int:
        check_path(path)
        with self._own:
            answer = self._write(path, lambda: set_async(self._client, path, data, version, beside))
            stat = stat_of(answer, path, beside)
            if path in self._ephemerals:
                self._ephemerals[path] = data
        return int(stat.version)

    def delete(self, path: str, version: int | None = None) -> None:
        check_path(path)
        with self._own:
            self._write(path, lambda: self._client.delete_async(path, -1 if version is None else version))
            self._ephemerals.pop(path, None)

    def set_acl(self, path: str, acl: list[ACL]) -> None:
        """Replace the access control list of a node. Raises `NodeMissing`, `NotAllowed`."""
        self._write(path, lambda: self._client.set_acls_async(check_path(path), acl))

    @contextmanager
    def lock(self, path: str, holder: str, *, timeout_s: float = LOCK_TIMEOUT_S) -> Iterator[HeldLock]:
        token = f"{holder} {uuid.uuid4().hex}".encode()
        lock = self._acquire(check_path(path), token, time.monotonic() + timeout_s)
        try:
            yield lock
        finally:
            lock.over = True
            with self._own:
                self._leftovers.add((path, token))
                try:
                    self._drop_leftovers()
                except StoreUnavailable:
                    self._wake()

    def close(self) -> None:
        if self._closing:
            return
        self._stop_watching()
        with self._exchange:  # from now on changes of its client's state are ignored
            self._up.clear()
        _stop(self._client)

    # Sessions

    def _client_of(self, hosts: str) -> KazooClient:
        return KazooClient(
            hosts,
            timeout=self._timeout_s,
            connection_retry=KazooRetry(max_tries=-1, delay=0.05, max_delay=_RECONNECT_S_MAX),
            logger=logging.getLogger(_NOISE),
            **self._tls.options(),
            **({} if self._credentials is None else _identity(self._credentials)),
        )

    def _new_client(self) -> KazooClient:
        client = self._client_of(self._hosts)
        client.add_listener(lambda state: self._on_state(client, state))
        return client

    def _begin_anew(self) -> None:
        """Exchange the client, unless it has found its way meanwhile."""
        with self._exchange:
            if self._up.is_set():
                return
            old, self._client = self._client, self._new_client()
            self._anew_at_s = time.monotonic() + self._timeout_s
        self._client.start_async()
        # Stopping takes time when the client is just trying to connect.
        threading.Thread(target=_stop, args=(old,), name="zookeeper-old-session", daemon=True).start()

    def _on_state(self, client: KazooClient, state: str) -> None:
        """Called by kazoo's connection thread, which must not wait."""
        with self._exchange:
            if client is self._client and not self._closing:
                self._take_state(state)

    def _take_state(self, state: str) -> None:
        if state == KazooState.CONNECTED:
            session = self._client.client_id[0]
            if self._session is not None:
                logger.info("ZooKeeper is back%s", "" if session == self._session else ", with a new session")
            self._session = session
            for watch in self._watches:
                watch.dirty = True
            self._up.set()
            self._wake()
        else:
            if self._up.is_set():
                self._away_since = time.monotonic()
                self._anew_at_s = self._away_since + self._timeout_s
                logger.warning("ZooKeeper at %s is away: going on with what is known", self._hosts)
            self._up.clear()
            self._wake()

    def _upkeep(self) -> bool:
        if not self._up.is_set():
            if time.monotonic() >= self._anew_at_s:
                self._begin_anew()
            return False
        with self._own:
            self._drop_leftovers()
            troubles = [trouble for path in self._ephemerals if (trouble := self._restore(path))]
        if troubles:
            raise TreeError("; ".join(troubles))
        return True

    def _pause_s(self, *, failed: bool) -> float | None:
        if not self._up.is_set():
            return max(0.0, self._anew_at_s - time.monotonic())
        return _RETRY_S if failed else None

    def _restore(self, path: str) -> str:
        """Create one of our ephemeral nodes again unless it is there. What is in the way, or ""."""
        data = self._ephemerals[path]
        try:
            if self._claim(path, data):
                return ""
            found, stat = self._read(path, lambda: self._client.get_async(path))
            if stat.ephemeralOwner == self._session:
                self._ephemerals[path] = found  # a `set` whose answer was lost
                return ""
            if found != data:
                return f"{path} was taken by another process while ZooKeeper was away"
            # Ours, of the session before, which will end and take the node with it.
            self._write(path, lambda: self._client.delete_async(path, stat.version))
            return "" if self._claim(path, data) else f"{path} was taken by another process"
        except TreeError as error:
            return str(error)

    def _claim(self, path: str, data: bytes) -> bool:
        """Create an ephemeral node; True also when an earlier try of this session did it. Under `_own`."""
        try:
            self._create(path, data, ephemeral=True)
            return True
        except NodeExists:
            try:
                found, stat = self._read(path, lambda: self._client.get_async(path))
            except NodeMissing:
                return self._claim(path, data)
            return bool(stat.ephemeralOwner == self._session and found == data)

    def _create(self, path: str, data: bytes, *, ephemeral: bool) -> None:
        """Create a node. Missing folders are created open to everybody; `protect` gives them to a role."""

        def create() -> Any:
            return self._client.create_async(path, data, ephemeral=ephemeral)

        try:
            self._write(path, create)
        except NodeMissing:
            self._make_root()
            folder = path.rpartition("/")[0] or "/"
            self._write(folder, lambda: self._client.ensure_path_async(folder, acl=OPEN_ACL_UNSAFE))
            self._write(path, create)

    def _make_root(self) -> None:
        """Create the connect string's root path, if it is missing: kazoo creates only nodes below it.

        A process that only reads creates nothing, so a wrong connect string leaves nothing behind.
        """
        hosts, _, root = self._hosts.partition("/")
        root = f"/{root.strip('/')}"
        if root == "/" or self._read("/", lambda: self._client.exists_async("/")) is not None:
            return
        outside = self._client_of(hosts)
        try:
            outside.start(timeout=self._wait_s)
            outside.ensure_path(root, acl=OPEN_ACL_UNSAFE)
        except kazoo_errors.NoAuthError:
            raise NotAllowed(f"{root} {MEANING[NotAllowed]}") from None
        except (kazoo_errors.KazooException, KazooTimeoutError):
            raise StoreUnavailable(f"ZooKeeper at {hosts} does not answer") from None
        finally:
            _stop(outside)
        logger.info("made %s in ZooKeeper at %s", root, hosts)

    def _claim_or_note(self, path: str, data: bytes) -> bool:
        try:
            claimed = self._claim(path, data)
        except StoreUnavailable:
            self._leftovers.add((path, data))
            self._wake()
            raise
        if claimed:
            self._leftovers.discard((path, data))
        return claimed

    # Locks

    def _acquire(self, path: str, token: bytes, deadline: float) -> "_ZooKeeperLock":
        changed = threading.Event()

        def wake(_event: object) -> None:
            changed.set()

        while True:
            with self._own:
                session = self._session
                if self._claim_or_note(path, token):
                    if session == self._session:
                        return _ZooKeeperLock(self, session)
                    continue
            changed.clear()
            try:
                other, _stat = self._read(path, lambda: self._client.get_async(path, wake))
            except NodeMissing:
                continue
            remaining_s = deadline - time.monotonic()
            if remaining_s <= 0:
                raise LockTimeout(f"{path} is held by {other.decode('utf-8', 'replace').rpartition(' ')[0]}")
            changed.wait(min(remaining_s, _RETRY_S))

    def _drop_leftovers(self) -> None:
        """Under `_own`."""
        for path, data in tuple(self._leftovers):
            with suppress(NodeMissing, VersionConflict):
                self._delete_own(path, data)
            self._leftovers.discard((path, data))

    def _delete_own(self, path: str, data: bytes) -> None:
        found, stat = self._read(path, lambda: self._client.get_async(path))
        if found == data and stat.ephemeralOwner == self._session:
            self._write(path, lambda: self._client.delete_async(path, stat.version))

    # Calls

    def _look_node(self, path: str, touch: Touch | None) -> Node | None:
        while True:
            try:
                data, stat = self._read(path, lambda: self._client.get_async(path, touch))
                return Node(data, stat.version)
            except NodeMissing:
                # `get` sets no watch on a missing node, `exists` does.
                if touch is None or self._read(path, lambda: self._client.exists_async(path, touch)) is None:
                    return None

    def _look_children(self, path: str, touch: Touch) -> list[str]:
        while True:
            try:
                return sorted(self._read(path, lambda: self._client.get_children_async(path, touch)))
            except NodeMissing:
                if self._read(path, lambda: self._client.exists_async(path, touch)) is None:
                    return []

    def _read(self, path: str, call: Callable[[], Any]) -> Any:
        """The answer; if the connection breaks meanwhile, it asks again within the same bounded wait."""
        deadline = time.monotonic() + self._wait_s
        while True:
            try:
                return self._ask(path, call, deadline)
            except LOST:
                time.sleep(0.02)

    def _write(self, path: str, call: Callable[[], Any]) -> Any:
        """The answer; never asks twice, because the first request may have been carried out."""
        try:
            return self._ask(path, call, time.monotonic() + self._wait_s)
        except LOST:
            raise StoreUnavailable(f"ZooKeeper went away: whether {path} was changed is not known") from None

    def _ask(self, path: str, call: Callable[[], Any], deadline: float) -> Any:
        if self._closing:
            raise StoreUnavailable("the connection to ZooKeeper was closed")
        # kazoo would queue the call and make it whenever the connection is back, long after we gave up.
        patience = min(deadline, self._away_since + self._wait_s)
        if not self._up.wait(max(0.0, patience - time.monotonic())):
            raise StoreUnavailable(f"ZooKeeper at {self._hosts} does not answer")
        try:
            return call().get(timeout=max(0.001, deadline - time.monotonic()))
        except KazooTimeoutError:
            raise StoreUnavailable(f"ZooKeeper at {self._hosts} does not answer") from None
        except LOST:
            raise
        except kazoo_errors.KazooException as error:
            raise refusal(path, error) from None


def _identity(credentials: Credentials) -> dict[str, Any]:
    return {
        "auth_data": [("digest", f"{credentials.user}:{credentials.password}")],
        "default_acl": [*CREATOR_ALL_ACL, *READ_ACL_UNSAFE],
    }


def _stop(client: KazooClient) -> None:
    # A server that hangs does not confirm the end; the session then ends by its timeout.
    with suppress(kazoo_errors.KazooException, OSError):
        client.stop()
    client.close()


class _ZooKeeperLock:
    """A lock node of one session; the lock is held for certain only while the session certainly lives."""

    def __init__(self, tree: ZooKeeperTree, session: int | None) -> None:
        self._tree = tree
        self._session = session
        self.over = False

    @property
    def held(self) -> bool:
        return not self.over and self._tree.connected and self._tree._session == self._session
