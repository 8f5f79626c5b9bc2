"""Files of a model, brought to this machine while another version of it serves."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Mapping
from pathlib import Path

from artifacts import ArtifactError, ModelEntry, Stop, pull_model
from artifacts import Progress as Pulling
from runtime.desired import Target
from runtime.errors import ModelError
from runtime.registry import Reload
from runtime.spec import from_entry

_LOOK_EVERY = 0.25
# Pulled versions of a model that stay on disk: what serves, and what it may have to go back to.
_KEPT = 2


class Files:
    """Pulls below `dest`. Nothing is read that can still change: files are verified before they are used."""

    def __init__(self, dest: Path) -> None:
        self._dest = dest
        self._kept: dict[str, list[Path]] = {}

    async def fetch(self, target: Target, reload: Reload) -> Target:
        """The target with its files in place and verified; `reload` shows how far that is. Raises ModelError
        with the reason of the pull. Cancelling it stops the pull, whose parts stay for the next one.
        """
        entry = target.entry
        if entry is None or (not target.spec.problem and not _may_change(target, entry)):
            return target
        tracker = Pulling("").model(entry.name, entry.version, entry.digest)
        stop = Stop()
        pull = asyncio.ensure_future(
            asyncio.to_thread(pull_model, entry, self._dest, tracker=tracker, stop=stop)
        )
        try:
            while not pull.done():
                await asyncio.wait({pull}, timeout=_LOOK_EVERY)
                _show(reload, tracker.snapshot())
            pull.result()
        except ArtifactError as error:
            raise ModelError(error.reason, error.message, passing=error.retryable) from None
        finally:
            if not pull.done():  # its thread ends soon, and what it says then is of no interest
                stop.set()
                pull.add_done_callback(lambda done: done.cancelled() or done.exception())
        return Target(spec=await asyncio.to_thread(from_entry, entry, self._dest), entry=entry)

    async def tidy(self, target: Target) -> None:
        """After `target` has come into use: removes what was used before the version before it."""
        if target.entry is None or target.entry.source.local:
            return
        where = self._dest / target.entry.uid / target.entry.folder_name
        kept = self._kept.setdefault(target.spec.name, [])
        if where in kept:
            kept.remove(where)
        kept.append(where)
        while len(kept) > _KEPT:
            await asyncio.to_thread(shutil.rmtree, kept.pop(0), ignore_errors=True)


def _may_change(target: Target, entry: ModelEntry) -> bool:
    """Whether files that are in place have to be looked at again: those of a volume, when they are verified
    or unpacked.
    """
    return entry.source.local and (bool(entry.checksum) or target.spec.path != Path(entry.source.root))


def _show(reload: Reload, seen: Mapping[str, object]) -> None:
    reload.done, reload.total = int(str(seen["bytesDone"])), int(str(seen["bytesTotal"]))
    reload.rate, reload.eta = float(str(seen["bytesPerSecond"])), float(str(seen["etaSeconds"]))
