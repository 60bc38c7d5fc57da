"""One partition on a real Redis, driven through the scripts alone, as the engine does."""

from typing import Any, Final

import redis
from support.commands import words_of

from wallet_engine.domain.columns import pack
from wallet_engine.domain.entry import ZERO_NONCE, operations_of, parse_header
from wallet_engine.domain.operation import parse_operation
from wallet_engine.domain.oracle_state import RedisImage
from wallet_engine.redis_store.apply_call import apply_command, apply_part, replay_command
from wallet_engine.redis_store.keys import PartitionKeys
from wallet_engine.redis_store.scripts import load_script
from wallet_engine.redis_store.stream import from_stream

CURRENCIES: Final = ("CHF", "EUR", "JPY", "USD")
NEVER_MS: Final = 10**15
#: Facts of the cluster, not of the journal: not in an image.
_META_OF_THE_CLUSTER: Final = ("epoch", "owner", "state", "trimmed", "form")


class LuaPartition:
    """A fresh live partition with epoch 1; `window` and `seq` follow what the script answers."""

    def __init__(self, client: "redis.Redis[str]", tag: str) -> None:
        self.client = client
        self.keys = PartitionKeys(tag)
        self.apply_script = load_script("apply")
        self.extended_script = load_script("apply", extended=True)
        self.replay_script = load_script("apply", replay=True)
        for script in (self.apply_script, self.extended_script, self.replay_script):
            assert client.script_load(script.text) == script.sha
        self.nonces = 0
        #: What the script has answered to each call that has made an entry, by the entry's seq.
        self.answered: dict[int, str] = {}
        self.empty("live")

    def empty(self, state: str) -> None:
        """Drop every key and certify an empty partition."""
        for key in self.client.keys("*{" + self.keys.tag + "}"):
            self.client.delete(key)
        self.meta(seq=0, nonce=ZERO_NONCE, clock=0, window=1, currencies="", epoch=1, state=state)
        self.meta(owner=self.client.execute_command("CLUSTER", "MYID"))

    def meta(self, **fields: str | int) -> None:
        """Set fields of the hash `meta`."""
        self.client.hset(self.keys.meta, mapping=fields)

    @property
    def window(self) -> int:
        return int(self.client.hget(self.keys.meta, "window"))

    def now_ms(self) -> int:
        seconds, micros = self.client.time()
        return int(seconds) * 1000 + int(micros) // 1000

    def apply(
        self,
        lines: list[str],
        *,
        rotate: bool = False,
        operations: str | None = None,
        record_ends: str | None = None,
        epoch: int = 1,
        issued_ms: int | None = None,
        window: int | None = None,
        window_ms: int = NEVER_MS,
        currencies: tuple[str, ...] = CURRENCIES,
        stream_entries_max: int = 100_000,
        issued_age_ms_max: int = 300_000,
        extended: bool = True,
    ) -> list[Any]:
        """One call of the apply script, in the text that it takes; `rotate` opens a window.

        `extended` False: in the plain text, whatever the operations are.

        `operations` (columns) and `record_ends` are sent as they are, in place of what `lines` make.

        Returns a refusal, or OK, seq, nonce, time_ms, outcomes and the details of repeats.
        """
        self.nonces += 1
        packed = pack([parse_operation(line) for line in lines])
        if self.client.hget(self.keys.meta, "flagged") == "2":
            packed = packed._replace(extended=True)
        packed = packed._replace(extended=packed.extended and extended)
        part = apply_part(
            self.keys,
            currencies,
            packed,
            epoch=epoch,
            nonce=f"{self.nonces:016x}",
            issued_ms=self.now_ms() if issued_ms is None else issued_ms,
            window=self.window + rotate if window is None else window,
        )
        command = apply_command(
            self.extended_script.sha if packed.extended else self.apply_script.sha,
            [part],
            window_ms=0 if rotate else window_ms,
            stream_entries_max=stream_entries_max,
            issued_age_ms_max=issued_age_ms_max,
        )
        *words, head, made_operations = words_of(command)
        if record_ends is not None:
            head = head[: head.rindex(b" ") + 1] + record_ends.encode()
        words += [head, made_operations if operations is None else operations.encode()]
        (reply,) = self.client.execute_command(*words)
        answer = _answer(reply)
        if answer[2:3] == [f"{self.nonces:016x}"]:
            self.answered[answer[1]] = reply.partition("\n")[0]
        return answer

    def replay(
        self, payload: bytes, currencies: tuple[str, ...] = CURRENCIES, recovery: int | None = None
    ) -> list[Any]:
        """One call of the replay variant with a recorded entry, by a recovery of the epoch in force."""
        header = parse_header(payload)
        epoch = int(self.client.hget(self.keys.meta, "epoch")) if recovery is None else recovery
        command = replay_command(
            self.replay_script.sha,
            self.keys,
            currencies,
            pack(operations_of(payload))._replace(extended=True),
            (
                header.prev_nonce.encode(),
                b"%d" % header.time_ms,
                header.outcomes.encode(),
                b"%d" % header.rules,
                b"" if header.witnessed_s is None else b"%d" % header.witnessed_s,
                b"%d" % epoch,
            ),
            epoch=header.epoch,
            nonce=header.nonce,
            window=header.window,
        )
        return _answer(self.client.execute_command(*words_of(command)))

    def payloads(self) -> list[bytes]:
        """The entries in the stream, oldest first; each header is the one that the call has answered."""
        entries = self.client.xrange(self.keys.journal)
        for number, (entry_id, fields) in enumerate(entries, 1):
            assert entry_id == f"{number}-0"
            assert list(fields) == ["header", "operations"]
            assert fields["header"] == self.answered[number]
        return [from_stream(*map(str.encode, fields.values())) for _, fields in entries]

    def image(self) -> RedisImage:
        """Everything Redis holds for the partition but the stream, in the form of `redis_image`."""
        image: RedisImage = {}
        suffix = "{" + self.keys.tag + "}"
        for key in self.client.keys("*" + suffix):
            kind = key.removesuffix(suffix)
            assert self.client.pttl(key) == -1, f"{key} expires"
            if self.client.type(key) == "zset":
                image[kind] = {
                    member: f"{score:.0f}"
                    for member, score in self.client.zrange(key, 0, -1, withscores=True)
                }
            elif kind != "journal":
                image[kind] = self.client.hgetall(key)
        for name in _META_OF_THE_CLUSTER:
            image["meta"].pop(name, None)
        return image


def _answer(reply: Any) -> list[Any]:
    if isinstance(reply, list):
        return reply
    answer, *details = str(reply).split("\n")
    seq, _, nonce, _, time_ms, _, outcomes, *_ = answer.split(" ")
    return ["OK", int(seq), nonce, int(time_ms), outcomes, *details]
