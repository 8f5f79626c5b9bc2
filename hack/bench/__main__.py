"""`python -m hack.bench`: apply -> first prediction, the operator against a Deployment written by hand."""

import argparse
import http.client
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence

from hack.bench import baked
from hack.cluster import paths
from hack.demo import __main__ as demo
from hack.demo import model, ocr, predict
from hack.deploy.kubectl import JSON, Kubectl, KubectlError, documents, text
from hack.deploy.rollout import RolloutError
from hack.images.buildah import BuildError

NAMESPACE = "paddle-bench"
OURS, PEER = "ours", "by-hand"
MANAGER = "paddle-bench"
DEADLINE = 120.0
RESULT = paths.LOCAL / "bench" / "apply_to_prediction.json"


def limit(peer: float) -> float:
    """The bar in seconds: 1.1 times the peer's time, and one second for finding and pulling the model."""
    return 1.1 * peer + 1.0


def ours(version: str) -> list[JSON]:
    """The sample of the demo as one replica in the namespace of the benchmark."""
    found = documents((paths.ROOT / "config" / "samples" / "ocr.yaml").read_text())
    for item in found:
        metadata = item["metadata"]
        assert isinstance(metadata, dict)
        metadata["namespace"] = NAMESPACE
        if item["kind"] == "PaddleModel":
            metadata["name"] = OURS
            spec = item["spec"]
            assert isinstance(spec, dict)
            spec["version"] = version
            spec["serving"]["replicas"] = 1
    return found


def first_prediction(kubectl: Kubectl, name: str, objects: list[JSON], asked: predict.Request) -> float:
    """Seconds from the apply call to the first answered prediction at the Service's address."""
    started = time.monotonic()
    kubectl.apply(objects, manager=MANAGER)
    address = ""
    while time.monotonic() - started < DEADLINE:
        if not address:
            found = kubectl.call("get", "service", name, "-n", NAMESPACE, "-o", "jsonpath={.spec.clusterIP}")
            address = found.stdout.strip()
        elif _answered(address, asked):
            return time.monotonic() - started
        time.sleep(0.02)
    raise RolloutError(f"{name}: no prediction within {DEADLINE:.0f} s")


def _answered(address: str, asked: predict.Request) -> bool:
    connection = http.client.HTTPConnection(address, 80, timeout=10.0)
    try:
        connection.request("POST", asked.path, asked.body, dict(asked.headers))
        answer = connection.getresponse()
        answer.read()
        return answer.status == 200
    except OSError:
        return False
    finally:
        connection.close()


def clean(kubectl: Kubectl) -> None:
    """Removes both and waits until their pods are gone, so that no run sees another one's."""
    for kind, name in (("paddlemodel", OURS), ("deployment", PEER), ("service", PEER)):
        kubectl.run("delete", kind, name, "-n", NAMESPACE, "--ignore-not-found", timeout=90.0)
    deadline = time.monotonic() + 90.0
    while kubectl.items("pods", "-n", NAMESPACE):
        if time.monotonic() > deadline:
            raise RolloutError(f"pods of {NAMESPACE} do not end")
        time.sleep(0.2)


def measure(kubectl: Kubectl, image: str, runs: int, say: Callable[[str], None]) -> dict[str, list[float]]:
    """`runs` times each, in turn, after one of each that does not count."""
    tensor = ocr.preprocess(ocr.draw("Paddle"), least=0)
    seconds: dict[str, list[float]] = {OURS: [], PEER: []}
    for number in range(runs + 1):
        order = (OURS, PEER) if number % 2 else (PEER, OURS)
        for name in order:
            objects = ours("v1.0.0") if name == OURS else baked.manifests(NAMESPACE, PEER, image)
            took = first_prediction(kubectl, name, objects, predict.as_binary(name, tensor))
            clean(kubectl)
            if number:
                seconds[name].append(took)
            say(f"  run {number or 'to warm up'}: {name} {took:.2f} s")
    return seconds


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m hack.bench", description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args(arguments)
    try:
        kubectl = demo.prepare(demo.Steps())
        fetched = model.fetch()
        demo.upload(kubectl, "v1.0.0", fetched.files)
        image = baked.image(fetched.files)
        space: JSON = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}
        kubectl.apply([space], manager=MANAGER)
        clean(kubectl)
        secret = [item for item in ours("v1.0.0") if text(item, "kind") == "Secret"]
        kubectl.apply(secret, manager=MANAGER)
        seconds = measure(kubectl, image, options.runs, print)
    except (demo.DemoError, BuildError, KubectlError, RolloutError, OSError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    median = {name: statistics.median(values) for name, values in seconds.items()}
    bar = limit(median[PEER])
    holds = median[OURS] <= bar
    result = {
        "name": "apply -> first prediction",
        "seconds": seconds,
        "median": median,
        "ratio": median[OURS] / median[PEER],
        "limit": bar,
        "holds": holds,
    }
    RESULT.parent.mkdir(parents=True, exist_ok=True)
    RESULT.write_text(json.dumps(result, indent=1))
    print(
        f"apply -> first prediction: ours {median[OURS]:.2f} s, by hand {median[PEER]:.2f} s "
        f"({result['ratio']:.2f}x), limit {bar:.2f} s: {'holds' if holds else 'misses'}"
    )
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main())
