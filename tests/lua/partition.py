"""One partition on a real Redis, driven through the scripts alone, as the engine does."""

from typing import Any, Final

import redis

from wallet_engine.domain.entry import ZERO_NONCE, operations_of, parse_header
from wallet_engine.domain.oracle_state import RedisImage
from wallet_engine.redis_store.keys import PartitionKeys
from wallet_engine.redis_store.scripts import load_script

CURRENCIES: Final = ("CHF", "EUR", "JPY", "USD")
NEVER_MS: Final = 10**15
#: Facts of the cluster, not of the journal: not in an image.
_META_OF_THE_CLUSTER: Final = ("epoch", "owner", "state")


class LuaPartition:
    """A fresh live partition with epoch 1; `window` and `seq` follow what the script answers."""

    def __init__(self, client: "redis.Redis[str]", tag: str) -> None:
        self.client = client
        self.keys = PartitionKeys(tag)
        self.apply_script = load_script("apply")
        self.replay_script = load_script("apply", replay=True)
        for script in (self.apply_script, self.replay_script):
            assert client.script_load(script.text) == script.sha
        self.nonces = 0
        self.empty("live")

    def empty(self, state: str) -> None:
        """Drop every key and certify an empty partition."""
        for key in self.client.keys("*{" + self.keys.tag + "}"):
            self.client.delete(key)
        self.meta(
            seq=0, nonce=ZERO_NONCE, clock=0, window=1, window_started=0, currencies="", epoch=1, state=state
        )
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
        text: str | None = None,
        count: int | None = None,
        epoch: int = 1,
        issued_ms: int | None = None,
        window: int | None = None,
        window_ms: int = NEVER_MS,
        currencies: tuple[str, ...] = CURRENCIES,
        stream_entries_max: int = 100_000,
        issued_age_ms_max: int = 300_000,
    ) -> list[Any]:
        """One call of the apply script; the reply as it is. `rotate` opens the next window."""
        self.nonces += 1
        arguments = (
            epoch,
            f"{self.nonces:016x}",
            self.now_ms() if issued_ms is None else issued_ms,
            self.window + rotate if window is None else window,
            0 if rotate else window_ms,
            ",".join(currencies),
            len(lines) if count is None else count,
            "".join(f"{line}\n" for line in lines) if text is None else text,
            stream_entries_max,
            issued_age_ms_max,
        )
        return self._call(self.apply_script.sha, int(arguments[3]), currencies, arguments)

    def replay(self, payload: bytes, currencies: tuple[str, ...] = CURRENCIES) -> list[Any]:
        """One call of the replay variant with a recorded entry."""
        header, operations = parse_header(payload), operations_of(payload)
        arguments = (
            header.epoch,
            header.nonce,
            0,
            header.window,
            NEVER_MS,
            ",".join(currencies),
            len(header.outcomes),
            operations,
            0,
            0,
            header.prev_nonce,
            header.time_ms,
        )
        return self._call(self.replay_script.sha, header.window, currencies, arguments)

    def _call(
        self, sha: str, window: int, currencies: tuple[str, ...], arguments: tuple[Any, ...]
    ) -> list[Any]:
        keys = self.keys
        names = [keys.meta, keys.journal, keys.open, keys.flags]
        names += [keys.seen(number) for number in (window, window - 1, window - 2)]
        names += [keys.balance(currency) for currency in currencies]
        reply: list[Any] = self.client.evalsha(sha, len(names), *names, *arguments)
        return reply

    def payloads(self) -> list[bytes]:
        """The entries in the stream, oldest first."""
        entries = self.client.xrange(self.keys.journal)
        for number, (entry_id, fields) in enumerate(entries, 1):
            assert entry_id == f"{number}-0"
            assert list(fields) == ["e"]
        return [fields["e"].encode() for _, fields in entries]

    def image(self) -> RedisImage:
        """Everything Redis holds for the partition but the stream, in the form of `redis_image`."""
        image: RedisImage = {}
        suffix = "{" + self.keys.tag + "}"
        for key in self.client.keys("*" + suffix):
            kind = key.removesuffix(suffix)
            assert self.client.pttl(key) == -1, f"{key} expires"
            if kind == "open":
                image[kind] = {
                    member: f"{score:.0f}"
                    for member, score in self.client.zrange(key, 0, -1, withscores=True)
                }
            elif kind != "journal":
                image[kind] = self.client.hgetall(key)
        for name in _META_OF_THE_CLUSTER:
            del image["meta"][name]
        return image
