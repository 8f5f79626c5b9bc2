"""PaddleModel: observe, decide, act."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import ClassVar

from pydantic import ValidationError

import controller_runtime as ctrl
from api.v1alpha1 import PaddleModelSpec
from artifacts import ArtifactError, Manifest, resolve

from ..caches import BY_MODEL, referenced_models
from ..kinds import FINALIZER, PADDLE_MODEL, PADDLE_SERVICE
from ..options import Options
from ..resolver import Outcome, Resolver
from .artifact import pinned
from .decide import Announcement, Decision, Observed, decide, decide_deleting
from .source import Wanted, read_credentials, wanted


class PaddleModelReconciler:
    """Resolves a model's artefact, hands it over to a PaddleService of its name and tells how that goes.

    Never blocks on an object store: questions run in the Resolver. Everything else comes from the cache, but
    for Secrets, which are read by name when a question is asked and are never kept.
    """

    rules: ClassVar[tuple[ctrl.Rule, ...]] = (
        ctrl.Rule(PADDLE_MODEL.group, ("paddlemodels",), ("get", "list", "watch", "patch")),
        ctrl.Rule(PADDLE_MODEL.group, ("paddlemodels/status",), ("patch",)),
        ctrl.Rule(PADDLE_MODEL.group, ("paddlemodels/finalizers",), ("update",)),
        ctrl.Rule(
            PADDLE_MODEL.group, ("paddleservices",), ("get", "list", "watch", "create", "patch", "delete")
        ),
        ctrl.Rule("", ("secrets",), ("get",)),
    )

    def __init__(
        self,
        *,
        client: ctrl.Client,
        reader: ctrl.Client,
        events: ctrl.EventRecorder,
        resolver: Resolver,
        options: Options,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._client = client
        self._reader = reader
        self._events = events
        self._resolver = resolver
        self._options = options
        self._now = now

    async def reconcile(self, request: ctrl.Request) -> ctrl.Result:
        try:
            return await self._reconcile(request)
        except ctrl.Forbidden as refusal:
            if refusal.namespace_terminating:
                return ctrl.Result()  # the model goes with its namespace
            raise

    async def _reconcile(self, request: ctrl.Request) -> ctrl.Result:
        model = await self._client.get(PADDLE_MODEL, request)
        if model is None:
            return ctrl.Result()
        if model.deleting:
            return await self._delete(model)
        if FINALIZER not in model.finalizers:
            await ctrl.add_finalizer(self._client, model, FINALIZER)
            return ctrl.Result()  # its own event brings the next pass, on what is really there
        observed, look_again = await self._observe(model)
        decision = decide(observed, self._options, self._now())
        await self._act(model, observed, decision)
        waits = [wait for wait in (look_again, decision.requeue_after) if wait is not None]
        return ctrl.Result(requeue_after=max(0.1, min(waits))) if waits else ctrl.Result()

    async def _observe(self, model: ctrl.Object) -> tuple[Observed, float | None]:
        service = await self._client.get(PADDLE_SERVICE, model.key)
        try:
            spec = PaddleModelSpec.model_validate(model.spec)
            question = wanted(spec, self._options)
        except (ValidationError, ArtifactError) as error:
            message = _first_line(error)
            refused = Observed(
                model=model, spec=None, wanted=None, outcome=None, invalid=message, service=service
            )
            return refused, None
        outcome, wait = self._ask(model, question)
        return Observed(model=model, spec=spec, wanted=question, outcome=outcome, service=service), wait

    def _ask(self, model: ctrl.Object, question: Wanted) -> tuple[Outcome | None, float | None]:
        """What the store says about `question`; what is pinned is asked for only now and then (drift)."""
        known = pinned(model.status, question) is not None
        if known and question.source.scheme in ("pvc", "file"):
            return None, None
        return self._resolver.ask(
            model.key,
            model.uid,
            question.question,
            lambda: self._resolve(model.namespace, question),
            refresh=self._options.drift_interval,
            delay=self._options.drift_interval if known else 0.0,
        )

    async def _resolve(self, namespace: str, question: Wanted) -> Manifest:
        credentials = await read_credentials(self._reader, namespace, question)
        return await resolve(
            question.source,
            credentials,
            checksum=question.checksum or None,
            deadline=self._options.resolve_timeout,
            policy=self._options.endpoint_policy,
        )

    async def _act(self, model: ctrl.Object, observed: Observed, decision: Decision) -> None:
        if decision.status != model.status:
            await self._client.apply_status(
                PADDLE_MODEL,
                model.key,
                decision.status,
                resource_version=model.resource_version,
                uid=model.uid,
            )
        for event in decision.events:
            self._announce(model, event)
        if decision.service is not None:
            await self._client.apply(decision.service)
        if decision.remove_service:
            await self._client.delete(PADDLE_SERVICE, model.key, uid=decision.remove_service)

    def _announce(self, model: ctrl.Object, event: Announcement) -> None:
        record = self._events.warning if event.warning else self._events.normal
        record(model, str(event.reason), event.message)

    async def _delete(self, model: ctrl.Object) -> ctrl.Result:
        """Lets a model go when no PaddleService names it; its own service goes with it (owner reference)."""
        self._resolver.forget(model.uid)
        if FINALIZER not in model.finalizers:
            return ctrl.Result()
        services = await self._client.list(
            PADDLE_SERVICE, namespace=model.namespace, index=(BY_MODEL, str(model.key))
        )
        users = tuple(sorted(service.name for service in services if not service.deleting))
        if not users:
            await ctrl.remove_finalizer(self._client, model, FINALIZER)
            return ctrl.Result()
        observed = Observed(model=model, spec=None, wanted=None, outcome=None, users=users)
        status = decide_deleting(observed, self._now())
        if status != model.status:
            await self._client.apply_status(
                PADDLE_MODEL, model.key, status, resource_version=model.resource_version, uid=model.uid
            )
            self._events.warning(model, "DeletionBlocked", str(status["message"]))
        return ctrl.Result()


def _first_line(error: Exception) -> str:
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        return f"spec.{where}: {first['msg']}"
    return str(error).splitlines()[0]


def concerned(service: ctrl.Object) -> list[ctrl.Key]:
    """The models that a PaddleService may stand in the way of: the one of its name, and those it names."""
    return [ctrl.Key(service.namespace, name) for name in (service.name, *referenced_models(service))]


def setup(manager: ctrl.Manager, options: Options) -> PaddleModelReconciler:
    """Adds the controller and its resolver to `manager`."""
    channel = ctrl.Channel()
    resolver = Resolver(
        channel=channel,
        timeout=options.resolve_timeout,
        concurrency=options.resolve_concurrency,
        now=time.monotonic,
    )
    manager.add(resolver)
    reconciler = PaddleModelReconciler(
        client=manager.client,
        reader=manager.api_reader,
        events=manager.events("paddlemodel-controller"),
        resolver=resolver,
        options=options,
    )
    (
        ctrl.controller(manager, "paddlemodel")
        .manages(PADDLE_MODEL)
        .owns(PADDLE_SERVICE)
        .watches(PADDLE_SERVICE, concerned)
        .source(channel)
        .complete(reconciler, workers=options.workers)
    )
    return reconciler
