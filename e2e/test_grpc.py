"""gRPC through the Service while pods come and go."""

from __future__ import annotations

import json

import pytest

from e2e.fixtures import Namespace, load_pod, stopped
from e2e.kube import Kube, metadata_of, status_of, until

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

# One channel that is kept, as a service's own client keeps it; nothing is tried again. Ends at SIGUSR1.
CALLS = """
import json, signal, struct, sys, time
from collections import Counter
import grpc
from runtime.grpc.stubs import paddle_serving_pb2 as pb, paddle_serving_pb2_grpc as stubs

address, seconds, rate = sys.argv[1], float(sys.argv[2]), float(sys.argv[3])
stop = []
signal.signal(signal.SIGUSR1, lambda *_: stop.append(1))
row = {"name": "x", "datatype": "FP32", "shape": [1, 3], "content": struct.pack("<3f", 1, 1, 3)}
request = pb.PredictRequest(input_tensor=pb.TensorList(tensors=[row]).SerializeToString())
seen, failures, until = Counter(), [], time.monotonic() + seconds
with grpc.insecure_channel(address) as channel:
    call = stubs.PaddleModelServiceStub(channel).Predict
    while not stop and time.monotonic() < until:
        try:
            seen[call(request, timeout=10).model_version] += 1
        except grpc.RpcError as error:
            failures.append(str(error.code()) + " " + str(error.details()))
        time.sleep(1 / rate)
print(json.dumps({"seen": seen, "failures": failures}))
"""


def test_a_rolling_update_loses_no_call(operator: Kube, ns: Namespace, linear: dict[str, str]) -> None:
    ns.apply(ns.model("linear", linear["v1.0.0"]))
    first = status_of(ns.phase("linear", "Ready", within=90))
    pod = load_pod(ns.name, "calls", f"linear.{ns.name}.svc:9000", seconds=240, rate=20)
    pod["spec"]["containers"][0]["command"][2] = CALLS  # type: ignore[index]
    ns.apply(pod)
    operator.wait("pod", "calls", ns.name, lambda found: status_of(found).get("phase") == "Running")

    ns.apply(ns.model("linear", linear["v1.1.0"], version="v1.1.0"))
    second = status_of(ns.phase("linear", "Ready", within=90, generation=2))
    assert second["revision"] != first["revision"]

    def only_second() -> bool:  # the last pod of the first revision has drained under load, too
        labels = [metadata_of(found)["labels"] for found in ns.pods("serving.paddlepaddle.org/role=server")]
        return {label["serving.paddlepaddle.org/revision"] for label in labels} == {second["revision"]}  # type: ignore[index]

    until(only_second, within=60, what=lambda: "the other revision's pods stay")
    result = json.loads(stopped(operator, ns.name, "calls", within=60))
    assert result["failures"] == []
    assert set(result["seen"]) == {"v1.0.0", "v1.1.0"}
