"""What is to be served: models.yaml, watched, or the models of the command line."""

from __future__ import annotations

import os
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from artifacts import ModelEntry, load_config
from runtime.spec import ModelSpec, from_entry


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One desired model. `spec.problem` says that its files are not in place; `entry` is how to get them,
    None for a path of the command line.
    """

    spec: ModelSpec
    entry: ModelEntry | None = None

    @property
    def identity(self) -> Hashable:
        """Equal means that there is nothing to do."""
        return self.spec if self.entry is None else self.entry

    @property
    def pinned(self) -> bool:
        """Whether equal identity means equal content."""
        return bool(self.spec.digest)


class Source(Protocol):
    """Where the desired state stands. `changed` is cheap and is asked a few times a second; `read` blocks and
    raises ArtifactError with one line. `revision` is what the desired state that was read last calls itself.
    """

    revision: str

    def changed(self) -> bool: ...
    def read(self) -> Sequence[Target]: ...


class Fixed:
    """The models of the command line."""

    def __init__(self, specs: Sequence[ModelSpec]) -> None:
        self.revision = ""
        self._targets = [Target(spec=spec) for spec in specs]

    def changed(self) -> bool:
        return False

    def read(self) -> Sequence[Target]:
        return self._targets


class ConfigFile:
    """models.yaml, or the file beside it that `release` names.

    `release` is a file with a word in it (an annotation of the pod, through the downward API): with the word
    `ab12`, `models-ab12.yaml` beside the config is read when it is there. So each of several pods that mount
    one ConfigMap takes what was released to it, and only that.

    A change is told once the files look the same twice, so that one that is being written is not read; what
    a ConfigMap mount does, a symbolic link that is swapped, is seen through the link.
    """

    def __init__(self, path: Path, models: Path, *, release: Path | None = None) -> None:
        self._path = path
        self._models = models
        self._release = release
        self.revision = ""
        self._told = self._last = self._look()

    @property
    def path(self) -> Path:
        """The file that holds now."""
        word = _word(self._release)
        released = self._path.with_name(f"models-{word}.yaml")
        return released if word and released.is_file() else self._path

    def changed(self) -> bool:
        now = self._look()
        steady, self._last = now == self._last, now
        if not steady or now == self._told:
            return False
        self._told = now
        return True

    def read(self) -> Sequence[Target]:
        desired = load_config(self.path)
        targets = [Target(spec=from_entry(entry, self._models), entry=entry) for entry in desired.models]
        self.revision = desired.revision
        return targets

    def _look(self) -> Hashable:
        path = self.path
        try:
            seen = os.stat(path)
        except OSError:
            return (str(path), None)
        return (str(path), seen.st_dev, seen.st_ino, seen.st_size, seen.st_mtime_ns)


def _word(file: Path | None) -> str:
    """At most 63 characters of what a label may have; anything else is no word."""
    if file is None:
        return ""
    try:
        with file.open(encoding="ascii") as text:
            word = text.read(64).strip()
    except (OSError, UnicodeDecodeError):
        return ""
    return word if word.replace("-", "").isalnum() and len(word) < 64 else ""
