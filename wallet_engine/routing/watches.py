"""The code that both trees share: the watches, and the one thread that calls them."""

import logging
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Final, Generic, TypeVar

from wallet_engine.domain.errors import WalletError
from wallet_engine.routing.tree import Node, Unsubscribe, check_path

logger = logging.getLogger(__name__)

#: Pause after an unforeseen error.
FAILED_PAUSE_S: Final = 1.0

T = TypeVar("T")
Touch = Callable[..., None]


class Watch(Generic[T]):
    """One subscription: `look` reads the value, `callback` gets it when it is not the last one given."""

    def __init__(self, look: Callable[[Touch], T], callback: Callable[[T], object], wake: Callable[[], None]):
        self._look = look
        self._callback = callback
        self._wake = wake
        self._last: tuple[T] | None = None
        self.dirty = True
        self.active = True

    def touch(self, *_event: object) -> None:
        """The value may have changed."""
        self.dirty = True
        self._wake()

    def deliver(self) -> None:
        """Read the value and call back if it is new.

        Raises the errors of `look`; the watch then stays dirty.
        """
        if not (self.dirty and self.active):
            return
        self.dirty = False  # before looking: a change during the look must not be forgotten
        try:
            value = self._look(self.touch)
        except BaseException:
            self.dirty = True
            raise
        if self._last == (value,) or not self.active:
            return
        self._last = (value,)
        try:
            self._callback(value)
        except Exception:
            logger.exception("a watcher failed; it will be called again at the next change")


class WatchingTree(ABC):
    """The watches of a tree and their thread. The thread starts with `_start_watching` or the first watch."""

    def __init__(self, name: str) -> None:
        self._watches: tuple[Watch[Node | None] | Watch[list[str]], ...] = ()
        self._gate = threading.Condition()
        self._woken = False
        self._closing = False
        self._complaint = ""
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def watch(self, path: str, callback: Callable[[Node | None], object]) -> Unsubscribe:
        check_path(path)
        return self._add(Watch(lambda touch: self._look_node(path, touch), callback, self._wake))

    def watch_children(self, path: str, callback: Callable[[list[str]], object]) -> Unsubscribe:
        check_path(path)
        return self._add(Watch(lambda touch: self._look_children(path, touch), callback, self._wake))

    @abstractmethod
    def _look_node(self, path: str, touch: Touch) -> Node | None:
        """Read, and have `touch` called at the next change (unless `_upkeep` finds changes)."""

    @abstractmethod
    def _look_children(self, path: str, touch: Touch) -> list[str]: ...

    @abstractmethod
    def _upkeep(self) -> bool:
        """The tree's own chores, before each round.

        Returns False if reading is pointless until the next wake.
        """

    @abstractmethod
    def _pause_s(self, *, failed: bool) -> float | None:
        """How long to wait for a wake before the next round; None for no limit."""

    def _add(self, watch: Watch[Node | None] | Watch[list[str]]) -> Unsubscribe:
        def unsubscribe() -> None:
            watch.active = False
            with self._gate:
                self._watches = tuple(w for w in self._watches if w is not watch)

        with self._gate:
            self._watches = (*self._watches, watch)
        self._start_watching()
        self._wake()
        return unsubscribe

    def _start_watching(self) -> None:
        with self._gate:
            if self._thread.ident is None and not self._closing:
                self._thread.start()

    def _wake(self) -> None:
        with self._gate:
            self._woken = True
            self._gate.notify()

    def _stop_watching(self) -> None:
        with self._gate:
            self._closing = True
            self._watches = ()
            self._gate.notify()
            started = self._thread.ident is not None
        if started and threading.current_thread() is not self._thread:
            self._thread.join()

    def _run(self) -> None:
        pause_s: float | None = 0.0
        while True:
            with self._gate:
                if not self._woken and not self._closing:
                    self._gate.wait(pause_s)
                if self._closing:
                    return
                self._woken = False
            try:
                pause_s = self._pause_s(failed=not self._round())
            except Exception:  # without this thread nobody would hear of a change any more
                logger.exception("the watches failed: they look again")
                pause_s = FAILED_PAUSE_S

    def _round(self) -> bool:
        """Do chores and deliveries. Returns whether all succeeded; those that failed are tried again."""
        complaint = ""
        try:
            if not self._upkeep():
                return True
        except WalletError as error:
            complaint = str(error)
        for watch in self._watches:
            try:
                watch.deliver()
            except WalletError as error:
                complaint = str(error)
        if complaint and complaint != self._complaint and not self._closing:
            logger.warning("watchers keep their last values: %s", complaint)
        self._complaint = complaint
        return not complaint
