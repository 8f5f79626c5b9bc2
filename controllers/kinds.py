"""The kinds this operator owns and the names it writes on every object."""

from typing import Final

import controller_runtime as ctrl

GROUP: Final = "serving.paddlepaddle.org"
VERSION: Final = "v1alpha1"

PADDLE_MODEL: Final = ctrl.Kind(group=GROUP, version=VERSION, kind="PaddleModel", plural="paddlemodels")
PADDLE_SERVICE: Final = ctrl.Kind(group=GROUP, version=VERSION, kind="PaddleService", plural="paddleservices")
CANARY_ANALYSIS: Final = ctrl.Kind(
    group=GROUP, version=VERSION, kind="CanaryAnalysis", plural="canaryanalyses"
)

FIELD_MANAGER: Final = "paddle-operator"

LABEL_MANAGED_BY: Final = "app.kubernetes.io/managed-by"
LABEL_SERVICE: Final = f"{GROUP}/paddle-service"
LABEL_REVISION: Final = f"{GROUP}/revision"
LABEL_ROLE: Final = f"{GROUP}/role"
ROLE_SERVER: Final = "server"
#: Pods, Deployments and the like are cached under this selector only (DESIGN: never everybody's Pods).
MANAGED_SELECTOR: Final = f"{LABEL_MANAGED_BY}={FIELD_MANAGER}"

#: On a revision's Deployment: the canonical JSON its hash was made from, and the hash function's version.
ANNOTATION_IDENTITY: Final = f"{GROUP}/identity"
ANNOTATION_HASH_VERSION: Final = f"{GROUP}/hash-version"
#: On a PaddleService made by a PaddleModel: the generation of the model it was handed over from.
ANNOTATION_MODEL_GENERATION: Final = f"{GROUP}/model-generation"

#: On a PaddleService, by people and the CLI: `<verb>/<run>/<token>`, see docs/canary.md. Never taken away.
ANNOTATION_CANARY_COMMAND: Final = f"canary.{GROUP}/command"
#: On a revision's Deployment: the highest change of weights that the revision took part in.
ANNOTATION_TRAFFIC_CHANGE: Final = f"{GROUP}/traffic-change"

#: On a serving pod: the release that it is told to take. On the ConfigMap of a pod set: the one new pods get.
ANNOTATION_RELEASE: Final = f"{GROUP}/release"
#: On a serving pod: when it was told that last. Writing it has the kubelet look at the pod's volumes again.
ANNOTATION_RELEASE_TOLD: Final = f"{GROUP}/release-told"
ANNOTATION_RELEASE_SINCE: Final = f"{GROUP}/release-since"

FINALIZER: Final = f"{GROUP}/in-use"

CONTAINER_PULL: Final = "pull"
CONTAINER_SERVER: Final = "server"
PORT_HTTP: Final = 8080
PORT_GRPC: Final = 9000
PORT_ADMIN: Final = 8081
