"""Trials for the scenarios, and the report of those that ran."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

from e2e.canary import report
from e2e.canary.picture import Run
from e2e.canary.trial import Trial
from e2e.fixtures import ROOT, Namespace, Store
from e2e.kube import Kube

_outcome = pytest.StashKey[str]()
_began = pytest.StashKey[float]()


@pytest.hookimpl(trylast=True)  # after the root's, which marks the node's tests as flaky
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A scenario that misses is told; it is not run again until it holds."""
    for item in items:
        if item.path.parent == Path(__file__).parent and item.get_closest_marker("slow"):
            item.own_markers[:] = [marker for marker in item.own_markers if marker.name != "flaky"]


@pytest.fixture(scope="session")
def monitoring(kube: Kube) -> Kube:
    """The add-on Prometheus is asked for, and starts while other things are made."""
    kube.run("apply", "-k", str(ROOT / "config/local/prometheus"))
    return kube


@pytest.fixture(scope="session")
def versions(store: Store, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Five versions of one tiny model in the store: the key of each folder. Every process has its own: what
    is written again is new content.
    """
    from tests.support import models

    folder = tmp_path_factory.mktemp("canary")
    models.write_paddle(folder, weight=2.0, bias=1.0)
    own = os.environ.get("PYTEST_XDIST_WORKER", "alone")
    keys = {f"v1.{minor}.0": f"canary/{own}/v1.{minor}.0/" for minor in range(5)}
    for key in keys.values():
        store.put_folder(key, folder)
    return keys


@pytest.fixture(scope="session")
def prometheus(monitoring: Kube, operator: Kube, versions: dict[str, str]) -> Kube:
    """What the operator asks is ready, and all else that a canary needs."""
    ready = ("rollout", "status", "deployment/prometheus", "--timeout=90s")
    monitoring.run("-n", "paddle-monitoring", *ready, timeout=100)
    return operator


@pytest.fixture
def trial(
    prometheus: Kube, ns: Namespace, versions: dict[str, str], request: pytest.FixtureRequest
) -> Iterator[Callable[..., Trial]]:
    """Makes trials; each is written to the report at the end, whatever became of it."""
    made: list[tuple[Trial, float]] = []

    def make(title: str, **options: Any) -> Trial:
        one = Trial(prometheus, ns, versions, title, **options)
        made.append((one, time.monotonic()))
        return one

    yield make
    for number, (one, began) in enumerate(made):
        name = request.node.name.removeprefix("test_") + (f"-{number}" if number else "")
        _close(one, name, time.monotonic() - began, request)


def _close(one: Trial, name: str, seconds: float, request: pytest.FixtureRequest) -> None:
    problem = request.node.stash.get(_outcome, "")
    if problem and request.node.get_closest_marker("flaky"):
        name += "-missed"  # it runs again under its own name, and what went wrong is kept
    try:
        if problem:
            one.finish()
    except AssertionError as error:
        problem = f"{problem}; {error}"
    finally:
        one.close()
    moments = one.moments
    found = report.numbers(one.replies, moments) | one.notes
    result = report.Result(name=name, title=one.title, problem=problem, seconds=seconds, numbers=found)
    run = Run(title=one.title, moments=moments, replies=one.replies, versions=one.versions)
    report.write(result, run)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """The reason of a failure, for the report."""
    made = yield
    if made.when == "setup":
        item.stash[_outcome] = ""
    if made.when == "call" and made.failed:
        text = made.longreprtext.strip().splitlines()
        crash = getattr(made.longrepr, "reprcrash", None)
        item.stash[_outcome] = " ".join(str(crash.message if crash else text[-1]).split())[:400]
    return made


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_began] = time.time()


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """The files say what ran: with several pytest processes, none of them knows all."""
    written = report.results(since=config.stash.get(_began, time.time()))
    if not written:
        return
    (report.FOLDER / "index.html").write_text(report.page(report.results()))
    terminalreporter.section("canary scenarios")
    for line in report.lines(written):
        terminalreporter.write_line(line)
    terminalreporter.write_line(f"report: {report.FOLDER / 'index.html'}")
