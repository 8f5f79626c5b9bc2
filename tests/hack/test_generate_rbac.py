"""RBAC from the rules of the reconcilers."""

from __future__ import annotations

from itertools import product
from typing import Any

import yaml
from hypothesis import given
from hypothesis import strategies as st

from controller_runtime import Rule
from hack.generate.rbac import generate_rbac, merge

PODS = Rule("", ("pods",), ("get", "list", "watch"))
NODES = Rule("", ("nodes",), ("get",), cluster=True)

RULES = st.lists(
    st.builds(
        Rule,
        st.sampled_from(["", "apps", "serving.paddlepaddle.org"]),
        st.lists(st.sampled_from("abcd"), min_size=1, max_size=3, unique=True).map(tuple),
        st.lists(st.sampled_from(["get", "list", "patch"]), min_size=1, unique=True).map(tuple),
        st.lists(st.sampled_from(["one", "two"]), max_size=2, unique=True).map(tuple),
    ),
    max_size=6,
)


def files(*rules: Rule) -> dict[str, list[dict[str, Any]]]:
    generated = generate_rbac(rules, plurals=["apples", "pears"], scalable=["pears"])
    return {name: list(yaml.safe_load_all(text)) for name, text in generated.items()}


def grants(rules: list[dict[str, Any]]) -> set[tuple[str, str, str, tuple[str, ...]]]:
    return {
        (group, resource, verb, tuple(rule.get("resourceNames", ())))
        for rule in rules
        for group, resource, verb in product(rule["apiGroups"], rule["resources"], rule["verbs"])
    }


@given(rules=RULES)
def test_merging_grants_exactly_what_was_declared(rules: list[Rule]) -> None:
    declared = {
        (rule.group, resource, verb, tuple(sorted(rule.names)))
        for rule in rules
        for resource, verb in product(rule.resources, rule.verbs)
    }
    merged: Any = merge(rules)
    assert grants(merged) == declared
    assert merge(reversed(rules)) == merged


def test_the_operator_of_all_namespaces_has_every_rule_in_one_cluster_role() -> None:
    (role,) = files(PODS, NODES)["cluster/role.yaml"]
    assert role["kind"] == "ClusterRole"
    assert ("", "nodes", "get", ()) in grants(role["rules"])
    assert ("", "pods", "watch", ()) in grants(role["rules"])


def test_the_operator_of_some_namespaces_has_roles_and_no_cluster_role() -> None:
    below = {name: documents for name, documents in files(PODS).items() if name.startswith("namespaced/")}
    kinds = {document["kind"] for documents in below.values() for document in documents}
    assert kinds == {"Role", "RoleBinding", "Kustomization"}
    (role,) = below["namespaced/role.yaml"]
    assert "namespace" not in role["metadata"]
    assert grants(role["rules"]) == {("", "pods", verb, ()) for verb in PODS.verbs}


def test_cluster_scoped_kinds_need_a_cluster_role_of_their_own() -> None:
    found = files(PODS, NODES)
    role, binding = found["namespaced/cluster_role.yaml"]
    assert grants(role["rules"]) == {("", "nodes", "get", ())}
    assert binding["roleRef"]["name"] == role["metadata"]["name"]
    (limited,) = found["namespaced/role.yaml"]
    assert ("", "nodes", "get", ()) not in grants(limited["rules"])
    assert "cluster_role.yaml" in found["namespaced/kustomization.yaml"][0]["resources"]


def test_every_binding_names_a_role_that_exists_and_the_service_account() -> None:
    found = files(PODS, NODES)
    documents = [document for group in found.values() for document in group]
    roles = {(d["kind"], d["metadata"]["name"]) for d in documents if d["kind"].endswith("Role")}
    bindings = [d for d in documents if d["kind"].endswith("Binding")]
    assert len(bindings) == 5
    for binding in bindings:
        assert (binding["roleRef"]["kind"], binding["roleRef"]["name"]) in roles
        assert binding["subjects"] == [
            {"kind": "ServiceAccount", "name": "paddle-operator", "namespace": "paddle-system"}
        ]
    (account,) = found["common/service_account.yaml"]
    assert (account["metadata"]["name"], account["metadata"]["namespace"]) == (
        "paddle-operator",
        "paddle-system",
    )


def test_leader_election_is_limited_to_the_namespace_of_the_operator() -> None:
    role, binding = files()["common/leader_election.yaml"]
    assert (role["kind"], role["metadata"]["namespace"]) == ("Role", "paddle-system")
    assert binding["metadata"]["namespace"] == "paddle-system"
    assert {("coordination.k8s.io", "leases", verb, ()) for verb in ("create", "get", "update")} <= grants(
        role["rules"]
    )


def test_roles_for_people_join_the_clusters_own() -> None:
    viewer, editor = files()["cluster/user_roles.yaml"]
    assert viewer["metadata"]["labels"]["rbac.authorization.k8s.io/aggregate-to-view"] == "true"
    assert editor["metadata"]["labels"]["rbac.authorization.k8s.io/aggregate-to-admin"] == "true"
    group = "serving.paddlepaddle.org"
    assert {verb for *_, verb, _ in grants(viewer["rules"])} == {"get", "list", "watch"}
    assert (group, "pears/scale", "patch", ()) in grants(editor["rules"])
    assert (group, "apples/status", "patch", ()) not in grants(editor["rules"])
    assert not any(resource == "apples/scale" for _, resource, _, _ in grants(editor["rules"]))


def test_kustomizations_list_every_file() -> None:
    found = files(PODS, NODES)
    for folder in ("common", "cluster", "namespaced"):
        (listed,) = found[f"{folder}/kustomization.yaml"]
        beside = {name.split("/")[1] for name in found if name.startswith(f"{folder}/")}
        assert set(listed["resources"]) == beside - {"kustomization.yaml"}
