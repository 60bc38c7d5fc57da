"""The list of issued certificates after a crash or an edit: an authority can still issue, list and revoke."""

from pathlib import Path

import pytest

from wallet_engine.domain.errors import ConfigError
from wallet_engine.domain.principals import PeerRole, Principal
from wallet_engine.telemetry.authority import Authority

ONE, TWO = (Principal(PeerRole.SERVICE, name) for name in ("one", "two"))


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    made = Authority.create(tmp_path / "ca", "test")
    made.issue(ONE, days=1)
    return made


def named(authority: Authority) -> list[str]:
    return [row.principal for row in authority.issued()]


@pytest.mark.parametrize("torn", [b"{", b'{"serial":"1f","principal":"service/two","ends":"2026-'])
def test_a_row_that_was_not_written_whole_is_no_certificate(authority: Authority, torn: bytes) -> None:
    """The disk was full, or the power failed: the certificate is written after its row, so nobody has it."""
    rows = authority.folder / "issued"
    whole = rows.read_bytes()
    rows.write_bytes(whole + torn)
    assert named(authority) == ["service/one"]
    authority.issue(TWO, days=1)
    assert named(authority) == ["service/one", "service/two"]
    assert rows.read_bytes().startswith(whole)


def test_a_row_without_its_newline_counts(authority: Authority) -> None:
    """As an editor may leave it."""
    rows = authority.folder / "issued"
    rows.write_bytes(rows.read_bytes().removesuffix(b"\n"))
    assert named(authority) == ["service/one"]
    authority.issue(TWO, days=1)
    assert named(authority) == ["service/one", "service/two"]


def test_a_damaged_row_is_an_error(authority: Authority) -> None:
    """It may be of a certificate that somebody has."""
    rows = authority.folder / "issued"
    rows.write_bytes(b"{\n" + rows.read_bytes())
    with pytest.raises(ConfigError, match=r"cannot read .*issued"):
        authority.issued()
