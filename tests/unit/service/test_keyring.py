"""The key or certificate of a caller, and the principal that it gives."""

import time

import pytest

from wallet_engine.routing.api_keys import ApiKey, Role, new_key, parse_key, rotated
from wallet_engine.service.keyring import KNOWN_MAX, Keyring, Unauthenticated
from wallet_engine.service.policy import ANYONE

KEY, SHOWN = new_key(ApiKey(id="", name="shop", role=Role.PAYER))
BEARER = f"Bearer {SHOWN}".encode()
NOW_MS = time.time_ns() // 1_000_000


def keyring(*keys: ApiKey, insecure: bool = False) -> Keyring:
    ring = Keyring(insecure=insecure)
    ring.replace({key.id: key for key in keys})
    return ring


def test_a_key_is_its_own_holder_however_its_scheme_is_written() -> None:
    ring = keyring(KEY)
    for shown in (BEARER, BEARER.replace(b"Bearer", b"bearer"), BEARER.replace(b" ", b"   ")):
        for _ in range(2):
            assert ring.whose(shown).id == KEY.id
    assert ring.whose(BEARER) is ring.whose(BEARER)
    assert ring.used == {KEY.id}


@pytest.mark.parametrize(
    "shown",
    [
        None,
        b"",
        b"Bearer",
        b"Bearer ",
        b"Basic " + SHOWN.encode(),
        SHOWN.encode(),
        BEARER[:-1],
        BEARER + b"0",
        BEARER.upper(),
        BEARER.replace(b"wk_", b"wk__"),
        BEARER.replace(b"wk_", b"vk_"),
        b"Bearer wk_" + KEY.id.encode() + b"_" + KEY.secrets[0].sha256.encode(),
        b"Bearer wk_" + KEY.id.encode() + b"_",
        b"Bearer wk_aaaaaaaa_" + SHOWN.partition("_")[2].partition("_")[2].encode(),
        b"Bearer \xff\xfe",
        b"Bearer wk_" + b"a" * 100_000,
    ],
    ids=map(str, range(16)),
)
def test_what_is_no_key_is_nobody(shown: bytes | None) -> None:
    ring = keyring(KEY)
    for _ in range(2):
        with pytest.raises(Unauthenticated):
            ring.whose(shown)
    assert ring.used == set()


def test_without_keys_everybody_is_anyone_and_with_the_first_one_nobody_is() -> None:
    ring = Keyring()
    assert not ring.closed
    assert ring.whose(None) is ring.whose(BEARER) is ring.whose(b"Basic x") is ANYONE
    ring.replace({KEY.id: KEY})
    assert ring.closed
    assert ring.whose(BEARER).id == KEY.id
    ring.replace(None)  # ZooKeeper has lost its data
    assert ring.whose(BEARER).id == KEY.id
    ring.replace({})  # the last key was revoked: nobody is let in
    for shown in (None, BEARER):
        with pytest.raises(Unauthenticated):
            ring.whose(shown)


def test_insecure_asks_nobody_and_still_looks_at_what_is_shown() -> None:
    ring = keyring(KEY, insecure=True)
    assert not ring.closed
    assert ring.whose(None) is ANYONE
    assert ring.whose(BEARER).id == KEY.id
    with pytest.raises(Unauthenticated):
        ring.whose(BEARER[:-1])


def test_a_key_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    key, shown = new_key(ApiKey(id="", name="n", role=Role.PAYER, expires_ms=NOW_MS + 36_000_000))
    ring = keyring(key)
    bearer = f"Bearer {shown}".encode()
    assert ring.whose(bearer).id == key.id
    later_ns = (NOW_MS + 36_000_000) * 1_000_000
    monkeypatch.setattr("wallet_engine.service.keyring.time.time_ns", lambda: later_ns)
    ring.forget()
    for certificate in (None, key.id):
        with pytest.raises(Unauthenticated):
            ring.whose(bearer if certificate is None else None, certificate)


def test_two_secrets_are_good_during_a_rotation_and_never_three(monkeypatch: pytest.MonkeyPatch) -> None:
    second, second_shown = rotated(KEY, NOW_MS + 36_000_000)
    ring = keyring(second)
    both = [BEARER, f"Bearer {second_shown}".encode()]
    assert {ring.whose(shown).id for shown in both} == {KEY.id}
    third, third_shown = rotated(second, NOW_MS + 36_000_000)
    ring.replace({third.id: third})
    with pytest.raises(Unauthenticated):
        ring.whose(BEARER)
    assert ring.whose(both[1]).id == ring.whose(f"Bearer {third_shown}".encode()).id == KEY.id
    later_ns = (NOW_MS + 36_000_000) * 1_000_000
    monkeypatch.setattr("wallet_engine.service.keyring.time.time_ns", lambda: later_ns)
    ring.forget()
    with pytest.raises(Unauthenticated):
        ring.whose(both[1])
    assert ring.whose(f"Bearer {third_shown}".encode()).id == KEY.id


def test_a_certificate_is_the_key_that_it_names() -> None:
    ring = keyring(KEY)
    assert ring.whose(None, KEY.id).id == KEY.id
    assert ring.whose(BEARER, "another").id == KEY.id  # the key in the request decides
    for certificate in ("another", "", KEY.name):
        with pytest.raises(Unauthenticated):
            ring.whose(None, certificate)


def test_what_is_remembered_is_bounded() -> None:
    ring = keyring(KEY)
    for number in range(KNOWN_MAX + 10):
        assert ring.whose(b"Bearer " + b" " * number + SHOWN.encode()).id == KEY.id
    assert len(ring.known) == KNOWN_MAX


def test_only_the_digest_of_a_secret_is_kept() -> None:
    presented = parse_key(SHOWN)
    assert presented is not None
    assert len(presented.secret) == 64
    assert presented.secret not in repr(KEY)
    assert SHOWN.count("_") == 2
