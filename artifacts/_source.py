"""Where a model comes from: URIs, buckets, credentials. Nothing here touches the network."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args
from urllib.parse import quote, urlsplit

from artifacts._errors import ArtifactError, Reason, invalid

Scheme = Literal["s3", "http", "pvc", "file"]
SCHEMES: tuple[Scheme, ...] = get_args(Scheme)
PVC_MOUNT = "/mnt/pvc"  # controllers mount the claim of a pvc:// source read-only at PVC_MOUNT/<claim>
TAR_SUFFIXES = (".tar", ".tar.gz", ".tgz")
RESERVED_NAME = ".artifact.json"  # the pointer file beside a placed artifact

_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_CLAIM = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_WILDCARD = re.compile(r"[*?\[]")


@dataclass(frozen=True, slots=True)
class Source:
    """A place with model files.

    s3: `endpoint` is scheme://host[:port], `key` a file, a prefix or a wildcard. http: `endpoint` the same,
    `key` the path and query without the leading slash. pvc: `bucket` is the claim, `key` the path in it.
    file: `key` is the absolute path.
    """

    scheme: Scheme
    endpoint: str
    bucket: str
    key: str
    region: str = ""
    path_style: bool = True

    @property
    def wildcard(self) -> bool:
        return self.scheme == "s3" and bool(_WILDCARD.search(self.key))

    @property
    def root(self) -> str:
        """The folder (or file) in the pod for pvc and file sources, "" for the others."""
        if self.scheme == "pvc":
            return f"{PVC_MOUNT}/{self.bucket}/{self.key}".rstrip("/")
        return self.key if self.scheme == "file" else ""

    def __str__(self) -> str:
        """The address people know it by, for status and messages."""
        if self.scheme == "s3":
            return f"s3://{self.bucket}/{self.key} at {self.endpoint}"
        if self.scheme == "http":
            return f"{self.endpoint}/{self.key}"
        return f"pvc://{self.bucket}/{self.key}" if self.scheme == "pvc" else f"file://{self.key}"


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a source asks for; empty fields mean anonymous. Never printed: every secret field is out of the
    repr.
    """

    access_key: str = ""
    secret_key: str = field(default="", repr=False)
    session_token: str = field(default="", repr=False)
    token: str = field(default="", repr=False)
    username: str = ""
    password: str = field(default="", repr=False)
    ca_pem: str = field(default="", repr=False)

    @classmethod
    def from_mapping(cls, data: Mapping[str, str], *, where: str, ca_pem: str = "") -> Credentials:
        """From the decoded data of a Secret (or environment names without their prefix).

        Names are compared without case, dashes and underscores, and those that AWS, MinIO and KServe use
        are known. Raises SecretInvalid naming `where` when one half of a pair is missing or nothing is known.
        """
        folded = {re.sub(r"[-_.]", "", name).lower(): value.strip() for name, value in data.items()}
        found = {
            name: next((folded[a] for a in aliases if folded.get(a)), "")
            for name, aliases in _ALIASES.items()
        }
        for one, other in (("access_key", "secret_key"), ("username", "password")):
            if bool(found[one]) != bool(found[other]):
                have, lack = (one, other) if found[one] else (other, one)
                raise ArtifactError(
                    Reason.SECRET_INVALID,
                    f"{where} has {_SHOWN[have]} but no {_SHOWN[lack]}: add the key {_SHOWN[lack]}",
                )
        if not any(found.values()):
            raise ArtifactError(
                Reason.SECRET_INVALID,
                f"{where} has none of ACCESS_KEY_ID and SECRET_ACCESS_KEY, TOKEN, USERNAME and PASSWORD"
                f" (found: {', '.join(sorted(data)[:5]) or 'nothing'})",
            )
        return cls(**found, ca_pem=ca_pem)

    @classmethod
    def from_env(cls, prefix: str, *, env: Mapping[str, str] | None = None, ca_pem: str = "") -> Credentials:
        """From `<prefix>_ACCESS_KEY_ID` and so on; anonymous when `prefix` is "" or the environment has
        none of it.
        """
        environ = os.environ if env is None else env
        start = f"{prefix}_"
        data = {
            name[len(start) :]: value for name, value in environ.items() if prefix and name.startswith(start)
        }
        if not data:
            return cls(ca_pem=ca_pem)
        return cls.from_mapping(data, where=f"environment {prefix}_*", ca_pem=ca_pem)


_ALIASES = {
    "access_key": ("accesskeyid", "awsaccesskeyid", "accesskey", "rootuser", "minioaccesskey"),
    "secret_key": ("secretaccesskey", "awssecretaccesskey", "secretkey", "rootpassword", "miniosecretkey"),
    "session_token": ("sessiontoken", "awssessiontoken"),
    "token": ("token", "bearertoken"),
    "username": ("username",),
    "password": ("password",),
}
_SHOWN = {
    "access_key": "ACCESS_KEY_ID",
    "secret_key": "SECRET_ACCESS_KEY",
    "username": "USERNAME",
    "password": "PASSWORD",
}


def is_tar(key: str) -> bool:
    """Whether a key names an archive that is unpacked (a query string of a URL apart)."""
    return key.split("?", 1)[0].lower().endswith(TAR_SUFFIXES)


def check_endpoint(endpoint: str, *, field: str = "storage.endpoint") -> str:
    """`endpoint` as scheme://host[:port], lower case, without a trailing slash. Raises InvalidSource."""
    remedy = "write it as http://host:port or https://host"
    if _CONTROL.search(endpoint) or " " in endpoint:
        raise invalid(field, endpoint, remedy)
    text = endpoint if "://" in endpoint else f"http://{endpoint}"
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        raise invalid(field, endpoint, remedy) from None
    if parts.username is not None or parts.password is not None:
        raise invalid(
            field, f"{parts.scheme}://…@{parts.hostname}", "credentials belong in the Secret of secretRef"
        )
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise invalid(field, endpoint, remedy)
    if parts.path.strip("/") or parts.query or parts.fragment:
        raise invalid(field, endpoint, "an endpoint has no path; bucket and key have fields of their own")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    default = {"http": 80, "https": 443}[parts.scheme]
    return f"{parts.scheme}://{host}" + (f":{port}" if port is not None and port != default else "")


def check_path(path: str, *, field: str = "path") -> str:
    """A relative path that is safe to create below a folder. Raises InvalidSource otherwise."""
    segments = path.split("/")
    if (
        not path
        or len(path.encode("utf-8", "surrogatepass")) > 1024
        or _CONTROL.search(path)
        or "\\" in path
        or any(s in ("", ".", "..") or len(s.encode("utf-8", "surrogatepass")) > 255 for s in segments)
    ):
        raise invalid(
            field, path, "file names must be relative, without '..', empty parts or control characters"
        )
    if segments[0] == RESERVED_NAME:
        raise invalid(field, path, f"the name {RESERVED_NAME} is reserved; rename the file")
    return path


def s3_source(
    *,
    bucket: str,
    key: str,
    endpoint: str = "",
    region: str = "",
    path_style: bool | None = None,
    field: str = "storage",
) -> Source:
    """A checked S3 source from the fields of spec.storage; no endpoint means AWS. Raises InvalidSource."""
    if not _BUCKET.fullmatch(bucket) or ".." in bucket:
        raise invalid(f"{field}.bucket", bucket, "a bucket has 3 to 63 of a-z, 0-9, '-' and '.'")
    if not key or key.startswith("/") or _CONTROL.search(key) or len(key.encode()) > 1024:
        raise invalid(
            f"{field}.key", key, "name a file, a prefix ending in '/' or a wildcard, without a leading '/'"
        )
    if any(part in (".", "..") for part in key.split("/")):
        raise invalid(f"{field}.key", key, "'.' and '..' are not allowed in a key")
    aws = f"https://s3.{region or 'us-east-1'}.amazonaws.com"
    address = check_endpoint(endpoint or aws, field=f"{field}.endpoint")
    hosted = urlsplit(address).hostname or ""
    style = not hosted.endswith(".amazonaws.com") if path_style is None else path_style
    return Source("s3", address, bucket, key, region, style)


def parse_uri(
    uri: str,
    *,
    default_endpoint: str = "",
    region: str = "",
    path_style: bool | None = None,
    field: str = "spec.modelPath",
) -> Source:
    """The source a modelPath names: minio:// s3:// http(s):// pvc:// file://. Raises InvalidSource.

    `default_endpoint` is where minio:// buckets live; s3:// means AWS. S3 keys are taken as they are
    written (no percent-decoding), so that '?', '#' and '*' can be in them.
    """
    scheme, sep, rest = uri.partition("://")
    if not sep or _CONTROL.search(uri) or len(uri) > 2048:
        raise invalid(
            field, uri, "write minio://bucket/key, s3://bucket/key, https://host/path, pvc:// or file://"
        )
    if scheme in ("minio", "s3"):
        bucket, _, key = rest.partition("/")
        if scheme == "minio" and not default_endpoint:
            raise invalid(
                field, uri, "minio:// needs an endpoint: set --minio-endpoint or use spec.storage.endpoint"
            )
        endpoint = default_endpoint if scheme == "minio" else ""
        return s3_source(
            bucket=bucket, key=key, endpoint=endpoint, region=region, path_style=path_style, field=field
        )
    if scheme in ("http", "https"):
        authority, slash, path = rest.partition("/")
        if "?" in authority or "#" in authority:
            authority, slash, path = "", "", ""
        path = path.split("#", 1)[0]
        if not authority or not slash or not path:
            raise invalid(field, uri, "name a file, as in https://host/path/model.tar")
        endpoint = check_endpoint(f"{scheme}://{authority}", field=field)
        return Source("http", endpoint, "", quote(path, safe="/%?=&+:@!$'()*,;~-._[]"))
    if scheme == "pvc":
        claim, _, path = rest.partition("/")
        if not _CLAIM.fullmatch(claim):
            raise invalid(field, uri, "write pvc://claim-name/path")
        return Source("pvc", "", claim, check_path(path.strip("/"), field=field) if path.strip("/") else "")
    if scheme == "file":
        if not rest.startswith("/"):
            raise invalid(field, uri, "write an absolute path, as in file:///models/resnet50")
        return Source("file", "", "", "/" + check_path(rest.strip("/"), field=field))
    raise invalid(field, uri, f"the scheme {scheme!r} is unknown; use minio, s3, http, https, pvc or file")
