"""`status -w`: redrawn on a terminal, a line for each change elsewhere."""

import time
from collections.abc import Callable
from typing import Protocol

from . import status, words
from .errors import CliError
from .reading import Reading

#: Seconds between two looks.
EVERY = 1.0


class Out(Protocol):
    """Where the view goes; standard output is one."""

    def write(self, text: str, /) -> object: ...

    def flush(self) -> object: ...


_HOME, _END_OF_LINE, _BELOW = "\x1b[H", "\x1b[K", "\x1b[J"
_CLEAR = "\x1b[2J"


def watch(
    look: Callable[[], Reading],
    out: Out,
    *,
    terminal: bool,
    sleep: Callable[[float], None] = time.sleep,
    stamp: Callable[[], str] = lambda: time.strftime("%H:%M:%S"),
) -> Reading:
    """Shows the service until the run that was seen has ended (an ended one drains; nobody waits for that).

    An API server that does not answer for a while is told and asked again.
    """
    shown = ""
    seen = 0
    while True:
        try:
            reading = look()
        except CliError as error:
            shown = _tell(out, f"{stamp()} {error}", shown)
            sleep(EVERY)
            continue
        if terminal:
            _draw(out, status.status(reading), first=not shown)
            shown = "drawn"
        else:
            shown = _line(out, stamp(), status.line(reading), shown)
        if reading.state.active:
            seen = reading.state.run
        elif seen and any(run.run == seen for run in reading.state.history):
            last = reading.state.history[-1]
            out.write(f"{reading.name}: run {last.run} ended: {last.ending} ({last.reason})\n")
            out.flush()
            return reading
        sleep(EVERY)


def _draw(out: Out, lines: list[str], *, first: bool) -> None:
    """Over the last picture, line by line, so that nothing flickers."""
    out.write(
        (_CLEAR if first else "") + _HOME + "".join(f"{line}{_END_OF_LINE}\n" for line in lines) + _BELOW
    )
    out.flush()


def _line(out: Out, stamp: str, line: str, shown: str) -> str:
    """Numbers of seconds alone are no news."""
    news = words.still(line)
    if news != shown:
        out.write(f"{stamp} {line}\n")
        out.flush()
    return news


def _tell(out: Out, line: str, shown: str) -> str:
    if shown != "trouble":
        out.write(line + "\n")
        out.flush()
    return "trouble"
