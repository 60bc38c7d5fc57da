"""Which node may replicate which: it must be able to load the other's memory, or it would request it for ever."""

import pytest

from wallet_engine.domain.errors import ConfigError
from wallet_engine.redis_store import membership as module
from wallet_engine.redis_store.membership import Membership, check_can_follow


def node(program: str, version: str) -> Membership:
    return Membership("id", frozenset(), False, 0, 0, True, True, program, version, 0)


@pytest.mark.parametrize(
    ("replica", "primary", "loads"),
    [
        (("redis", "7.0.15"), ("redis", "7.0.15"), True),
        (("redis", "7.0.9"), ("redis", "7.0.15"), True),
        (("redis", "7.2.4"), ("redis", "7.0.15"), True),
        (("redis", "6.2.14"), ("redis", "7.0.15"), False),
        (("valkey", "9.1.2"), ("redis", "7.0.15"), True),
        (("valkey", "9.1.2"), ("redis", "7.4.1"), False),
        (("valkey", "9.1.2"), ("valkey", "9.0.0"), True),
        (("valkey", "8.1.0"), ("valkey", "9.1.2"), False),
        (("redis", "8.2.0"), ("valkey", "9.1.2"), False),
    ],
)
def test_a_replica_loads_what_its_primary_has(
    monkeypatch: pytest.MonkeyPatch, replica: tuple[str, str], primary: tuple[str, str], loads: bool
) -> None:
    nodes = {"r:1": node(*replica), "p:1": node(*primary)}
    monkeypatch.setattr(module, "membership", nodes.__getitem__)
    if loads:
        check_can_follow("r:1", "p:1")
    else:
        said = f"{replica[0]} {replica[1]} at r:1 cannot load the memory of p:1, which is {' '.join(primary)}"
        with pytest.raises(ConfigError, match=said):
            check_can_follow("r:1", "p:1")
