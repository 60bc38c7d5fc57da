"""Metrics of the oracle of a `dev --oracle`."""

import urllib.error
import urllib.request

from support.dev_process import DevCluster


def oracle_figure(cluster: DevCluster, name: str) -> float:
    """The value of one of its metrics; NaN while it does not answer, or does not have the metric yet."""
    process = cluster.living("oracle")
    try:
        with urllib.request.urlopen(f"http://{process['address']}/metrics", timeout=10) as answer:
            lines = answer.read().decode().splitlines()
    except (urllib.error.URLError, ConnectionError):
        return float("nan")
    found = [line for line in lines if line.startswith((f"{name} ", f"{name}{{"))]
    return float(found[0].rpartition(" ")[2]) if found else float("nan")
