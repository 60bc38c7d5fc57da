"""The file of a backup is whole, or it is not there."""

import errno
import os
from pathlib import Path

import pytest
from unit.admin.made import admin, answer, make_map, refusal


def test_a_backup_on_a_full_disk_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It was empty, and the next try said that it existed already."""
    flags = ("--map-file", tmp_path / "map.json")
    make_map(tmp_path / "map.json", 4).close()
    file, sync = tmp_path / "backup.json", os.fsync

    def full(descriptor: int) -> None:
        if os.readlink(f"/proc/self/fd/{descriptor}") == str(file):
            raise OSError(errno.ENOSPC, "No space left on device")
        sync(descriptor)

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        said = refusal(admin("backup", file, *flags))
        assert said == f"cannot write {file}: No space left on device"
    assert not file.exists()
    assert answer("backup", file, *flags)["nodes"] > 3
    assert "exists already" in refusal(admin("backup", file, *flags))
    assert file.exists()
