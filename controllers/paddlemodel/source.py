"""From a PaddleModel's spec to where its files are and who may read them. Pure but for the Secret reads."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass

import controller_runtime as ctrl
from api.v1alpha1 import PaddleModelSpec
from artifacts import ArtifactError, Credentials, Source, parse_uri, s3_source
from artifacts import Reason as ArtifactReason

from ..options import Options


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to resolve: the source, and the names of the Secrets that open it ("" for none)."""

    source: Source
    version: str
    checksum: str
    secret: str = ""
    ca_secret: str = ""

    @property
    def question(self) -> str:
        """Identity of the question: another Secret is worth asking anew."""
        return _hash(self.identity, self.secret, self.ca_secret)

    @property
    def identity(self) -> str:
        """Identity of what is asked for. While it stays, what was resolved stays pinned."""
        source = self.source
        return _hash(str(source), source.region, str(source.path_style), self.version, self.checksum)


def _hash(*parts: str) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


def wanted(spec: PaddleModelSpec, options: Options) -> Wanted:
    """The question that `spec` asks. Raises ArtifactError(InvalidSource) naming the field."""
    checksum = spec.checksum or ""
    if spec.storage is not None:
        storage = spec.storage
        source = s3_source(
            bucket=storage.bucket,
            key=storage.key,
            endpoint=storage.endpoint or options.minio_endpoint,
            region=storage.region or "",
            path_style=storage.path_style,
            field="spec.storage",
        )
        secret = storage.secret_ref.name if storage.secret_ref else ""
        ca_secret = storage.ca_secret_ref.name if storage.ca_secret_ref else ""
        return Wanted(source, spec.version, checksum, secret, ca_secret)
    source = parse_uri(spec.model_path or "", default_endpoint=options.minio_endpoint)
    secret = spec.secret_ref.name if spec.secret_ref else ""
    ca_secret = spec.ca_secret_ref.name if spec.ca_secret_ref else ""
    return Wanted(source, spec.version, checksum, secret, ca_secret)


async def read_credentials(reader: ctrl.Client, namespace: str, wanted: Wanted) -> Credentials:
    """The credentials from the Secrets of the model's own namespace, read live and kept nowhere.

    Anonymous when no Secret is named. Raises ArtifactError with SecretNotFound or SecretInvalid.
    """
    ca_pem = ""
    if wanted.ca_secret:
        data = await _secret(reader, namespace, wanted.ca_secret)
        if not data.get("ca.crt"):
            raise ArtifactError(
                ArtifactReason.SECRET_INVALID,
                f"Secret {namespace}/{wanted.ca_secret} has no key ca.crt: put the authority's PEM there",
            )
        ca_pem = data["ca.crt"]
    if not wanted.secret:
        return Credentials(ca_pem=ca_pem)
    data = await _secret(reader, namespace, wanted.secret)
    return Credentials.from_mapping(data, where=f"Secret {namespace}/{wanted.secret}", ca_pem=ca_pem)


async def _secret(reader: ctrl.Client, namespace: str, name: str) -> Mapping[str, str]:
    secret = await reader.get_live(ctrl.SECRET, ctrl.Key(namespace, name))
    if secret is None:
        raise ArtifactError(
            ArtifactReason.SECRET_NOT_FOUND,
            f"Secret {namespace}/{name} does not exist: create it there or correct the name",
        )
    data: dict[str, str] = {}
    for key, value in (secret.raw.get("data") or {}).items():
        try:
            data[key] = base64.b64decode(value).decode()
        except ValueError:
            continue  # a binary value cannot be a credential of ours
    return data
