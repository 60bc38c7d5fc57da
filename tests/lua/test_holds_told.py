"""What the script tells of holds behind its answer: the service need not read them once more."""

from lua.partition import LuaPartition

from wallet_engine.domain.holds import Hold, field_of, parse_hold


def told(reply: list[str]) -> dict[int, Hold]:
    assert reply[0] == "OK", reply
    lines = [line.split(" ", 1) for line in reply[5:]]
    return {int(idx): parse_hold(record) for idx, record in lines}


def test_a_hold_is_told_as_the_entry_has_left_it(partition: LuaPartition) -> None:
    first, second = field_of("alice", "T1"), field_of("alice", "T2")
    partition.apply(["o - alice - 0 USD", "o - bob - 0 USD", "t F1 @bank alice 100 USD"])
    found = told(
        partition.apply(["h T1 alice -|60000 30 USD", "h T2 alice bob|60000 9 USD", "t F2 @bank bob 1 USD"])
    )
    assert {idx: (hold.amount, hold.remaining, hold.status) for idx, hold in found.items()} == {
        0: (30, 30, "O"),
        1: (9, 9, "O"),
    }
    assert found[0].text() == partition.client.hget(partition.keys.hold, first)
    both = told(partition.apply([f"k T3 alice bob|{first}|p|10 10 USD", f"i T4 alice {first} 5 USD"]))
    assert both[0] == both[1]
    assert (both[0].amount, both[0].captured, both[0].captures) == (35, 10, 1)
    ended = told(partition.apply([f"k T5 alice bob|{first}|f|- 25 USD", "v T2 alice - 0 USD"]))
    assert [(hold.status, hold.remaining) for _, hold in sorted(ended.items())] == [("C", 0), ("V", 0)]
    assert ended[1].text() == partition.client.hget(partition.keys.seen(1), "h" + second)


def test_who_asks_for_its_end_is_told_in_any_case(partition: LuaPartition) -> None:
    """A capture that is not the last has nothing to end; one that is refused, or repeated, tells no hold."""
    hold = field_of("alice", "T1")
    partition.apply(["o - alice - 0 USD", "t F1 @bank alice 100 USD", "h T1 alice -|60000 30 USD"])
    reply = partition.apply([f"q T3 alice far|{hold}|p|10 10 USD"])
    assert reply[4:] == ["+"]
    reply = partition.apply([f"l T3 alice {reply[1]}.0|{hold} 0 USD", "h T9 alice -|60000 900 USD"])
    assert reply[4] == "=i"
    assert [(idx, hold.remaining) for idx, hold in told(reply).items()] == [(0, 20)]
    assert partition.apply(["h T9 alice -|60000 900 USD"])[5:] == [f"0 i {int(reply[1])}.1 0"]
