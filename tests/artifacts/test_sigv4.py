"""Our signature against the minio client's."""

from __future__ import annotations

from datetime import UTC, datetime
from urllib.parse import urlsplit

from hypothesis import given
from hypothesis import strategies as st
from minio.credentials.credentials import Credentials as MinioCredentials
from minio.helpers import BaseURL
from minio.signer import sign_v4_s3

from artifacts import Credentials
from artifacts._sigv4 import EMPTY_SHA256, object_url, sign_get

KEYS = st.text(
    st.characters(codec="utf-8", categories=("L", "N", "P", "S", "Zs")), min_size=1, max_size=30
).filter(lambda k: not k.startswith("/") and not any(p in ("", ".", "..") for p in k.split("/")))


@given(KEYS, st.booleans(), st.sampled_from(["us-east-1", "eu-central-1"]), st.sampled_from(["", "token"]))
def test_equal_to_minio(key: str, path_style: bool, region: str, token: str) -> None:
    now = datetime(2026, 5, 4, 3, 2, 1, tzinfo=UTC)
    base = BaseURL("http://store.example:9000", region)
    if not path_style:
        base.virtual_style_flag = True
    theirs = base.build(method="GET", region=region, bucket_name="models", object_name=key, query_params=None)
    url = object_url("http://store.example:9000", "models", key, path_style=path_style)
    assert url == theirs.geturl()
    headers = {
        "Host": urlsplit(url).netloc,
        "x-amz-content-sha256": EMPTY_SHA256,
        "x-amz-date": "20260504T030201Z",
    } | ({"X-Amz-Security-Token": token} if token else {})
    signed = sign_v4_s3(
        method="GET",
        url=theirs,
        region=region,
        headers=dict(headers),
        credentials=MinioCredentials("access", "secret", token or None),
        content_sha256=EMPTY_SHA256,
        date=now,
    )
    ours = sign_get(url, Credentials("access", "secret", token), region=region, now=now)
    assert ours["Authorization"] == signed["Authorization"]


def test_anonymous_is_not_signed() -> None:
    assert sign_get("http://h/b/k", Credentials(), region="r", now=datetime.now(UTC)) == {}
