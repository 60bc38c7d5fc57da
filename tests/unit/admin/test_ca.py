"""`ca init | issue | show`: the certificates as `openssl` reads them, permissions of keys, and what is not replaced."""

import json
import os
import stat
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner
from unit.admin.made import admin, answer, refusal

from wallet_engine.admin.cli import main
from wallet_engine.domain.principals import PeerRole, principal_of


def openssl(*words: str | Path) -> str:
    done = subprocess.run(
        ["openssl", *map(str, words)], capture_output=True, text=True, check=False, timeout=30
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def ca(tmp_path: Path) -> Path:
    assert admin("ca", "init", tmp_path / "ca").exit_code == 0
    return tmp_path / "ca"


def issued(ca: Path, role: str, name: str, *flags: str) -> tuple[Path, Path]:
    document = answer("ca", "issue", role, name, "--ca", ca, *flags)
    return Path(document["cert"]), Path(document["key_file"])


@pytest.mark.parametrize("role", PeerRole)
def test_a_certificate_names_one_principal_and_openssl_believes_it(ca: Path, role: PeerRole) -> None:
    cert, key = issued(ca, role, "x-1", "--hosts", "pay.example,10.0.0.4,[::1]")
    purpose = "sslserver" if role in (PeerRole.JOURNAL, PeerRole.SERVICE, PeerRole.SERVER) else "sslclient"
    openssl("verify", "-x509_strict", "-purpose", purpose, "-CAfile", ca / "ca.pem", cert)
    text = openssl("x509", "-in", cert, "-noout", "-text")
    names = f"URI:wallet:{role}/x-1, DNS:pay.example, IP Address:10.0.0.4, IP Address:0:0:0:0:0:0:0:1"
    assert names in text
    assert "CA:FALSE" in text
    own = openssl("x509", "-in", cert, "-noout", "-pubkey")
    assert openssl("pkey", "-in", key, "-pubout") == own
    (shown,) = answer("ca", "show", cert)["certificates"]
    assert (shown["principal"], 364 <= shown["days_left"] <= 365) == (f"{role}/x-1", True)


def test_who_is_no_server_cannot_be_one(ca: Path) -> None:
    cert, _ = issued(ca, "admin", "ann")
    with pytest.raises(AssertionError, match="purpose"):
        openssl("verify", "-purpose", "sslserver", "-CAfile", ca / "ca.pem", cert)


def test_keys_are_for_their_owner_alone_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        admin("ca", "init", tmp_path / "ca")
        _, key = issued(tmp_path / "ca", "service", "api-1")
    finally:
        os.umask(before)
    for path in (tmp_path / "ca" / "ca.key", key):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "ca").stat().st_mode) == 0o700


def test_what_is_there_stays(ca: Path) -> None:
    issued(ca, "journal", "j1")
    before = {path.name: path.read_bytes() for path in ca.iterdir()}
    assert "is there already, and stays as it is" in refusal(admin("ca", "init", ca))
    assert "is there already" in refusal(admin("ca", "issue", "journal", "j1", "--ca", ca))
    assert {path.name: path.read_bytes() for path in ca.iterdir()} == before
    issued(ca, "journal", "j1", "--renew")
    after = {path.name: path.read_bytes() for path in ca.iterdir()}
    assert {name for name in before if before[name] != after[name]} == {
        "journal-j1.pem",
        "journal-j1.key",
        "issued",
    }


def test_a_renewed_certificate_names_the_hosts_of_before(ca: Path) -> None:
    """Otherwise a renewal by the runbook would shut out all clients that check the host."""

    def names(*flags: str) -> str:
        cert, _ = issued(ca, "service", "api-1", *flags)
        return openssl("x509", "-in", cert, "-noout", "-ext", "subjectAltName")

    assert "DNS:pay.example, IP Address:10.0.0.4" in names("--hosts", "pay.example,10.0.0.4")
    for _ in range(2):
        assert "DNS:pay.example, IP Address:10.0.0.4" in names("--renew")
    assert "pay.example" not in names("--renew", "--hosts", "pay2.example")
    assert "DNS:" not in names("--renew", "--hosts", "")


@pytest.mark.parametrize(
    ("words", "said", "status"),
    [
        (("issue", "journal", "j/1"), "must be 1-64 of A-Z a-z 0-9", 2),
        (("issue", "journal", "j1", "--hosts", "a b"), "neither a name nor an address", 2),
        (("issue", "journal", "j1", "--days", "36500"), "give fewer --days", 1),
        (("issue", "journal", "j1", "--out", "/nowhere"), "is not a folder", 1),
    ],
)
def test_what_cannot_be_is_one_line_and_makes_nothing(
    ca: Path, words: tuple[str, ...], said: str, status: int
) -> None:
    assert said in refusal(admin("ca", *words, "--ca", ca), status)
    assert {path.name for path in ca.iterdir()} == {"ca.pem", "ca.key"}


def test_an_authority_that_is_none_or_that_others_can_read(ca: Path, tmp_path: Path) -> None:
    said = refusal(admin("ca", "issue", "journal", "j1", "--ca", tmp_path))
    assert "wallet-admin ca init" in said
    (ca / "ca.key").chmod(0o644)
    assert "others can read" in refusal(admin("ca", "issue", "journal", "j1", "--ca", ca))


def test_people_are_told_what_comes_next(ca: Path) -> None:
    said = admin("ca", "issue", "journal", "j1", "--ca", ca).stdout
    assert f"--peer-ca {ca}/ca.pem --peer-cert {ca}/journal-j1.pem --peer-key {ca}/journal-j1.key" in said
    assert json.loads(admin("ca", "issue", "key", "abc", "--ca", ca, "--json").stdout)["uri"] == (
        "wallet:key/abc"
    )
    assert "PRIVATE" not in said


@pytest.mark.parametrize(
    ("names", "found"),
    [
        ([("URI", "wallet:journal/j1"), ("DNS", "a")], "journal/j1"),
        ([("URI", "wallet:journal/j1"), ("URI", "https://elsewhere")], "journal/j1"),
        ([("URI", "wallet:journal/j1"), ("URI", "wallet:service/a")], None),
        ([("URI", "wallet:journal/")], None),
        ([("URI", "wallet:journal/j1/x")], None),
        ([("URI", "wallet:root/j1")], None),
        ([("DNS", "wallet:journal/j1")], None),
        ([("URI", "wallet:journal/j1\n")], None),
        ([], None),
    ],
)
def test_whose_a_certificate_is(names: list[tuple[str, str]], found: str | None) -> None:
    principal = principal_of({"subjectAltName": tuple(names)})
    assert (None if principal is None else str(principal)) == found


def test_what_is_revoked_is_on_the_list_and_the_next_one_is_good(ca: Path) -> None:
    first, _ = issued(ca, "journal", "j1")
    stolen = first.read_bytes()
    other, _ = issued(ca, "journal", "j2")
    assert "give ROLE and ID" in refusal(admin("ca", "revoke", "journal", "--ca", ca, "--yes"), 2)
    assert "nothing was issued to journal/j9" in refusal(
        admin("ca", "revoke", "journal", "j9", "--ca", ca, "--yes")
    )
    assert admin("ca", "revoke", "journal", "j1", "--ca", ca, input="n\n").exit_code == 1
    assert b"CRL" not in (ca / "ca.pem").read_bytes()
    document = answer("ca", "revoke", "journal", "j1", "--ca", ca, "--yes")
    assert len(document["revoked"]) == 1
    renewed, _ = issued(ca, "journal", "j1", "--renew")
    (ca / "stolen.pem").write_bytes(stolen)
    believed = ("verify", "-crl_check", "-CAfile", ca / "ca.pem")
    openssl(*believed, renewed)
    openssl(*believed, other)
    with pytest.raises(AssertionError, match="certificate revoked"):
        openssl(*believed, ca / "stolen.pem")

    rows = answer("ca", "list", "--ca", ca)["issued"]
    assert [(row["principal"], row["revoked"]) for row in rows] == [
        ("journal/j1", True),
        ("journal/j2", False),
        ("journal/j1", False),
    ]
    answer("ca", "revoke", "--cert", other, "--ca", ca, "--yes")
    assert [row["revoked"] for row in answer("ca", "list", "--ca", ca)["issued"]] == [True, True, False]


@pytest.mark.parametrize(
    ("words", "typed", "said"),
    [
        (("show", "nowhere"), "", "cannot read nowhere"),
        (("list", "--ca", "nowhere"), "", "no authority in nowhere"),
        (("issue", "key", "x", "--ca", "nowhere"), "", "no authority in nowhere"),
        (("revoke", "key", "k1"), "n\n", "not confirmed"),
        (("revoke", "key", "k1"), "", "not confirmed"),
    ],
)
def test_with_json_a_failure_is_a_document_too(
    ca: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], typed: str, said: str
) -> None:
    """The verbs of `ca` printed none, and no verb did when its question was answered no."""
    issued(ca, "key", "k1")
    monkeypatch.setenv("WALLET_CA", str(ca))
    result = CliRunner().invoke(main, ["ca", *words, "--json"], input=typed)
    assert (result.exit_code, list(json.loads(result.stdout))) == (1, ["error"])
    assert said in json.loads(result.stdout)["error"]
