"""A bar of a benchmark: one printed line, and one entry of the JSON beside it."""

from __future__ import annotations

from dataclasses import asdict, dataclass


@dataclass(frozen=True, slots=True)
class Bar:
    """A figure of ours, and the most (with `least`: the least) it may be."""

    name: str
    value: float
    limit: float
    unit: str
    least: bool = False

    @property
    def holds(self) -> bool:
        return self.value >= self.limit if self.least else self.value <= self.limit

    def __str__(self) -> str:
        sign = ">=" if self.least else "<="
        verdict = "holds" if self.holds else "misses"
        return f"{self.name:60} {self.value:10.2f} {self.unit:8} {sign} {self.limit:10.2f}  {verdict}"

    def to_json(self) -> dict[str, object]:
        return {**asdict(self), "holds": self.holds}
