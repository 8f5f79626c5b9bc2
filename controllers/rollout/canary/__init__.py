"""The canary's step machine: from the spec's steps and what is observed to weights and sizes. Pure."""

from .effects import Effect, Ensure, Promote, Scale, SetWeight, StartAnalysis
from .facts import Command, Facts, Found, Plan, Pods, Report, Route, Step, Verb, command
from .machine import Decision, Transition, decide, markdown
from .state import Canary, Ending, Finished, Pause, Phase, Traffic, analysis_name
from .wire import from_wire, to_wire

__all__ = [
    "Canary",
    "Command",
    "Decision",
    "Effect",
    "Ending",
    "Ensure",
    "Facts",
    "Finished",
    "Found",
    "Pause",
    "Phase",
    "Plan",
    "Pods",
    "Promote",
    "Report",
    "Route",
    "Scale",
    "SetWeight",
    "StartAnalysis",
    "Step",
    "Traffic",
    "Transition",
    "Verb",
    "analysis_name",
    "command",
    "decide",
    "from_wire",
    "markdown",
    "to_wire",
]
