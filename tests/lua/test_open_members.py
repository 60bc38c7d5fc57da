"""`open{tag}` read in pieces from a real Redis, while entries are settled and opened."""

import random

import pytest
import redis
from support.clusters import RedisClusterFactory

from wallet_engine.admin.tracing.open_entries import ENTRIES_PER_PARTITION_MAX, oldest
from wallet_engine.domain.limits import SCRIPT_OPERATIONS_MAX
from wallet_engine.redis_store import open_members
from wallet_engine.redis_store.open_members import MEMBERS_PER_CALL, OpenMembers

KEY = "open{x}"


def test_g10_what_stays_open_is_in_a_piece_and_no_piece_is_large(
    redis_cluster: RedisClusterFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    seed = random.randrange(1 << 32)
    print(f"seed={seed}")
    rng = random.Random(seed)
    monkeypatch.setattr(open_members, "MEMBERS_PER_CALL", 50)
    host, port = redis_cluster().primary("s1").address.rsplit(":", 1)
    with redis.Redis(host=host, port=int(port)) as client:
        for seq in range(1, 400):
            parts = [f"{seq}.{idx}" for idx in range(rng.choice((0, 0, 0, 1, 30)))]
            client.zadd(KEY, dict.fromkeys([str(seq), *parts], seq))
        before = dict(client.zrange(KEY, 0, -1, withscores=True))
        found, pieces, newest = OpenMembers(KEY), 0, 400
        while not found.done:
            reply = client.execute_command(*found.command)
            assert len(reply) <= 2 * 50
            found.take([word for pair in reply for word in (pair[0], b"%d" % pair[1])])
            pieces += 1
            for seq in rng.sample(range(1, 400), 5):  # wherever the reading stands
                client.zremrangebyscore(KEY, seq, seq)
            client.zadd(KEY, {str(newest): newest})
            newest += 1
        after = dict(client.zrange(KEY, 0, -1, withscores=True))
        client.delete(KEY)
    assert pieces > 5
    stayed = before.items() & after.items()
    members = {(member, float(score)) for member, score in found.members.items()}
    assert stayed <= members <= before.items() | after.items()
    assert found.seqs == sorted({int(member) for member, _ in members if b"." not in member})


def test_one_piece_holds_all_members_of_an_entry() -> None:
    """Else reading would stand still at its score."""
    assert SCRIPT_OPERATIONS_MAX + 1 < MEMBERS_PER_CALL


def test_pending_finds_the_oldest_entries_behind_many_markers(redis_cluster: RedisClusterFactory) -> None:
    host, port = redis_cluster().primary("s1").address.rsplit(":", 1)
    with redis.Redis(host=host, port=int(port), decode_responses=True) as client:
        for seq in range(1, 9):
            client.zadd(KEY, dict.fromkeys([str(seq), *(f"{seq}.{idx}" for idx in range(400))], seq))
        assert oldest(client, KEY) == (
            list(range(1, 9)),
            {f"{s}.{idx}" for s in range(1, 9) for idx in range(400)},
        )
        client.zadd(KEY, {str(seq): seq for seq in range(10, 3_000)})
        seqs, _ = oldest(client, KEY)
        client.delete(KEY)
    assert seqs == [*range(1, 9), *range(10, 10 + ENTRIES_PER_PARTITION_MAX - 8)]
