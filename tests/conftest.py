"""Fixtures for every test: a real API server (one a session), a namespace of its own (one a test)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from controller_runtime.testing import Envtest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def apiserver() -> Iterator[Envtest]:
    """etcd and kube-apiserver with the project's CRDs. Each test opens its own client:
    `apiserver.client()`.
    """
    from controller_runtime.testing import Envtest  # late: unit tests do not pay for its imports

    crds = ROOT / "config" / "crd"
    with Envtest(crds=[crds] if any(crds.glob("*.yaml")) else []) as env:
        yield env


@pytest.fixture
def namespace(apiserver: Envtest, request: pytest.FixtureRequest) -> str:
    """A fresh namespace, named after the test. It is not deleted: nothing here would finish the deletion."""
    name = re.sub(r"[^a-z0-9]+", "-", request.node.name.lower()).strip("-")
    return apiserver.create_namespace(name[:40].strip("-"))
