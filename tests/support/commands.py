"""Commands as a Redis node reads them."""

import hiredis


def words_of(command: bytes) -> list[bytes]:
    """The words of one packed command."""
    reader = hiredis.Reader()
    reader.feed(command)
    words: list[bytes] = reader.gets()
    assert reader.gets() is False
    return words
