"""Workers that misbehave at the lowest seam: the engine's own predictor."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

Sick = Callable[[str], dict[str, str]]

# A predictor that acts up in requests (not at warm-up) while the file is there.
SICK_RUN = """
class Sick:
    def __init__(self, real):
        self.real = real
    def __getattr__(self, name):
        return getattr(self.real, name)
    def run(self):
        asked = sys._getframe(2).f_code.co_qualname == 'Loop._run'
        if asked and os.path.exists(os.environ['SICK_FILE']):
            {act}
        return self.real.run()
return Sick(make())
"""

# An act: to stay in the run while the file is there.
HOLD = "while os.path.exists(os.environ['SICK_FILE']): time.sleep(0.002)"
# A predictor that stays in the runs of requests while the file is there. All its runs are so long that no
# batch is sent ahead to a worker that still has one: whoever waits, waits in the queue.
HELD_RUN = SICK_RUN.replace("asked =", "time.sleep(0.06)\n        asked =").format(act=HOLD)


def sickness(tmp_path: Path) -> Sick:
    """Makes environments: `code` runs in the worker with `make` (builds the real predictor), `engine` and
    `files`; it returns one.
    """

    def make(code: str) -> dict[str, str]:
        lines = "\n".join("    " + line for line in code.splitlines())
        (tmp_path / "sitecustomize.py").write_text(
            "import sys, os, signal, time\n"
            "def wrap(make, files, engine, threads):\n"
            f"{lines}\n"
            "if '--arena-fd' in sys.orig_argv:\n"
            "    import importlib.util\n"
            "    from importlib.abc import MetaPathFinder\n"
            "    class Finder(MetaPathFinder):\n"
            "        def find_spec(self, name, path, target=None):\n"
            "            if name != 'runtime.worker.paddle_backend':\n"
            "                return None\n"
            "            sys.meta_path.remove(self)\n"
            "            spec = importlib.util.find_spec(name)\n"
            "            run = spec.loader.exec_module\n"
            "            def execute(module):\n"
            "                run(module)\n"
            "                real = module._predictor\n"
            "                module._predictor = lambda f, e, t: wrap(lambda: real(f, e, t), f, e, t)\n"
            "            spec.loader.exec_module = execute\n"
            "            return spec\n"
            "    sys.meta_path.insert(0, Finder())\n"
        )
        return {"PYTHONPATH": f"{tmp_path}{os.pathsep}{Path(__file__).resolve().parents[2]}"}

    return make
