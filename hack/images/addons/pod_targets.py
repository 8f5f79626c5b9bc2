"""Tells Prometheus which pods to scrape; a sidecar, because Debian's build has no Kubernetes discovery.

    pod_targets.py <file> <interval in seconds> <job>=<port name>=<label selector> ...

Lists the running pods that each selector chooses and writes them as a file_sd file, replaced as a whole and
only when it changes. Standard library only.
"""

import json
import os
import ssl
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")


def targets(job: str, port: str, pods: Sequence[Mapping[str, object]]) -> list[dict[str, object]]:
    """The file_sd entries of the running pods that have a container port named `port`."""
    found: list[dict[str, object]] = []
    for pod in pods:
        metadata, spec, status = (pod.get(name) or {} for name in ("metadata", "spec", "status"))
        assert isinstance(metadata, dict)
        assert isinstance(spec, dict)
        assert isinstance(status, dict)
        address = status.get("podIP")
        if not address or status.get("phase") != "Running":
            continue
        for container in spec.get("containers", []):
            for entry in container.get("ports", []):
                if entry.get("name") == port:
                    labels = {"job": job, "namespace": metadata["namespace"], "pod": metadata["name"]}
                    host = f"[{address}]" if ":" in address else address
                    found.append({"targets": [f"{host}:{entry['containerPort']}"], "labels": labels})
    return found


def list_pods(selector: str, context: ssl.SSLContext) -> list[Mapping[str, object]]:
    server = f"https://{os.environ['KUBERNETES_SERVICE_HOST']}:{os.environ['KUBERNETES_SERVICE_PORT']}"
    query = urllib.parse.urlencode({"labelSelector": selector, "resourceVersion": "0"})
    token = (ACCOUNT / "token").read_text()  # read anew: it is replaced while the pod runs
    request = urllib.request.Request(
        f"{server}/api/v1/pods?{query}", headers={"Authorization": f"Bearer {token}"}
    )
    with urllib.request.urlopen(request, timeout=10, context=context) as answer:
        items = json.load(answer).get("items")
    return items if isinstance(items, list) else []


def main(arguments: Sequence[str]) -> int:
    file, interval, *jobs = arguments
    target = Path(file)
    context = ssl.create_default_context(cafile=str(ACCOUNT / "ca.crt"))
    last = ""
    while True:
        try:
            found: list[dict[str, object]] = []
            for job in jobs:
                name, port, selector = job.split("=", 2)
                found += targets(name, port, list_pods(selector, context))
            text = json.dumps(found, indent=1, sort_keys=True)
            if text != last:
                temporary = target.with_suffix(".tmp")
                temporary.write_text(text)
                temporary.replace(target)
                last = text
                print(f"{len(found)} targets", flush=True)
        except (OSError, ValueError) as error:
            print(f"cannot list pods: {error}", flush=True)
        time.sleep(float(interval))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
