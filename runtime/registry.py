"""The desired models of this process: finding one by name, and whether the process is ready."""

from __future__ import annotations

from collections.abc import Sequence

from runtime.errors import RequestError
from runtime.metrics import ModelMetrics
from runtime.model import Model
from runtime.signature import Wire
from runtime.slot import Stage


class Registry:
    """Ready means first that every desired model has answered; from then on that any of them answers, so
    that one lost model does not take the others out of service. Draining is never ready.
    """

    def __init__(self, models: Sequence[Model]) -> None:
        self.models = {model.spec.name: model for model in models}
        self.draining = False
        self.unknown = ModelMetrics("", "")
        self._was_ready = False

    def find(self, name: str | None, version: str | None = None) -> Model:
        """The model of a name, or the only one when no name is given. Raises RequestError(404) or (400)."""
        if name is None:
            if len(self.models) != 1:
                raise RequestError(400, f"model is missing; send one of {self._names()}")
            return next(iter(self.models.values()))
        model = self.models.get(name)
        if model is None:
            raise RequestError(404, f"model {name[:100]!r} is unknown; this server has {self._names()}")
        if version is not None and version != model.spec.version:
            raise RequestError(
                404, f"model {name!r} has no version {version[:100]!r}; it is {model.spec.version!r}"
            )
        return model

    def reasons(self) -> dict[str, str]:
        """Why the process is not ready, for each model that keeps it from being so; empty when it is."""
        if self.draining:
            return {"server": "draining"}
        lacking = {name: why(model) for name, model in self.models.items() if not model.ready}
        if not lacking:
            self._was_ready = True
        if self._was_ready and len(lacking) < len(self.models):
            return {}
        return lacking

    def statistics(self, name: str | None, version: str | None = None) -> list[Wire]:
        """V2 statistics of one model, or of all. Raises RequestError(404)."""
        models = list(self.models.values()) if name is None else [self.find(name, version)]
        return [model.metrics.statistics.to_wire(model.spec.name, model.spec.version) for model in models]

    def index(self, *, ready: bool = False) -> list[Wire]:
        """V2's repository index: every desired model, or only those that serve."""
        found: list[Wire] = []
        for model in self.models.values():
            if ready and not model.ready:
                continue
            state = "READY" if model.ready else "UNAVAILABLE" if model.error is not None else "LOADING"
            reason = "" if model.ready else why(model)
            found.append(
                {"name": model.spec.name, "version": model.spec.version, "state": state, "reason": reason}
            )
        return found

    def all_metrics(self) -> list[ModelMetrics]:
        return [*(model.metrics for model in self.models.values()), self.unknown]

    @property
    def stage(self) -> Stage:
        """The stage that describes the whole: the one of the model that is furthest from serving."""
        stages = {model.stage for model in self.models.values()}
        order = (Stage.FAILED, Stage.WAITING, Stage.LOADING, Stage.WARMING_UP)
        return next((stage for stage in order if stage in stages), Stage.READY)

    def _names(self) -> str:
        return ", ".join(repr(name) for name in self.models) or "no models"


def why(model: Model) -> str:
    """One line on a model that does not answer."""
    if model.error is not None:
        return f"{model.error.reason.value}: {model.error.message}"
    return model.stage.value
