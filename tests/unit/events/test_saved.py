"""A saved fold is used only by the version that wrote it; other versions build the fold again."""

import msgspec
import pytest

from wallet_engine.domain.errors import Corruption, NewerFormat
from wallet_engine.events import saved
from wallet_engine.events.saved import FORM, load_book, save_book
from wallet_engine.history.book import Book, Standing
from wallet_engine.history.facts import HoldState


def book() -> Book:
    made = Book()
    made.standings = {("alice", "USD"): Standing(700, 200, 50), ("@bank", "USD"): Standing(-700)}
    made.holds = {("alice", "h1"): HoldState("alice", "h1", "bob", "USD", 200, 9, 1, "", "k1")}
    made.prepared = {"g1": True}
    return made


def test_a_fold_comes_back_as_it_was() -> None:
    wanted, found = book(), load_book(save_book(book(), 0))
    assert {key: repr(standing) for key, standing in found.standings.items()} == {
        key: repr(standing) for key, standing in wanted.standings.items()
    }
    assert (found.holds, found.prepared) == (wanted.holds, wanted.prepared)


def test_one_of_a_version_before_is_made_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its numbers may have another meaning."""
    data = save_book(book(), 0)
    monkeypatch.setattr(saved, "FORM", FORM + 1)
    with pytest.raises(Corruption, match=f"form {FORM}"):
        load_book(data)


@pytest.mark.parametrize("rest", [([], [], {}), ({"a": "b"},), ()], ids=["alike", "otherwise", "alone"])
def test_one_of_a_later_version_is_refused_aloud_whatever_is_in_it(rest: tuple[object, ...]) -> None:
    with pytest.raises(NewerFormat, match=f"has form {FORM + 1}, and this program knows them up to {FORM}"):
        load_book(msgspec.msgpack.encode((FORM + 1, *rest)))


@pytest.mark.parametrize("data", [b"", b"\x00", b"\x90", b"x" * 40, save_book(book(), 0)[:-1]])
def test_what_is_damaged_is_made_anew(data: bytes) -> None:
    with pytest.raises(Corruption, match="not a saved fold"):
        load_book(data)
