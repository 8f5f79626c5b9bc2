"""Tells the operator what to do with a run, and waits for its answer."""

from collections.abc import Callable
from dataclasses import replace

from controllers.rollout.canary import Command, Verb
from controllers.rollout.canary.machine import taken
from controllers.rollout.canary.rows import ROWS

from .cluster import COMMAND, SERVICES, Cluster
from .errors import CliError
from .look import look
from .reading import Reading

#: Seconds between two looks for the answer.
EVERY = 0.5


def objection(reading: Reading, verb: Verb) -> str:
    """Why the command would do nothing, by the step machine's own table; "" if it would do something."""
    given = Command(verb, reading.state.run, "asked")
    view = replace(reading.view, facts=replace(reading.view.facts, command=given))
    row = taken(view)
    if row is None or row.event != "any other command":
        return ""
    if verb is Verb.Retry and not reading.state.active:
        return f"nothing to retry: the revision that {reading.name} asks for was not rejected"
    phases = [phase for row in ROWS if _names(row.event, verb) for phase in row.phases]
    works = ", ".join(dict.fromkeys(map(str, phases)))
    return f"{verb} does nothing in phase {reading.state.phase}: it works in {works}"


def _names(event: str, verb: Verb) -> bool:
    return str(verb) in event.split(", ")


def command(
    cluster: Cluster,
    name: str,
    verb: Verb,
    *,
    token: str,
    now: Callable[[], float],
    sleep: Callable[[float], None],
    timeout: float,
) -> str:
    """The operator's answer. Raises CliError when the command does not apply, or after `timeout` seconds."""
    before = look(cluster, name, now)
    if problem := objection(before, verb):
        raise CliError(problem)
    given = f"{verb}/{before.state.run}/{token}"
    cluster.annotate(SERVICES, name, COMMAND, given)
    deadline = now() + timeout
    while True:
        state = look(cluster, name, now).state
        if state.token == token:
            if not state.answer.endswith("done"):
                raise CliError(f"{verb}: {state.answer}")
            return f"{name}: run {before.state.run}: {state.answer}, now {state.phase}"
        if now() >= deadline:
            raise CliError(
                f"the operator has not answered within {timeout:g} s; the command {given} stays on the "
                "service and is done once it looks: kubectl -n paddle-system get pods"
            )
        sleep(EVERY)
