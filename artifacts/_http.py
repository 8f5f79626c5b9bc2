"""Files behind http(s):// URLs: asking for their size, and opening ranges of them."""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass
from urllib.parse import urljoin, urlsplit

from urllib3.response import BaseHTTPResponse

from artifacts._errors import ArtifactError, Reason, invalid
from artifacts._manifest import File
from artifacts._source import Credentials
from artifacts._transport import Transport, drain, origin

MAX_REDIRECTS = 5
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_TOTAL = re.compile(r"bytes (\d+)-(\d+)/(\d+)")
MODIFIED = "modified="  # how a Last-Modified date is kept where a server sends no ETag


@dataclass(frozen=True, slots=True)
class Head:
    """What a server says of a file: `size` is -1 when it does not say."""

    size: int
    etag: str


def authorization(credentials: Credentials) -> str:
    if credentials.token:
        return f"Bearer {credentials.token}"
    if credentials.username:
        pair = f"{credentials.username}:{credentials.password}".encode()
        return f"Basic {base64.b64encode(pair).decode()}"
    return ""


def follow(
    transport: Transport, method: str, url: str, credentials: Credentials, headers: dict[str, str]
) -> BaseHTTPResponse:
    """The final answer after at most five redirects, each address checked; credentials stay with the first
    origin.

    Raises ArtifactError for redirects that go nowhere good; error statuses are returned.
    """
    auth, home, current = authorization(credentials), origin(url), url
    for _ in range(MAX_REDIRECTS + 1):
        sent = {"Accept-Encoding": "identity", "User-Agent": "paddle-operator", **headers}
        if auth and origin(current) == home:
            sent["Authorization"] = auth
        response = transport.request(method, current, sent)
        location = response.headers.get("Location")
        if response.status not in _REDIRECTS or not location:
            return response
        drain(response)
        target = urljoin(current, location)
        parts = urlsplit(target)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise invalid(
                "redirect", target, f"{home} redirects to something that is not http; use the final address"
            )
        if parts.scheme == "http" and urlsplit(current).scheme == "https":
            raise invalid(
                "redirect", target, f"{home} redirects from https to http; use an address that stays on https"
            )
        current = target
    raise invalid("url", url, f"more than {MAX_REDIRECTS} redirects; use the final address")


def status_error(status: int, url: str, *, authorized: bool) -> ArtifactError:
    """The error that a status stands for, naming the file without its query (which may hold a signature)."""
    shown = url.split("?", 1)[0]
    if status == 401 and authorized:
        return ArtifactError(
            Reason.INVALID_CREDENTIALS, f"{shown}: the credentials are refused: correct the Secret"
        )
    if status in (401, 403):
        remedy = "grant read access" if authorized else "name a Secret in secretRef"
        return ArtifactError(Reason.ACCESS_DENIED, f"{shown}: access denied ({status}): {remedy}")
    if status in (404, 410):
        return ArtifactError(
            Reason.KEY_NOT_FOUND, f"{shown}: there is no such file ({status}): correct the address"
        )
    if status == 412:
        return content_changed(shown)
    if status in (408, 425, 429) or status >= 500:
        text = f"{shown}: the server answers {status}: check that it is healthy"
        return ArtifactError(Reason.ENDPOINT_UNREACHABLE, text)
    return ArtifactError(Reason.INVALID_SOURCE, f"{shown}: the server answers {status}: correct the address")


def content_changed(what: str) -> ArtifactError:
    return ArtifactError(
        Reason.CONTENT_CHANGED,
        f"{what} changed since it was resolved: publish new content as a new version, or restore the old one",
    )


def head(transport: Transport, url: str, credentials: Credentials) -> Head:
    """Size and validator of a file without its body. Raises ArtifactError."""
    response = follow(transport, "HEAD", url, credentials, {})
    drain(response)
    # Some servers know no HEAD, and a URL signed for GET refuses it: a range of one byte tells the same.
    if response.status in (400, 403, 405, 501) or (
        response.status == 200 and "Content-Length" not in response.headers
    ):
        response = follow(transport, "GET", url, credentials, {"Range": "bytes=0-0"})
        response.close()
    if response.status == 416:  # the one byte asked for is past the end: an empty file
        return Head(0, validator(response))
    if response.status not in (200, 206):
        raise status_error(response.status, url, authorized=bool(authorization(credentials)))
    total = _TOTAL.fullmatch(response.headers.get("Content-Range", ""))
    length = response.headers.get("Content-Length", "")
    size = int(total[3]) if total else int(length) if response.status == 200 and length.isdigit() else -1
    return Head(size, validator(response))


def validator(response: BaseHTTPResponse) -> str:
    """The ETag without quotes (a weak one keeps its W/), else the date of change, else ""."""
    etag = (response.headers.get("ETag") or "").strip()
    if etag:
        return etag if etag.startswith("W/") else etag.strip('"')
    modified = (response.headers.get("Last-Modified") or "").strip()
    return f"{MODIFIED}{modified}" if modified else ""


def get_small(transport: Transport, url: str, credentials: Credentials, *, limit: int) -> bytes | None:
    """A small file's content; None when it is not there. Raises InvalidSource above `limit` bytes."""
    response = follow(transport, "GET", url, credentials, {})
    if response.status in (403, 404, 410):
        drain(response)
        return None
    if response.status != 200:
        drain(response)
        raise status_error(response.status, url, authorized=bool(authorization(credentials)))
    data = drain(response, limit + 1)
    if len(data) > limit:
        raise invalid(url.split("?", 1)[0], f"over {limit} bytes", "it is too large for a list of checksums")
    return data


class HttpFiles:
    """Opens ranges of the files below one endpoint, bound to what was resolved."""

    def __init__(self, transport: Transport, endpoint: str, credentials: Credentials) -> None:
        self._transport = transport
        self._endpoint = endpoint
        self._credentials = credentials

    def open(self, file: File, start: int, end: int) -> BaseHTTPResponse:
        url = f"{self._endpoint}/{file.key}"
        headers: dict[str, str] = {}
        if file.etag.startswith(MODIFIED):
            headers["If-Unmodified-Since"] = file.etag.removeprefix(MODIFIED)
        elif file.etag and not file.etag.startswith("W/"):
            headers["If-Match"] = f'"{file.etag}"'
        if (start, end) != (0, file.size):
            headers["Range"] = f"bytes={start}-{end - 1}"
        response = follow(self._transport, "GET", url, self._credentials, headers)
        if response.status not in (200, 206):
            drain(response)
            raise status_error(response.status, url, authorized=bool(authorization(self._credentials)))
        found = validator(response)
        if file.etag and found and found != file.etag:
            response.close()
            raise content_changed(url.split("?", 1)[0])
        return response
