"""Reading HTTP/1.1 responses. Pure: bytes in, pieces of a body out; knows no sockets."""

from __future__ import annotations

_HEAD_LIMIT = 64 * 1024
_LINE_LIMIT = 1024


class BadResponse(ConnectionError):
    """What came is not an HTTP/1.1 response, or not all of one; the connection is unusable."""


class ResponseParser:
    """One response, fed as it arrives in pieces of any size.

    `status` is 0 until the head is there; interim answers (1xx) are skipped. `complete` after the last byte
    of the body; with `until_close` only the end of the connection completes it. `surplus`: bytes came after
    the end. Raises BadResponse for anything malformed, also for a coded body: the request asked for identity.
    """

    __slots__ = (
        "_bodyless", "_chunked", "_left", "_rest", "_state",
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
        self._chunked = False
        self._left = 0
        self._rest = b""
        self._state = _SIZE

    def header(self, name: str) -> str | None:
        """The first value of a header, its name in lower case."""
        values = self.headers.get(name)
        return values[0] if values else None

    def feed(self, data: bytes) -> list[bytes]:
        """The pieces of the body in `data`, which follows what was fed before."""
        if not self.status:
            data = self._read_head(data)
            if not self.status:
                return []
        if self.complete:
            self.surplus = self.surplus or bool(data)
            return []
        if self._chunked:
            return self._read_chunks(data)
        if self.until_close:
            return [data] if data else []
        piece = data[: self._left]
        self._left -= len(piece)
        if not self._left:
            self.complete = True
            self.surplus = len(data) > len(piece)
        return [piece] if piece else []

    def end(self) -> None:
        """The connection ended. Raises BadResponse when that cuts the response off."""
        if self.until_close and self.status:
            self.complete = True
        elif not self.complete:
            raise BadResponse("the server closed the connection before its answer was complete")

    def _read_head(self, data: bytes) -> bytes:
        """What of `data` follows the head; `status` is still 0 when the head is not complete."""
        data = self._rest + data
        while True:
            end = data.find(b"\r\n\r\n")
            if end < 0 or end > _HEAD_LIMIT:
                if len(data) > _HEAD_LIMIT:
                    raise BadResponse(f"response head of more than {_HEAD_LIMIT} bytes")
                self._rest = data
                return b""
            version, status, headers = _parse_head(data[:end])
            data = data[end + 4 :]
            if status >= 200 or status == 101:
                break
        self._rest = b""
        self.status, self.headers = status, headers
        connection = self.header("connection")
        self.keep_alive = version == "HTTP/1.1" and (connection or "").lower() != "close"
        self._frame()
        return data

    def _frame(self) -> None:
        """How the end of the body will be known."""
        coding = self.header("content-encoding")
        if coding not in (None, "identity"):
            raise BadResponse(f"Content-Encoding {coding}, though identity was asked for")
        transfer, lengths = self.header("transfer-encoding"), self.headers.get("content-length")
        if self._bodyless or self.status in (101, 204, 304):
            self.complete = True
        elif transfer is not None:
            if transfer.lower() != "chunked":
                raise BadResponse(f"Transfer-Encoding {transfer!r}")
            self._chunked = True
        elif lengths is not None:
            length = lengths[0]
            if not (length.isascii() and length.isdigit()) or any(other != length for other in lengths):
                raise BadResponse(f"Content-Length {lengths!r}")
            self._left = int(length)
            self.complete = not self._left
        else:
            self.until_close = True
            self.keep_alive = False

    def _read_chunks(self, data: bytes) -> list[bytes]:
        data = self._rest + data if self._rest else data
        self._rest = b""
        pieces: list[bytes] = []
        at = 0
        while True:
            if self._state == _DATA:
                piece = data[at : at + self._left]
                if piece:
                    pieces.append(piece)
                at += len(piece)
                self._left -= len(piece)
                if self._left:
                    return pieces
                self._state = _DATA_END
            end = data.find(b"\r\n", at)
            if end < 0:
                self._rest = data[at:]
                if len(self._rest) > _LINE_LIMIT:
                    raise BadResponse("chunk without an end of line")
                return pieces
            line, at = data[at:end], end + 2
            if self._state == _SIZE:
                self._left = _chunk_size(line)
                self._state = _DATA if self._left else _TRAILER
            elif self._state == _DATA_END:
                if line:
                    raise BadResponse("chunk longer than it said")
                self._state = _SIZE
            elif not line:  # the trailer's end
                self.complete = True
                self.surplus = at < len(data)
                return pieces


_SIZE, _DATA, _DATA_END, _TRAILER = range(4)


def _parse_head(head: bytes) -> tuple[str, int, dict[str, list[str]]]:
    lines = head.decode("latin-1").split("\r\n")
    version, _, rest = lines[0].partition(" ")
    code = rest[:3]
    if version not in ("HTTP/1.1", "HTTP/1.0") or not (len(code) == 3 and code.isascii() and code.isdigit()):
        raise BadResponse(f"not an HTTP/1.1 answer: {lines[0][:80]!r}")
    headers: dict[str, list[str]] = {}
    for line in lines[1:]:
        name, colon, value = line.partition(":")
        if not colon or not name or name[0] in " \t":
            raise BadResponse(f"malformed header {line[:80]!r}")
        headers.setdefault(name.lower(), []).append(value.strip(" \t"))
    return version, int(code), headers


def _chunk_size(line: bytes) -> int:
    digits = line.partition(b";")[0].strip(b" \t")
    if not 0 < len(digits) <= 16 or digits.strip(b"0123456789abcdefABCDEF"):
        raise BadResponse(f"chunk size {line[:40]!r}")
    return int(digits, 16)
