"""G14: whatever ends a move, the error says where the partition serves and how to go on."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from wallet_engine.admin.moving.runs import said_how_to_go_on
from wallet_engine.admin.moving.wire import Setback
from wallet_engine.domain.errors import ConfigError, Corruption
from wallet_engine.routing.directory import Directory, open_directory
from wallet_engine.routing.model import ClusterConfig, Shard, spread
from wallet_engine.routing.moves import Move, MoveState
from wallet_engine.routing.tree import StoreUnavailable

SHARDS = [Shard(name, (f"127.0.0.1:{port}",)) for name, port in (("s1", 1), ("s2", 2))]


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Directory]:
    with closing(open_directory(None, tmp_path / "map.json")) as made:
        made.initialise(ClusterConfig(partitions=4), SHARDS, spread(4, ["s1"]))
        made.moves.create(Move(2, "s1", "s2", MoveState.COPYING, 1, "token", "me", 1))
        yield made


@pytest.mark.parametrize(
    ("failure", "kind"),
    [
        (Corruption("the digests of the two sides differ"), Corruption),
        (Setback("the freeze has ended"), ConfigError),
        (StoreUnavailable("ZooKeeper does not answer"), ConfigError),
    ],
)
def test_a_move_that_fails_says_how_to_end_it(directory: Directory, failure: Exception, kind: type) -> None:
    with pytest.raises(kind) as raised, said_how_to_go_on(directory, 2, left=3):
        raise failure
    said = str(raised.value)
    assert str(failure) in said
    assert "go on with wallet-admin resume 2, or undo it with wallet-admin abort 2" in said
    assert "for the other 3" in said
    assert ("wallet-admin verify" in said) == (kind is Corruption)
