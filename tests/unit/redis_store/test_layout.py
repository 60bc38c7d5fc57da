"""The table of keys, the key names, the oracle's image and the headers of the Lua files have the same keys."""

import pytest

from wallet_engine.domain import key_names
from wallet_engine.domain.errors import Corruption
from wallet_engine.domain.oracle_state import PartitionState, redis_image, state_of_image, views
from wallet_engine.redis_store.keys import PartitionKeys
from wallet_engine.redis_store.layout import LAYOUT, Key, Reading, is_known, key_of


def full_state() -> PartitionState:
    """A state with contents in every key."""
    return state_of_image(
        {
            "meta": {"seq": "9", "nonce": "ab", "clock": "7", "window": "2", "witnessed_s": "3"},
            "flags": {"alice": "F USD=5"},
            "open": {"8": "8", "8.1": "8"},
            "seen:2": {"x": "+Bxxxxxxxx"},
            "balance:USD": {"alice": "-5", "@bank": "5"},
            "held:USD": {"alice": "2"},
            "pending:USD": {"alice": "0"},
            "hold": {"x": "a hold"},
            "due": {"x": "99"},
            "group": {"y": "a group"},
            "noted": {"alice": "3.0"},
        }
    )


def names_built(row: Key) -> str:
    keys = PartitionKeys("7")
    if not row.suffix:
        return str(getattr(keys, row.name))
    return str(getattr(keys, row.name)(3 if row.suffix == "window" else "USD"))


@pytest.mark.parametrize("row", LAYOUT, ids=lambda row: row.name)
def test_every_row_has_its_name_built_in_one_place(row: Key) -> None:
    name = names_built(row)
    assert name.endswith("{7}"), "all keys of a partition are in one slot"
    assert key_of(name.removesuffix("{7}")) is row


def test_every_bare_name_has_a_row() -> None:
    names = {value for name, value in vars(key_names).items() if name.isupper() and isinstance(value, str)}
    assert names == {row.name for row in LAYOUT}


def test_what_is_folded_is_what_the_oracle_shows() -> None:
    folded = {row.name for row in LAYOUT if row.folded}
    state = full_state()
    assert {key.partition(":")[0] for key in redis_image(state)} == folded
    assert {key.partition(":")[0] for key in views(state)} == folded - {"meta"}
    assert redis_image(state_of_image(redis_image(state))) == redis_image(state)


@pytest.mark.parametrize(
    "name", ["surprise", "seen", "seen:", "balance", "open:3", "", "meta:USD", "hold:USD"]
)
def test_an_unknown_key_raises_wherever_keys_are_read(name: str) -> None:
    """A key of a newer version is ignored by none: not by a move, a snapshot, a rebuild or the oracle."""
    assert not is_known(name)
    with pytest.raises(Corruption, match="no key"):
        key_of(name)


def test_the_oracle_refuses_an_image_with_an_unknown_key() -> None:
    image = redis_image(full_state()) | {"surprise": {"a": "b"}}
    with pytest.raises(Corruption, match="surprise"):
        state_of_image(image)


def test_stamp_and_stream_are_single() -> None:
    assert [row.name for row in LAYOUT if row.reading is Reading.STAMP] == ["meta"]
    assert [row.name for row in LAYOUT if row.reading is Reading.ENTRIES] == ["journal"]
