"""A Redis node that goes away while a verb works: the verb ends with one line, not with a traceback."""

from collections.abc import Callable

import pytest

from wallet_engine.admin.moving.leftovers import _owner
from wallet_engine.domain.errors import ConfigError
from wallet_engine.redis_store.membership import ids_at

GONE = "127.0.0.1:1"


@pytest.mark.parametrize(
    "ask",
    [
        pytest.param(lambda: _owner(GONE, 5), id="clear-leftovers"),
        pytest.param(lambda: ids_at("127.0.0.1:2", GONE), id="replace-node, remove-shard"),
    ],
)
def test_it_is_said_in_one_line(ask: Callable[[], object]) -> None:
    with pytest.raises(ConfigError, match=f"Redis at {GONE} does not answer"):
        ask()
