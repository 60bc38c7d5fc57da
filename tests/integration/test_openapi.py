"""The OpenAPI document against a cluster: its examples run in order as a story, then Schemathesis tries everything."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import jsonschema_rs
import pytest
import support
from support.dev_process import DevCluster
from support.http_client import Reply
from support.verification import verified
from support.wallet_api import WalletApi

from wallet_engine.http.examples import EXAMPLES, Example

PARTITIONS = 16
CONFIG = Path(support.__path__[0]) / "openapi" / "schemathesis.toml"
#: Cases of each operation and phase: in the suite, and in a soak.
CASES = 4
CASES_SOAK = 12
#: Most of this time goes to drawing the cases, not to answering them.
RUN_S_MAX = 220
#: These have tests of their own: places are opaque, and made-up webhook hosts must get no requests.
TRIED_APART = "^/v1/(events|webhooks)"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevCluster]:
    started = DevCluster(
        tmp_path_factory.mktemp("openapi") / "dev",
        partitions=PARTITIONS,
        embedded=True,
        extra=("--history",),
        environ={"PGSSLMODE": "verify-full"},  # of another database; that of `dev` has no TLS
    )
    try:
        yield started.start()
        verified(started)
    finally:
        started.kill_all()


def test_examples_are_a_story_that_is_true(cluster: DevCluster) -> None:
    with WalletApi(cluster.url, PARTITIONS) as api:
        document = api.get("/openapi.json").json()
        for example in (example for example in EXAMPLES if not example.apart):
            reply = told(api, example)
            assert reply.status in (200, 201), (example, reply)
            operation = document["paths"][example.template][example.method.lower()]
            schema = operation["responses"][str(reply.status)]["content"]["application/json"]["schema"]
            jsonschema_rs.validate({**schema, "components": document["components"]}, reply.json())


def test_every_operation_that_takes_something_has_an_example(cluster: DevCluster) -> None:
    with WalletApi(cluster.url, PARTITIONS) as api:
        paths = api.get("/openapi.json").json()["paths"]
    for template, item in paths.items():
        for method, operation in item.items():
            parts = [p for p in operation.get("parameters", []) if p["in"] != "header" and p["required"]]
            if body := operation.get("requestBody"):
                parts.append(body["content"]["application/json"])
            assert all(part["examples"] for part in parts), f"{method} {template}"


@pytest.mark.timeout(RUN_S_MAX + 20)
@pytest.mark.parametrize("seed", ["20261129", pytest.param("", marks=pytest.mark.soak)])
def test_schemathesis_finds_nothing(cluster: DevCluster, tmp_path: Path, seed: str) -> None:
    """The suite tries the same cases each time; a soak draws its own seed, and more cases."""
    cases = CASES if seed else CASES_SOAK
    seed = seed or str(int.from_bytes(os.urandom(4)))
    run = subprocess.run(
        [
            *(Path(sys.executable).with_name("schemathesis"), "--config-file", CONFIG, "run"),
            *(f"{cluster.url}/openapi.json", "--continue-on-failure", "--no-color"),
            *("--exclude-path-regex", TRIED_APART),
            *("--max-examples", str(cases), "--seed", seed, "--generation-database", "none"),
        ],
        cwd=tmp_path,
        env={
            **os.environ,
            "SCHEMATHESIS_HOOKS": "support.openapi.hooks",
            "PYTHONPATH": str(CONFIG.parents[2]),
        },
        capture_output=True,
        text=True,
        timeout=RUN_S_MAX,
    )
    assert run.returncode == 0, f"seed {seed}\n{run.stdout}{run.stderr}"


def told(api: WalletApi, example: Example) -> Reply:
    """The answer; a GET of history is repeated until history has it."""
    body = b"" if example.body is None else json.dumps(example.body).encode()
    deadline = time.monotonic() + 30
    while True:
        reply = api.request(example.method, path_of(example), body, {"Content-Type": "application/json"})
        if reply.status != 404 or example.method != "GET" or time.monotonic() > deadline:
            return reply
        time.sleep(0.1)


def path_of(example: Example) -> str:
    path, query = example.template, {}
    for name, value in example.parameters.items():
        if f"{{{name}}}" in path:
            path = path.replace(f"{{{name}}}", value)
        else:
            query[name] = value
    return f"{path}?{urlencode(query)}" if query else path


def names_of(document: dict[str, Any]) -> list[str]:
    """Every operation, schema and field that callers may rely on."""
    operations = [
        f"{method} {path} {operation['operationId']}"
        for path, item in document["paths"].items()
        for method, operation in item.items()
    ]
    schemas = document["components"]["schemas"]
    fields = [f"{name}.{field}" for name, schema in schemas.items() for field in schema["properties"]]
    return sorted([*operations, *fields])


def test_no_name_of_the_first_version_is_gone(cluster: DevCluster) -> None:
    with WalletApi(cluster.url, PARTITIONS) as api:
        names = names_of(api.get("/openapi.json").json())
    golden = Path(__file__).parents[1] / "golden" / "openapi_names.txt"
    missing = set(golden.read_text().splitlines()) - set(names)
    assert not missing, "names in the document change with a version only"
