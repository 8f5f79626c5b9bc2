"""Reading HTTP/1.1 responses with llhttp (httptools). Pure: bytes in, pieces of a body out; no sockets."""

from __future__ import annotations

import httptools

_HEAD_LIMIT = 64 * 1024


class BadResponse(ConnectionError):
    """What came is not an HTTP/1.1 response, or not all of one; the connection is unusable."""


class ResponseParser:
    """One response, fed as it arrives in pieces of any size.

    `status` is 0 until the head is there; interim answers (1xx) are skipped. `complete` after the last byte
    of the body; with `until_close` only the end of the connection completes it. `surplus`: bytes came after
    the end. Raises BadResponse for anything malformed, also for a coded body: the request asked for identity.
    """

    __slots__ = (
        "_bodyless", "_head", "_parser", "_pieces", "_seen",
        "complete", "headers", "keep_alive", "status", "surplus", "until_close",
    )  # fmt: skip

    def __init__(self, *, bodyless: bool = False) -> None:
        self.status = 0
        self.headers: dict[str, list[str]] = {}
        self.keep_alive = True
        self.complete = False
        self.until_close = False
        self.surplus = False
        self._bodyless = bodyless
        self._head: dict[str, list[str]] = {}
        self._seen = 0
        self._pieces: list[bytes] = []
        self._parser = httptools.HttpResponseParser(self)

    def header(self, name: str) -> str | None:
        """The first value of a header, its name in lower case."""
        values = self.headers.get(name)
        return values[0] if values else None

    def feed(self, data: bytes) -> list[bytes]:
        """The pieces of the body in `data`, which follows what was fed before."""
        if self.complete:
            self.surplus = self.surplus or bool(data)
            return []
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:  # a 101, or what follows a CONNECT: no body of HTTP
            self.complete = True
        except httptools.HttpParserError as error:
            if not self.complete:  # else what is no answer came after ours
                raise _refused(error) from error
            self.surplus = True
        if not self.status:
            self._seen += len(data)
            if self._seen > _HEAD_LIMIT:
                raise BadResponse(f"response head of more than {_HEAD_LIMIT} bytes")
        pieces, self._pieces = self._pieces, []
        return pieces

    def end(self) -> None:
        """The connection ended. Raises BadResponse when that cuts the response off."""
        if self.until_close and self.status:
            self.complete = True
        elif not self.complete:
            raise BadResponse("the server closed the connection before its answer was complete")

    # What httptools calls.

    def on_message_begin(self) -> None:
        if self.complete:
            self.surplus = True

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self.complete and not self.status:
            self._head.setdefault(name.decode("latin-1").lower(), []).append(
                value.decode("latin-1").strip(" \t")
            )

    def on_headers_complete(self) -> None:
        if self.complete:
            return
        status = self._parser.get_status_code()
        head, self._head = self._head, {}
        if status < 200 and status != 101:
            return
        if self._parser.get_http_version() not in ("1.1", "1.0"):
            raise BadResponse(f"not an HTTP/1.1 answer but HTTP/{self._parser.get_http_version()}")
        coding = head.get("content-encoding", ["identity"])[0]
        if coding != "identity":
            raise BadResponse(f"Content-Encoding {coding}, though identity was asked for")
        if head.get("transfer-encoding", ["chunked"])[0].lower() != "chunked":
            raise BadResponse(f"Transfer-Encoding {head['transfer-encoding']!r}")
        self.headers = head
        self.status = status
        if self._bodyless or status in (101, 204, 304):
            self.complete = True
        self.until_close = not self.complete and not ({"content-length", "transfer-encoding"} & head.keys())
        self.keep_alive = not self.until_close and self._parser.should_keep_alive()

    def on_body(self, body: bytes) -> None:
        if not self.complete:
            self._pieces.append(body)

    def on_message_complete(self) -> None:
        if self.status:
            self.complete = True


def _refused(error: Exception) -> BadResponse:
    cause = error.__context__ if isinstance(error, httptools.HttpParserCallbackError) else None
    return cause if isinstance(cause, BadResponse) else BadResponse(str(error))
