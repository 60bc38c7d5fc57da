"""Account ids and transaction ids: what is valid, and the packed form."""

import uuid

import pytest

from wallet_engine.domain.errors import InvalidInput
from wallet_engine.domain.ids import (
    check_account_id,
    check_transaction_id,
    is_system,
    pack_transaction_id,
    unpack_transaction_id,
)

UUID_TEXT = "6f1c1a3e-0f4b-4c53-9a53-0d6f2f4e8b11"


@pytest.mark.parametrize("account", ["a", "A-z_0.9:x", "0", "-", "..", "a" * 64, "@bank", "@" + "a" * 63])
def test_account_id_is_accepted(account: str) -> None:
    assert check_account_id(account) == account


@pytest.mark.parametrize(
    "account",
    [
        "",
        "@",
        "a" * 65,
        "@" + "a" * 64,
        "a" * 1_000_000,
        "@@bank",
        "a@b",
        "a b",
        " a",
        "a\n",
        "a\x00",
        "a/b",
        "a{b}",
        "é",
        "а",  # Cyrillic
        "a١",
        "\ud800",
        None,
        1,
        b"a",
        ["a"],
    ],
)
def test_account_id_is_refused(account: object) -> None:
    with pytest.raises(InvalidInput) as refusal:
        check_account_id(account, "to_account")
    assert refusal.value.code == "invalid_request"
    assert "to_account" in refusal.value.detail


def test_system_accounts_begin_with_at() -> None:
    assert is_system("@bank")
    assert not is_system("bank")
    assert not is_system("")


@pytest.mark.parametrize(
    "text",
    [UUID_TEXT, UUID_TEXT.upper(), "00000000-0000-0000-0000-000000000000", "F" * 8 + UUID_TEXT[8:]],
)
def test_transaction_id_is_canonical_lower_case(text: str) -> None:
    assert check_transaction_id(text) == str(uuid.UUID(text))


@pytest.mark.parametrize(
    "text",
    [
        "",
        UUID_TEXT.replace("-", ""),
        "{" + UUID_TEXT + "}",
        "urn:uuid:" + UUID_TEXT,
        UUID_TEXT + "\n",
        " " + UUID_TEXT,
        UUID_TEXT[:-1],
        UUID_TEXT + "0",
        UUID_TEXT.replace("6", "g", 1),
        UUID_TEXT.replace("6", "٦", 1),
        UUID_TEXT.replace("-", "_"),
        "6f1c1a3e0-f4b-4c53-9a53-0d6f2f4e8b11",
        uuid.UUID(UUID_TEXT),
        None,
        0,
        UUID_TEXT.encode(),
    ],
)
def test_transaction_id_is_refused(text: object) -> None:
    with pytest.raises(InvalidInput) as refusal:
        check_transaction_id(text)
    assert refusal.value.code == "invalid_request"


@pytest.mark.parametrize("number", [0, 1, 2**128 - 1, 2**127, int(uuid.UUID(UUID_TEXT)), 0xFB << 120])
def test_packed_transaction_id_round_trips_without_separators(number: int) -> None:
    text = str(uuid.UUID(int=number))
    packed = pack_transaction_id(text)
    assert len(packed) == 22
    assert not set(packed) & set(" \n{}\t")
    assert unpack_transaction_id(packed) == text
