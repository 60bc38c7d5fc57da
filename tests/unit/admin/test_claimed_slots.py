"""The places of slots when a tree is restored: what a node says of itself counts more than what others say of it."""

from wallet_engine.admin.tree_file import claimed_slots

ONE = "h1:1"


def seen(myself: str, **claims: str) -> str:
    """The text of `CLUSTER NODES` of one node. A claim: "configuration epoch, slots"."""
    places = {"one": ONE, "two": "h2:2", "copy": "h3:3"}
    lines = []
    for name, claim in claims.items():
        epoch, _, slots = claim.partition(" ")
        flags = "myself,master" if name == myself else "master"
        lines.append(f"{name} {places[name]}@1 {flags} - 0 0 {epoch} connected {slots}".rstrip())
    return "\n".join(lines)


def owner_of(slot: int, **texts: str) -> str:
    """The id of the node that owns the slot."""
    return claimed_slots(texts.values())[slot]


def test_the_old_news_of_a_replica_asked_first_do_not_count() -> None:
    old = seen("copy", one="2 0-100", two="1 101-200", copy="0")
    taken = seen("two", one="2 0-49", two="3 50-200")
    assert owner_of(50, copy=old, one=seen("one", one="2 0-49", two="3 50-200"), two=taken) == "two"
    # Nor with a higher epoch: the node may have got that for other slots.
    assert owner_of(50, copy=old.replace(" 2 ", " 9 "), two=taken) == "two"


def test_of_two_that_claim_a_slot_the_higher_epoch_counts() -> None:
    one, two = seen("one", one="4 0-100", two="3 101-200"), seen("two", one="4 0-49", two="3 50-200")
    assert owner_of(50, two=two, one=one) == "one"
    assert owner_of(101, two=two, one=one) == "two"


def test_the_slots_of_an_owner_that_does_not_answer_are_where_the_others_saw_it_last() -> None:
    assert owner_of(150, one=seen("one", one="1 0-100", two="2 101-200")) == "two"


def test_a_node_that_has_met_nobody_does_not_know_its_host() -> None:
    assert owner_of(5, one=seen("one", one="1 0-100").replace(ONE, ":1")) == "one"
