"""Model files: where they are (resolve), what names them (digest), and how they reach a pod (pull).

Knows nothing of Kubernetes or Paddle. Importing it is cheap, because the pull of every pod starts with it:
the S3 client and the event loop are imported by the functions that use them.
"""

from __future__ import annotations

from artifacts._config import (
    Batching,
    Desired,
    ModelEntry,
    Tensor,
    WarmUp,
    load_config,
    models_yaml,
    to_wire,
)
from artifacts._download import Stop, Stopped
from artifacts._errors import ArtifactError, Reason
from artifacts._manifest import File, Manifest, PinnedSource, digest_of, parse_checksum
from artifacts._place import locate
from artifacts._policy import EndpointPolicy
from artifacts._progress import Progress
from artifacts._pull import Pulled, PullOptions, pull, pull_model
from artifacts._resolve import resolve
from artifacts._source import PVC_MOUNT, Credentials, Source, parse_uri, s3_source

__all__ = [
    "PVC_MOUNT",
    "ArtifactError",
    "Batching",
    "Credentials",
    "Desired",
    "EndpointPolicy",
    "File",
    "Manifest",
    "ModelEntry",
    "PinnedSource",
    "Progress",
    "PullOptions",
    "Pulled",
    "Reason",
    "Source",
    "Stop",
    "Stopped",
    "Tensor",
    "WarmUp",
    "digest_of",
    "load_config",
    "locate",
    "models_yaml",
    "parse_checksum",
    "parse_uri",
    "pull",
    "pull_model",
    "resolve",
    "s3_source",
    "to_wire",
]
