"""Deployment <service>-<revision>: made once, and from then on only its replicas change. Pure."""

import controller_runtime as ctrl

from ..applied import digest
from ..kinds import ANNOTATION_HASH_VERSION, ANNOTATION_IDENTITY, GROUP
from .desired import Desired
from .meta import Owner, Rendered, child_name, metadata, rendered, selector
from .pod import pod_template
from .wire import JSON

#: The image of both containers, kept beside the identity it went into.
ANNOTATION_IMAGE = f"{GROUP}/image"
#: Digest of the pod template as it was sent: tells a template changed by hand from one of an older operator.
ANNOTATION_TEMPLATE = f"{GROUP}/template"
#: When the revision last became the stable one (RFC 3339, microseconds). Absent if it never did.
ANNOTATION_PROMOTED = f"{GROUP}/promoted"
#: JSON list of the models the revision serves, for status: [{name, modelName, uid, version, digest}].
ANNOTATION_MODELS = f"{GROUP}/models"


def deployment(
    owner: Owner,
    desired: Desired,
    revision: str,
    *,
    image: str,
    pull_policy: str,
    replicas: int,
    identity: str,
    hash_version: int,
    models: str,
) -> Rendered:
    """The Deployment as it is created. Its own rolling update never runs, because its template never
    changes.
    """
    template = pod_template(owner, desired, revision, image=image, pull_policy=pull_policy)
    annotations = {
        ANNOTATION_IDENTITY: identity,
        ANNOTATION_HASH_VERSION: str(hash_version),
        ANNOTATION_IMAGE: image,
        ANNOTATION_TEMPLATE: digest(template),
        ANNOTATION_MODELS: models,
    }
    name = child_name(owner.name, revision)
    spec: JSON = {
        "replicas": replicas,
        "revisionHistoryLimit": 1,
        # The service's own deadline counts bytes and stages; this one would only add a second opinion.
        "progressDeadlineSeconds": 2147483647,
        "selector": {"matchLabels": selector(owner.name, revision)},
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
        "template": template,
    }
    return rendered(
        ctrl.DEPLOYMENT, metadata(owner, name, revision=revision, annotations=annotations), spec=spec
    )
