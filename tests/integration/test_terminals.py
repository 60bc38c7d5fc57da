"""What `wallet-admin` writes to terminals, wide and narrow, coloured and not, and to a pipe."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from integration.conftest import PARTITIONS
from support.dev_process import DevCluster
from support.terminal import on_terminal
from support.wallet_api import WalletApi, new_id

ADMIN = str(Path(sys.executable).with_name("wallet-admin"))
ESCAPE = "\x1b"
#: Select a colour: 30 to 49, 90 to 107, alone or among others (ECMA-48, SGR).
COLOUR = re.compile(r"\x1b\[(?:\d+;)*(?:3[0-8]|4[0-8]|9[0-7]|10[0-7])[;m]")
CONTROL = re.compile(r"[^\n\x20-\x7e\x80-\uffff]|[\x80-\x9f]")

VERBS = (
    "status",
    "doctor",
    "verify",
    "holds",
    "transfer",
    "journal verify",
    "journal info",
    "journal followers",
)


def some_in_soak(*verbs: str) -> list[Any]:
    """All verbs; the soak runs those that are not named."""
    return [verb if verb in verbs else pytest.param(verb, marks=pytest.mark.soak) for verb in VERBS]


@pytest.fixture(scope="module")
def words(api_cluster: DevCluster) -> dict[str, list[str]]:
    """The arguments of each verb."""
    with WalletApi(api_cluster.url, PARTITIONS) as api:
        payer, receiver, paid = api.account(0, "9.00"), api.account(3), new_id()
        assert api.pay(payer, receiver, "1.00", transaction_id=paid).status == 200
        hold = {"account_id": payer, "transaction_id": new_id(), "amount": "1.00", "currency": "USD"}
        assert api.post("/v1/holds", hold).status == 201
    more = {"holds": [payer], "transfer": [paid, "--from", payer]}
    return {verb: [ADMIN, *verb.split(), *more.get(verb, []), *api_cluster.admin_flags()] for verb in VERBS}


def environ(**more: str) -> dict[str, str]:
    mine = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "NO_COLOR", "TERM")}
    return {**mine, "TERM": "xterm-256color", **more}


@pytest.mark.parametrize("verb", some_in_soak("status", "verify", "transfer"))
def test_a_pipe_gets_text_in_full(verb: str, words: dict[str, list[str]]) -> None:
    ran = subprocess.run(
        words[verb], capture_output=True, stdin=subprocess.DEVNULL, env=environ(), timeout=60
    )
    said = ran.stdout.decode()
    assert said
    assert CONTROL.findall(said + ran.stderr.decode()) == []
    assert "…" not in said


@pytest.mark.parametrize("verb", some_in_soak("status", "doctor", "holds", "transfer"))
def test_a_narrow_terminal_shows_values_in_full(verb: str, words: dict[str, list[str]]) -> None:
    said = on_terminal(words[verb], 40, environ(NO_COLOR="1"))
    assert "…" not in said
    assert COLOUR.findall(said) == []


@pytest.mark.parametrize("verb", ["status", "verify", "journal verify"])
def test_a_dumb_terminal_gets_no_control_sequences(verb: str, words: dict[str, list[str]]) -> None:
    said = on_terminal(words[verb], 80, environ(TERM="dumb"))
    assert said
    assert ESCAPE not in said
    assert "\r" not in said.replace("\r\n", "\n")


@pytest.mark.parametrize(("term", "drawn"), [("dumb", False), ("xterm", True)])
def test_what_is_watched_is_drawn_over_only_where_that_is_understood(
    term: str, drawn: bool, words: dict[str, list[str]]
) -> None:
    argv = [*words["status"], "--watch"]
    said = on_terminal(argv, 80, environ(TERM=term), interrupt_at=b"entries")
    assert "Partitions" in said
    assert (f"{ESCAPE}[H" in said) == drawn
    assert (ESCAPE in said) == drawn
