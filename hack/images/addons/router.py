"""The entrypoint of a router: starts Envoy, keeps its token fresh, and drains it at the end.

Standard library only: the image has nothing else. Envoy gets everything from the operator's leader (ADS). If
no leader can be reached when the router starts, Envoy starts with the configuration that all routers had
confirmed, and is restarted without a gap (Envoy's hot restart) once a leader is there. Else it waits.
"""

import gzip
import http.client
import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from pathlib import Path

CONFIG = Path(os.environ.get("ROUTER_CONFIG", "/etc/paddle-router"))
SNAPSHOT = Path(os.environ.get("ROUTER_SNAPSHOT", "/etc/paddle-router-snapshot"))
TOKEN = Path(os.environ.get("ROUTER_TOKEN", "/var/run/secrets/paddle-router")) / "token"
RUN = Path(os.environ.get("ROUTER_RUN", "/run/paddle-router"))
ENVOY = os.environ.get("ROUTER_ENVOY", "/usr/local/bin/envoy")
BASE_ID = os.environ.get("ROUTER_BASE_ID", "0")

#: Seconds. PATIENCE: for a leader at the start. DRAIN: new connections are still taken, and answers say that
#: the connection ends, because others hear late that this pod is gone. LAST: until the last answer.
PATIENCE = float(os.environ.get("ROUTER_PATIENCE", "5"))
DRAIN = int(os.environ.get("ROUTER_DRAIN", "10"))
LAST = float(os.environ.get("ROUTER_LAST", "45"))
BEAT = 1.0


def say(text: str) -> None:
    print(f"router: {text}", flush=True)


def reachable(timeout: float = 2.0) -> bool:
    """Whether somebody we trust answers where the leader should be."""
    where = json.loads((CONFIG / "ads.json").read_text())
    context = ssl.create_default_context(cafile=str(CONFIG / "ca.crt"))
    context.set_alpn_protocols(["h2"])
    try:
        with (
            socket.create_connection((where["host"], where["port"]), timeout=timeout) as plain,
            context.wrap_socket(plain, server_hostname=where["name"]),
        ):
            return True
    except OSError:
        return False


class Tokens:
    """Hands the projected token to Envoy: written aside and moved into place, which Envoy notices."""

    def __init__(self) -> None:
        self.folder = RUN / "token"
        self.written = ""

    def renew(self) -> None:
        token = TOKEN.read_text().strip()
        if token == self.written:
            return
        self.folder.mkdir(exist_ok=True)
        kind = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret"
        value = {"secret": {"inline_string": f"Bearer {token}"}}
        body = {"resources": [{"@type": kind, "name": "router-token", "generic_secret": value}]}
        aside = self.folder / "next"
        aside.write_text(json.dumps(body))
        aside.chmod(0o600)
        aside.replace(self.folder / "token.json")
        self.written = token


class Envoy:
    """One Envoy process, of one epoch of the hot restart."""

    def __init__(self, epoch: int, body: str) -> None:
        self.epoch = epoch
        self.admin = RUN / f"admin-{epoch}.sock"
        config = RUN / f"envoy-{epoch}.json"
        names = {"@ADMIN@": str(self.admin), "@NODE@": os.environ.get("POD_NAME", socket.gethostname())}
        names["@NAMESPACE@"] = os.environ.get("POD_NAMESPACE", "default")
        for name, value in names.items():
            body = body.replace(name, value)
        config.write_text(body)
        command = [ENVOY, "-c", str(config), "--restart-epoch", str(epoch), "--base-id", BASE_ID]
        command += ["--drain-time-s", str(DRAIN), "--parent-shutdown-time-s", str(DRAIN + 5)]
        command += ["--drain-strategy", "immediate", "--concurrency", "2", "--log-level", "warning"]
        self.process = subprocess.Popen(command)

    def ask(self, method: str, path: str) -> str:
        """The answer of Envoy's administration, which listens on a socket in this pod only; "" if none."""
        connection = http.client.HTTPConnection("admin", timeout=5.0)
        connection.sock = socket.socket(socket.AF_UNIX)
        try:
            connection.sock.settimeout(5.0)
            connection.sock.connect(str(self.admin))
            connection.request(method, path)
            return connection.getresponse().read().decode()
        except (OSError, http.client.HTTPException):
            return ""
        finally:
            connection.close()

    def ready(self) -> bool:
        return self.ask("GET", "/ready").strip() == "LIVE"

    def busy(self) -> int:
        """Requests that are being answered."""
        lines = self.ask("GET", "/stats?filter=^http\\..*\\.downstream_rq_active$").splitlines()
        own = [line for line in lines if not line.startswith(("http.admin.", "http.router-admin."))]
        return sum(int(line.rpartition(":")[2]) for line in own if line.rpartition(":")[2].strip().isdigit())


def asking() -> str:
    return (CONFIG / "asking.json").read_text()


def alone() -> str:
    """Everything static; "" when nothing was ever confirmed."""
    kept = SNAPSHOT / "fallback.json.gz"
    if not kept.is_file():
        return ""
    try:
        found = json.loads(gzip.decompress(kept.read_bytes()))
        body = json.loads((CONFIG / "alone.json").read_text())
        for name in ("clusters", "listeners"):
            body["static_resources"][name] += found[name]
    except (OSError, ValueError, KeyError) as error:
        say(f"the kept configuration cannot be read: {error}")
        return ""
    return json.dumps(body)


class Router:
    """The life of a router, from its start to its last answer."""

    def __init__(self) -> None:
        self.stop = threading.Event()
        self.tokens = Tokens()
        self.children: list[Envoy] = []

    def run(self) -> int:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self.stop.set())
        shutil.rmtree(RUN / "token", ignore_errors=True)
        for left in RUN.glob("admin-*.sock"):  # of a container before this one
            left.unlink()
        self.tokens.renew()
        waiting = self.start()
        while not self.stop.wait(BEAT):
            self.tokens.renew()
            if waiting and reachable():
                say("a leader is there: following it from now on")
                self.children.append(Envoy(len(self.children), asking()))
                waiting = False
            code = self.children[-1].process.poll()
            if code is not None:
                say(f"Envoy ended with code {code}")
                return code or 1
        return self.drain()

    def start(self) -> bool:
        """Starts Envoy; whether it runs on what was kept, and waits for a leader."""
        end = time.monotonic() + PATIENCE
        found = reachable()
        while not found and time.monotonic() < end and not self.stop.wait(0.5):
            found = reachable()
        kept = "" if found else alone()
        if kept:
            say("no leader can be reached: serving what was confirmed last")
        self.children.append(Envoy(0, kept or asking()))
        return bool(kept)

    def drain(self) -> int:
        """Answers what is there, and what still comes while others learn that this pod is gone."""
        begun = time.monotonic()
        newest = self.children[-1]
        say(f"draining: {newest.busy()} requests are being answered")
        newest.ask("POST", "/drain_listeners?graceful&skip_exit")
        while time.monotonic() < begun + LAST and newest.process.poll() is None:
            if time.monotonic() > begun + DRAIN and not newest.busy():
                break
            time.sleep(0.2)
        for child in self.children:
            child.process.terminate()
        for child in self.children:
            try:
                child.process.wait(5.0)
            except subprocess.TimeoutExpired:
                child.process.kill()
        say(f"drained in {time.monotonic() - begun:.1f} s")
        return 0


if __name__ == "__main__":
    sys.exit(Router().run())
