"""The engine runs in other locales, and in directories whose names a shell would split."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support.dev_process import DevCluster
from support.verification import verified
from support.wallet_api import WalletApi

PARTITIONS = 4
#: Of a verb: doctor fails when a receipt takes 5 s on a loaded machine.
TRIES_MAX = 3
#: The data directory: a space, quotes, and a letter that is not ASCII.
FOLDER = 'm\u00fcller\'s "wallet" data'


def made_locale(folder: Path) -> dict[str, str]:
    """An ISO-8859-1 locale of the test's own."""
    folder.mkdir()
    made = folder / "de_DE.ISO-8859-1"
    subprocess.run(["localedef", "-i", "de_DE", "-f", "ISO-8859-1", str(made)], check=True, timeout=60)
    return {"LC_ALL": made.name, "LOCPATH": str(folder), "PYTHONUTF8": "0"}


@pytest.fixture(
    params=[
        "C",
        pytest.param(
            "ISO-8859-1",
            marks=pytest.mark.skipif(
                not (shutil.which("localedef") and Path("/usr/share/i18n/locales/de_DE").exists()),
                reason="no locale can be made here: apt-get install locales",
            ),
        ),
    ]
)
def environ(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, str]:
    """Variables of a process in another locale, with Python's UTF-8 mode off."""
    if request.param == "C":
        made = {"LC_ALL": "C", "PYTHONUTF8": "0"}
        expected = "ascii"
    else:
        made = made_locale(tmp_path / "locales")
        expected = "iso8859-1"
    look = "import codecs, locale; print(codecs.lookup(locale.getpreferredencoding(False)).name)"
    said = subprocess.run(
        [sys.executable, "-c", look], env={**os.environ, **made}, capture_output=True, check=True
    )
    assert said.stdout.decode().strip() == expected
    return made


def test_scripts_have_the_same_digests_and_help_is_shown(environ: dict[str, str]) -> None:
    digests = (
        "from wallet_engine.redis_store.scripts import service_scripts;"
        "print(*(script.sha for script in service_scripts()))"
    )
    commands: list[list[str]] = [[sys.executable, "-c", digests]]
    here, there = (
        subprocess.run(commands[0], env={**os.environ, **extra}, capture_output=True, check=True, timeout=60)
        for extra in ({}, environ)
    )
    assert here.stdout == there.stdout
    for command in (
        "wallet-engine serve --help",
        "wallet-engine journal --help",
        "wallet-admin doctor --help",
    ):
        program, *words = command.split()
        done = subprocess.run(
            [str(Path(sys.executable).with_name(program)), *words],
            env={**os.environ, **environ},
            capture_output=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("environ", ["ISO-8859-1", pytest.param("C", marks=pytest.mark.soak)], indirect=True)
def test_a_cluster_in_another_locale_and_a_folder_of_odd_name(
    dev_cluster: Any, tmp_path: Path, environ: dict[str, str]
) -> None:
    folder = tmp_path / FOLDER
    embedded = "LOCPATH" in environ  # one of the two locales with ZooKeeper is enough
    cluster: DevCluster = dev_cluster(
        data_dir=folder, partitions=PARTITIONS, embedded=embedded, environ=environ
    )
    with WalletApi(cluster.url, PARTITIONS) as api:
        ann, bob = api.account(0, "100.00"), api.account(1)
        api.paid(ann, bob, "1.00")
    verified(cluster)
    admin = [str(Path(sys.executable).with_name("wallet-admin")), *cluster.coordination_flags(), "--json"]
    for verb, extra in (("doctor", environ), ("journal info", environ), ("journal info", {})):
        argv, variables = [*admin, *verb.split()], {**os.environ, **extra}
        for _ in range(TRIES_MAX):
            done = subprocess.run(argv, env=variables, capture_output=True, timeout=60, check=False)
            if done.returncode == 0:
                break
        assert done.returncode == 0, (verb, done.stdout, done.stderr)
        document = json.loads(done.stdout)
        if verb == "journal info":
            assert document["copies"][0]["directory"] == str(folder / "journal")
            assert b'"segments":1' in done.stdout, "the folder is found"
    if not embedded:
        return  # the restart is checked in one of them
    assert cluster.stop() == 0
    cluster.start()
    with WalletApi(cluster.url, PARTITIONS) as api:
        assert api.balance(bob) == "1.00"
