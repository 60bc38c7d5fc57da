"""Findings of `doctor` about the processes that follow the journal, for the oracle and other sinks."""

from collections.abc import Iterator
from typing import Final

from wallet_engine.admin.diagnosis.examination import Facts
from wallet_engine.admin.diagnosis.finding import Finding
from wallet_engine.admin.diagnosis.mends import Mend, by_hand, wallet_engine
from wallet_engine.domain.times import time_text

#: Allowed lag of a sink: it notes its position every 10 s, and catches up with some 10,000 transfers a second.
LAG_ENTRIES_WARN: Final = 200_000


def followers(facts: Facts) -> Iterator[Finding]:
    """the followers of the journal run, keep up, and find nothing wrong"""
    for sink, members in facts.followers.items():
        for info in members:
            for trouble in info.troubles:
                what = f"{sink} on {info.host}, since {time_text(trouble.since_ms)}: {trouble.what}"
                mend = by_hand(f"see the log of wallet-engine follow on {info.host}, and RUNBOOKS.md")
                yield Finding("followers", "error" if sink == "oracle" else "warning", what, mend)
        if not members:
            what = f"nobody follows the journal for {sink}"
            if sink == "oracle":
                what += ": an entry that breaks the rules is not detected"
            line = wallet_engine("follow", "--to", _target(sink))
            mend = Mend(line, "with the directory, brokers and other flags that it had")
            yield Finding("followers", "warning", what, mend)
    for status in facts.survey.sinks:
        if status.members and status.unclaimed:
            what = f"nobody has partitions {', '.join(map(str, status.unclaimed))} of {status.sink}"
            mend = by_hand("look again in 10 s; if it is still so, see the logs of wallet-engine follow")
            yield Finding("followers", "warning", what, mend)
        if (status.lag_entries or 0) > LAG_ENTRIES_WARN:
            what = f"{status.sink} is {status.lag_entries:,} entries behind the journal"
            mend = by_hand("start another wallet-engine follow for it: they share the partitions")
            yield Finding("followers", "warning", what, mend)


def _target(sink: str) -> str:
    """The argument of `--to` for a sink of this name (`follow/sinks.py`)."""
    kind, _, of = sink.partition("-")
    match kind:
        case "kafka":
            return f"kafka://HOST:PORT/{of}"
        case "oracle" | "parquet":
            return f"{kind}:DIR"
        case _:
            return sink
