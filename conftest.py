"""Settings for every test of the repository."""

from hypothesis import HealthCheck, settings

pytest_plugins = ("e2e.fixtures",)

# Machines are shared and noisy: a slow draw says nothing about the code under test.
settings.register_profile("shared", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("shared")
