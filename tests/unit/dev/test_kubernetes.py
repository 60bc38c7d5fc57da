"""Compares the Kubernetes example with the options of the programs. It is not applied to a cluster here."""

import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from wallet_engine.admin.cli import main as admin
from wallet_engine.app.serve import STOP_S_MAX
from wallet_engine.cli import main as engine
from wallet_engine.http.endpoints import ENDPOINTS
from wallet_engine.http.server import DRAIN_SECONDS_MAX

FOLDER = Path(__file__).resolve().parents[3] / "cluster_config" / "kubernetes"
KUSTOMIZATION: dict[str, Any] = yaml.safe_load((FOLDER / "kustomization.yaml").read_text())
OBJECTS: list[dict[str, Any]] = [
    found for name in KUSTOMIZATION["resources"] for found in yaml.safe_load_all((FOLDER / name).read_text())
]
SETS = {each["metadata"]["name"]: each["spec"] for each in OBJECTS if each["kind"] == "StatefulSet"}
PODS = {
    each["metadata"]["name"]: each["spec"]["template"]["spec"]
    for each in OBJECTS
    if "template" in each["spec"]
}
CONTAINERS = [
    (name, container)
    for name, pod in PODS.items()
    for container in (*pod.get("initContainers", ()), *pod["containers"])
]
OURS = [(name, container) for name, container in CONTAINERS if container["image"] == "wallet-engine"]
ids = [f"{name}/{container['name']}" for name, container in CONTAINERS]


def commands(container: dict[str, Any]) -> list[list[str]]:
    """The command lines of this project's programs in a container."""
    words = [word.replace("$(POD)", "pod-0") for word in container["command"]]
    if words[:2] != ["sh", "-c"]:
        return [words]
    pieces = re.split(r"&&|\|\||;|[{}]", words[2])
    return [shlex.split(piece) for piece in pieces if piece.strip()]


def context_of(line: list[str]) -> click.Context:
    command: click.Command = {"wallet-admin": admin, "wallet-engine": engine}[line[0]]
    rest, context = line[1:], None
    while True:
        context = command.make_context(line[0], list(rest), parent=context)
        if not isinstance(command, click.Group):
            return context
        verb, *rest = rest
        found = command.get_command(context, verb)
        assert found is not None, line
        command = found


def test_every_file_belongs_to_it() -> None:
    files = {path.name for path in FOLDER.iterdir()} - {"README.md", "kustomization.yaml"}
    made = {name for each in KUSTOMIZATION["configMapGenerator"] for name in each["files"]}
    assert files == {*KUSTOMIZATION["resources"], *made, "prometheus.yml"}
    assert set(SETS) == {"redis", "zookeeper", "journal", "api"}
    for path in FOLDER.glob("*.yaml"):
        assert "<<:" not in path.read_text(), "not every tool knows merge keys"


@pytest.mark.parametrize(("name", "container"), OURS, ids=[name for name, _ in OURS])
def test_every_command_and_variable_is_one_that_the_program_takes(
    name: str, container: dict[str, Any]
) -> None:
    lines = commands(container)
    assert lines
    known: set[str] = set()
    for line in lines:
        context = context_of(line)
        known |= {f"WALLET_{parameter.name}".upper() for parameter in context.command.params}
        ports = [
            value for what, value in context.params.items() if what in ("port", "metrics_port") and value
        ]
        assert set(ports) <= {port["containerPort"] for port in container.get("ports", ())}
        assert not context.params.get("insecure")
    variables = {row["name"] for row in container["env"]} - {"POD"}
    assert variables <= known
    assert {"WALLET_ZOOKEEPER_CA", "WALLET_REDIS_CA"} <= variables


@pytest.mark.parametrize(("name", "container"), CONTAINERS, ids=ids)
def test_a_container_sees_what_it_names(name: str, container: dict[str, Any]) -> None:
    pod = PODS[name]
    claims = [each["metadata"]["name"] for each in SETS.get(name, {}).get("volumeClaimTemplates", ())]
    volumes = {*(volume["name"] for volume in pod["volumes"]), *claims}
    assert {mount["name"] for mount in container["volumeMounts"]} <= volumes
    assert pod["securityContext"]["runAsNonRoot"]
    if container in pod["containers"] and name in SETS:
        assert container["resources"]["limits"]["memory"]
        ports = {port["name"] for port in container["ports"]}
        paths = {endpoint.template for endpoint in ENDPOINTS}
        for kind in ("readinessProbe", "livenessProbe"):
            probe = container[kind]
            if "httpGet" in probe:
                assert probe["httpGet"]["path"] in paths
                assert probe["httpGet"]["port"] in ports
                assert probe["httpGet"]["scheme"] == "HTTPS"
            elif "tcpSocket" in probe:
                assert probe["tcpSocket"]["port"] in ports


def test_every_set_has_its_service_and_its_budget() -> None:
    services = {each["metadata"]["name"]: each["spec"] for each in OBJECTS if each["kind"] == "Service"}
    budgets = [each["spec"] for each in OBJECTS if each["kind"] == "PodDisruptionBudget"]
    selected = [budget["selector"]["matchLabels"] for budget in budgets]
    for name, spec in SETS.items():
        labels = spec["template"]["metadata"]["labels"]
        assert spec["selector"]["matchLabels"] == labels
        service = services[spec["serviceName"]]
        assert service["selector"] == labels
        assert service["clusterIP"] == "None"
        assert labels in selected, name
        (container,) = spec["template"]["spec"]["containers"]
        ports = {port["containerPort"] for port in container["ports"]}
        assert {port["port"] for port in service["ports"]} <= ports
    assert all(budget["maxUnavailable"] == 1 for budget in budgets)


def test_addresses_are_those_of_pods_that_there_are() -> None:
    text = "".join(path.read_text() for path in FOLDER.iterdir())
    for pod, service in set(re.findall(r"([a-z]+-\d)\.([a-z-]+)\.wallet\.svc", text)):
        name, number = pod.rsplit("-", 1)
        assert SETS[name]["serviceName"] == service
        assert int(number) < SETS[name]["replicas"]
    assert KUSTOMIZATION["namespace"] == "wallet"


def test_prometheus_scrapes_every_pod_that_has_metrics_and_has_what_it_shows() -> None:
    file = FOLDER / "prometheus.yml"
    subprocess.run(["promtool", "check", "config", "--syntax-only", file], check=True, capture_output=True)
    config = yaml.safe_load(file.read_text())
    scraped = set()
    for job in config["scrape_configs"]:
        assert job["scheme"] == "https"
        scraped.update(target for each in job["static_configs"] for target in each["targets"])
    pods = {
        f"{name}-{number}.{SETS[name]['serviceName']}.wallet.svc:{port['containerPort']}"
        for name, of in (("api", "https"), ("journal", "metrics"))
        for number in range(SETS[name]["replicas"])
        for port in PODS[name]["containers"][0]["ports"]
        if port["name"] == of
    }
    assert scraped == pods
    (secret,) = re.findall(r"secret generic wallet-prometheus (.*)", (FOLDER / "README.md").read_text())
    assert set(re.findall(r"/secrets/([\w.]+)", str(config))) == set(
        re.findall(r"--from-file=([\w.]+)", secret)
    )


@pytest.mark.parametrize("name", ["redis.conf", "zoo.cfg"])
def test_settings_are_those_of_everywhere(name: str) -> None:
    here, there = (set(settings(folder / name)) for folder in (FOLDER, FOLDER.parent))
    assert there - here == set()


def settings(path: Path) -> list[str]:
    return [line for line in path.read_text().splitlines() if line and not line.startswith("#")]


def volumes_of(name: str) -> dict[str, dict[str, Any]]:
    return {volume["name"]: volume for volume in PODS[name]["volumes"]}


def test_every_secret_and_config_map_is_made_with_the_files_that_are_read() -> None:
    """The commands of the README make the secrets; kustomize makes the config maps."""
    made = {
        name: set(re.findall(r"--from-file=([\w.-]+)", files))
        for name, files in re.findall(
            r"create secret generic ([\w-]+) (.*)", (FOLDER / "README.md").read_text()
        )
    }
    maps = {each["name"]: set(each["files"]) for each in KUSTOMIZATION["configMapGenerator"]}
    named = set()
    for name, container in CONTAINERS:
        for mount in container["volumeMounts"]:
            volume = volumes_of(name).get(mount["name"], {})
            if "secret" in volume:
                files = made[volume["secret"]["secretName"]]
                read = re.findall(
                    rf"{mount['mountPath']}/([\w.()$-]+)", str(container).replace("$(POD)", f"{name}-0")
                )
                assert set(read) <= files, (name, files)
                named.add(volume["secret"]["secretName"])
            if "configMap" in volume:
                items = {item["key"] for item in volume["configMap"].get("items", ())}
                assert items <= maps[volume["configMap"]["name"]]
                named.add(volume["configMap"]["name"])
    assert named == (set(made) | set(maps)) - {"wallet-prometheus"}


def test_every_service_leads_to_pods_that_listen_there() -> None:
    by_label = {str(spec["template"]["metadata"]["labels"]): name for name, spec in SETS.items()}
    for each in OBJECTS:
        if each["kind"] == "Service":
            (container,) = PODS[by_label[str(each["spec"]["selector"])]]["containers"]
            listening = {port for row in container["ports"] for port in (row["name"], row["containerPort"])}
            for port in each["spec"]["ports"]:
                assert port.get("targetPort", port["port"]) in listening, each["metadata"]["name"]


def test_addresses_name_ports_that_are_listened_on() -> None:
    text = "".join(path.read_text() for path in FOLDER.iterdir())
    found = set(re.findall(r"([a-z]+)-\d\.[a-z-]+\.wallet\.svc:(\d+)(?::(\d+))?", text))
    assert len(found) >= len(SETS)
    for name, *ports in found:
        (container,) = PODS[name]["containers"]
        listening = {row["containerPort"] for row in container["ports"]}
        assert {int(port) for port in ports if port} <= listening, name


def test_an_api_process_has_the_time_that_it_takes_to_end() -> None:
    """Kubernetes kills a pod after its grace period, which starts with `preStop`."""
    pod = PODS["api"]
    (container,) = pod["containers"]
    (line,) = commands(container)
    _, before_s = container["lifecycle"]["preStop"]["exec"]["command"]
    takes_s = float(before_s) + context_of(line).params["leave_s"] + DRAIN_SECONDS_MAX + STOP_S_MAX
    assert pod["terminationGracePeriodSeconds"] > takes_s
