"""A connected copy that sends nothing is asked, and is silent if it does not answer. Others are not called silent."""

from collections.abc import Sequence

import pytest

from wallet_engine.engine.heartbeats import BEAT_S, SILENT_S_MAX, Heartbeats
from wallet_engine.journal.link_wire import Ask
from wallet_engine.journal.receipts_tracker import ALIVE_ASKS, ReceiptTracker

NONCE = "ab" * 8


class Copy:
    """A copy that answers, unless it hangs."""

    def __init__(self, tracker: ReceiptTracker, name: str, positions: Sequence[Ask]) -> None:
        self.asks: list[Ask] = []
        self.hangs = False
        self.tracker, self.name = tracker, name
        self.mask = tracker.connected(name, self, positions)  # type: ignore[arg-type]

    def ask(self, asks: Sequence[Ask]) -> None:
        self.asks += asks
        if not self.hangs:
            self.tracker.receipts(self.mask, [(p, [nonce], seq) for p, seq, nonce in asks])


class Scene:
    """A tracker with its heartbeats, and time in steps of one beat."""

    def __init__(self) -> None:
        self.tracker = ReceiptTracker(quorum=1)
        self.beats = Heartbeats(self.tracker)
        self.now_s = 0.0

    def wait(self, seconds: float) -> set[str]:
        until_s = self.now_s + seconds
        while self.now_s < until_s:
            self.now_s += BEAT_S / 20
            self.beats.beat(self.now_s)
        return self.beats.silent


@pytest.fixture
def scene() -> Scene:
    return Scene()


def test_a_quiet_copy_that_answers_is_not_silent(scene: Scene) -> None:
    copy = Copy(scene.tracker, "j1", [(p, 7, NONCE) for p in range(3 * ALIVE_ASKS)])
    assert scene.wait(10 * SILENT_S_MAX) == set()
    assert len(copy.asks) <= 10 * SILENT_S_MAX / BEAT_S * ALIVE_ASKS
    assert set(copy.asks) <= {(p, 7, NONCE) for p in range(3 * ALIVE_ASKS)}


def test_a_copy_that_hangs_is_silent_until_it_speaks(scene: Scene) -> None:
    copy = Copy(scene.tracker, "j1", [(1, 7, NONCE)])
    other = Copy(scene.tracker, "j2", [(1, 7, NONCE)])
    copy.hangs = True
    assert scene.wait(SILENT_S_MAX) == set()
    assert scene.wait(2 * BEAT_S + SILENT_S_MAX) == {"j1"}
    assert other.asks
    copy.hangs = False
    assert scene.wait(2 * BEAT_S) == set()


def test_a_copy_that_is_gone_is_not_silent(scene: Scene) -> None:
    copy = Copy(scene.tracker, "j1", [(1, 7, NONCE)])
    copy.hangs = True
    assert scene.wait(3 * SILENT_S_MAX) == {"j1"}
    scene.tracker.disconnected("j1", copy)  # type: ignore[arg-type]
    assert scene.wait(2 * BEAT_S) == set()


def test_a_copy_without_an_entry_is_asked_nothing(scene: Scene) -> None:
    copy = Copy(scene.tracker, "j1", [])
    copy.hangs = True
    assert scene.wait(3 * SILENT_S_MAX) == set()
    assert copy.asks == []
