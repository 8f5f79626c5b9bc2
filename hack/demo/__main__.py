"""`python -m hack.demo`: from nothing to text read from a picture, then updates and canaries under load."""

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from minio.error import S3Error
from urllib3.exceptions import HTTPError

from cli.errors import CliError
from hack import plugin
from hack.cluster import paths
from hack.demo import canary, load, model, ocr, predict, reach, store, watch
from hack.deploy import __main__ as deploy
from hack.deploy import render, rollout
from hack.deploy.kubectl import Kubectl, KubectlError
from hack.images import __main__ as images
from hack.images import names
from hack.images.buildah import BuildError

NAMESPACE = "default"
NAME = "ocr"
BUCKET = "models"
TEXT = "Hello from PaddlePaddle 2026"
SELECTOR = f"serving.paddlepaddle.org/paddle-service={NAME}"
STORE_URL = "http://object-store.object-store.svc:8333"
RATE = 20.0
PICTURE = paths.LOCAL / "demo" / "picture.png"


class DemoError(Exception):
    """A step did not do what it should; one line."""


class Steps:
    """Numbered titles with the time since the start."""

    def __init__(self) -> None:
        self.began = time.monotonic()
        self.number = 0

    def say(self, title: str) -> None:
        self.number += 1
        print(f"\n[{time.monotonic() - self.began:5.1f} s] {self.number}. {title}", flush=True)


def prepare(steps: Steps) -> Kubectl:
    """A cluster with images, add-ons and the operator."""
    foreign = os.environ.get("KUBECONFIG") and Path(os.environ["KUBECONFIG"]) != paths.KUBECONFIG
    if foreign:
        steps.say(f"the cluster of KUBECONFIG={os.environ['KUBECONFIG']}, with images it can already pull")
    else:
        steps.say("a Kubernetes node on this host")
        if subprocess.run([sys.executable, "-m", "hack.cluster", "up"], check=False).returncode:
            raise DemoError("the cluster did not come up")
        steps.say("images")
        images.build_images(["all"])
    kubectl = Kubectl()
    if problem := kubectl.reachable():
        raise DemoError(problem)
    steps.say("object store, Prometheus and the operator")
    for folder in ("object-store", "prometheus"):
        kubectl.apply(
            deploy.namespaces_first(kubectl.kustomize(deploy.CONFIG / "local" / folder)),
            manager=deploy.MANAGER,
        )
    options = render.Options(
        operator_image=os.environ.get("OPERATOR_IMAGE") or deploy.local_image(kubectl, names.OPERATOR),
        runtime_image=os.environ.get("RUNTIME_IMAGE") or deploy.local_image(kubectl, names.RUNTIME),
        router_image=os.environ.get("ROUTER_IMAGE") or deploy.local_image(kubectl, names.ROUTER),
        prometheus=deploy.PROMETHEUS,
        minio_endpoint=STORE_URL,
    )
    deploy.up(kubectl, options)
    rollout.wait(kubectl, "object-store", "object-store", timeout=60.0)
    return kubectl


def patch(kubectl: Kubectl, change: Mapping[str, object]) -> None:
    kubectl.run("patch", watch.KIND, NAME, "-n", NAMESPACE, "--type=merge", "-p", json.dumps(change))


def upload(kubectl: Kubectl, version: str, files: dict[str, bytes]) -> None:
    with reach.store(kubectl) as address:
        client = store.client(address)
        store.wait(client)
        sent = store.upload(client, BUCKET, f"{NAME}/{version}", files)
    print(f"  s3://{BUCKET}/{NAME}/{version}/: {', '.join(files)} ({sent / 1e6:.1f} MB sent)")


def serve(kubectl: Kubectl) -> str:
    sample = deploy.CONFIG / "samples" / "ocr.yaml"
    if kubectl.call("get", watch.KIND, NAME, "-n", NAMESPACE).returncode == 0:
        patch(kubectl, canary.WITHOUT)
    print(f"  $ kubectl apply -f {sample.relative_to(paths.ROOT)}")
    kubectl.run("apply", "-n", NAMESPACE, "--server-side", "--force-conflicts", "-f", str(sample))
    started = time.monotonic()
    with watch.shown(kubectl, NAMESPACE, NAME):
        url = watch.wait_ready(kubectl, NAMESPACE, NAME)
    print(f"  ready after {time.monotonic() - started:.1f} s at {url}")
    return url


def read_picture(kubectl: Kubectl, alphabet: Sequence[str]) -> None:
    """Draws, asks, decodes and prints. Raises DemoError when the text is not what was drawn."""
    picture = ocr.draw(TEXT)
    PICTURE.parent.mkdir(parents=True, exist_ok=True)
    picture.save(PICTURE)
    print(f"  picture: {PICTURE.relative_to(paths.ROOT)} ({picture.width}x{picture.height})")
    asked = predict.as_json(ocr.preprocess(picture))
    seconds: list[float] = []
    with reach.predictor(kubectl, NAMESPACE, NAME) as base:
        for _ in range(5):
            started = time.monotonic()
            request = urllib.request.Request(base + asked.path, data=asked.body, headers=dict(asked.headers))
            with urllib.request.urlopen(request, timeout=30.0) as answer:
                body = answer.read()
            seconds.append(time.monotonic() - started)
    probabilities, version = predict.from_json(body)
    reading = ocr.decode(probabilities, alphabet)
    print(f"  POST /predict ({len(asked.body) / 1e3:.0f} kB of JSON), answered by {version}")
    print(f"  text: {reading.text!r} (confidence {reading.confidence:.3f})")
    print(f"  latency: {statistics.median(seconds) * 1e3:.0f} ms (median of {len(seconds)}, JSON both ways)")
    if reading.text != TEXT:
        raise DemoError(f"the picture says {TEXT!r}, the model read {reading.text!r}")


async def update(kubectl: Kubectl, alphabet: Sequence[str], version: str) -> load.Outcome:
    """Applies `version` under load; returns what the requests came to."""
    asked, check = question(alphabet)
    outcome = load.Outcome()
    stop = asyncio.Event()
    change = f'{{"spec": {{"version": "{version}", "storage": {{"key": "{NAME}/{version}/"}}}}}}'
    with reach.predictor(kubectl, NAMESPACE, NAME) as base:
        async with asyncio.TaskGroup() as group:
            group.create_task(load.steady(base, asked, check, rate=RATE, stop=stop, outcome=outcome))
            try:
                await asyncio.sleep(2.0)
                await asyncio.to_thread(_change, kubectl, change)
                await asyncio.sleep(2.0)
            finally:
                stop.set()
    return outcome


def question(alphabet: Sequence[str]) -> tuple[predict.Request, Callable[[bytes, int], str]]:
    """A request with a small picture, and the check that its answer is read right."""
    asked = predict.as_binary(NAME, ocr.preprocess(ocr.draw("Paddle"), least=0))

    def check(body: bytes, header: int) -> str:
        probabilities, answered = predict.from_binary(body, header)
        reading = ocr.decode(probabilities, alphabet)
        if reading.text != "Paddle":
            raise ValueError(f"read {reading.text!r}")
        return answered

    return asked, check


def canaries(kubectl: Kubectl, steps: Steps, fetched: model.Model) -> None:
    """A good version promoted, then a slow one rolled back by itself."""
    request, check = question(ocr.characters(fetched.dictionary))
    served = canary.Served(namespace=NAMESPACE, name=NAME, request=request, check=check, rate=RATE)
    plugin.build(plugin.DEFAULT)
    demo = time.strftime("%Y-%m-%dT%H-%M-%S")
    good = canary.change("v1.1.0", f"{NAME}/v1.1.0/", demo=demo)
    try:
        steps.say("a canary: 30 % of the requests for a good version, judged by Prometheus, then all")
        upload(kubectl, "v1.1.0", fetched.files)
        finish("v1.1.0", asyncio.run(canary.run(kubectl, served, good, "Promoted")))
        steps.say("a canary of a version that answers a second too late")
        upload(kubectl, "v1.2.0", fetched.files)
        slow = canary.change("v1.2.0", f"{NAME}/v1.2.0/", demo=demo, faults=canary.SLOW)
        finish("v1.2.0", asyncio.run(canary.run(kubectl, served, slow, "AnalysisFailed")))
    finally:
        patch(kubectl, good)  # asks for what serves: nothing happens


def finish(version: str, outcome: load.Outcome) -> None:
    """Prints a load's outcome. Raises DemoError if a request failed, or none was the version's."""
    report(outcome)
    if outcome.failures:
        raise DemoError(f"{outcome.failures.total()} requests failed during the change to {version}")
    if not outcome.versions[version]:
        raise DemoError(f"{version} answered no request")


def _change(kubectl: Kubectl, change: str) -> None:
    print(f"  $ kubectl patch paddlemodel {NAME} --type=merge -p '{change}'", flush=True)
    started = time.monotonic()
    with watch.shown(kubectl, NAMESPACE, NAME):
        kubectl.run("patch", watch.KIND, NAME, "-n", NAMESPACE, "--type=merge", "-p", change)
        watch.wait_ready(kubectl, NAMESPACE, NAME)
        left = watch.wait_gone(kubectl, NAMESPACE, SELECTOR)
    print(f"  rolled over after {time.monotonic() - started:.1f} s, {left} pods still ending")


def report(outcome: load.Outcome) -> None:
    answered = ", ".join(f"{count} by {version}" for version, count in sorted(outcome.versions.items()))
    rate = outcome.requests / max(outcome.seconds, 0.001)
    print(f"  {outcome.requests} requests, {rate:.1f} a second: {answered}")
    print(
        f"  latency p50 {outcome.percentile(0.5) * 1e3:.0f} ms, p99 {outcome.percentile(0.99) * 1e3:.0f} ms"
    )
    print(f"  failed requests: {outcome.failures.total()}", flush=True)
    for reason, count in outcome.failures.most_common(5):
        print(f"    {count} x {reason}")


def closing(kubectl: Kubectl) -> None:
    kubeconfig = kubectl.kubeconfig
    print(f"""
What next:
  export KUBECONFIG={kubeconfig}
  kubectl get paddlemodels,paddleservices,pods        # kubectl is in .venv/bin
  kubectl describe paddlemodel {NAME}                    # conditions, events, digest
  kubectl explain paddlemodel.spec
  kubectl patch paddlemodel {NAME} --type=merge \\
    -p '{{"spec": {{"version": "v1.0.0", "storage": {{"key": "{NAME}/v1.0.0/"}}}}}}'   # back, as a canary
  kubectl -n paddle-monitoring port-forward svc/prometheus 9090
  PATH={plugin.DEFAULT.parent}:$PATH kubectl paddle canary history {NAME}

Clean up:
  kubectl delete -f config/samples/ocr.yaml           # the model only
  make undeploy                                       # the operator and its CRDs
  make cluster-down                                   # everything""")


def run(*, with_canaries: bool) -> None:
    steps = Steps()
    kubectl = prepare(steps)
    steps.say("a pretrained model into the object store")
    fetched = model.fetch()
    upload(kubectl, "v1.0.0", fetched.files)
    steps.say("serve it")
    serve(kubectl)
    steps.say("read a picture")
    alphabet = ocr.characters(fetched.dictionary)
    read_picture(kubectl, alphabet)
    steps.say("a second version, under load")
    upload(kubectl, "v1.0.1", fetched.files)
    outcome = asyncio.run(update(kubectl, alphabet, "v1.0.1"))
    finish("v1.0.1", outcome)
    if with_canaries:
        canaries(kubectl, steps, fetched)
    steps.say("done")
    closing(kubectl)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m hack.demo", description=__doc__)
    parser.add_argument(
        "--canary", action=argparse.BooleanOptionalAction, default=True, help="end with two canaries"
    )
    options = parser.parse_args(arguments)
    code = 1
    try:
        run(with_canaries=options.canary)
        code = 0
    except* (
        DemoError,
        BuildError,
        KubectlError,
        rollout.RolloutError,
        watch.NotReady,
        canary.NotEnded,
        plugin.PluginError,
        CliError,
        S3Error,
        HTTPError,
        OSError,
        subprocess.SubprocessError,
    ) as group:
        for error in group.exceptions:
            print(f"demo: {error}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
