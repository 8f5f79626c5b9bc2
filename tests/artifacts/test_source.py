from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from artifacts import ArtifactError, Credentials, Reason, Source, parse_uri, s3_source
from artifacts._source import check_endpoint, check_path, is_tar

MINIO = "http://minio.minio.svc:9000"


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("minio://models/resnet50-v1", Source("s3", MINIO, "models", "resnet50-v1")),
        ("minio://models/a/b*?[x].tar", Source("s3", MINIO, "models", "a/b*?[x].tar")),
        ("minio://models/a%20b#c", Source("s3", MINIO, "models", "a%20b#c")),
        ("s3://models/a/", Source("s3", "https://s3.us-east-1.amazonaws.com", "models", "a/", "", False)),
        ("http://Host:80/m/x.tar", Source("http", "http://host", "", "m/x.tar")),
        (
            "https://h:8443/a b.tar?sig=1&x=%2F#frag",
            Source("http", "https://h:8443", "", "a%20b.tar?sig=1&x=%2F"),
        ),
        ("https://[::1]/m/", Source("http", "https://[::1]", "", "m/")),
        ("pvc://claim/models/x/", Source("pvc", "", "claim", "models/x")),
        ("pvc://claim", Source("pvc", "", "claim", "")),
        ("file:///models/x", Source("file", "", "", "/models/x")),
    ],
)
def test_uris(uri: str, expected: Source) -> None:
    assert parse_uri(uri, default_endpoint=MINIO) == expected


@pytest.mark.parametrize(
    "uri",
    [
        "",
        "models/x",
        "ftp://h/x",
        "minio://models",
        "minio://models/",
        "minio:///x",
        "minio://UPPER/x",
        "minio://a..b/x",
        "minio://models/../x",
        "minio://models//x",
        "minio://models/a\nb",
        "http://h",
        "http://h/",
        "http://user:hunter2@h/x",
        "http://h:99999/x",
        "http://?x/y",
        "pvc:///x",
        "pvc://claim/../x",
        "file://relative/x",
        "file:///a/../b",
        "file:///",
        "s3://b/" + "x" * 2100,
    ],
)
def test_bad_uris_say_field_value_and_remedy(uri: str) -> None:
    with pytest.raises(ArtifactError) as caught:
        parse_uri(uri, default_endpoint=MINIO)
    assert caught.value.reason is Reason.INVALID_SOURCE
    assert caught.value.message.startswith("spec.modelPath")
    assert "\n" not in caught.value.message
    assert "hunter2" not in caught.value.message
    assert not caught.value.retryable


def test_minio_without_endpoint_names_the_flag() -> None:
    with pytest.raises(ArtifactError, match="--minio-endpoint"):
        parse_uri("minio://models/x")


def test_source_of_storage() -> None:
    found = s3_source(bucket="m-m", key="k/", endpoint="minio.local:9000", region="eu-1", path_style=False)
    assert found == Source("s3", "http://minio.local:9000", "m-m", "k/", "eu-1", False)
    assert (
        s3_source(bucket="bbb", key="k", region="eu-west-1").endpoint == "https://s3.eu-west-1.amazonaws.com"
    )


@pytest.mark.parametrize(
    "endpoint", ["http://h/path", "http://h?x=1", "ftp://h", "http://", "h h", "http://h:x"]
)
def test_bad_endpoints(endpoint: str) -> None:
    with pytest.raises(ArtifactError, match=r"storage\.endpoint"):
        check_endpoint(endpoint)


def test_text_and_roots() -> None:
    assert str(parse_uri("minio://mmm/k", default_endpoint=MINIO)) == f"s3://mmm/k at {MINIO}"
    assert str(parse_uri("https://h/k?x")) == "https://h/k?x"
    assert str(parse_uri("pvc://c/k")) == "pvc://c/k"
    assert str(parse_uri("file:///k")) == "file:///k"
    assert parse_uri("pvc://c/k").root == "/mnt/pvc/c/k"
    assert parse_uri("pvc://c").root == "/mnt/pvc/c"
    assert parse_uri("file:///k").root == "/k"
    assert parse_uri("https://h/k").root == ""
    assert [is_tar(k) for k in ("a.tar", "a.TGZ", "a.tar.gz?x=.json", "a.json", "tar")] == [True] * 3 + [
        False
    ] * 2


@given(st.text(max_size=40))
def test_a_path_that_passes_stays_inside(path: str) -> None:
    try:
        check_path(path)
    except ArtifactError:
        return
    import posixpath

    joined = posixpath.normpath(posixpath.join("/base/x", path))
    assert joined == f"/base/x/{path}"


def test_secret_names_of_others_are_known() -> None:
    for data in (
        {"ACCESS_KEY_ID": "a", "SECRET_ACCESS_KEY": "s"},
        {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "s\n"},
        {"accesskey": "a", "secretkey": "s"},
        {"rootUser": "a", "rootPassword": "s"},
        {"access-key": "a", "secret-key": "s"},
    ):
        found = Credentials.from_mapping(data, where="Secret x")
        assert (found.access_key, found.secret_key) == ("a", "s")
    assert Credentials.from_mapping({"token": "t"}, where="x").token == "t"


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ({"ACCESS_KEY_ID": "a"}, "add the key SECRET_ACCESS_KEY"),
        ({"SECRET_ACCESS_KEY": "sss"}, "add the key ACCESS_KEY_ID"),
        ({"username": "u"}, "add the key PASSWORD"),
        ({"foo": "sss"}, "found: foo"),
        ({}, "found: nothing"),
    ],
)
def test_incomplete_secrets(data: dict[str, str], said: str) -> None:
    with pytest.raises(ArtifactError, match=said) as caught:
        Credentials.from_mapping(data, where="Secret x")
    assert caught.value.reason is Reason.SECRET_INVALID
    assert "sss" not in str(caught.value)


def test_credentials_from_the_environment() -> None:
    env = {"MODEL_0_ACCESS_KEY_ID": "a", "MODEL_0_SECRET_ACCESS_KEY": "s", "MODEL_01_TOKEN": "no"}
    found = Credentials.from_env("MODEL_0", env=env, ca_pem="pem")
    assert found == Credentials("a", "s", ca_pem="pem")
    assert Credentials.from_env("", env=env) == Credentials()
    assert Credentials.from_env("MODEL_7", env=env) == Credentials()


def test_secrets_are_not_printed() -> None:
    text = repr(Credentials("a", "s3cret", "s3cret", "s3cret", "u", "s3cret"))
    assert "s3cret" not in text
