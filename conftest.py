"""Settings for every test of the repository."""

import pytest
from hypothesis import HealthCheck, settings

pytest_plugins = ("e2e.fixtures",)

# Machines are shared and noisy: a slow draw says nothing about the code under test.
settings.register_profile("shared", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("shared")


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Two pytest processes share the tests by file; all that use the one node stay in one of them.

    The longest parts come first: the node's tests, then the scenarios of controller_runtime.
    """

    def rank(item: pytest.Item) -> int:
        if item.get_closest_marker("cluster"):
            return 0
        return 1 if "scenarios" in item.path.parts else 2

    items.sort(key=rank)  # stable: the order within a file stays
    for item in items:
        group = "node" if rank(item) == 0 else str(item.path.relative_to(item.config.rootpath))
        item.add_marker(pytest.mark.xdist_group(group))
