"""Outcome characters: Lua has the same ones, in the same order of precedence."""

import re
from pathlib import Path

from wallet_engine.domain.outcomes import WIRE_CODES, Outcome

LIB = Path(__file__).parents[3] / "lua" / "lib"
LUA = [LIB / name for name in ("common_outcomes.lua", "outcomes.lua")]


def test_lua_states_the_same_characters() -> None:
    text = "".join(path.read_text("utf-8") for path in LUA)
    stated = dict(re.findall(r"^local (\w+) = '(.)'", text, re.MULTILINE))
    assert stated == {outcome.name: outcome.value for outcome in Outcome}


def test_precedence_is_the_order_of_declaration() -> None:
    assert "".join(Outcome) == "+=!acfilzphoxbdemnrsugkq"


def test_every_outcome_is_one_distinct_character() -> None:
    assert all(len(outcome) == 1 for outcome in Outcome)
    assert len({outcome.value for outcome in Outcome}) == len(Outcome)


def test_declines_are_what_is_remembered() -> None:
    assert "".join(outcome for outcome in Outcome if outcome.declined) == "acfilzphoxdemrgkq"


def test_every_refusal_has_a_wire_code() -> None:
    assert set(WIRE_CODES) == set(Outcome) - {
        *(Outcome.APPLIED, Outcome.REPEATED, Outcome.STALE, Outcome.INTERRUPTED)
    }
    of_payer = [code for outcome, code in WIRE_CODES.items() if not Outcome(outcome).of_receiver]
    assert len(set(of_payer)) == len(of_payer)
    assert {WIRE_CODES[outcome] for outcome in Outcome if outcome.of_receiver} <= set(of_payer)
