"""All generations of all models that have processes: those that serve, load, or end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from runtime.desired import Target
from runtime.logs import Logger
from runtime.model import Model
from runtime.prestart import Prestarted, prestart
from runtime.spec import Limits

_WORKER_GRACE = 5.0


class Generations:
    """`adopt` is told of each one before it begins. What is retired is gone from here once its processes and
    its memory are.
    """

    def __init__(self, limits: Limits, log: Logger) -> None:
        self.alive: list[Model] = []
        self.adopt: Callable[[Model], None] = lambda model: None
        self.stopping = False
        self._limits = limits
        self._log = log

    def first(self, ready_made: Sequence[tuple[Target, Prestarted]]) -> list[Model]:
        """Those whose processes were started before."""
        self.alive = [Model(started, self._limits, self._log) for _, started in ready_made]
        return list(self.alive)

    def make(self, target: Target, *, workers: int) -> Model:
        """A generation with its processes; `workers` are those of all models, which share the CPUs."""
        serving = any(model.ready for model in self.alive)
        started = prestart(target.spec, self._limits, total_workers=max(1, workers), calm=serving)
        model = Model(started, self._limits, self._log)
        self.adopt(model)
        self.alive.append(model)
        return model

    def check(self, now: float) -> None:
        """Kills what hangs. Called a few times a second with the loop's time."""
        for model in self.alive:
            model.check(now)

    async def retire(self, model: Model, *, linger: float) -> None:
        """Ends `model` once it holds no request, after `linger` seconds at the soonest."""
        loop = asyncio.get_running_loop()
        model.on_change = lambda: None
        began = loop.time()
        # Every request ends within its own limit, so the last bound is only for what must not happen.
        while loop.time() - began < linger or not model.idle:
            if self.stopping or loop.time() - began > self._limits.request + 1.0:
                break
            await asyncio.sleep(0.05)
        if self.stopping:
            return  # `stop` ends it with the others, after the requests
        model.retired = True
        await model.stop(_WORKER_GRACE)
        self.alive.remove(model)
        seconds = round(loop.time() - began, 3)
        name, version = model.spec.name, model.spec.version
        try:
            model.close()
        except RuntimeError as error:
            self._log.error("memory leaked", model=name, model_version=version, error=str(error))
        self._log.info("generation retired", model=name, model_version=version, seconds=seconds)

    async def stop(self) -> None:
        """Ends all. Raises RuntimeError when memory was never given back."""
        self.stopping = True
        models = list(self.alive)
        await asyncio.gather(*(model.stop(_WORKER_GRACE) for model in models))
        for model in models:
            model.close()
