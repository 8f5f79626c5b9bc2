"""The desired models of this process: finding one by name, and whether the process is ready."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from runtime.errors import RequestError
from runtime.metrics import ModelMetrics
from runtime.model import Model
from runtime.signature import Wire
from runtime.slot import Stage

if TYPE_CHECKING:
    from runtime.ondemand import OnDemand

# Earlier versions of a model whose counters stay, so that the last scrape before a swap is not the last one
# that counted.
_VERSIONS = 4


@dataclass(slots=True, kw_only=True)
class Reload:
    """A version on its way to replace what serves, or why it did not. `state` is a stage of the progress
    report, or Pulling; counts are bytes.
    """

    version: str
    digest: str
    state: str = "Pulling"
    reason: str = ""
    message: str = ""
    done: int = 0
    total: int = 0
    rate: float = 0.0
    eta: float = 0.0

    def to_wire(self) -> Wire:
        return {
            "version": self.version,
            "digest": self.digest,
            "state": self.state,
            "reason": self.reason,
            "message": self.message,
            "bytesDone": self.done,
            "bytesTotal": self.total,
            "bytesPerSecond": self.rate,
            "etaSeconds": self.eta,
        }


class Registry:
    """Ready means first that every desired model has answered; from then on that any of them answers, so
    that one lost model does not take the others out of service. Draining is never ready.

    `models` holds the generation of each name that new requests go to; `install` is the swap, one assignment
    in the loop's thread. `reloads` holds what is under way or failed beside it, `unloaded` the versions that
    somebody took out by hand. Models that come `on_demand` are known, but say nothing about readiness.
    """

    def __init__(self, models: Sequence[Model]) -> None:
        self.models = {model.spec.name: model for model in models}
        self.reloads: dict[str, Reload] = {}
        self.unloaded: dict[str, str] = {}
        self.on_demand: OnDemand | None = None
        self.problem = ""  # why the desired state cannot be read
        self.starting = False  # a port is not open yet
        self.draining = False
        self.unknown = ModelMetrics("", "")
        self._history: dict[str, list[ModelMetrics]] = {}
        self._was_ready = False

    def install(self, model: Model) -> None:
        """From now on requests for its name go to `model`."""
        name = model.spec.name
        old = self.models.get(name)
        if old is not None:
            past = self._history.setdefault(name, [])
            for earlier in past:
                if earlier.version == model.metrics.version:
                    model.metrics.resume(earlier)
            if old.metrics.version != model.metrics.version:
                past.append(old.metrics)
            model.metrics.succeed(old.metrics)
            kept = [metrics for metrics in past if metrics.version != model.metrics.version]
            self._history[name] = kept[-_VERSIONS:]
        self.models[name] = model

    def remove(self, name: str) -> None:
        """Requests for `name` get 404 from now on; its counters go with it."""
        self.models.pop(name, None)
        self.reloads.pop(name, None)
        self._history.pop(name, None)

    def find(self, name: str | None, version: str | None = None) -> Model:
        """The model of a name, or the only one when no name is given. Raises RequestError(404) or (400), or
        NotLoaded for one that comes on demand.
        """
        if name is None:
            names = self.names()
            if len(names) != 1:
                raise RequestError(400, f"model is missing; send one of {self._names()}")
            name = names[0]
        model = self.models.get(name)
        if self.on_demand is not None:
            self.on_demand.used(name)
            if (model is None or self.on_demand.comes(name)) and (state := self.on_demand.state(name)):
                raise state
        if model is None:
            raise RequestError(404, f"model {name[:100]!r} is unknown; this server has {self._names()}")
        if version is not None and version != model.spec.version:
            raise RequestError(
                404, f"model {name!r} has no version {version[:100]!r}; it is {model.spec.version!r}"
            )
        return model

    def reasons(self) -> dict[str, str]:
        """Why the process is not ready, for each model that keeps it from being so; empty when it is."""
        if self.draining or self.starting:
            return {"server": "draining" if self.draining else "starting"}
        models = self.models
        if self.on_demand is not None:
            models = {name: model for name, model in models.items() if not self.on_demand.owns(name)}
        lacking = {name: why(model) for name, model in models.items() if not model.ready}
        if not lacking:
            self._was_ready = True
        if self._was_ready and len(lacking) < len(models):
            return {}
        return lacking

    def statistics(self, name: str | None, version: str | None = None) -> list[Wire]:
        """V2 statistics of one model, or of all. Raises RequestError(404)."""
        models = list(self.models.values()) if name is None else [self.find(name, version)]
        return [model.metrics.statistics.to_wire(model.spec.name, model.spec.version) for model in models]

    def index(self, *, ready: bool = False) -> list[Wire]:
        """V2's repository index: every desired model and what was unloaded, or only those that serve. The
        reason of a model that serves is why the version after it does not, if there is one.
        """
        found: list[Wire] = []
        for name, model in self.models.items():
            if ready and not model.ready:
                continue
            state = "READY" if model.ready else "UNAVAILABLE" if model.error is not None else "LOADING"
            reason = "" if model.ready else why(model)
            reload = self.reloads.get(name)
            if model.ready and reload is not None:
                reason = f"version {reload.version or '?'} is {reload.state}"
                reason += f": {reload.reason}: {reload.message}" if reload.reason else ""
            found.append({"name": name, "version": model.spec.version, "state": state, "reason": reason})
        if not ready:
            found += [
                {"name": name, "version": version, "state": "UNAVAILABLE", "reason": "unloaded"}
                for name, version in self.unloaded.items()
                if name not in self.models
            ]
            found += self._absent()
        return found

    def _absent(self) -> list[Wire]:
        """Models on demand that are not there now."""
        found: list[Wire] = []
        if self.on_demand is None:
            return found
        for name in self.on_demand.names():
            absent = name not in self.models and name not in self.unloaded
            if absent and (state := self.on_demand.state(name)) is not None:
                found.append({"name": name, "version": "", "state": "UNAVAILABLE", "reason": state.message})
        return found

    def names(self) -> list[str]:
        """Of all models that requests may name."""
        names = list(self.models)
        if self.on_demand is not None:
            names += [name for name in self.on_demand.names() if name not in self.models]
        return names

    def all_metrics(self) -> list[ModelMetrics]:
        past = [metrics for kept in self._history.values() for metrics in kept]
        return [*past, *(model.metrics for model in self.models.values()), self.unknown]

    @property
    def stage(self) -> Stage:
        """The stage that describes the whole: the one of the model that is furthest from serving."""
        stages = {model.stage for model in self.models.values()}
        order = (Stage.FAILED, Stage.WAITING, Stage.LOADING, Stage.WARMING_UP)
        return next((stage for stage in order if stage in stages), Stage.READY)

    def _names(self) -> str:
        return ", ".join(repr(name) for name in self.names()) or "no models"


def why(model: Model) -> str:
    """One line on a model that does not answer."""
    if model.error is not None:
        return f"{model.error.reason.value}: {model.error.message}"
    return model.stage.value
