"""PaddleModel on a real API server and a real object store: what a wrong source gets, and how it heals."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

import controller_runtime as ctrl
from artifacts import EndpointPolicy
from controllers.kinds import FINALIZER, PADDLE_MODEL, PADDLE_SERVICE
from controllers.options import Options
from controllers.paddlemodel.reconciler import setup
from tests.support.objectstore import ACCESS_KEY, SECRET_KEY, ObjectStore
from tests.support.operator import eventually, running

if TYPE_CHECKING:
    from controller_runtime.testing import Envtest

pytestmark = pytest.mark.apiserver

OPTIONS = Options(
    runtime_image="runtime:1", endpoint_policy=EndpointPolicy(allow_loopback=True), resolve_timeout=2.0
)


@pytest.fixture(scope="module")
def store() -> Iterator[ObjectStore]:
    with ObjectStore.start() as store:
        store.put_all("models", {"lenet/v1/inference.json": b"{}", "lenet/v1/inference.pdiparams": b"12"})
        yield store


def body(namespace: str, store: ObjectStore, **changes: object) -> dict[str, object]:
    storage = {
        "endpoint": store.endpoint,
        "bucket": "models",
        "key": "lenet/v1/",
        "secretRef": {"name": "store"},
    }
    storage |= changes.pop("storage", {})  # type: ignore[call-overload]
    return {
        "apiVersion": PADDLE_MODEL.api_version,
        "kind": "PaddleModel",
        "metadata": {"name": "lenet", "namespace": namespace},
        "spec": {"framework": "paddle", "version": "v1.0.0", "storage": storage, **changes},
    }


def secret(namespace: str, name: str = "store", key: str = SECRET_KEY) -> dict[str, object]:
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "namespace": namespace},
        "stringData": {"accessKeyId": ACCESS_KEY, "secretAccessKey": key},
    }


def reason(model: ctrl.Object | None) -> str:
    """Reason of the condition ArtifactResolved, "" before there is one."""
    listed = model.status.get("conditions") or [] if model else []
    return next((str(item["reason"]) for item in listed if item["type"] == "ArtifactResolved"), "")


async def test_resolves_pins_and_hands_over(apiserver: Envtest, namespace: str, store: ObjectStore) -> None:
    async with apiserver.client() as client, running(apiserver.config, namespace, OPTIONS, [setup]):
        await client.create(secret(namespace))
        await client.create(body(namespace, store))
        key = ctrl.Key(namespace, "lenet")
        service = await eventually(client, PADDLE_SERVICE, key, lambda found: found is not None)
        model = await eventually(
            client, PADDLE_MODEL, key, lambda found: found and found.status.get("artifact")
        )
        assert service is not None
        assert model is not None
        assert service.controller_uid == model.uid
        pinned = service.spec["models"][0]["pinned"]
        assert pinned["digest"] == model.status["artifact"]["digest"]
        assert [item["path"] for item in pinned["source"]["files"]] == [
            "inference.json",
            "inference.pdiparams",
        ]
        assert pinned["secretRef"] == {"name": "store"}
        assert FINALIZER in model.finalizers
        assert model.status["phase"] == "Deploying"
        assert model.status["observedGeneration"] == model.generation

        generation = service.generation
        await client.patch(PADDLE_MODEL, key, {"metadata": {"labels": {"touched": "yes"}}}, type="merge")
        await client.patch(PADDLE_MODEL, key, {"spec": {"serving": {"replicas": 3}}}, type="merge")
        scaled = await eventually(
            client, PADDLE_SERVICE, key, lambda found: found is not None and found.spec.get("replicas") == 3
        )
        assert scaled is not None
        assert scaled.generation == generation + 1
        assert scaled.spec["models"][0]["pinned"] == pinned


@pytest.mark.parametrize(
    ("storage", "secret_key", "expected"),
    [
        ({"bucket": "nowhere"}, SECRET_KEY, "BucketNotFound"),
        ({"key": "lenet/v9/"}, SECRET_KEY, "KeyNotFound"),
        ({"secretRef": {"name": "missing"}}, SECRET_KEY, "SecretNotFound"),
        ({}, "wrong-secret-key", "InvalidCredentials"),
        ({"endpoint": "http://127.0.0.1:1"}, SECRET_KEY, "EndpointUnreachable"),
    ],
)
async def test_a_wrong_source_is_told_within_seconds(
    apiserver: Envtest,
    namespace: str,
    store: ObjectStore,
    storage: dict[str, object],
    secret_key: str,
    expected: str,
) -> None:
    async with apiserver.client() as client, running(apiserver.config, namespace, OPTIONS, [setup]):
        await client.create(secret(namespace, key=secret_key))
        await client.create(body(namespace, store, storage=storage))
        key = ctrl.Key(namespace, "lenet")
        model = await eventually(client, PADDLE_MODEL, key, lambda found: reason(found) == expected)
        assert model is not None
        assert model.status["phase"] == "Initialized"
        assert "\n" not in model.status["message"]
        assert await client.get_live(PADDLE_SERVICE, key) is None


async def test_a_forbidden_endpoint_is_refused_before_any_request(
    apiserver: Envtest, namespace: str, store: ObjectStore
) -> None:
    strict = Options(runtime_image="runtime:1", endpoint_policy=EndpointPolicy())
    async with apiserver.client() as client, running(apiserver.config, namespace, strict, [setup]):
        await client.create(secret(namespace))
        await client.create(body(namespace, store))
        key = ctrl.Key(namespace, "lenet")
        model = await eventually(
            client, PADDLE_MODEL, key, lambda found: reason(found) == "EndpointForbidden"
        )
        assert model is not None
        assert "--allowed-endpoints" in model.status["message"]


async def test_a_missing_secret_heals_by_itself(
    apiserver: Envtest, namespace: str, store: ObjectStore
) -> None:
    async with apiserver.client() as client, running(apiserver.config, namespace, OPTIONS, [setup]):
        await client.create(body(namespace, store))
        key = ctrl.Key(namespace, "lenet")
        await eventually(client, PADDLE_MODEL, key, lambda found: reason(found) == "SecretNotFound")
        await client.create(secret(namespace))
        await eventually(client, PADDLE_MODEL, key, lambda found: reason(found) == "Resolved", within=15)


async def test_fails_after_the_deadline(apiserver: Envtest, namespace: str, store: ObjectStore) -> None:
    async with apiserver.client() as client, running(apiserver.config, namespace, OPTIONS, [setup]):
        await client.create(body(namespace, store, serving={"progressDeadlineSeconds": 10}))
        key = ctrl.Key(namespace, "lenet")
        await eventually(
            client,
            PADDLE_MODEL,
            key,
            lambda found: found and found.status.get("phase") == "Failed",
            within=20,
        )


async def test_a_foreign_paddle_service_is_left_alone(
    apiserver: Envtest, namespace: str, store: ObjectStore
) -> None:
    key = ctrl.Key(namespace, "lenet")
    async with apiserver.client() as client:
        foreign = await client.create(
            {
                "apiVersion": PADDLE_SERVICE.api_version,
                "kind": "PaddleService",
                "metadata": {"name": "lenet", "namespace": namespace},
                "spec": {"models": [{"name": "x", "modelRef": {"name": "other"}}]},
            }
        )
        async with running(apiserver.config, namespace, OPTIONS, [setup]):
            await client.create(secret(namespace))
            await client.create(body(namespace, store))
            model = await eventually(
                client, PADDLE_MODEL, key, lambda found: found and found.status.get("phase") == "Failed"
            )
            assert model is not None
            assert "is not ours" in model.status["message"]
            live = await client.get_live(PADDLE_SERVICE, key)
            assert live is not None
            assert live.resource_version == foreign.resource_version
            await client.delete(PADDLE_SERVICE, key)
            taken = await eventually(
                client,
                PADDLE_SERVICE,
                key,
                lambda found: found is not None and found.controller_uid == model.uid,
            )
            assert taken is not None


async def test_a_model_in_use_is_not_deleted_under_its_service(
    apiserver: Envtest, namespace: str, store: ObjectStore
) -> None:
    key, user = ctrl.Key(namespace, "lenet"), ctrl.Key(namespace, "user")
    async with apiserver.client() as client, running(apiserver.config, namespace, OPTIONS, [setup]):
        await client.create(secret(namespace))
        await client.create(body(namespace, store, serving={"enabled": False}))
        await eventually(
            client, PADDLE_MODEL, key, lambda found: found and found.status.get("phase") == "Ready"
        )
        await client.create(
            {
                "apiVersion": PADDLE_SERVICE.api_version,
                "kind": "PaddleService",
                "metadata": {"name": "user", "namespace": namespace},
                "spec": {"models": [{"name": "x", "modelRef": {"name": "lenet"}}]},
            }
        )
        await eventually(client, PADDLE_SERVICE, user, lambda found: found is not None)
        await client.delete(PADDLE_MODEL, key)
        held = await eventually(
            client,
            PADDLE_MODEL,
            key,
            lambda found: found and "still names" in found.status.get("message", ""),
        )
        assert held is not None
        assert any(item["type"] == "DeletionBlocked" for item in held.status["conditions"])
        await client.delete(PADDLE_SERVICE, user)
        await eventually(client, PADDLE_MODEL, key, lambda found: found is None)


async def test_a_quiet_operator_writes_nothing(
    apiserver: Envtest, namespace: str, store: ObjectStore
) -> None:
    key = ctrl.Key(namespace, "lenet")
    async with apiserver.client() as client:
        async with running(apiserver.config, namespace, OPTIONS, [setup]):
            await client.create(secret(namespace))
            await client.create(body(namespace, store))
            await eventually(client, PADDLE_SERVICE, key, lambda found: found is not None)
            await eventually(
                client, PADDLE_MODEL, key, lambda found: found and found.status.get("phase") == "Deploying"
            )
        model, service = await client.get_live(PADDLE_MODEL, key), await client.get_live(PADDLE_SERVICE, key)
        assert model is not None
        assert service is not None
        async with running(apiserver.config, namespace, OPTIONS, [setup]):
            marker = body(namespace, store)
            marker["metadata"] = {"name": "marker", "namespace": namespace}
            await client.create(
                marker
            )  # reconciled after the others: what was to be written has been written
            other = ctrl.Key(namespace, "marker")
            await eventually(client, PADDLE_SERVICE, other, lambda found: found is not None)
        again, untouched = (
            await client.get_live(PADDLE_MODEL, key),
            await client.get_live(PADDLE_SERVICE, key),
        )
        assert again is not None
        assert untouched is not None
        assert again.resource_version == model.resource_version
        assert untouched.resource_version == service.resource_version


async def test_a_namespace_on_its_way_out_is_no_error(
    apiserver: Envtest, namespace: str, store: ObjectStore
) -> None:
    async with apiserver.client() as client:
        await client.create(body(namespace, store))
        await client.delete(ctrl.NAMESPACE, ctrl.Key("", namespace))
        with pytest.raises(ctrl.Forbidden) as refused:
            await client.create(secret(namespace))
        assert refused.value.namespace_terminating
        assert not ctrl.Forbidden(403, "Forbidden", "no").namespace_terminating
