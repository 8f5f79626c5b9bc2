from __future__ import annotations

from collections.abc import Iterator

import pytest

from artifacts import Credentials, EndpointPolicy
from tests.artifacts.servers import CertificateAuthority, FileServer
from tests.support.objectstore import ACCESS_KEY, SECRET_KEY, ObjectStore

LOOPBACK = EndpointPolicy(allow_loopback=True)


@pytest.fixture(scope="session")
def store() -> Iterator[ObjectStore]:
    with ObjectStore.start() as running:
        yield running


@pytest.fixture
def admin() -> Credentials:
    return Credentials(ACCESS_KEY, SECRET_KEY)


@pytest.fixture
def files() -> Iterator[FileServer]:
    with FileServer() as server:
        yield server


@pytest.fixture(scope="session")
def authority() -> CertificateAuthority:
    return CertificateAuthority()
