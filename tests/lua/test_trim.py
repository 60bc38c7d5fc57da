"""What the trim script forgets, and that open entries keep their words whatever it does."""

import re
from typing import Any

from lua.partition import LuaPartition

from wallet_engine.redis_store.scripts import load_script

SCRIPT = load_script("trim")


def constant(name: str) -> int:
    found = re.search(rf"^local {name} = (\d+)", SCRIPT.text, re.MULTILINE)
    assert found
    return int(found[1])


PINNED = constant("PINNED_ENTRIES_MAX")
#: The entry before the first debit.
FUNDED = 1


def trim(partition: LuaPartition, quorum: int | None = None) -> list[Any]:
    """One call, of a copy that has everything."""
    keys = partition.keys
    seq, nonce = partition.client.hmget(keys.meta, "seq", "nonce")
    upto = seq if quorum is None else quorum
    reply: list[Any] = partition.client.eval(
        SCRIPT.text, 3, keys.meta, keys.journal, keys.open, seq, nonce, upto
    )
    return reply


def seqs(partition: LuaPartition) -> list[int]:
    """The entries in the stream from the first debit on: in front of it Redis keeps what shares a block with it."""
    found = partition.client.xrange(partition.keys.journal, f"{FUNDED + 1}-0")
    return [int(entry_id.partition("-")[0]) for entry_id, _ in found]


def fill(partition: LuaPartition, upto: int) -> None:
    """Entries that are not open, until there are so many."""
    for _ in range(upto - int(partition.image()["meta"]["seq"])):
        partition.apply([f"o - filler{partition.nonces} - 0 USD"])


def debited(partition: LuaPartition, *at: int) -> None:
    """Entries with a debit, at these seqs."""
    assert partition.apply(["o - alice - 0 USD", "t FUND @bank alice 1000 USD"])[1] == FUNDED
    for seq in at:
        fill(partition, seq - 1)
        assert partition.apply([f"d OPEN{seq:018} alice far 1 USD"])[1] == seq


def words(partition: LuaPartition, seq: int) -> list[str]:
    """What a repeat of the debit is answered: whether its entry was found, and agreed."""
    right, wrong = (partition.apply([f"d OPEN{seq:018} alice {to} 1 USD"]) for to in ("far", "farther"))
    assert wrong[4] == "!"
    return str(right[5]).split(" ")[1:]


def test_open_entries_stay_and_what_is_around_them_goes(partition: LuaPartition) -> None:
    """G9: one that does not end fills no stream."""
    open_at = (2, 40, 41, 150)
    debited(partition, *open_at)
    newest = 400
    fill(partition, newest)
    assert trim(partition)[3] == 0
    kept = [seq for seq in seqs(partition) if seq < newest - PINNED]
    assert kept == list(open_at)
    assert seqs(partition)[-PINNED - 1 :] == list(range(newest - PINNED, newest + 1))
    assert partition.client.hget(partition.keys.meta, "trimmed") == str(newest - PINNED)
    for seq in open_at:
        assert words(partition, seq)[:2] == ["+", f"{seq}.0"]
        assert int(words(partition, seq)[2]) > 1  # the time of its entry
    assert trim(partition)[3] == 0
    assert [seq for seq in seqs(partition) if seq < newest - PINNED] == kept


def test_nothing_goes_that_no_quorum_has(partition: LuaPartition) -> None:
    """G5."""
    debited(partition, 2)
    fill(partition, 300)
    trim(partition, quorum=20)
    assert seqs(partition) == [2, *range(20, 301)]
    trim(partition, quorum=2)
    assert seqs(partition) == [2, *range(20, 301)]


def test_an_open_entry_of_late_pins_the_stream(partition: LuaPartition) -> None:
    """Until it is behind by so many entries: taking out what is around it one by one costs more."""
    debited(partition, 2)
    fill(partition, 2 + PINNED)
    trim(partition)
    assert seqs(partition)[:2] == [2, 3]


def test_a_settle_takes_its_entry_out_of_the_stream(partition: LuaPartition) -> None:
    debited(partition, 2, 40, 200)
    fill(partition, 400)
    trim(partition)
    assert partition.apply(["s 40 - - 0 -"])[4] == "+"
    assert [seq for seq in seqs(partition) if seq <= 200] == [2, 200]
    assert partition.apply(["s 2 - - 0 -", "s 200 - - 0 -"])[4] == "++"
    assert [seq for seq in seqs(partition) if seq <= 200] == []


def test_a_long_stream_is_trimmed_in_several_calls(partition: LuaPartition) -> None:
    """Each is bounded, and says whether there is more."""
    per_call = constant("ENTRIES_MAX")
    debited(partition, 2)
    newest = 3 + 2 * per_call + PINNED
    fill(partition, newest)
    assert [trim(partition)[3] for _ in range(4)] == [1, 1, 0, 0]
    assert [seq for seq in seqs(partition) if seq < newest - PINNED] == [2]


def test_markers_of_refunds_bound_a_call_too(partition: LuaPartition) -> None:
    """They stand among the open entries, and there may be as many as operations in an entry."""
    debited(partition)
    fill(partition, 2)
    most = constant("MEMBERS_MAX")
    parts = most // 4
    for number in range(6):
        entry = [f"d E{number}P{part:018} @mint far 1 USD" for part in range(parts)]
        seq = partition.apply(entry)[1]
        refunds = [f"r E{number}P{part:018} @mint {seq}.{part}.a 1 USD" for part in range(parts)]
        assert partition.apply(refunds)[4] == "+" * parts
    fill(partition, 300)
    open_seqs = {
        int(member) for member in partition.client.zrange(partition.keys.open, 0, -1) if "." not in member
    }
    assert len(open_seqs) == 6
    assert trim(partition)[3] == 1
    while trim(partition)[3]:
        pass
    assert {seq for seq in seqs(partition) if seq < 300 - PINNED} == open_seqs


def test_what_is_gone_already_is_passed_over(partition: LuaPartition) -> None:
    """A recovery leaves a stream with the open entries alone, and no word of how far it was trimmed."""
    debited(partition, 2, 40)
    fill(partition, 5000)
    partition.client.hdel(partition.keys.meta, "trimmed")
    others = [f"{seq}-0" for seq in range(1, 4901) if seq not in (2, 40)]
    partition.client.xdel(partition.keys.journal, *others)
    calls = 1
    while trim(partition)[3]:
        calls += 1
    assert calls <= 3
    assert [seq for seq in seqs(partition) if seq < 5000 - PINNED] == [2, 40]


def test_a_stream_without_open_entries_is_cut(partition: LuaPartition) -> None:
    fill(partition, 400)
    assert trim(partition)[:2] == ["live", "400"]
    assert seqs(partition)[-1] == 400
    assert seqs(partition)[0] > 200  # whole blocks of the stream go
