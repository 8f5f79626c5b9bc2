"""What the windows of one step say together. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

from .verdict import Judgement, Limits, Outcome, Why


def closes(judgement: Judgement, *, looks: int, limits: Limits | None = None) -> bool:
    """Whether a window, judged as if it were closed, is: once decided, or after its last look.

    Until then it grows: with little traffic, a few minutes together are enough to judge by where one is not.
    """
    return judgement.outcome is not Outcome.Undecided or looks >= (limits or Limits()).looks


class Verdict(StrEnum):
    """Of a step. Unavailable: undecided, and nothing but missing data was the reason."""

    Running = "Running"
    Passed = "Passed"
    Failed = "Failed"
    Inconclusive = "Inconclusive"
    Unavailable = "Unavailable"


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """Closed windows of one step. passes and undecided count those in a row, blind those without data."""

    windows: int = 0
    passes: int = 0
    undecided: int = 0
    blind: int = 0
    failed: bool = False

    def add(self, judgement: Judgement, *, closed: bool = True) -> "Tally":
        """With one more look. An open window counts only if it failed."""
        if judgement.outcome is Outcome.Fail:
            return replace(self, windows=self.windows + closed, failed=True)
        if not closed:
            return self
        if judgement.outcome is Outcome.Pass:
            return replace(self, windows=self.windows + 1, passes=self.passes + 1, undecided=0, blind=0)
        blind = self.blind + 1 if judgement.why is Why.NoData else 0
        return replace(self, windows=self.windows + 1, passes=0, undecided=self.undecided + 1, blind=blind)

    def verdict(self, limits: Limits | None = None) -> Verdict:
        limits = limits or Limits()
        if self.failed:
            return Verdict.Failed
        if self.passes >= limits.passes:
            return Verdict.Passed
        if self.undecided >= limits.undecided:
            return Verdict.Unavailable if self.blind >= limits.undecided else Verdict.Inconclusive
        # Passes and doubts that take turns for ever would keep a run open for ever.
        return Verdict.Inconclusive if self.windows >= limits.windows else Verdict.Running

    def to_wire(self) -> dict[str, object]:
        return {
            "windows": self.windows,
            "passes": self.passes,
            "undecided": self.undecided,
            "blind": self.blind,
            "failed": self.failed,
        }

    @classmethod
    def from_wire(cls, raw: Mapping[str, object]) -> "Tally":
        """ValueError for anything that `to_wire` did not write: counts that cannot be read are not 0."""
        counts = {name: raw.get(name) for name in ("windows", "passes", "undecided", "blind")}
        numbers = {name: value for name, value in counts.items() if isinstance(value, int) and value >= 0}
        failed = raw.get("failed")
        if len(numbers) < len(counts) or not isinstance(failed, bool):
            raise ValueError(f"the tally cannot be read: {str(dict(raw))[:120]}: start a new attempt")
        return cls(**numbers, failed=failed)
