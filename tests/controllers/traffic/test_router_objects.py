"""What the routers of a namespace are made of."""

from __future__ import annotations

import json
from typing import Any

from controllers.resources import router
from controllers.traffic.envoy.routers import RouterOptions, wanted

OPTIONS = RouterOptions(
    image="router:1",
    pull_policy="IfNotPresent",
    ads="paddle-operator-ads.paddle-system.svc:18000",
    name="paddle-operator-ads.paddle-system.svc",
    operator="paddle-system",
)


def objects(trusted: str = "CA") -> dict[str, Any]:
    made = {one.kind.kind: one.body for one in wanted("team-a", OPTIONS, trusted)}
    return dict(json.loads(json.dumps(made)))


def test_a_router_passes_pod_security_restricted_and_has_no_rights() -> None:
    pod = objects()["Deployment"]["spec"]["template"]["spec"]
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    (container,) = pod["containers"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert set(container["resources"]) == {"requests", "limits"}
    assert {"startupProbe", "readinessProbe", "livenessProbe"} <= set(container)
    (source,) = next(one for one in pod["volumes"] if one["name"] == "token")["projected"]["sources"]
    assert source["serviceAccountToken"]["audience"] == "paddle-operator-ads"
    mounted = {one["name"] for one in container["volumeMounts"]}
    assert mounted == {one["name"] for one in pod["volumes"]}


def test_two_routers_one_of_which_always_stays() -> None:
    made = objects()
    spec = made["Deployment"]["spec"]
    assert spec["replicas"] == 2
    assert spec["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}
    assert made["PodDisruptionBudget"]["spec"]["maxUnavailable"] == 1
    for selector in (spec["selector"], made["PodDisruptionBudget"]["spec"]["selector"]):
        assert selector["matchLabels"] == router.selector()
    assert router.selector().items() <= spec["template"]["metadata"]["labels"].items()


def test_a_new_authority_restarts_them_and_nothing_else_does() -> None:
    one, same, other = objects(), objects(), objects("CA\nanother")
    assert one == same

    def told(made: dict[str, Any]) -> str:
        return str(made["Deployment"]["spec"]["template"]["metadata"]["annotations"]["paddle-router/config"])

    assert told(one) != told(other)
    assert other["ConfigMap"]["data"]["ca.crt"] == "CA\nanother"


def test_who_may_talk_to_whom() -> None:
    spec = objects()["NetworkPolicy"]["spec"]
    listeners, status = spec["ingress"]
    assert listeners == {"ports": [{"protocol": "TCP", "port": 20000, "endPort": 29999}]}
    assert status["ports"] == [{"protocol": "TCP", "port": 9902}]
    pods, leader, dns = spec["egress"]
    assert [port["port"] for port in pods["ports"]] == [8080, 9000]
    assert leader["ports"] == [{"protocol": "TCP", "port": 18000}]
    assert leader["to"][0]["namespaceSelector"]["matchLabels"] == {
        "kubernetes.io/metadata.name": "paddle-system"
    }
    assert {port["port"] for port in dns["ports"]} == {53}


def test_outside_the_pod_there_is_nothing_to_administer() -> None:
    asking = json.loads(objects()["ConfigMap"]["data"]["asking.json"])
    assert set(asking["admin"]["address"]) == {"pipe"}
    text = json.dumps(asking["static_resources"]["listeners"])
    paths = {part.partition('"')[0] for part in text.split('"path": "')[1:]}
    assert paths == {"/ready", "/stats/prometheus"}
    (ads,) = [one for one in asking["static_resources"]["clusters"] if one["name"] == "router-ads"]
    validation = ads["transport_socket"]["typed_config"]["common_tls_context"]["validation_context"]
    assert validation["trusted_ca"] == {"filename": "/etc/paddle-router/ca.crt"}
    assert validation["match_typed_subject_alt_names"][0]["matcher"] == {"exact": OPTIONS.name}
