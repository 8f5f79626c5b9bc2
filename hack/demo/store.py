"""Uploads to the object store, what is there already apart."""

import hashlib
import io
import time
from collections.abc import Mapping

import urllib3
from minio import Minio
from minio.error import S3Error

ACCESS_KEY = "demo"
SECRET_KEY = "demo-secret"
_PART = 5 * 2**20  # the least that S3 allows


def client(address: str) -> Minio:
    """A client with short deadlines: the store is in the same cluster."""
    timeout = urllib3.Timeout(connect=3.0, read=30.0)
    pool = urllib3.PoolManager(timeout=timeout, retries=urllib3.Retry(total=2, backoff_factor=0.3))
    return Minio(address, access_key=ACCESS_KEY, secret_key=SECRET_KEY, secure=False, http_client=pool)


def upload(store: Minio, bucket: str, prefix: str, files: Mapping[str, bytes]) -> int:
    """Puts `files` under `prefix`; returns the bytes sent (0 when all are there with the same content)."""
    if not store.bucket_exists(bucket):
        store.make_bucket(bucket)
    sent = 0
    for name, content in files.items():
        key = f"{prefix.rstrip('/')}/{name}"
        if _etag(store, bucket, key) == hashlib.md5(content, usedforsecurity=False).hexdigest():
            continue
        # One part, so that the ETag is the content's MD5 and a second run sends nothing.
        store.put_object(bucket, key, io.BytesIO(content), len(content), part_size=max(len(content), _PART))
        sent += len(content)
    return sent


def _etag(store: Minio, bucket: str, key: str) -> str:
    try:
        return (store.stat_object(bucket, key).etag or "").strip('"')
    except S3Error as error:
        if error.code in ("NoSuchKey", "NoSuchObject"):
            return ""
        raise


def wait(store: Minio, *, timeout: float = 30.0) -> None:
    """Waits until the store lists its buckets."""
    deadline = time.monotonic() + timeout
    while True:
        try:
            store.list_buckets()
            return
        except (S3Error, urllib3.exceptions.HTTPError):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.3)
