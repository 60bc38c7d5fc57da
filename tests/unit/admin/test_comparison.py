"""`verify` notices every kind of difference between an image and the fold: one row each."""

from collections.abc import Callable

import pytest
from unit.admin.made import START_MS, payload_of, txid

from wallet_engine.admin.proof.comparison import MISMATCHES_MAX, Comparison
from wallet_engine.admin.proof.image import Part, PartitionImage
from wallet_engine.domain.entry import parse_header
from wallet_engine.domain.memory import transfer_field, transfer_fingerprint
from wallet_engine.domain.operation import parse_operation
from wallet_engine.domain.oracle_rules import decide_operations
from wallet_engine.domain.oracle_state import PartitionState, RedisImage, redis_image


def state_of(*batches: list[str]) -> PartitionState:
    """The fold of entries with these operations. An empty first line opens a window."""
    state = PartitionState()
    for number, lines in enumerate(batches, 1):
        window = state.window + (lines[0] == "")
        decide_operations(state, [parse_operation(line) for line in lines if line], START_MS, window)
        state.nonce = f"{number:016x}"
    return state


OPENED = [f"o - {name} - 0 USD" for name in ("alice", "bob")] + ["o - carol 500 0 USD"]
FUNDED = [f"t {txid(1)} @bank alice 1000 USD"]
PAID = ["", f"t {txid(2)} alice bob 250 USD", f"d {txid(3)} alice far 100 USD", "f - bob freeze 0 -"]
BATCHES = (OPENED, FUNDED, PAID)


def image_of(redis: RedisImage, *, time_ms: int = START_MS, parts: int = 1) -> PartitionImage:
    """The image that `take_image` would make. `parts`: the number of parts into which each hash is cut."""
    meta = redis.get("meta", {}) and {**redis["meta"], "epoch": "1", "state": "live", "owner": "x"}
    pieces = [Part("meta", {}, meta, time_ms)]
    for kind in sorted(redis.keys() - {"meta"}):
        names = sorted(redis[kind])
        for i in range(parts):
            fields = {name: redis[kind][name] for name in names[i::parts]}
            pieces.append(Part(kind, fields, meta, time_ms))
    return PartitionImage(7, frozenset(redis), pieces)


def compare(
    redis: RedisImage, state: PartitionState, *, parts: int = 1
) -> list[tuple[str, str, object, object]]:
    comparison = Comparison(image_of(redis, parts=parts))
    comparison.at(state)
    comparison.close(state.seq, damaged=False)
    assert comparison.mismatches_total == len(comparison.mismatches)
    assert all(mismatch.partition == 7 for mismatch in comparison.mismatches)
    return [(m.what, m.key, m.journal, m.redis) for m in comparison.mismatches]


def test_an_exact_image_has_no_mismatch() -> None:
    assert compare(redis_image(state_of(*BATCHES)), state_of(*BATCHES)) == []
    assert compare(redis_image(PartitionState()), PartitionState()) == []
    assert compare(redis_image(state_of(*BATCHES)), state_of(*BATCHES), parts=3) == []


def put(kind: str, name: str, value: str) -> Callable[[RedisImage], object]:
    return lambda redis: redis.setdefault(kind, {}).__setitem__(name, value)


def drop(kind: str, name: str | None = None) -> Callable[[RedisImage], object]:
    return lambda redis: redis.pop(kind) if name is None else redis[kind].pop(name)


ANSWER = transfer_field("alice", txid(2))
FINGERPRINT = transfer_fingerprint("alice", "bob 250 USD")
FUNDING = (
    transfer_field("@bank", txid(1)),
    "+C" + transfer_fingerprint("@bank", "alice 1000 USD") + "AA",
)


@pytest.mark.parametrize(
    ("spoil", "found"),
    [
        (put("balance:USD", "alice", "651"), ("balance", "alice USD", "6.50", "6.51")),
        (put("balance:USD", "alice", "many"), ("balance", "alice USD", "6.50", "many")),
        (put("balance:USD", "@bank", "0"), ("balance", "@bank USD", "-10.00", "0.00")),
        (drop("balance:USD", "bob"), ("balance", "bob USD", "2.50", None)),
        (put("balance:USD", "eve", "5"), ("balance", "eve USD", None, "0.05")),
        (put("flags", "bob", "A"), ("flags", "bob", "F", "A")),
        (put("flags", "carol", "A USD=501"), ("flags", "carol", "A USD=500", "A USD=501")),
        (drop("flags", "bob"), ("flags", "bob", "F", None)),
        (put("flags", "alice", "F"), ("flags", "alice", None, "F")),
        (
            put("seen:2", ANSWER, f"iD{FINGERPRINT}AA"),
            ("dedupe", f"{ANSWER} (window 2)", f"+D{FINGERPRINT}AA", f"iD{FINGERPRINT}AA"),
        ),
        (drop("seen:2", ANSWER), ("dedupe", f"{ANSWER} (window 2)", f"+D{FINGERPRINT}AA", None)),
        (put("seen:2", "x", "+"), ("dedupe", "x (window 2)", None, "+")),
        (drop("seen:1"), ("dedupe", f"{FUNDING[0]} (window 1)", FUNDING[1], None)),
        (drop("open", "3"), ("open", "3", "3", None)),
        (put("open", "2", "2"), ("open", "2", None, "2")),
        (put("meta", "nonce", "f" * 16), ("meta", "nonce", f"{3:016x}", "f" * 16)),
        (put("meta", "clock", "1"), ("meta", "clock", str(START_MS), "1")),
        (put("meta", "currencies", ""), ("meta", "currencies", "USD", "")),
        (drop("meta"), ("meta", "seq", "3", None)),
        (drop("meta", "seq"), ("meta", "seq", "3", None)),
        (put("meta", "seq", "three"), ("meta", "seq", "3", "three")),
        (put("meta", "seq", "4"), ("journal", "last seq", "3", "4")),
        (put("seen:0", "x", "+"), ("key", "seen:0", None, "present")),
        (put("balance:EUR", "alice", "0"), ("key", "balance:EUR", None, "present")),
        (put("rubbish", "x", "y"), ("key", "rubbish", None, "present")),
    ],
)
@pytest.mark.parametrize("parts", [1, 2])
def test_one_difference(
    spoil: Callable[[RedisImage], object], found: tuple[str, str, str | None, str | None], parts: int
) -> None:
    redis = redis_image(state_of(*BATCHES))
    spoil(redis)
    mismatches = compare(redis, state_of(*BATCHES), parts=parts)
    # A fault in `meta` shows at every part.
    assert set(mismatches) == {found}
    assert len(mismatches) == 1 or found[0] == "meta"


def test_a_lost_partition_without_entries_is_none() -> None:
    assert compare({}, PartitionState()) == []


def test_each_part_is_compared_at_its_own_seq() -> None:
    """G6, with traffic: a write between two parts is no mismatch, and nothing is missed."""
    early, late = redis_image(state_of(OPENED, FUNDED)), redis_image(state_of(*BATCHES))
    image = image_of(early)
    image.parts[1:] = [part for part in image_of(late).parts if part.kind == "balance:USD"]
    image.parts += [part for part in image_of(late).parts if part.kind in ("flags", "seen:1")]
    assert [part.seq for part in image.parts] == [2, 3, 3, 3]
    for spoiled in (False, True):
        if spoiled:
            del image.parts[1].fields["carol"]
        comparison = Comparison(image)
        for batches in ((OPENED,), (OPENED, FUNDED), BATCHES):
            comparison.at(state_of(*batches))
        comparison.close(3, damaged=False)
        assert [m.key for m in comparison.mismatches] == (["carol USD"] if spoiled else [])


def test_a_recovery_under_way_is_no_agreement() -> None:
    image = image_of(redis_image(PartitionState()))
    image.first.meta["state"] = "recovering"
    comparison = Comparison(image)
    comparison.at(PartitionState())
    comparison.close(0, damaged=False)
    assert [(m.what, m.key, m.redis) for m in comparison.mismatches] == [("meta", "state", "recovering")]


@pytest.mark.parametrize(("entry_age_ms", "behind"), [(-5, False), (0, False), (100, False), (101, True)])
def test_redis_behind_the_journal(entry_age_ms: int, behind: bool) -> None:
    """An entry that is older than the image but not in it was lost by Redis."""
    state = state_of(*BATCHES)
    comparison = Comparison(image_of(redis_image(state), time_ms=START_MS + 5000))
    comparison.at(state)
    payload = payload_of(state, f"{9:016x}", START_MS + 5000 - entry_age_ms, 2, "+", "s 3 - - 0 -\n")
    comparison.next_entry(parse_header(payload))
    comparison.close(3, damaged=False)
    assert [(m.what, m.journal, m.redis) for m in comparison.mismatches] == (
        [("meta", "4 or more", "3")] if behind else []
    )


def test_the_list_is_bounded_and_the_count_is_not() -> None:
    state = state_of([f"o - n{i} - 0 USD" for i in range(300)])
    redis = redis_image(state)
    redis["balance:USD"] = dict.fromkeys(redis["balance:USD"], "1")
    comparison = Comparison(image_of(redis))
    comparison.at(state)
    assert (len(comparison.mismatches), comparison.mismatches_total) == (MISMATCHES_MAX, 300)
    assert repr(comparison) == "<Comparison p=7 waiting=0 mismatches=300>"
