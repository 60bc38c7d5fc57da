"""`key create | list | show | rotate | revoke`: accepted values, output, and no secret is shown twice."""

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from unit.admin.made import admin, answer, make_map, refusal

from wallet_engine.admin.audit_log import audit_records
from wallet_engine.routing.api_keys import KEYS
from wallet_engine.routing.directory import Directory
from wallet_engine.service.keyring import Keyring, Unauthenticated

SHOWN = re.compile(r"wk_[a-z2-7]{8}_[0-9a-f]{64}")


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Directory]:
    opened = make_map(tmp_path / "map.json", 2)
    yield opened
    opened.close()


@pytest.fixture
def flags(tmp_path: Path, directory: Directory) -> list[str]:
    return ["--map-file", str(tmp_path / "map.json")]


def whose(directory: Directory, shown: str) -> str:
    ring = Keyring()
    ring.replace(directory.api_keys.all())
    return ring.whose(f"Bearer {shown}".encode()).id


def test_a_key_from_its_creation_to_its_end(directory: Directory, flags: list[str]) -> None:
    assert directory.api_keys.all() is None
    grants = ["--accounts", "shop-*,u:*", "--system", "@fees,@bank:eu", "--amount-max", "1000.00:USD,5:JPY"]
    grants += ["--rate", "2000", "--in-flight", "500", "--expires", "90d"]
    result = admin("key", "create", "shop", "--role", "treasury", *grants, "--json", *flags)
    assert result.exit_code == 0, result.output
    assert "every caller of the API needs a key" in result.stderr
    created = answer("key", "show", "shop", *flags)
    made = json.loads(result.stdout)
    shown = made["key"]
    assert SHOWN.fullmatch(shown)
    assert {name: made[name] for name in created if name != "last_used"} == {
        name: value for name, value in created.items() if name != "last_used"
    }
    assert (made["role"], made["accounts"], made["system"]) == (
        "treasury",
        ["shop-*", "u:*"],
        ["@fees", "@bank:eu"],
    )
    assert (made["amount_max"], made["rate"], made["in_flight"]) == (
        {"JPY": "5", "USD": "1000.00"},
        2000,
        500,
    )
    assert whose(directory, shown) == made["id"]
    assert answer("key", "list", *flags) == {
        "keys": [
            {
                "id": made["id"],
                "name": "shop",
                "role": "treasury",
                "expires": made["expires"],
                "last_used": None,
            }
        ]
    }
    directory.api_keys.note_used(made["id"], 1_700_000_000_000)
    assert answer("key", "list", *flags)["keys"][0]["last_used"] == "2023-11-14T22:13:20.000Z"

    rotated = answer("key", "rotate", made["id"], "--keep", "1h", "--yes", *flags)
    assert rotated["id"] == made["id"]
    assert whose(directory, shown) == whose(directory, rotated["key"]) == made["id"]
    again = answer("key", "rotate", "shop", "--keep", "0s", "--yes", *flags)
    for old in (shown, rotated["key"]):
        with pytest.raises(Unauthenticated):
            whose(directory, old)
    assert answer("key", "revoke", "shop", "--yes", *flags)["revoked"] is True
    with pytest.raises(Unauthenticated):
        whose(directory, again["key"])
    assert directory.api_keys.all() == {}  # not None, which would let everybody in
    node = directory.tree.get(KEYS)
    secrets = [text.rpartition("_")[2] for text in (shown, rotated["key"], again["key"])]
    kept = [str(node), *(record.what for record in audit_records(directory))]
    assert len(kept) == 5
    assert not any(secret in text for secret in secrets for text in kept)


def test_a_key_is_shown_to_people_once(flags: list[str]) -> None:
    created = admin("key", "create", "shop", "--role", "payer", *flags)
    assert len(SHOWN.findall(created.stdout)) == 1
    secret = SHOWN.findall(created.stdout)[0].rpartition("_")[2]
    rotated = admin("key", "rotate", "shop", "--yes", *flags)
    assert len(SHOWN.findall(rotated.stdout)) == 1
    for words in (("list",), ("show", "shop"), ("revoke", "shop", "--yes"), ("list",)):
        shown = admin("key", *words, *flags)
        assert shown.exit_code == 0
        assert secret not in shown.output
        assert not SHOWN.search(shown.output)


@pytest.mark.parametrize(
    ("words", "said", "status"),
    [
        (["create", "a b", "--role", "payer"], "name of a key 'a b'", 2),
        (["create", "n", "--role", "payer", "--accounts", "@bank"], "--accounts '@bank' is no pattern", 2),
        (["create", "n", "--role", "payer", "--accounts", "a*b*c*"], "is no pattern", 2),
        (["create", "n", "--role", "payer", "--system", "@fees"], "--system is for the role treasury", 2),
        (["create", "n", "--role", "treasury", "--system", "fees"], "is no system account such as @fees", 2),
        (
            ["create", "n", "--role", "treasury", "--system", "@mint"],
            "@mint is no system account of this cluster",
            1,
        ),
        (["create", "n", "--role", "payer", "--amount-max", "1000"], "is no amount of a currency", 2),
        (["create", "n", "--role", "payer", "--amount-max", "1.001:USD"], "is no amount of a currency", 2),
        (["create", "n", "--role", "payer", "--expires", "90"], "--expires '90' is no duration", 2),
        (["create", "n", "--role", "payer", "--expires", "0d"], "--expires 0d: such a key is never valid", 2),
        (["create", "n", "--role", "payer", "--expires", "999999999d"], "is longer than 100 years", 2),
        (["rotate", "taken", "--keep", "36501d", "--yes"], "is longer than 100 years", 2),
        (["create", "n", "--role", "payer", "--accounts", ""], "--accounts '' lacks a word", 2),
        (["create", "n", "--role", "payer", "--accounts", "a,,b"], "--accounts 'a,,b' lacks a word", 2),
        (["create", "n", "--role", "treasury", "--system", ""], "--system '' lacks a word", 2),
        (["create", "n", "--role", "payer", "--amount-max", ""], "--amount-max '' lacks a word", 2),
        (["create", "n", "--role", "payer", "--amount-max", "9:USD,5:USD"], "two amounts of USD", 2),
        (["create", "taken", "--role", "payer"], "there is a key taken already", 1),
        (["rotate", "nobody", "--yes"], "there is no key nobody", 1),
        (["revoke", "nobody", "--yes"], "there is no key nobody", 1),
        (["show", "nobody"], "there is no key nobody", 1),
    ],
)
def test_what_cannot_be_is_refused_and_changes_nothing(
    directory: Directory, flags: list[str], words: list[str], said: str, status: int
) -> None:
    answer("key", "create", "taken", "--role", "admin", *flags)
    before = directory.api_keys.all()
    assert said in refusal(admin("key", *words, *flags), status)
    assert directory.api_keys.all() == before


@pytest.mark.parametrize("rate", ["nan", "inf", "0", "-1"])
def test_a_rate_that_limits_nothing_is_refused(directory: Directory, flags: list[str], rate: str) -> None:
    result = admin("key", "create", "n", "--role", "payer", f"--rate={rate}", *flags)
    assert result.exit_code == 2
    assert "Invalid value for '--rate'" in result.stderr
    assert directory.api_keys.all() is None


def test_a_dry_run_makes_no_key(directory: Directory, flags: list[str]) -> None:
    result = admin("key", "create", "n", "--role", "payer", "--dry-run", "--json", *flags)
    assert result.exit_code == 0
    assert not SHOWN.search(result.output)
    assert directory.api_keys.all() is None


def test_keys_are_bounded(directory: Directory, flags: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wallet_engine.routing.api_keys.API_KEYS_MAX", 2)
    for name in ("a", "b"):
        answer("key", "create", name, "--role", "payer", *flags)
    assert "revoke what nobody uses" in refusal(admin("key", "create", "c", "--role", "payer", *flags))


def test_watching_tells_every_change_and_passes_over_what_cannot_be_read(
    directory: Directory, flags: list[str]
) -> None:
    seen: list[object] = []
    unwatch = directory.api_keys.watch(
        lambda keys: seen.append(None if keys is None else sorted(k.name for k in keys.values()))
    )
    try:
        wait_for(seen, [None])
        answer("key", "create", "a", "--role", "payer", *flags)
        wait_for(seen, [None, ["a"]])
        node = directory.tree.get(KEYS)
        assert node is not None
        version = directory.tree.set(KEYS, b"[{]", node.version)
        directory.tree.set(KEYS, node.data.replace(b'"payer"', b'"of a newer version"'), version)
        answer("key", "create", "b", "--role", "payer", *flags)
        wait_for(seen, [None, ["a"], ["a", "b"]])
    finally:
        unwatch()


def wait_for(seen: list[object], wanted: list[object]) -> None:
    deadline = time.monotonic() + 20
    while [x for i, x in enumerate(seen) if not i or x != seen[i - 1]] != wanted:
        assert time.monotonic() < deadline, seen
        time.sleep(0.02)
