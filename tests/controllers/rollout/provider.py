"""A traffic provider that is late, refuses, is gone, or is edited behind our back."""

from dataclasses import dataclass

from controllers.rollout.canary import Report, Route, SetWeight


@dataclass
class Provider:
    """Takes a write, puts it in force later (or never), and reports."""

    mode: Route = Route.Verified
    change: int = 0
    weights: dict[str, int] | None = None
    force: dict[str, int] | None = None
    drifted: bool = False
    removed: int = 0

    def remove(self, change: int) -> None:
        if self.mode is not Route.Unreachable:
            self.removed, self.weights, self.force = change, None, None

    def write(self, effect: SetWeight) -> None:
        if effect.change < self.change or self.mode is Route.Unreachable or effect.change <= self.removed:
            return
        self.drifted = False
        self.change, self.weights = effect.change, dict(effect.weights)

    def work(self) -> None:
        if self.mode is Route.Verified and self.weights is not None and not self.drifted:
            self.force = dict(self.weights)

    def report(self) -> Report:
        if self.mode is not Route.Verified:
            return Report(change=self.change, route=self.mode, message="as the provider is")
        if self.drifted:
            return Report(change=self.change, route=Route.Drifted)
        done = self.force == self.weights
        return Report(change=self.change, route=Route.Verified if done else Route.Pending)
