"""What Prometheus really scrapes from a serving pod: the names and labels that analysis will be built on."""

from __future__ import annotations

import functools
import json
import urllib.parse
import urllib.request

import pytest

from e2e.fixtures import ROOT, Namespace
from e2e.kube import Kube, until

pytestmark = pytest.mark.cluster


def test_a_real_scrape_has_our_names_and_labels(operator: Kube, served: Namespace) -> None:
    ns = served
    operator.run("apply", "-k", str(ROOT / "config/local/prometheus"))
    operator.run(
        *("-n", "paddle-monitoring", "rollout", "status", "deployment/prometheus", "--timeout=90s"),
        timeout=100,
    )
    for _ in range(3):
        operator.predict(ns.name, "linear", {"x": [[1.0, 1.0, 3.0]]})

    with operator.forward("paddle-monitoring", "service/prometheus", 9090) as port:

        def series(query: str) -> list[dict[str, str]]:
            url = f"http://127.0.0.1:{port}/api/v1/query?{urllib.parse.urlencode({'query': query})}"
            with urllib.request.urlopen(url, timeout=10) as answer:
                return [item["metric"] for item in json.load(answer)["data"]["result"]]

        ours = f'paddle_namespace="{ns.name}",paddle_service="linear"'
        query = f'inference_request_total{{{ours},status_code="200"}} >= 3'
        found = until(lambda: series(query), within=60, what=lambda: f"no series for {query}")
        assert isinstance(found, list)
        assert found[0]["model"] == "linear"
        assert found[0]["model_version"] == "v1.0.0"
        assert found[0]["hardware"] == "cpu"
        assert found[0]["revision"]
        # One scrape of a pod stores all its series together, but each target has a beat of its own.
        for why, query in {
            "no bucket edge at the SLA": f'inference_latency_seconds_bucket{{{ours},le="0.123"}}',
            "the model is not loaded": f"model_load_success{{{ours}}} == 1",
            "codes do not start at 0": f'inference_request_total{{{ours},status_code="500"}} == 0',
            "the operator is not scraped": 'controller_runtime_reconcile_total{controller="paddleservice"}',
        }.items():
            until(functools.partial(series, query), within=60, what=lambda why=why: why)
