"""What the reply to a replayed entry says: of the journal, or of the node."""

from types import SimpleNamespace
from typing import Any, cast

import hiredis
import pytest

from wallet_engine.domain.entry import parse_header
from wallet_engine.recovery.replay import Replayer

HEADER = parse_header(b"1 0000000000000000 1111111111111111 1 1700000000000 1.0 + 6\n")
INSIDE = f" script: {'0' * 40}, on @user_script:39."


@pytest.mark.parametrize(
    ("said", "of_the_journal"),
    [
        ("ERR user_script:12: attempt to perform arithmetic on a nil value", True),
        ("ERR The user executing the script can't run this command or subcommand", False),
        ("OOM command not allowed when used memory > 'maxmemory'", False),
    ],
)
def test_only_what_the_script_says_of_an_entry_stops_its_partition(said: str, of_the_journal: bool) -> None:
    """A right that Redis did not give to our user condemned the partition, until an operator had it rebuilt."""
    hands = SimpleNamespace(partition=0, connection=None, keys=SimpleNamespace(tag="0"), epoch=1)
    replayer = Replayer(cast(Any, hands), "")
    replayer._check(HEADER, (), hiredis.ReplyError(said + INSIDE))
    assert bool(replayer.differs) is of_the_journal
    if not of_the_journal:
        with pytest.raises(hiredis.ReplyError):
            replayer._raise_failure()
