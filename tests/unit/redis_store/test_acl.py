"""The rights of the engine's Redis users: all commands that the code calls, and none that `api` must not call."""

import re
from pathlib import Path

import pytest

import wallet_engine
from wallet_engine.redis_store.acl import API_COMMANDS, acl_users, commands_of
from wallet_engine.redis_store.scripts import load_script, service_scripts

PACKAGE = Path(wallet_engine.__file__).parent
#: Finds command names in Python code: the first word of a call or of a packed tuple.
_sent = re.compile(
    r'(?:\.call\(|pack\(\(|\bwords(?:: [^=]*)? = \(|return \()\s*"([A-Z]{3,})"(?:, "([A-Z]+)")?'
).findall
CONTAINERS = {"CLUSTER", "SCRIPT"}


def allowed(user: str) -> set[str]:
    return {rule[1:] for rule in acl_users()[user].rules if rule.startswith("+")}


def sent_by(*folders: str) -> set[str]:
    texts = [
        path.read_text("utf-8") for folder in folders for path in sorted((PACKAGE / folder).rglob("*.py"))
    ]
    said = {pair for text in texts for pair in _sent(text)}
    return {f"{word}|{sub}".lower() if word in CONTAINERS else word.lower() for word, sub in said}


def test_an_api_process_may_what_it_sends_and_what_its_scripts_do() -> None:
    sent = sent_by("saga", "service") | sent_by("engine") - {
        "eval"
    }  # the drain calls it, in a journal process
    assert {"evalsha", "xrange", "hmget"} <= sent, "the search itself works"
    assert sent <= allowed("api")
    for script in service_scripts():
        assert commands_of(script) <= allowed("api")
    assert {"hset", "xadd", "cluster|myid"} <= commands_of(load_script("apply"))


def test_an_api_process_changes_keys_by_scripts_alone() -> None:
    """Scripts are the only way to write. A direct write of a balance could undo the change of a script."""
    writes = frozenset().union(*map(commands_of, service_scripts())) - API_COMMANDS
    assert {"hset", "hincrby", "hdel", "zadd", "xadd", "unlink"} <= writes
    assert not sent_by("engine", "saga", "service", "http", "app") & writes


def test_a_journal_process_changes_keys_by_scripts_alone() -> None:
    """G7: a script checks whose the partition is. A direct write may come after another recovery has taken it."""
    scripts = map(load_script, ("clear", "forget", "restream", "turn", "apply"))
    writes = frozenset().union(*map(commands_of, scripts)) - API_COMMANDS
    assert {"hset", "hdel", "set", "unlink", "xadd", "zadd"} <= writes
    assert not sent_by("recovery", "drain", "deciding") & (writes | {"hsetnx", "del", "xtrim", "xdel"})


def test_an_api_process_loads_nothing_and_sets_nothing() -> None:
    forbidden = ("eval", "script", "config", "acl", "function", "fcall", "flush", "cluster|set", "xtrim")
    assert not [name for name in allowed("api") - {"evalsha"} if name.startswith(forbidden)]


def test_a_journal_process_may_what_recovery_sends() -> None:
    sent = sent_by("recovery", "engine")
    assert {"cluster|getkeysinslot", "script|load", "xrange"} <= sent, "the search itself works"
    assert sent <= allowed("journal")
    assert allowed("api") <= allowed("journal")


@pytest.mark.parametrize("user", ["api", "journal", "admin"])
def test_of_a_password_the_digest_alone_is_sent(user: str) -> None:
    words = acl_users()[user].words("hush")
    assert words[:5] == ("ACL", "SETUSER", user, "reset", "on")
    assert "hush" not in " ".join(words)
    assert (
        words[5] == "#4324e9dca27e91198d3ac1698cb87fe5d43e6d2b0fd9e9e9bdae7cbd70fe2efb" or len(words[5]) == 65
    )
