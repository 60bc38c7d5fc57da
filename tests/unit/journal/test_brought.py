"""The service that brought an entry is known while the entry is among the newest. The memory is bounded."""

from wallet_engine.journal.brought import ENTRIES_MAX, Brought


def entry(partition: int, nonce: str) -> tuple[int, bytes, bytes]:
    return partition, f"7 {'0' * 16} {nonce} 1 1 1 + 2".encode(), b"[]"


def test_who_brought_it() -> None:
    brought = Brought()
    brought.note("api-1", [entry(1, "a" * 16), entry(2, "b" * 16)])
    brought.note("thief", [entry(1, "c" * 16), entry(1, "a" * 16)])
    assert brought.by_whom(1, "a" * 16) == ["api-1", "thief"]
    assert brought.by_whom(1, "c" * 16) == ["thief"]
    assert brought.by_whom(2, "a" * 16) == []
    assert brought.by_whom(1, "0" * 16) == [], "who continues an entry has not brought it"


def test_older_ones_are_forgotten() -> None:
    brought = Brought()
    brought.note("early", [entry(1, "a" * 16)])
    for _ in range(ENTRIES_MAX // 100):
        brought.note("api-1", [entry(2, "b" * 16)] * 100)
    assert brought.by_whom(1, "a" * 16) == []
    assert repr(brought) == f"<Brought entries={ENTRIES_MAX}>"
