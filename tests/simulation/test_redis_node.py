"""The node in memory against fakeredis: same scripts, same batches, same replies, same keys."""

from typing import Any

import fakeredis
import pytest
from lua.random_batches import RandomBatches
from simulation.commands import CommandError, Stream
from simulation.lua_scripts import leaked_globals
from simulation.redis_node import SHORTENED, RedisNode, encode
from simulation.world import World
from support.commands import words_of

from wallet_engine.domain.columns import pack
from wallet_engine.domain.entry import ZERO_NONCE
from wallet_engine.domain.operation import parse_operation
from wallet_engine.domain.oracle import apply_payload
from wallet_engine.redis_store.apply_call import apply_command, apply_part
from wallet_engine.redis_store.keys import PartitionKeys
from wallet_engine.redis_store.scripts import load_script
from wallet_engine.redis_store.stream import from_stream

CURRENCIES = ("CHF", "EUR", "JPY", "USD")
KEYS = PartitionKeys("3")


class Both:
    """Runs a command on both. fakeredis has no CLUSTER and another clock, so its script gets constants."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.node = RedisNode(world, "r:1", "the-id")
        self.fake = fakeredis.FakeRedis(server=fakeredis.FakeServer())
        #: Whether the text is the extended one -> its digests in the simulator and in fakeredis.
        self.shas: dict[bool, tuple[Any, Any]] = {}
        for extended in (False, True):
            script = load_script("apply", extended=extended)
            text = script.text.replace("redis.call('CLUSTER', 'MYID')", "'the-id'")
            text = text.replace("call('CLUSTER', 'MYID')", "'the-id'").replace(
                "call('TIME')", "{ARGV[#ARGV], '0'}"
            )
            text = text.replace("for at = 2, #ARGV, 2 do", "for at = 2, #ARGV - 1, 2 do")
            assert text.count("{ARGV[#ARGV], '0'}") == text.count("#ARGV - 1") == 1
            mine = self.node.execute([b"SCRIPT", b"LOAD", script.text.encode()])
            self.shas[extended] = (mine, self.fake.script_load(text))

    def call(self, *words: Any) -> Any:
        packed = [word if isinstance(word, bytes) else str(word).encode() for word in words]
        mine = self.node.execute(packed)
        theirs = self.fake.execute_command(*packed)
        assert mine == (theirs.encode() if isinstance(theirs, str) else theirs), packed[:2]
        return mine

    def apply(self, nonce: int, window: int, window_ms: int, lines: list[str]) -> Any:
        now_s = self.world.now_us // 1_000_000
        packed = pack([parse_operation(line) for line in lines])
        if self.fake.hget(KEYS.meta, "flagged") == b"2":
            packed = packed._replace(extended=True)
        sha, fake_sha = self.shas[packed.extended]
        part = apply_part(
            *(KEYS, CURRENCIES, packed),
            epoch=1,
            nonce=f"{nonce:016x}",
            issued_ms=now_s * 1000,
            window=window,
        )
        command = apply_command(
            sha.decode(),
            [part],
            window_ms=window_ms,
            stream_entries_max=100_000,
            issued_age_ms_max=300_000,
        )
        words = words_of(command)
        mine = self.node.execute(words)
        theirs = self.fake.execute_command("EVALSHA", fake_sha, *words[2:], now_s)
        assert mine == theirs
        return mine[0]

    def same_keys(self) -> None:
        names = sorted(self.fake.keys("*"))
        assert sorted(self.node.store) == names
        for name in names:
            value = self.node.store[name]
            if isinstance(value, Stream):
                stream = {b"%d-0" % number: fields for number, fields in value.entries.items()}
                assert stream == {
                    i: [word for pair in fields.items() for word in pair]
                    for i, fields in self.fake.xrange(name)
                }
            elif self.fake.type(name) == b"zset":
                assert value == dict(self.fake.zrange(name, 0, -1, withscores=True))
            else:
                assert value == self.fake.hgetall(name)


@pytest.mark.parametrize("seed", range(4))
def test_random_batches_come_out_alike(seed: int) -> None:
    both, batches = Both(World(seed)), RandomBatches(seed)
    fresh = {"seq": 0, "nonce": ZERO_NONCE, "epoch": 1, "owner": "the-id", "clock": 0, "window": 1}
    fresh |= {"currencies": "", "state": "live"}
    both.call("HSET", KEYS.meta, *(word for pair in fresh.items() for word in pair))
    for number in range(1, 61):
        both.world.now_us += 1_000_000
        rotates = batches.rotates()
        lines = batches.batch()
        reply = both.apply(number, batches.state.window + rotates, 0 if rotates else 10**15, lines)
        header = reply.partition(b"\n")[0]
        seq, *_, outcomes, _ = header.decode().split(" ")
        if int(seq) > batches.state.seq:
            found = both.call("XRANGE", KEYS.journal, f"{seq}-0", "+", "COUNT", 1)
            assert found[0][1][1] == header
            apply_payload(batches.state, from_stream(found[0][1][1], found[0][1][3]))
            batches.note(lines, outcomes)
    assert batches.state.seq > 40
    both.same_keys()
    assert leaked_globals() == set()


def test_commands_come_out_alike() -> None:
    both = Both(World(0))
    for member, score in (("7", 7), ("12", 12), ("7.1", 7), ("9", 9)):
        both.call("ZADD", KEYS.open, score, member)
    both.call("ZRANGE", KEYS.open, 0, -1)
    both.call("ZRANGE", KEYS.open, 0, 1)
    both.call("ZRANGEBYSCORE", KEYS.open, 0, 9)
    both.call("ZRANGEBYSCORE", KEYS.open, 0, 9, "LIMIT", 0, 1)
    both.call("ZREMRANGEBYSCORE", KEYS.open, 7, 7)
    both.call("ZREMRANGEBYSCORE", KEYS.open, 7, 7)
    for number in (1, 2, 5, 9):
        both.call("XADD", KEYS.journal, f"{number}-0", "e", f"text {number}")
    with pytest.raises(CommandError, match="equal or smaller"):
        both.node.execute([b"XADD", KEYS.journal.encode(), b"9-0", b"e", b"again"])
    both.call("XRANGE", KEYS.journal, "2-0", "+")
    both.call("XRANGE", KEYS.journal, "10-0", "+")
    both.call("XRANGE", KEYS.journal, "-", "+", "COUNT", 3)
    both.call("XTRIM", KEYS.journal, "MINID", "=", "5-0")
    both.call("XLEN", KEYS.journal)
    for number in (10, 11, 12):
        both.call("XADD", KEYS.journal, f"{number}-0", "e", f"text {number}")
    both.call("XDEL", KEYS.journal, "9-0", "11-0", "11-0", "7-0")
    both.call("XDEL", "nothing", "9-0")
    both.call("XLEN", KEYS.journal)
    both.call("HSET", KEYS.flags, "a", "F", "b", "A")
    both.call("HMGET", KEYS.flags, "b", "c", "a")
    both.call("EXISTS", KEYS.flags)
    both.call("HLEN", KEYS.flags)
    both.call("HDEL", KEYS.flags, "b", "x")
    both.call("HSCAN", KEYS.flags, 0, "COUNT", 10)
    both.call("ZCARD", KEYS.open)
    both.call("ZADD", KEYS.open, 20, "20", 21, "21")
    both.call("ZREM", KEYS.open, "20", "x")
    both.call("XRANGE", KEYS.journal, "(5-0", "+")
    both.call("PERSIST", KEYS.flags)
    both.same_keys()
    both.call("UNLINK", KEYS.flags, KEYS.open, "nothing")
    both.call("HMGET", KEYS.flags, "b")
    both.same_keys()


def test_constants_that_are_shortened_are_in_the_scripts() -> None:
    texts = [load_script(name).text.encode() for name in ("apply", "trim")]
    assert all(constant in text for constant in SHORTENED for text in texts)


def test_what_the_node_lacks_is_an_error() -> None:
    node = RedisNode(World(0), "r:1", "the-id")
    with pytest.raises(CommandError, match="GETEX"):
        node.execute([b"GETEX", b"x"])
    with pytest.raises(CommandError, match="NOSCRIPT"):
        node.execute([b"EVALSHA", b"0" * 40, b"0"])
    node.primary = False
    with pytest.raises(CommandError, match="MOVED"):
        node.execute([b"HGET", b"x", b"y"])
    assert (
        encode([None, 1, b"x", [CommandError("ERR no")]])
        == b"*4\r\n$-1\r\n:1\r\n$1\r\nx\r\n*1\r\n-ERR no\r\n"
    )
