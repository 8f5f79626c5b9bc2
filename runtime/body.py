"""Reading a request's body within its limits of size and time."""

from __future__ import annotations

import asyncio

from aiohttp import web
from aiohttp.web import BaseRequest

from runtime.errors import GONE, RequestError
from runtime.spec import Limits


async def read_body(request: BaseRequest, limits: Limits) -> bytes:
    """The whole body, decompressed. Raises RequestError: 411 no length, 413 too large (before reading when
    the length says so), 408 too slow: it has `body_start` seconds and what it brings at `body_rate` bytes a
    second; 499 the client left in the middle of it.
    """
    length = request.content_length
    if length is None and "chunked" not in request.headers.get("Transfer-Encoding", "").lower():
        raise RequestError(411, "Content-Length is missing")
    if length is not None and not length_allowed(length, limits):
        raise _too_large(limits)
    if request.headers.get("Expect", "").lower() == "100-continue" and request.transport is not None:
        request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    content = request.content
    if content.is_eof():
        data = content.read_nowait(-1) if content.total_bytes else b""
        if len(data) > limits.body:
            raise _too_large(limits)
        return data
    parts: list[bytes] = []
    size = 0
    started = asyncio.get_running_loop().time()
    try:
        async with asyncio.timeout(limits.body_start) as limit:
            async for part in content.iter_any():
                size += len(part)
                if size > limits.body:
                    raise _too_large(limits)
                parts.append(part)
                # What has arrived buys time for the rest, so that a large body may take long but never drip.
                limit.reschedule(started + limits.body_start + size / limits.body_rate)
    except TimeoutError:
        raise RequestError(
            408, f"the body is too slow: {size} bytes came, {limits.body_rate:g} bytes a second are wanted"
        ) from None
    except web.RequestPayloadError as error:
        raise RequestError(400, f"the body cannot be read: {error}") from None
    except ConnectionError:
        raise RequestError(499, GONE) from None
    return b"".join(parts)


def length_allowed(length: int, limits: Limits) -> bool:
    return length <= limits.body


def _too_large(limits: Limits) -> RequestError:
    return RequestError(413, f"the body is larger than {limits.body} bytes")
