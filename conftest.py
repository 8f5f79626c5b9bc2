"""Settings for every test of the repository."""

import pytest
from hypothesis import HealthCheck, settings
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

pytest_plugins = ("e2e.fixtures",)

# Machines are shared and noisy: a slow draw says nothing about the code under test.
settings.register_profile("shared", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("shared")


NODE = "e2e/"
# Fixtures of tests/runtime that start processes.
SERVERS = {"server", "worker"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest parts come first: the node's tests, then the scenarios of controller_runtime.

    A test that stands on real servers may fail once because the machine is busy: it runs again, and the
    closing line counts it as a rerun.
    """

    def rank(item: pytest.Item) -> int:
        if item.nodeid.startswith(NODE):
            return 0
        return 1 if "scenarios" in item.path.parts else 2

    def on_servers(item: pytest.Item) -> bool:
        """On a node, an API server, or processes of the inference server."""
        processes = hasattr(getattr(item, "module", None), "serving")
        fixtures = SERVERS.intersection(getattr(item, "fixturenames", ()))
        return bool(rank(item) < 2 or processes or fixtures or item.get_closest_marker("apiserver"))

    items.sort(key=rank)  # stable: the order within a file stays
    for item in items:
        short = item.get_closest_marker("slow") is None  # hundreds of kills once are enough
        if short and on_servers(item):
            item.add_marker(pytest.mark.flaky(reruns=1))
        if getattr(getattr(item, "obj", None), "is_hypothesis_test", False):
            item.add_marker(pytest.mark.no_cover)  # counting lines doubles its time: examples by the hundred


class ByFile(LoadScopeScheduling):
    """Several pytest processes share the tests by file; all that use the one node stay in one process, but
    for the long canary scenarios, of which several may run on it (`make e2e-canary`).
    """

    def _split_scope(self, nodeid: str) -> str:
        if nodeid.startswith(f"{NODE}canary/") and "test_short" not in nodeid:
            return nodeid
        return NODE if nodeid.startswith(NODE) else nodeid.split("::")[0]


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> ByFile:
    config.option.loadscopereorder = False  # our own order stands
    return ByFile(config, log)


class Reruns:
    """Says at the end why a test ran twice: a pass afterwards hides what may be a fault."""

    def __init__(self) -> None:
        self.reports: list[pytest.TestReport] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if str(report.outcome) == "rerun":
            self.reports.append(report)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if self.reports:
            terminalreporter.section("failed at first, ran again")
        for report in self.reports:
            terminalreporter.write_sep("_", report.nodeid)
            terminalreporter.write_line(report.longreprtext[-4000:])


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(Reruns())
