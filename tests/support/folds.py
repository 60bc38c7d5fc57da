"""Folds that a sink has saved, and their positions, for tests of where a process goes on."""

from wallet_engine.events.saved import save_book
from wallet_engine.history.book import Book, Standing
from wallet_engine.journal.feed import FeedPosition


def book(minor: int) -> bytes:
    """The saved fold in which alice has so much."""
    made = Book()
    made.standings = {("alice", "USD"): Standing(minor)}
    return save_book(made, 0)


def at(seq: int) -> FeedPosition:
    return FeedPosition(seq, f"n{seq}")
