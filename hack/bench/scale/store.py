"""An object store with the same two tiny files below every key, for who needs an answer and not the store."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from xml.sax.saxutils import escape

from aiohttp import web

FILES = ("inference.json", "inference.pdiparams")
_SIZE = 8


def listing(bucket: str, prefix: str) -> str:
    """S3's ListObjectsV2 answer for `prefix`: two files whose ETags follow from their keys."""
    found = []
    for name in FILES:
        key = f"{prefix.rstrip('/')}/{name}"
        etag = hashlib.md5(key.encode(), usedforsecurity=False).hexdigest()
        found.append(
            f"<Contents><Key>{escape(key)}</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified>"
            f"<ETag>&quot;{etag}&quot;</ETag><Size>{_SIZE}</Size><StorageClass>STANDARD</StorageClass></Contents>"
        )
    return (
        '<?xml version="1.0" encoding="UTF-8"?>'
        '<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
        f"<Name>{escape(bucket)}</Name><Prefix>{escape(prefix)}</Prefix><KeyCount>{len(found)}</KeyCount>"
        f"<MaxKeys>1000</MaxKeys><IsTruncated>false</IsTruncated>{''.join(found)}</ListBucketResult>"
    )


@asynccontextmanager
async def tiny_store() -> AsyncIterator[str]:
    """The endpoint of such a store on this event loop; every key and every credential is right."""

    async def answer(request: web.Request) -> web.Response:
        bucket = request.path.strip("/").partition("/")[0]
        body = listing(bucket, request.query.get("prefix", ""))
        return web.Response(text=body, content_type="application/xml")

    application = web.Application()
    application.router.add_get("/{path:.*}", answer)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()
