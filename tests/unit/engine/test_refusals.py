"""All callers of scripts read their refusals in the same way."""

from typing import Any

import pytest

from wallet_engine.engine.refusals import ScriptRefusal, refusal_in


@pytest.mark.parametrize(
    ("reply", "code", "shown", "guarded", "unrecovered"),
    [
        ([b"STATE", b"moving"], "STATE", "moving", True, False),
        ([b"STATE", b"absent"], "STATE", "absent", True, True),
        ([b"EPOCH", b"7"], "EPOCH", "7", True, False),
        ([b"OWNER", b"a1b2"], "OWNER", "a1b2", True, True),
        ([b"WINDOW", 12], "WINDOW", "12", False, False),
        ([b"CURRENCIES", b"EUR,USD"], "CURRENCIES", "EUR,USD", False, False),
        ([b"LIMITS", b"2"], "LIMITS", "2", False, False),
        ([b"FULL", 100_000], "FULL", "100000", False, False),
        ([b"EXPIRED", 1764000000000], "EXPIRED", "1764000000000", False, False),
    ],
)
def test_a_refusal_says_what_helps(
    reply: list[Any], code: str, shown: str, guarded: bool, unrecovered: bool
) -> None:
    refusal = refusal_in(reply)
    assert refusal == ScriptRefusal(code, shown)
    assert refusal is not None
    assert (refusal.guarded, refusal.unrecovered) == (guarded, unrecovered)
    assert refusal.why == f"{code.lower()} {shown}"


def test_an_answer_is_none() -> None:
    assert refusal_in([b"OK", 5, b"00ff"]) is None
