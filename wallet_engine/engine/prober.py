"""Checks whether a held partition would take operations again."""

from collections.abc import Callable
from typing import Any, Final

import hiredis

from wallet_engine.engine.accumulator import Accumulator
from wallet_engine.engine.cluster import ClusterView
from wallet_engine.engine.refusals import ScriptRefusal, refusal_in
from wallet_engine.redis_store.apply_call import apply_command
from wallet_engine.redis_store.connection import NotSent, pack
from wallet_engine.redis_store.refusals import Refusal
from wallet_engine.redis_store.scripts import load_script

_PROBE_SHA: Final = load_script("read_account").sha
#: For each text of the script, a call without partitions, which decides nothing.
_NO_PARTS: Final = tuple(
    apply_command(
        load_script("apply", extended=extended).sha,
        (),
        window_ms=0,
        stream_entries_max=0,
        issued_age_ms_max=0,
    )
    for extended in (False, True)
)

Refused = Callable[[Accumulator, ScriptRefusal | Refusal], None]


def probe(
    cluster: ClusterView,
    accumulator: Accumulator,
    taken: Callable[[Accumulator], None],
    refused: Refused,
    ended: Callable[[Accumulator], None],
) -> None:
    """Send three things, then call `taken` or `refused`, unless the connection is lost, and then `ended`.

    An empty call of each apply script (during an upgrade the node may have only those of another version), a
    write that changes nothing (a node that refuses writes still answers reads), and a read that passes the
    same guards as operations.
    """
    unwritten: hiredis.ReplyError | None = None

    def written(reply: Any) -> None:
        nonlocal unwritten
        if isinstance(reply, hiredis.ReplyError):
            unwritten = unwritten or reply

    def answered(reply: Any) -> None:
        accumulator.probing = False
        if unwritten is not None:
            reply = unwritten
        if type(reply) is list:
            refusal = refusal_in(reply)
            if refusal is None or cluster.heed_script(accumulator, refusal):
                taken(accumulator)
            else:
                refused(accumulator, refusal)
        elif isinstance(reply, hiredis.ReplyError):
            refused(accumulator, cluster.heed(accumulator.shard, str(reply)))
        ended(accumulator)

    keys = accumulator.keys
    read = pack(
        ("EVALSHA", _PROBE_SHA, 3, keys.meta, keys.flags, keys.noted, accumulator.epoch, "@transit", "-")
    )
    try:
        lane = cluster.lanes[accumulator.shard]
        for command in _NO_PARTS:
            lane.send(command, written)
        lane.send(pack(("PERSIST", keys.meta)), written)
        lane.send(read, answered)
        accumulator.probing = True
    except (NotSent, KeyError):
        pass
