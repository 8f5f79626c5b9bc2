"""S3 buckets: listing with the minio client (for resolve), opening ranges without it (for pull)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from urllib3.response import BaseHTTPResponse

from artifacts._errors import ArtifactError, Reason, invalid
from artifacts._http import content_changed
from artifacts._manifest import File
from artifacts._sigv4 import object_url, sign_get
from artifacts._source import Credentials, Source
from artifacts._transport import TRANSPORT_ERRORS, Transport, drain, translate

if TYPE_CHECKING:
    from minio import Minio

_CODE = re.compile(rb"<Code>([A-Za-z0-9]+)</Code>")
_CREDENTIALS = frozenset(
    {
        "ExpiredToken",
        "InvalidAccessKeyId",
        "InvalidClientTokenId",
        "InvalidSecurity",
        "InvalidToken",
        "MissingSecurityHeader",
        "RequestExpired",
        "RequestTimeTooSkewed",
        "SignatureDoesNotMatch",
        "TokenRefreshRequired",
    }
)
_DENIED = frozenset(
    {"AccessDenied", "AccountProblem", "AllAccessDisabled", "NotSignedUp", "UnauthorizedAccess"}
)
_REGION = frozenset(
    {
        "AuthorizationHeaderMalformed",
        "IllegalLocationConstraintException",
        "PermanentRedirect",
        "TemporaryRedirect",
    }
)
_BUSY = frozenset(
    {"InternalError", "RequestTimeout", "ServiceUnavailable", "SlowDown", "XMinioServerNotInitialized"}
)


def region_of(source_region: str, endpoint: str) -> str:
    """The region to sign for: as given, as AWS's host name says, or us-east-1, which other stores accept."""
    if source_region:
        return source_region
    found = re.fullmatch(r"s3[.-]([a-z0-9-]+)\.amazonaws\.com", urlsplit(endpoint).hostname or "")
    return found[1] if found else "us-east-1"


def code_error(code: str, *, endpoint: str, bucket: str, key: str, signed: bool) -> ArtifactError:
    """The error that an S3 code stands for, naming endpoint, bucket and key."""
    at = f"bucket {bucket!r} at {endpoint}"
    if code == "NoSuchBucket":
        return ArtifactError(
            Reason.BUCKET_NOT_FOUND, f"{at} does not exist: create it or correct the bucket's name"
        )
    if code in ("NoSuchKey", "ResourceNotFound", "NoSuchVersion"):
        return ArtifactError(
            Reason.KEY_NOT_FOUND, f"{at} has no object {key!r}: upload it or correct the key"
        )
    if code == "PreconditionFailed":
        return content_changed(f"object {key!r} in {at}")
    if code in _CREDENTIALS:
        return ArtifactError(
            Reason.INVALID_CREDENTIALS,
            f"{at} refuses the credentials ({code}): correct the keys in the Secret of secretRef",
        )
    if code in _DENIED:
        remedy = "grant s3:GetObject and s3:ListBucket" if signed else "name a Secret in secretRef"
        return ArtifactError(Reason.ACCESS_DENIED, f"{at} denies access to {key!r} ({code}): {remedy}")
    if code in _REGION:
        return ArtifactError(
            Reason.INVALID_SOURCE,
            f"{at} is in another region ({code}): use spec.storage and set its region to the bucket's",
        )
    if code in _BUSY:
        text = f"endpoint {endpoint} is not able to answer now ({code}): check the object store's health"
        return ArtifactError(Reason.ENDPOINT_UNREACHABLE, text)
    if code in ("InvalidBucketName", "KeyTooLongError", "InvalidURI"):
        return invalid("storage", f"{bucket}/{key}", f"{endpoint} refuses the name ({code})")
    return ArtifactError(Reason.PULL_FAILED, f"{at}, key {key!r}: the object store answers {code}")


class S3Listing:
    """Reads what a bucket holds, without object content. Synchronous: call it from a thread.

    `check` is called before each page and raises when the caller has no time left.
    """

    def __init__(
        self, source: Source, credentials: Credentials, transport: Transport, check: Callable[[], None]
    ) -> None:
        from minio import Minio

        parts = urlsplit(source.endpoint)
        self._source = source
        self._signed = bool(credentials.access_key)
        self._check = check
        self._client: Minio = Minio(
            parts.netloc,
            access_key=credentials.access_key or None,
            secret_key=credentials.secret_key or None,
            session_token=credentials.session_token or None,
            secure=parts.scheme == "https",
            region=region_of(source.region, source.endpoint),
            http_client=transport.manager(parts.scheme),
        )
        if source.path_style:
            self._client.disable_virtual_style_endpoint()  # type: ignore[no-untyped-call]
        else:
            self._client.enable_virtual_style_endpoint()  # type: ignore[no-untyped-call]

    def _error(self, error: Exception, key: str) -> ArtifactError:
        from minio.error import InvalidResponseError, S3Error, ServerError

        source = self._source
        if isinstance(error, S3Error):
            return code_error(
                str(error.code), endpoint=source.endpoint, bucket=source.bucket, key=key, signed=self._signed
            )
        if isinstance(error, InvalidResponseError | ServerError):
            text = f"endpoint {source.endpoint} does not answer like S3: check the address and the port"
            return ArtifactError(Reason.ENDPOINT_UNREACHABLE, text)
        if isinstance(error, TRANSPORT_ERRORS):
            return translate(error, source.endpoint)
        return invalid(
            "storage", f"{source.bucket}/{key}", " ".join(str(error).split()) or type(error).__name__
        )

    def objects(self, prefix: str) -> Iterator[File]:
        """All objects whose key starts with `prefix`, in key order; `path` is the key. Folder markers are
        left out.
        """
        from minio.error import MinioException

        try:
            for count, found in enumerate(
                self._client.list_objects(self._source.bucket, prefix, recursive=True)
            ):
                if count % 500 == 0:
                    self._check()
                key = str(found.object_name)
                if not found.is_dir and not key.endswith("/"):
                    yield File(key, key, int(found.size or 0), str(found.etag or "").strip('"'))
        except (MinioException, *TRANSPORT_ERRORS, ValueError) as error:
            raise self._error(error, prefix) from error

    def stat(self, key: str) -> File:
        """One object, for those who may read it but not list the bucket. Raises KeyNotFound and so on."""
        from minio.error import MinioException

        self._check()
        try:
            found = self._client.stat_object(self._source.bucket, key)
        except (MinioException, *TRANSPORT_ERRORS, ValueError) as error:
            raise self._error(error, key) from error
        return File(key, key, int(found.size or 0), str(found.etag or "").strip('"'))

    def read_small(self, key: str, *, limit: int) -> bytes | None:
        """A small object's content; None when it is not there or not readable."""
        from minio.error import MinioException

        self._check()
        try:
            response = self._client.get_object(self._source.bucket, key)
        except (MinioException, *TRANSPORT_ERRORS, ValueError) as error:
            mapped = self._error(error, key)
            if mapped.reason in (Reason.KEY_NOT_FOUND, Reason.ACCESS_DENIED):
                return None
            raise mapped from error
        data = drain(response, limit + 1)
        if len(data) > limit:
            raise invalid(key, f"over {limit} bytes", "it is too large for a list of checksums")
        return data


class S3Files:
    """Opens ranges of a bucket's objects, bound to the ETag that was resolved."""

    def __init__(
        self,
        transport: Transport,
        credentials: Credentials,
        *,
        endpoint: str,
        bucket: str,
        region: str,
        path_style: bool,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._transport = transport
        self._credentials = credentials
        self._endpoint = endpoint
        self._bucket = bucket
        self._region = region_of(region, endpoint)
        self._path_style = path_style
        self._now = now

    def open(self, file: File, start: int, end: int) -> BaseHTTPResponse:
        url = object_url(self._endpoint, self._bucket, file.key, path_style=self._path_style)
        headers = sign_get(url, self._credentials, region=self._region, now=self._now())
        headers["Accept-Encoding"] = "identity"
        if file.etag:
            headers["If-Match"] = f'"{file.etag}"'
        if (start, end) != (0, file.size):
            headers["Range"] = f"bytes={start}-{end - 1}"
        response = self._transport.request("GET", url, headers)
        if response.status in (200, 206):
            found = (response.headers.get("ETag") or "").strip('"')
            if file.etag and found and found != file.etag:
                response.close()
                raise content_changed(f"object {file.key!r} in bucket {self._bucket!r} at {self._endpoint}")
            return response
        body = drain(response)
        match = _CODE.search(body)
        code = match[1].decode() if match else _BY_STATUS.get(response.status, f"{response.status}")
        if response.status == 412:
            code = "PreconditionFailed"
        elif response.status >= 500 and code not in _BUSY:
            code = "InternalError"
        raise code_error(
            code,
            endpoint=self._endpoint,
            bucket=self._bucket,
            key=file.key,
            signed=bool(self._credentials.access_key),
        )


_BY_STATUS = {
    301: "PermanentRedirect",
    307: "TemporaryRedirect",
    403: "AccessDenied",
    404: "NoSuchKey",
    429: "SlowDown",
}
