"""What `doctor` says of those who follow the journal: the oracle, and other sinks."""

from collections.abc import Iterator

from wallet_engine.admin.diagnosis.examination import Facts
from wallet_engine.admin.diagnosis.finding import Finding
from wallet_engine.admin.diagnosis.mends import Mend, by_hand, wallet_engine
from wallet_engine.admin.proof.past_balance import time_text


def followers(facts: Facts) -> Iterator[Finding]:
    """who follows the journal is there, keeps up, and finds nothing wrong"""
    for sink, members in facts.followers.items():
        for info in members:
            for trouble in info.troubles:
                what = f"{sink} on {info.host}, since {time_text(trouble.since_ms)}: {trouble.what}"
                mend = by_hand(f"see the log of wallet-engine follow on {info.host}, and RUNBOOKS.md")
                yield Finding("followers", "error" if sink == "oracle" else "warning", what, mend)
        if not members:
            what = f"nobody follows the journal for {sink}"
            if sink == "oracle":
                what += ": an entry that the rules do not come to is not seen"
            mend = Mend(wallet_engine("follow", "--to", sink), "with the other words and flags it had")
            yield Finding("followers", "warning", what, mend)
