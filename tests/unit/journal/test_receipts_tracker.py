"""The tracker: when a nonce is durable, and which questions it sends. State only, no sockets."""

import asyncio
import random
from collections.abc import Sequence

import pytest

from wallet_engine.journal import ReceiptTracker, receipts_tracker
from wallet_engine.journal.link_wire import ASKS_PER_MESSAGE_MAX, Ask, EntryText, FindEntry, ServiceQuestion


class FakeCopy:
    """A connected copy, which records the questions."""

    def __init__(self, tracker: ReceiptTracker, name: str, positions: Sequence[Ask] = ()) -> None:
        self.asks: list[Ask] = []
        self.messages = 0
        self.recoveries: list[tuple[str, str]] = []
        self.questions: list[ServiceQuestion] = []
        self.tracker, self.name = tracker, name
        self.mask = tracker.connected(name, self, positions)

    def ask(self, asks: Sequence[Ask]) -> None:
        self.asks += asks
        self.messages += 1

    def recover(self, shard: str, reason: str) -> None:
        self.recoveries.append((shard, reason))

    def find(self, question: ServiceQuestion) -> None:
        self.questions.append(question)

    def receipt(self, *nonces: str, partition: int = 1, last_seq: int = 1) -> None:
        self.tracker.receipts(self.mask, [(partition, list(nonces), last_seq)])

    def lose(self) -> None:
        self.tracker.disconnected(self.name, self)


class Called:
    """A callback that counts its calls."""

    def __init__(self) -> None:
        self.times = 0

    def __call__(self) -> None:
        self.times += 1


@pytest.mark.parametrize(
    ("quorum", "steps", "called"),
    [
        # Steps: E is expect; Xn is a receipt of the expected nonce from copy X; Xo one of another nonce at this seq.
        (1, "E", 0),
        (1, "E An", 1),
        (1, "An E", 1),
        (1, "E An An Bn", 1),
        (1, "E Ao", 0),
        (1, "Ao E", 0),
        (1, "E Ao Bo Co", 0),
        (2, "E An", 0),
        (2, "E An An An", 0),
        (2, "An An E", 0),
        (2, "An E An", 0),
        (2, "E An Bn", 1),
        (2, "An E Bn", 1),
        (2, "An Bn E", 1),
        (2, "E Bn Cn An", 1),
        (2, "E An Bo Co", 0),
        (2, "An Bo E Co Cn", 1),
        (3, "E An Bn", 0),
        (3, "An E Bn Cn", 1),
    ],
)
def test_g5_g7_called_once_when_a_quorum_of_copies_has_this_nonce(
    quorum: int, steps: str, called: int
) -> None:
    """G5: not before the quorum. G7: a receipt with the same seq but another nonce never counts."""
    tracker = ReceiptTracker(quorum)
    copies = {name: FakeCopy(tracker, name) for name in "ABC"}
    callback = Called()
    for step in steps.split():
        if step == "E":
            tracker.expect(1, 5, "ours", callback)
        else:
            copies[step[0]].receipt("ours" if step[1] == "n" else "other", last_seq=5)
    assert callback.times == called
    assert tracker.pending == 1 - called


def test_several_wait_for_one_nonce() -> None:
    tracker = ReceiptTracker(1)
    copy = FakeCopy(tracker, "A")
    callbacks = [Called() for _ in range(3)]
    for callback in callbacks:
        tracker.expect(1, None, "n", callback)
    assert tracker.pending == 1
    copy.receipt("m", "n", "o")
    assert [callback.times for callback in callbacks] == [1, 1, 1]


def test_forget() -> None:
    tracker = ReceiptTracker(1)
    copy = FakeCopy(tracker, "A")
    first, second, third = Called(), Called(), Called()
    tracker.expect(1, 1, "n", first)
    tracker.expect(1, 1, "n", second)
    tracker.expect(1, 2, "m", third)
    tracker.forget("n", first)
    tracker.forget("m")
    tracker.forget("unknown")
    copy.receipt("n", "m")
    assert (first.times, second.times, third.times) == (0, 1, 0)
    tracker.expect(1, 3, "o", first)
    tracker.forget("o", first)
    assert tracker.pending == 0


def test_memory_of_recent_nonces_is_two_generations(monkeypatch: pytest.MonkeyPatch) -> None:
    """G10: the memory is bounded. The latest nonce of a partition is never forgotten."""
    monkeypatch.setattr(receipts_tracker, "RECENT_NONCES_MAX", 10)
    for quorum in (1, 2):
        tracker = ReceiptTracker(quorum)
        copies = [FakeCopy(tracker, name) for name in "ABC"[:quorum]]
        for seq in range(100):
            for copy in copies:
                copy.receipt(f"n{seq}", partition=seq % 2, last_seq=seq)
        callback = Called()
        for seq, known in ((99, True), (91, True), (50, False)):
            before = callback.times
            tracker.expect(seq % 2, seq, f"n{seq}", callback)
            assert callback.times == before + known
        for copy in copies:
            copy.receipt("once", partition=7, last_seq=1)
        for seq in range(100, 200):
            copies[0].receipt(f"n{seq}", partition=0, last_seq=seq)
        tracker.expect(7, 1, "once", callback)
        assert callback.times == 3
        tracker.forget("n50")
        assert tracker.pending == 0


def test_positions_at_connection_are_receipts() -> None:
    tracker = ReceiptTracker(1)
    callback = Called()
    tracker.expect(1, 5, "five", callback)
    tracker.expect(1, 6, "six", callback)
    tracker.expect(2, None, "unplaced", callback)
    copy = FakeCopy(tracker, "A", [(1, 5, "five"), (2, 9, "nine")])
    assert callback.times == 1
    assert copy.asks == [(1, 6, "six")]
    tracker.expect(2, 9, "nine", callback)
    assert callback.times == 2


def test_reconnect_asks_for_everything_pending_and_placed_later() -> None:
    tracker = ReceiptTracker(2)
    a, b = FakeCopy(tracker, "A"), FakeCopy(tracker, "B")
    callback = Called()
    tracker.expect(1, 1, "one", callback)
    tracker.expect(1, 2, "two", callback)
    tracker.expect(1, None, "three", callback)
    a.receipt("one")
    a.lose()
    assert tracker.copies == 1
    a = FakeCopy(tracker, "A")
    assert a.asks == [(1, 2, "two")]  # it has receipted "one" before
    assert b.asks == []
    tracker.placed("three", 3)  # perhaps written before the loss: its receipt may have been missed
    assert a.asks == [(1, 2, "two"), (1, 3, "three")]
    assert b.asks == [(1, 3, "three")]
    tracker.expect(1, None, "four", callback)
    tracker.placed("four", 4)  # expected after the connection was made: its receipt cannot be missed
    tracker.placed("unknown", 9)
    assert len(a.asks) == 2
    for copy in (a, b):
        copy.receipt("one", "two", "three", "four", last_seq=4)
    assert (callback.times, tracker.pending) == (4, 0)


def test_lost_connection_of_before_does_not_end_the_new_one() -> None:
    tracker = ReceiptTracker(1)
    old = FakeCopy(tracker, "A")
    FakeCopy(tracker, "A")
    old.lose()
    assert tracker.copies == 1


def test_asks_are_sent_in_bounded_messages() -> None:
    tracker = ReceiptTracker(1)
    for seq in range(ASKS_PER_MESSAGE_MAX + 1):
        tracker.expect(1, seq, f"n{seq}", Called())
    copy = FakeCopy(tracker, "A")
    assert (copy.messages, len(copy.asks)) == (2, ASKS_PER_MESSAGE_MAX + 1)


def test_ask_needed_asks_the_copies_that_have_not_said_it() -> None:
    tracker = ReceiptTracker(2)
    a, b = FakeCopy(tracker, "A"), FakeCopy(tracker, "B")
    callback = Called()
    a.receipt("n", last_seq=3)
    tracker.ask_needed(1, 3, "n", callback)
    tracker.ask_needed(1, 3, "n", callback)
    assert (a.asks, b.asks) == ([], [(1, 3, "n")])
    b.receipt("n", last_seq=3)
    assert callback.times == 2
    tracker.ask_needed(1, 3, "n", callback)
    assert (callback.times, b.asks) == (3, [(1, 3, "n")])


@pytest.mark.parametrize(("quorum", "latest"), [(1, [5, 9, 9, 9]), (2, [0, 5, 7, 7]), (3, [0, 0, 5, 7])])
def test_the_newest_entry_of_a_partition_is_on_a_quorum_of_copies(quorum: int, latest: list[int]) -> None:
    """An entry on only one copy may be lost with it, so no read has to be as new as that."""
    tracker = ReceiptTracker(quorum)
    copies = {name: FakeCopy(tracker, name) for name in "ABC"}
    assert tracker.latest_seq(1) == 0
    for (name, seq), expected in zip((("A", 5), ("B", 9), ("C", 7), ("A", 7)), latest, strict=True):
        copies[name].receipt(f"n{seq}", last_seq=seq)
        assert tracker.latest_seq(1) == expected, (name, seq)
    assert tracker.latest_seq(2) == 0


def test_recovery_goes_to_all_connected_copies() -> None:
    tracker = ReceiptTracker(1)
    a, b = FakeCopy(tracker, "A"), FakeCopy(tracker, "B")
    b.lose()
    assert tracker.request_recovery("shard-1", "NOSCRIPT") == 1
    assert (a.recoveries, b.recoveries) == ([("shard-1", "NOSCRIPT")], [])


def test_callback_that_raises_does_not_keep_others_waiting() -> None:
    tracker = ReceiptTracker(1)
    copy = FakeCopy(tracker, "A")
    before, after = Called(), Called()

    def broken() -> None:
        raise RuntimeError("a bug")

    tracker.expect(1, 1, "a", before)
    tracker.expect(1, 2, "b", broken)
    tracker.expect(1, 2, "b", after)
    tracker.expect(1, 3, "c", after)
    with pytest.raises(RuntimeError, match="a bug"):
        copy.receipt("a", "b", "c", last_seq=3)
    assert (before.times, after.times, tracker.pending) == (1, 2, 0)


def test_callback_may_use_the_tracker() -> None:
    tracker = ReceiptTracker(1)
    copy = FakeCopy(tracker, "A")
    callback = Called()
    tracker.expect(1, 1, "a", lambda: tracker.expect(1, 2, "b", callback))
    copy.receipt("a", "b", last_seq=2)
    assert callback.times == 1


@pytest.mark.parametrize("quorum", [1, 2, 3])
def test_g5_random_order_against_a_plain_model(quorum: int) -> None:
    """G5: with any order of expects, receipts and losses, the callback is called exactly when the model says so."""
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    rng = random.Random(seed)
    tracker = ReceiptTracker(quorum)
    copies = {name: FakeCopy(tracker, name) for name in "ABC"}
    said: dict[str, set[str]] = {}
    callbacks: dict[str, Called] = {}
    for _ in range(5000):
        nonce = f"n{rng.randrange(400)}"
        action = rng.random()
        if action < 0.4 and nonce not in callbacks:
            callbacks[nonce] = Called()
            tracker.expect(1, None, nonce, callbacks[nonce])
        elif action < 0.95:
            name = rng.choice("ABC")
            copies[name].receipt(nonce, last_seq=rng.randrange(1000))
            said.setdefault(nonce, set()).add(name)
        else:
            name = rng.choice("ABC")
            copies[name].lose()
            copies[name] = FakeCopy(tracker, name)
        if nonce in callbacks:
            assert callbacks[nonce].times == (len(said.get(nonce, ())) >= quorum)
    assert tracker.pending == sum(1 for callback in callbacks.values() if not callback.times)


def test_a_question_fails_when_the_copy_that_was_asked_hangs_up() -> None:
    """It waited for its whole time limit, a minute where old credits are looked up."""

    async def ask_and_lose() -> str:
        tracker = ReceiptTracker(1)
        asked = FakeCopy(tracker, "j1")
        answer = asyncio.create_task(tracker.answer_of(FindEntry(0, 1, 2, "n", 1), EntryText, 60))
        await asyncio.sleep(0)
        assert len(asked.questions) == 1
        FakeCopy(tracker, "j2").lose()
        await asyncio.sleep(0)
        assert not answer.done()
        asked.lose()
        with pytest.raises(TimeoutError) as failed:
            await asyncio.wait_for(answer, 5)
        return str(failed.value)

    assert asyncio.run(ask_and_lose()) == "journal copy j1 hung up"


def test_repr_shows_state() -> None:
    tracker = ReceiptTracker(2)
    assert repr(tracker) == "<ReceiptTracker quorum=2 pending=0 copies=none>"
    FakeCopy(tracker, "j1")
    tracker.expect(1, 1, "n", Called())
    assert repr(tracker) == "<ReceiptTracker quorum=2 pending=1 copies=j1>"
