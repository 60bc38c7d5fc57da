"""The probe of a held partition, and the answers after which payments may continue."""

from types import SimpleNamespace
from typing import Any

import hiredis
import pytest

from wallet_engine.engine.prober import probe
from wallet_engine.redis_store.keys import PartitionKeys
from wallet_engine.redis_store.refusals import refusal_of
from wallet_engine.redis_store.scripts import load_script

WELL = [["0", "1"]]
NOSCRIPT = hiredis.ReplyError("NOSCRIPT No matching script. Please use EVAL.")
MISCONF = hiredis.ReplyError("MISCONF Errors writing to the disk")


def probed(monkeypatch: pytest.MonkeyPatch, *replies: Any) -> tuple[list[bytes], list[str]]:
    """(the commands that were sent, the results: `taken` or the code of the refusal)."""
    monkeypatch.setattr("wallet_engine.engine.prober.refusal_in", lambda _: None)
    sent: list[bytes] = []
    waiting: list[Any] = []

    def send(command: bytes, told: Any) -> None:
        sent.append(command)
        waiting.append(told)

    lanes = {"s1": SimpleNamespace(send=send)}
    cluster: Any = SimpleNamespace(lanes=lanes, heed=lambda _, error: refusal_of(error))
    accumulator: Any = SimpleNamespace(
        keys=PartitionKeys("3"), shard="s1", epoch=1, probing=False, partition=0
    )
    said: list[str] = []
    probe(
        cluster,
        accumulator,
        lambda _: said.append("taken"),
        lambda _, refusal: said.append(getattr(refusal, "code", "")),
        lambda _: said.append("ended"),
    )
    assert accumulator.probing
    assert len(waiting) == len(replies)
    for told, reply in zip(waiting, replies, strict=True):
        told(reply)
    assert said.pop() == "ended"
    assert not accumulator.probing
    return sent, said


def test_each_text_that_decides_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """A journal of another version loads its own scripts: that of reads may be the same, and that of payments not."""
    sent, said = probed(monkeypatch, [], [], 0, WELL)
    assert said == ["taken"]
    for at, extended in enumerate((False, True)):
        assert load_script("apply", extended=extended).sha.encode() in sent[at]
        replies = [NOSCRIPT if n == at else [] for n in range(2)]
        assert probed(monkeypatch, *replies, 0, WELL)[1] == ["NOSCRIPT"]


def test_a_node_that_takes_no_writes_is_not_well(monkeypatch: pytest.MonkeyPatch) -> None:
    assert probed(monkeypatch, [], [], MISCONF, WELL)[1] == ["MISCONF"]
    assert probed(monkeypatch, NOSCRIPT, [], MISCONF, WELL)[1] == ["NOSCRIPT"]
    assert probed(monkeypatch, [], [], 0, NOSCRIPT)[1] == ["NOSCRIPT"]
