"""resolve() against a real object store and a real HTTP server."""

from __future__ import annotations

import asyncio
import hashlib
import socket

import pytest

from artifacts import ArtifactError, Credentials, EndpointPolicy, Manifest, Reason, Source, parse_uri, resolve
from artifacts._s3 import code_error, region_of
from tests.artifacts.conftest import LOOPBACK
from tests.artifacts.servers import CertificateAuthority, FileServer, etag
from tests.support.objectstore import ACCESS_KEY, READABLE, READER_KEY, READER_SECRET, ObjectStore, free_ports


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


async def s3(
    store: ObjectStore,
    key: str,
    credentials: Credentials,
    *,
    bucket: str = "models",
    checksum: str | None = None,
) -> Manifest:
    source = Source("s3", store.endpoint, bucket, key)
    return await resolve(source, credentials, checksum=checksum, policy=LOOPBACK)


async def failure(
    store: ObjectStore, key: str, credentials: Credentials, bucket: str = "models"
) -> ArtifactError:
    with pytest.raises(ArtifactError) as caught:
        await s3(store, key, credentials, bucket=bucket)
    assert store.endpoint in caught.value.message
    return caught.value


async def test_file_prefix_and_wildcard(store: ObjectStore, admin: Credentials) -> None:
    store.put_all(
        "models",
        {
            "r/v1/inference.json": b"{}",
            "r/v1/inference.pdiparams": b"\1" * 3000,
            "r/v1/sub/x.txt": b"x",
            "r/v1-other/x": b"x",
        },
    )
    single = await s3(store, "r/v1/inference.json", admin)
    assert [(f.key, f.path, f.size, f.etag) for f in single.files] == [
        ("r/v1/inference.json", "inference.json", 2, etag(b"{}"))
    ]
    assert single.digest.startswith("etag:")
    assert single.archive == "none"
    prefix = await s3(store, "r/v1", admin)
    assert [f.path for f in prefix.files] == ["inference.json", "inference.pdiparams", "sub/x.txt"]
    assert prefix.size == 3003
    assert await s3(store, "r/v1/", admin) == Manifest(
        Source("s3", store.endpoint, "models", "r/v1/"), "none", prefix.files, prefix.digest, prefix.size
    )
    wild = await s3(store, "r/v1/inference.*", admin)
    assert [f.path for f in wild.files] == ["inference.json", "inference.pdiparams"]
    assert wild.digest != prefix.digest


async def test_tars(store: ObjectStore, admin: Credentials) -> None:
    store.put_all("models", {"t/1/a.tar": b"a", "t/2/a.tar": b"a", "t/2/b.tar.gz": b"b", "t/3/m.tgz": b"m"})
    assert (await s3(store, "t/1/a.tar", admin)).archive == "tar"
    assert (await s3(store, "t/1/*.tar", admin)).files[0].path == "a.tar"
    assert (await s3(store, "t/1/", admin)).archive == "tar"
    assert (await s3(store, "t/3/*", admin)).archive == "tar"
    many = await failure(store, "t/2/*", admin)
    assert many.reason is Reason.AMBIGUOUS_KEY
    assert "t/2/a.tar, t/2/b.tar.gz" in many.message
    assert (await failure(store, "t/9/*.tar", admin)).reason is Reason.KEY_NOT_FOUND
    assert (await failure(store, "t/9.tar", admin)).reason is Reason.KEY_NOT_FOUND


async def test_sums_beside_the_files(store: ObjectStore, admin: Credentials) -> None:
    sums = f"{sha(b'one')}  one\n{sha(b'two')}  sub/two\n{sha(b'arc')}  m.tar\n".encode()
    store.put_all("models", {"s/one": b"one", "s/sub/two": b"two", "s/m.tar": b"arc", "s/SHA256SUMS": sums})
    whole = await s3(store, "s", admin)
    assert {f.path: f.sha256 for f in whole.files} == {
        "one": sha(b"one"),
        "sub/two": sha(b"two"),
        "m.tar": sha(b"arc"),
    }
    assert whole.digest.startswith("sha256:")
    assert (await s3(store, "s/one", admin)).files[0].sha256 == sha(b"one")
    assert (await s3(store, "s/*.tar", admin)).files[0].sha256 == sha(b"arc")
    assert [f.path for f in (await s3(store, "s/*", admin)).files] == ["m.tar", "one", "sub/two"]
    assert await s3(store, "s", admin, checksum=whole.digest) == whole
    with pytest.raises(ArtifactError, match="manifest of its 3 files is sha256:") as caught:
        await s3(store, "s", admin, checksum="sha256:" + "ab" * 32)
    assert caught.value.reason is Reason.CHECKSUM_MISMATCH
    with pytest.raises(ArtifactError, match="SHA256SUMS beside it says") as caught:
        await s3(store, "s/one", admin, checksum="sha256:" + "ab" * 32)
    assert caught.value.reason is Reason.CHECKSUM_MISMATCH


async def test_sums_that_lie(store: ObjectStore, admin: Credentials) -> None:
    store.put_all(
        "models", {"u/one": b"1", "u/SHA256SUMS": f"{sha(b'1')}  one\n{sha(b'2')}  gone\n".encode()}
    )
    error = await _mismatch(store, "u", admin)
    assert error.reason is Reason.KEY_NOT_FOUND
    assert "gone" in error.message
    store.put_all("models", {"w/one": b"1", "w/SHA256SUMS": b"not sums\n"})
    assert "SHA256SUMS line 1" in (await _mismatch(store, "w", admin)).message
    store.put("models", "only/SHA256SUMS", b"")
    assert (await failure(store, "only", admin)).reason is Reason.NO_FILES


async def _mismatch(store: ObjectStore, key: str, credentials: Credentials) -> ArtifactError:
    with pytest.raises(ArtifactError) as caught:
        await s3(store, key, credentials)
    return caught.value


async def test_a_checksum_pins_a_single_file(store: ObjectStore, admin: Credentials) -> None:
    store.put("models", "c/one", b"one")
    found = await s3(store, "c/one", admin, checksum="sha256:" + sha(b"one"))
    assert found.files[0].sha256 == sha(b"one")
    assert found.digest.startswith("sha256:")
    with pytest.raises(ArtifactError, match=r"spec\.checksum"):
        await s3(store, "c/one", admin, checksum="sha256:1")


async def test_what_is_missing_or_refused(store: ObjectStore, admin: Credentials) -> None:
    store.put("models", "e/one", b"1")
    bucket = await failure(store, "k", admin, bucket="no-such-bucket")
    assert bucket.reason is Reason.BUCKET_NOT_FOUND
    assert "'no-such-bucket'" in bucket.message
    assert (await failure(store, "k/", admin, bucket="no-such-bucket")).reason is Reason.BUCKET_NOT_FOUND
    assert (await failure(store, "k*", admin, bucket="no-such-bucket")).reason is Reason.BUCKET_NOT_FOUND
    key = await failure(store, "e/on", admin)
    assert key.reason is Reason.KEY_NOT_FOUND
    assert "'e/on'" in key.message
    assert (await failure(store, "e/one", Credentials("unknown", "x"))).reason is Reason.INVALID_CREDENTIALS
    assert (
        await failure(store, "e/one", Credentials(ACCESS_KEY, "wrong"))
    ).reason is Reason.INVALID_CREDENTIALS
    anonymous = await failure(store, "e/one", Credentials())
    assert anonymous.reason is Reason.ACCESS_DENIED
    assert "secretRef" in anonymous.message
    reader = await failure(store, "e/one", Credentials(READER_KEY, READER_SECRET))
    assert reader.reason is Reason.ACCESS_DENIED
    assert not reader.retryable


async def test_a_reader_may_read_its_bucket(store: ObjectStore) -> None:
    store.put(READABLE, "r/one", b"1")
    found = await s3(store, "r/one", Credentials(READER_KEY, READER_SECRET), bucket=READABLE)
    assert found.size == 1


async def test_endpoints_that_are_not_there(admin: Credentials) -> None:
    port = free_ports(1)[0]
    for host, reason in (("127.0.0.1", "no connection"), ("no-such-host.invalid", "does not resolve")):
        with pytest.raises(ArtifactError, match=reason) as caught:
            await resolve(Source("s3", f"http://{host}:{port}", "bbb", "k"), admin, policy=LOOPBACK)
        assert caught.value.reason is Reason.ENDPOINT_UNREACHABLE
        assert caught.value.retryable


async def test_an_endpoint_that_says_nothing(admin: Credentials) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        endpoint = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(ArtifactError, match=r"within 0\.3 s") as caught:
            await resolve(Source("s3", endpoint, "bbb", "k"), admin, policy=LOOPBACK, deadline=0.3)
    assert caught.value.reason is Reason.ENDPOINT_UNREACHABLE


async def test_cancelled(admin: Credentials) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        source = Source("s3", f"http://127.0.0.1:{silent.getsockname()[1]}", "bbb", "k")
        task = asyncio.create_task(resolve(source, admin, policy=LOOPBACK))
        connection, _ = await asyncio.to_thread(silent.accept)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        connection.settimeout(2)  # less than the thread's own patience
        with connection:
            while await asyncio.to_thread(connection.recv, 65536):
                pass  # the request, then the end: the thread does not wait on


async def test_not_s3_at_all(files: FileServer, admin: Credentials) -> None:
    with pytest.raises(ArtifactError, match="does not answer like S3") as caught:
        await resolve(Source("s3", files.endpoint, "bbb", "k"), admin, policy=LOOPBACK)
    assert caught.value.reason is Reason.ENDPOINT_UNREACHABLE


async def test_loopback_is_forbidden_unless_allowed(store: ObjectStore, admin: Credentials) -> None:
    for host in ("127.0.0.1", "localhost"):
        with pytest.raises(ArtifactError) as caught:
            await resolve(Source("s3", f"http://{host}:{store.port}", "models", "k"), admin)
        assert caught.value.reason is Reason.ENDPOINT_FORBIDDEN
    store.put("models", "p/one", b"1")
    allowed = EndpointPolicy(allow=(f"localhost:{store.port}",))
    await resolve(Source("s3", f"http://localhost:{store.port}", "models", "p/one"), admin, policy=allowed)


async def test_local_sources_wait_for_a_pod() -> None:
    for uri, archive in (("pvc://claim/x", "none"), ("file:///x/m.tar", "tar")):
        found = await resolve(parse_uri(uri), Credentials(), checksum="ab" * 32)
        assert (found.digest, found.files, found.archive, found.resolved) == ("", (), archive, False)


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("PermanentRedirect", Reason.INVALID_SOURCE),
        ("SlowDown", Reason.ENDPOINT_UNREACHABLE),
        ("InvalidBucketName", Reason.INVALID_SOURCE),
        ("PreconditionFailed", Reason.CONTENT_CHANGED),
        ("Teapot", Reason.PULL_FAILED),
        ("RequestTimeTooSkewed", Reason.INVALID_CREDENTIALS),
    ],
)
def test_other_codes(code: str, reason: Reason) -> None:
    error = code_error(code, endpoint="http://h", bucket="bbb", key="k", signed=True)
    assert error.reason is reason


def test_regions() -> None:
    assert region_of("eu-1", "http://h") == "eu-1"
    assert region_of("", "https://s3.eu-west-1.amazonaws.com") == "eu-west-1"
    assert region_of("", "http://minio:9000") == "us-east-1"


async def http(files: FileServer, path: str, credentials: Credentials | None = None) -> Manifest:
    return await resolve(parse_uri(f"{files.endpoint}{path}"), credentials or Credentials(), policy=LOOPBACK)


async def http_failure(files: FileServer, path: str, credentials: Credentials | None = None) -> ArtifactError:
    with pytest.raises(ArtifactError) as caught:
        await http(files, path, credentials)
    return caught.value


@pytest.mark.parametrize("head", [True, False])
async def test_http_file(files: FileServer, head: bool) -> None:
    files.head = head
    files.files["/m/x.tar"] = b"x" * 100
    files.files["/m/empty"] = b""
    found = await http(files, "/m/x.tar?sig=1")
    assert [(f.key, f.path, f.size, f.etag) for f in found.files] == [
        ("m/x.tar?sig=1", "x.tar", 100, etag(b"x" * 100))
    ]
    assert found.archive == "tar"
    assert (await http(files, "/m/empty")).size == 0


async def test_http_folder_needs_sums(files: FileServer) -> None:
    assert (await http_failure(files, "/m/")).reason is Reason.NO_FILES
    files.files |= {
        "/m/a": b"a",
        "/m/d/b": b"b",
        "/m/SHA256SUMS": f"{sha(b'a')}  a\n{sha(b'b')}  d/b\n".encode(),
    }
    found = await http(files, "/m/")
    assert [(f.key, f.path, f.sha256) for f in found.files] == [
        ("m/a", "a", sha(b"a")),
        ("m/d/b", "d/b", sha(b"b")),
    ]
    assert found.digest.startswith("sha256:")
    assert (await http(files, "/m/a")).files[0].sha256 == sha(b"a")
    files.files["/m/SHA256SUMS"] = f"{sha(b'a')}  ../a\n".encode()
    assert (await http_failure(files, "/m/")).reason is Reason.INVALID_SOURCE
    files.files["/m/SHA256SUMS"] = b"<html>not here</html>\n"
    assert (await http(files, "/m/a")).files[0].sha256 == ""
    files.files["/m/SHA256SUMS"] = b"\n"
    assert (await http_failure(files, "/m/")).reason is Reason.NO_FILES


async def test_http_statuses(files: FileServer) -> None:
    missing = await http_failure(files, "/none?sig=hidden")
    assert missing.reason is Reason.KEY_NOT_FOUND
    assert "hidden" not in missing.message
    files.statuses["/x"] = [503]
    assert (await http_failure(files, "/x")).reason is Reason.ENDPOINT_UNREACHABLE
    files.statuses["/x"] = [418]
    assert (await http_failure(files, "/x")).reason is Reason.INVALID_SOURCE
    files.files["/x"] = b"x"
    files.authorization = "Bearer good"
    assert (await http_failure(files, "/x")).reason is Reason.ACCESS_DENIED
    assert (await http_failure(files, "/x", Credentials(token="bad"))).reason is Reason.INVALID_CREDENTIALS
    assert (await http(files, "/x", Credentials(token="good"))).size == 1
    files.authorization = "Basic dTpw"
    assert (await http(files, "/x", Credentials(username="u", password="p"))).size == 1


async def test_http_without_size_or_validator(files: FileServer) -> None:
    files.files["/x"] = b"x" * 10
    files.sizes = False
    assert (await http(files, "/x")).size == 10  # from the range of one byte
    files.ranges = False
    assert "does not say its size" in (await http_failure(files, "/x")).message
    files.sizes, files.etags = True, False
    assert "cannot be pinned" in (await http_failure(files, "/x")).message
    source = parse_uri(f"{files.endpoint}/x")
    found = await resolve(source, Credentials(), checksum=sha(b"x" * 10), policy=LOOPBACK)
    assert found.digest.startswith("sha256:")


async def test_redirects(files: FileServer) -> None:
    with FileServer() as other:
        other.files["/y"] = b"yy"
        files.redirects["/x"] = f"{other.endpoint}/y"
        found = await http(files, "/x", Credentials(token="secret"))
        assert found.size == 2
        assert [f.key for f in found.files] == ["x"]
        assert all("Authorization" not in headers for _, _, headers in other.requests)
        assert all("Authorization" in headers for _, _, headers in files.requests)
    files.redirects["/loop"] = "/loop"
    assert "redirects" in (await http_failure(files, "/loop")).message
    files.redirects["/odd"] = "file:///etc/passwd"
    assert (await http_failure(files, "/odd")).reason is Reason.INVALID_SOURCE
    files.redirects["/meta"] = "http://169.254.169.254/latest"
    assert (await http_failure(files, "/meta")).reason is Reason.ENDPOINT_FORBIDDEN


async def test_tls(authority: CertificateAuthority) -> None:
    with FileServer(context=authority.server_context()) as files:
        files.files["/x"] = b"x"
        assert (await http(files, "/x", Credentials(ca_pem=authority.pem))).size == 1
        unknown = await http_failure(files, "/x")
        assert unknown.reason is Reason.TLS_ERROR
        assert "caSecretRef" in unknown.message
        assert (await http_failure(files, "/x", Credentials(ca_pem="no pem"))).reason is Reason.TLS_ERROR
        s3_source = Source("s3", files.endpoint, "bbb", "k")
        with pytest.raises(ArtifactError) as caught:
            await resolve(s3_source, Credentials("a", "b"), policy=LOOPBACK)
        assert caught.value.reason is Reason.TLS_ERROR
        files.redirects["/down"] = f"http://127.0.0.1:{files.port}/x"
        assert (
            "https to http" in (await http_failure(files, "/down", Credentials(ca_pem=authority.pem))).message
        )
    with FileServer() as plain:
        source = parse_uri(f"https://127.0.0.1:{plain.port}/x")
        with pytest.raises(ArtifactError, match="http://") as caught:
            await resolve(source, Credentials(), policy=LOOPBACK)
        assert caught.value.reason is Reason.TLS_ERROR
