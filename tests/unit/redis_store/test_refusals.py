"""Error replies of Redis: every first word that redis-server can send has a row, with its meaning."""

import re
from collections.abc import Callable
from pathlib import Path

import hiredis
import pytest

from wallet_engine.dev.binaries import RedisBinary, bundled_redis, system_redis
from wallet_engine.redis_store.refusals import TABLE, TEXT_CHARACTERS_MAX, Meaning, is_of_data, refusal_of

#: In the binary an error is a C string that begins with a minus sign and a word in capitals.
_errors = re.compile(rb"\0-([A-Z]{2,}) ").findall
#: Errors made by a format string (`clusterRedirectClient` in cluster.c).
FORMATTED = {"MOVED", "ASK"}
SHA = "f1595dc05e042a3cc400897054b43192cc2a4367"


@pytest.mark.parametrize("find", [system_redis, bundled_redis])
def test_every_error_that_redis_itself_contains_has_a_row(find: Callable[[], RedisBinary]) -> None:
    """Fails when a newer Redis has an error without a row."""
    binary = find()
    words = {word.decode() for word in _errors(Path(binary.path).resolve().read_bytes())} | FORMATTED
    assert {"MISCONF", "NOREPLICAS", "NOSCRIPT", "LOADING"} <= words, "the search itself works"
    assert words - TABLE.keys() == set(), f"{binary} can say these: sort them"


@pytest.mark.parametrize(
    ("error", "meaning", "reads"),
    [
        ("MISCONF Redis is configured to save RDB snapshots", Meaning.RETRY, True),
        ("NOREPLICAS Not enough good replicas to write.", Meaning.RETRY, True),
        ("OOM command not allowed when used memory > 'maxmemory'.", Meaning.MEMORY, True),
        ("READONLY You can't write against a read only replica.", Meaning.ELSEWHERE, True),
        ("LOADING Redis is loading the dataset in memory", Meaning.RETRY, False),
        ("BUSY Redis is busy running a script.", Meaning.RETRY, False),
        ("CLUSTERDOWN Hash slot not served", Meaning.RETRY, False),
        ("TRYAGAIN Multiple keys request during rehashing of slot", Meaning.RETRY, False),
        ("NOAUTH Authentication required.", Meaning.RETRY, False),
        ("NOPERM this user has no permissions to run the 'evalsha' command", Meaning.RETRY, False),
        ("ERR max number of clients reached", Meaning.RETRY, False),
        ("ERR unknown command 'EVALSHA', with args beginning with:", Meaning.RETRY, False),
        ("MOVED 3999 127.0.0.1:6381", Meaning.ELSEWHERE, False),
        ("ASK 3999 127.0.0.1:6381", Meaning.ELSEWHERE, False),
        ("MASTERDOWN Link with MASTER is down", Meaning.ELSEWHERE, False),
        ("NOSCRIPT No matching script. Please use EVAL.", Meaning.RECOVER, False),
        ("ERR syntax error", Meaning.UNKNOWN, False),
        ("WRONGTYPE Operation against a key", Meaning.UNKNOWN, False),
        ("EXECABORT Transaction discarded", Meaning.UNKNOWN, False),
        ("NEWWORD that no row is for", Meaning.UNKNOWN, False),
        ("", Meaning.UNKNOWN, False),
    ],
)
def test_what_a_refused_command_means(error: str, meaning: Meaning, reads: bool) -> None:
    refusal = refusal_of(error)
    assert (refusal.meaning, refusal.reads) == (meaning, reads)
    assert refusal.text == error


def in_redis_7(error: str) -> str:
    return f"{error} script: {SHA}, on @user_script:88."


def in_redis_6(error: str) -> str:
    return f"ERR Error running script (call to f_{SHA}): @user_script:88: @user_script: 88: -{error}"


@pytest.mark.parametrize("inside", [in_redis_7, in_redis_6])
@pytest.mark.parametrize(
    ("code", "meaning"),
    [
        ("MISCONF", Meaning.RETRY),
        ("NOREPLICAS", Meaning.RETRY),
        ("OOM", Meaning.MEMORY),
        ("READONLY", Meaning.ELSEWHERE),
        # These errors may follow a write of the same script.
        ("NOPERM", Meaning.UNKNOWN),
        ("MOVED", Meaning.UNKNOWN),
        ("WRONGTYPE", Meaning.UNKNOWN),
        ("ERR", Meaning.UNKNOWN),
    ],
)
def test_out_of_a_script_only_what_is_decided_at_its_first_write_means_that_nothing_ran(
    inside: Callable[[str], str], code: str, meaning: Meaning
) -> None:
    refusal = refusal_of(inside(f"{code} it cannot be done."))
    assert (refusal.code, refusal.meaning) == (code, meaning)
    assert refusal.text == f"{code} it cannot be done."


def test_a_script_that_fails_by_itself_may_have_written() -> None:
    error = f"ERR Error running script (call to f_{SHA}): @user_script:1: user_script:1: x"
    assert refusal_of(error).meaning is Meaning.UNKNOWN
    assert len(refusal_of(error * 9).text) == TEXT_CHARACTERS_MAX


@pytest.mark.parametrize(
    ("said", "of_data"),
    [
        ("WRONGTYPE Operation against a key holding the wrong kind of value", True),
        ("ERR value is not an integer or out of range", True),
        ("ERR user_script:12: attempt to perform arithmetic on a nil value", True),
        ("ERR The user executing the script can't run this command or subcommand", False),
        ("ERR max number of clients reached", False),
        ("NOPERM this user has no permissions to run the 'evalsha' command", False),
    ],
)
def test_no_recovery_mends_what_is_not_of_the_data(said: str, of_data: bool) -> None:
    """A right that a user of Redis lacked had its whole shard recovered once a second."""
    said_inside = f"{said} script: {'0' * 40}, on @user_script:39."
    assert is_of_data(hiredis.ReplyError(said_inside)) is of_data
