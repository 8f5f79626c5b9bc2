"""Builders for what a PaddleService's decision may observe."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from controllers.paddleservice.observed import (
    Observed,
    Pod,
    Revision,
)
from controllers.paddleservice.rollout import models_json
from controllers.resources.desired import Desired, Model, Settings
from controllers.resources.meta import Owner
from controllers.rollout.identity import Recorded, identify

NOW = datetime(2026, 5, 4, 12, 0, 0, tzinfo=UTC)
OWNER = Owner("default", "svc", "owner")


def desired(version: str, *names: str, **more: object) -> Desired:
    models = tuple(
        Model(
            name=name,
            model=name,
            uid=f"uid-{name}",
            version=version,
            digest="sha256:" + "ab" * 32,
            source={
                "scheme": "s3",
                "endpoint": "http://s:1",
                "bucket": "b",
                "files": [{"key": "k", "path": "p"}],
            },
            **more,  # type: ignore[arg-type]
        )
        for name in names or ("m",)
    )
    return Desired(models=models)


def revision(
    wanted: Desired,
    *,
    replicas: int = 1,
    ready: int = 0,
    live: int | None = None,
    promoted: str = "",
    age: int = 0,
) -> Revision:
    made = identify(wanted, image="i:1")
    assert made is not None
    return Revision(
        hash=made.hash,
        name=f"svc-{made.hash}",
        uid=f"uid-{made.hash}",
        resource_version="1",
        created=(NOW - timedelta(hours=age)).strftime("%Y-%m-%dT%H:%M:%SZ"),
        replicas=replicas,
        ready=ready,
        live=replicas if live is None else live,
        leaving=0,
        promoted=promoted,
        recorded=Recorded(made.hash, "i:1", made.version, made.inputs),
        models=tuple(json.loads(models_json(wanted))),
        template_digest="",
        rollouts=1,
        template={},
        status={},
    )


def pod(of: Revision, number: int, *, ready: bool = False, content: str = "") -> Pod:
    return Pod(
        name=f"{of.name}-{number}",
        uid=f"{of.hash}-{number}",
        revision=of.hash,
        ip=f"10.0.0.{number}",
        ready=ready,
        ready_since=NOW if ready else None,
        deleting=False,
        started=True,
        content={"m": content} if content else {},
        raw={"metadata": {"name": f"{of.name}-{number}"}, "status": {}},
    )


def observed(wanted: Desired | None, *revisions: Revision, **more: object) -> Observed:
    base = Observed(
        owner=OWNER,
        generation=1,
        settings=Settings(replicas=1),
        status={},
        desired=wanted,
        waiting=None,
        revisions=revisions,
        pods=(),
        children={},
        foreign=(),
        seen={},
        default_image="i:1",
    )
    return replace(base, **more)  # type: ignore[arg-type]
