"""Queries of users' own, with what they cannot know beforehand filled in. Pure."""

from typing import Final

#: Where the side's revision belongs in a query.
REVISION: Final = "$revision"


def filled(query: str, *, namespace: str, service: str, revision: str, seconds: int) -> str:
    """`query` with $namespace, $service, $revision and $window (such as 60s).

    They are names that Kubernetes lets through (letters, digits, '-', '.'), so nothing has to be escaped.
    """
    for name, value in (
        ("$namespace", namespace),
        ("$service", service),
        (REVISION, revision),
        ("$window", f"{seconds}s"),
    ):
        query = query.replace(name, value)
    return query
