"""AWS signature version 4 for GET requests.

The minio client signs too, but importing it takes longer than the whole pull of a small model; tests hold
the two against each other.
"""

from __future__ import annotations

import hashlib
import hmac
from datetime import UTC, datetime
from urllib.parse import quote, urlsplit

from artifacts._source import Credentials

EMPTY_SHA256 = hashlib.sha256(b"").hexdigest()


def object_url(endpoint: str, bucket: str, key: str, *, path_style: bool) -> str:
    """The URL of an object, the key percent-encoded the way the signature wants it."""
    path = quote(key, safe="/-_.~")
    if path_style:
        return f"{endpoint}/{bucket}/{path}"
    scheme, _, host = endpoint.partition("://")
    return f"{scheme}://{bucket}.{host}/{path}"


def sign_get(url: str, credentials: Credentials, *, region: str, now: datetime) -> dict[str, str]:
    """Headers for a GET of `url`; none when the credentials are anonymous. `now` must know its time zone."""
    if not credentials.access_key:
        return {}
    parts = urlsplit(url)
    stamp = now.astimezone(UTC).strftime("%Y%m%dT%H%M%SZ")
    headers = {"host": parts.netloc, "x-amz-content-sha256": EMPTY_SHA256, "x-amz-date": stamp}
    if credentials.session_token:
        headers["x-amz-security-token"] = credentials.session_token
    names = ";".join(sorted(headers))
    lines = "".join(f"{name}:{headers[name]}\n" for name in sorted(headers))
    canonical = f"GET\n{parts.path or '/'}\n{parts.query}\n{lines}\n{names}\n{EMPTY_SHA256}"
    scope = f"{stamp[:8]}/{region}/s3/aws4_request"
    to_sign = f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
    key = f"AWS4{credentials.secret_key}".encode()
    for part in (stamp[:8], region, "s3", "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    signature = hmac.new(key, to_sign.encode(), "sha256").hexdigest()
    headers["Authorization"] = (
        f"AWS4-HMAC-SHA256 Credential={credentials.access_key}/{scope}, SignedHeaders={names},"
        f" Signature={signature}"
    )
    del headers["host"]  # the connection writes it
    return headers
