"""What the API server refuses, and the words it must use. Exact words where a person is to act on them."""

from __future__ import annotations

from .objects import Tree, model, service

LONG = "a" * 46

BOTH: Tree = {"storage": {"bucket": "bucket", "key": "k"}}
MODELS_REFUSED = [
    (model(version="1.0"), 'spec.version must look like v1.2.3, but is "1.0"'),
    (model(version="v1.0"), 'spec.version must look like v1.2.3, but is "v1.0"'),
    (
        model(modelPath=None),
        "the model has no source: set either modelPath (for example minio://bucket/key) or storage",
    ),
    (model(**BOTH), "set only one of modelPath and storage: both are set"),
    (model(framework="torch"), 'Unsupported value: "torch": supported values: "paddle", "onnx"'),
    (model(framework=None), "spec.framework: Required value"),
    (model(version=None), "spec.version: Required value"),
    (
        model(name=LONG),
        "metadata.name: Invalid value: metadata.name must have at most 45 characters, because its "
        "objects are named <name>-<hash>: choose a shorter name",
    ),
    (model(name="50resnet"), "metadata.name must begin with a letter and hold only lower-case letters"),
    (model(name="resnet.v1"), "metadata.name must begin with a letter and hold only lower-case letters"),
    (
        model(modelPath="ftp://host/model"),
        "modelPath must be minio://bucket/key, s3://bucket/key, http(s)://host/file, pvc://claim/path or "
        "file:///path",
    ),
    (model(modelPath="minio://models"), "modelPath must be minio://bucket/key"),
    (model(modelPath="models/resnet"), "modelPath must be minio://bucket/key"),
    (
        model(modelPath="https://user:password@host/m.tar"),
        "modelPath must not contain credentials: put them in a Secret and name it in secretRef",
    ),
    (model(modelPath="s3://bucket/a/../b"), 'modelPath must not contain "..": write the full path'),
    (
        model(modelPath="pvc://claim/m"),
        "pvc:// and file:// need a checksum, because nothing else pins their content: "
        "set checksum to sha256:<64 hexadecimal digits>",
    ),
    (model(modelPath="file:///models/m"), "pvc:// and file:// need a checksum"),
    (
        model(checksum="md5:1234"),
        'checksum must be "sha256:" and 64 lower-case hexadecimal digits: take them from sha256sum <file>',
    ),
    (
        model(modelPath=None, **BOTH, secretRef={"name": "s"}),
        "secretRef and caSecretRef belong to modelPath: with storage, set storage.secretRef and "
        "storage.caSecretRef",
    ),
    (
        model(modelPath=None, storage={"bucket": "b/c", "key": "k"}),
        'bucket must have 3 to 63 of a-z, 0-9, "." and "-", without slashes: the rest belongs in key',
    ),
    (
        model(modelPath=None, storage={"bucket": "bucket", "key": "/k"}),
        'key must not begin with "/": write it relative to the bucket',
    ),
    (
        model(modelPath=None, storage={"bucket": "bucket", "key": "a/../k"}),
        'key must not contain "..": write the full path in the bucket',
    ),
    (
        model(modelPath=None, storage={"bucket": "bucket", "key": "k", "endpoint": "store:9000"}),
        "endpoint must be http://host[:port] or https://host[:port], without path or credentials",
    ),
    (
        model(compatibility={"runtime": "3.x"}),
        'compatibility.runtime must be comparisons joined by commas, for example ">=3.0,<4"',
    ),
    (model(compatibility={"hardware": ["tpu"]}), 'Unsupported value: "tpu"'),
    (model(inputs=[{"name": "x", "datatype": "float32", "shape": [1]}]), 'Unsupported value: "float32"'),
    (
        model(driftPolicy="Rollout"),
        "driftPolicy Rollout is not supported yet: use Report and set a new version for new content",
    ),
]

# In both kinds: the block, the path of the field below it, the message.
CANARY = {"weight": 5, "analysis": {"interval": 60}}
RULE = {"match": {"header": {"name": "x-user", "value": "beta"}}, "to": "Canary"}


def canary(block: Tree | None = None, **serving: object) -> Tree:
    strategy: Tree = {"type": "Canary"}
    return {"updateStrategy": strategy | ({"canary": block} if block is not None else {})} | serving


SERVING_REFUSED: list[tuple[Tree, str, str]] = [
    (
        {"autoscaling": {"minReplicas": 1, "maxReplicas": 5}},
        "autoscaling",
        "autoscaling is not supported yet: remove it and set replicas",
    ),
    ({"autoscaling": {}}, "autoscaling", "autoscaling is not supported yet: remove it and set replicas"),
    (
        {"traffic": {"provider": "Envoy"}},
        "",
        "traffic is how a canary splits requests: set updateStrategy.type: Canary, or remove traffic",
    ),
    (
        canary(traffic={"provider": "GatewayAPI"}),
        "traffic",
        "traffic.provider GatewayAPI needs traffic.route: give the name of your HTTPRoute, or gateways for "
        "one of the operator",
    ),
    (
        canary(traffic={"provider": "Istio", "rules": [RULE]}),
        "traffic",
        "traffic.rules are for provider Envoy: write them in a route of your own (traffic.route.name), or "
        "use Envoy",
    ),
    (
        canary(traffic={"route": {"name": "mine"}}),
        "traffic",
        "traffic.route is for provider GatewayAPI or Istio: set one of them, or remove the route",
    ),
    (
        canary(traffic={"provider": "Istio", "route": {"gateways": [{"name": "g", "sectionName": "s"}]}}),
        "traffic",
        "traffic.route.gateways[].sectionName is for provider GatewayAPI: remove it",
    ),
    (
        canary(traffic={"provider": "Istio", "route": {"name": "mine", "hostnames": ["a.example"]}}),
        "traffic.route",
        "traffic.route: gateways and hostnames are for a route of the operator: remove them, or the name",
    ),
    (
        canary(traffic={"provider": "Istio", "route": {"rule": "http"}}),
        "traffic.route",
        "traffic.route.rule is of a route of yours: give its name too",
    ),
    (
        canary(traffic={"provider": "Replicas", "rules": [RULE]}),
        "traffic",
        "traffic.rules need a proxy: use provider: Envoy, or remove the rules",
    ),
    (
        canary(traffic={"rules": [{"match": {}}]}),
        "traffic.rules[0].match",
        "traffic.rules: a match needs exactly one of header, cookie and userHash",
    ),
    (
        canary(traffic={"rules": [{"match": {"userHash": {"percent": 5}}}] * 2}),
        "traffic",
        "traffic.rules: only one userHash rule is supported: give one percent, and one salt",
    ),
    (
        canary({"readinessPath": "/x"}, traffic={"provider": "Replicas"}),
        "",
        "readinessPath needs a proxy, because pods get requests as soon as they are ready: use "
        "traffic.provider Envoy",
    ),
    (
        canary({"readinessPath": "x"}),
        "updateStrategy.canary.readinessPath",
        "updateStrategy.canary.readinessPath must be a path such as /v2/health/ready",
    ),
    (
        canary({"weight": 5, "steps": [{"weight": 5}]}),
        "updateStrategy.canary",
        "set only one of updateStrategy.canary.weight and updateStrategy.canary.steps",
    ),
    (
        canary({"steps": [{"weight": 50}, {"weight": 5}]}),
        "updateStrategy.canary.steps",
        "updateStrategy.canary.steps must not go down: order them by weight",
    ),
    (
        canary({"hooks": [{"name": "a", "url": "file:///etc/passwd"}]}),
        "updateStrategy.canary.hooks[0].url",
        "updateStrategy.canary.hooks: url must begin with http:// or https://",
    ),
    (
        {"updateStrategy": {"canary": CANARY}},
        "updateStrategy",
        "updateStrategy.canary needs type: Canary: change the type or remove the block",
    ),
    (
        {"gpu": {"memory": "8Gi"}},
        "gpu.memory",
        "gpu.memory is not supported yet: remove it; gpu.count reserves whole devices",
    ),
    (
        {"runtime": {"engine": "tensorrt"}},
        "runtime.engine",
        "runtime.engine tensorrt is not supported yet: use auto, native, onednn or onnxruntime",
    ),
    ({"runtime": {"engine": "magic"}}, "runtime.engine", 'Unsupported value: "magic"'),
    (
        {"runtime": {"image": "a b"}},
        "runtime.image",
        "runtime.image must be an image reference without white space",
    ),
    (
        {"updateStrategy": {"type": "Recreate", "rollingUpdate": {"maxSurge": 2}}},
        "updateStrategy",
        "updateStrategy.rollingUpdate needs type: RollingUpdate: change the type or remove the block",
    ),
    (
        {"updateStrategy": {"rollingUpdate": {"maxSurge": 0}}},
        "updateStrategy.rollingUpdate",
        "rollingUpdate.maxSurge and rollingUpdate.maxUnavailable must not both be 0: "
        "set maxSurge to 1 or more",
    ),
    (
        {"updateStrategy": {"rollingUpdate": {"maxSurge": "0%", "maxUnavailable": "0%"}}},
        "updateStrategy.rollingUpdate",
        "must not both be 0",
    ),
    (
        {"updateStrategy": {"rollingUpdate": {"maxSurge": "lots"}}},
        "updateStrategy.rollingUpdate.maxSurge",
        'must be a number of pods (0 to 1000) or a percentage such as "25%"',
    ),
    (
        {"updateStrategy": {"rollingUpdate": {"maxUnavailable": -1}}},
        "updateStrategy.rollingUpdate.maxUnavailable",
        'must be a number of pods (0 to 1000) or a percentage such as "25%"',
    ),
    (
        {"gpu": {}, "resources": {"limits": {"nvidia.com/gpu": 1}}},
        "",
        "the GPU is given twice: keep gpu.count and remove that resource from resources.limits and "
        "resources.requests",
    ),
    ({"gpu": {}, "resources": {"requests": {"nvidia.com/gpu": 1}}}, "", "the GPU is given twice"),
    (
        {"gpu": {"resourceName": "gpu"}},
        "gpu.resourceName",
        "gpu.resourceName must be an extended resource such as nvidia.com/gpu",
    ),
    ({"resources": {"limits": {"cpu": "two"}}}, "resources.limits.cpu", "in body should match"),
    ({"replicas": -1}, "replicas", "should be greater than or equal to 0"),
    (
        {"warmUp": {"samples": [{}], "fromFile": "a.json"}},
        "warmUp",
        "set only one of warmUp.samples and warmUp.fromFile",
    ),
    (
        {"warmUp": {"fromFile": "../a.json"}},
        "warmUp.fromFile",
        'warmUp.fromFile must be a path inside the model\'s folder, without a leading "/" and without ".."',
    ),
    (
        {"pod": {"env": [{"name": "a-b", "value": "x"}]}},
        "pod.env[0].name",
        'a name in pod.env must be letters, digits and "_", and must not begin with a digit',
    ),
    (
        {"pod": {"env": [{"name": "MODEL_0_TOKEN", "value": "x"}]}},
        "pod.env[0].name",
        "a name in pod.env is one of the operator's own",
    ),
    (
        {"pod": {"env": [{"name": "A", "value": "x", "valueFrom": {"fieldRef": {"fieldPath": "a"}}}]}},
        "pod.env[0]",
        "set only one of value and valueFrom",
    ),
    (
        {"pod": {"labels": {"app.kubernetes.io/managed-by": "me"}}},
        "pod.labels",
        "pod.labels must not use serving.paddlepaddle.org/* or app.kubernetes.io/managed-by: "
        "the operator finds its pods by them",
    ),
    (
        {"pod": {"annotations": {"serving.paddlepaddle.org/identity": "me"}}},
        "pod.annotations",
        "pod.annotations must not use serving.paddlepaddle.org/*: they are the operator's",
    ),
]

PINNED = {
    "modelName": "m",
    "uid": "u",
    "version": "v1.0.0",
    "framework": "onnx",
    "source": {"scheme": "file"},
}
SERVICES_REFUSED = [
    (service(models=[]), "spec.models: Invalid value: 0: spec.models in body should have at least 1 items"),
    (service(models=None), "spec.models: Required value"),
    (service(models=[{"name": "a"}]), "a model needs modelRef: {name: <PaddleModel>}"),
    (
        service(models=[{"name": "a", "modelRef": {"name": "a"}, "pinned": PINNED}]),
        "set only modelRef: pinned is written by the operator for the service that a PaddleModel owns",
    ),
    (
        service(models=[{"name": "a/b", "modelRef": {"name": "a"}}]),
        'a model\'s serving name must be lower-case letters, digits, "-", "_" and ".", for example resnet50',
    ),
    (service(models=[{"name": "a", "modelRef": {"name": "a"}}] * 2), "Duplicate value"),
    (service(name=LONG), "metadata.name must have at most 45 characters"),
]
