"""Where settings come from, and rotation of tokens and certificates."""

from __future__ import annotations

import asyncio
import os
import ssl
import stat
from pathlib import Path

import pytest
import yaml

from controller_runtime import TLS, Config, ConfigError
from controller_runtime._config import (
    FileToken,
    PluginToken,
    _from_kubeconfig,
    _from_plain,
    environment_proxy,
)
from controller_runtime._kubeconfig import read_plain
from controller_runtime.testing import FakeClock
from controller_runtime.testing._certificates import CertificateAuthority


def kubeconfig(path: Path, user: object, **cluster: object) -> str:
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "c", "cluster": {"server": "https://192.0.2.1:6443", **cluster}}],
        "users": [{"name": "u", "user": user}],
        "contexts": [
            {"name": "one", "context": {"cluster": "c", "user": "u", "namespace": "mine"}},
            {"name": "two", "context": {"cluster": "c", "user": "u"}},
        ],
        "current-context": "one",
    }
    path.write_text(yaml.safe_dump(content))
    return os.fspath(path)


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("KUBECONFIG", "KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT")
    for name in (*names, "HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)


def test_a_kubeconfig_with_a_token(tmp_path: Path) -> None:
    config = Config.load(kubeconfig(tmp_path / "k", {"token": "secret"}))
    assert (config.server, config.namespace) == ("https://192.0.2.1:6443", "mine")
    assert config.credentials.authorization() == "Bearer secret"
    assert Config.load(os.fspath(tmp_path / "k"), context="two").namespace == ""


async def test_a_kubeconfig_can_be_loaded_inside_a_running_loop(tmp_path: Path) -> None:
    assert Config.load(kubeconfig(tmp_path / "k", {"token": "secret"})).namespace == "mine"


def test_passwords_and_certificates_and_names(tmp_path: Path) -> None:
    authority = CertificateAuthority(tmp_path)
    certificate, key = authority.client("me")
    user = {"client-certificate": os.fspath(certificate), "client-key": os.fspath(key)}
    path = kubeconfig(
        tmp_path / "k",
        {**user, "username": "a", "password": "b"},
        **{"certificate-authority": os.fspath(authority.file), "tls-server-name": "other"},
    )
    config = Config.load(path)
    assert config.credentials.authorization() == "Basic YTpi"
    assert config.tls is not None
    assert (config.tls.cert_file, config.tls.server_name) == (os.fspath(certificate), "other")
    assert config.tls.context().verify_mode is ssl.CERT_REQUIRED


def test_verification_can_be_switched_off(tmp_path: Path) -> None:
    config = Config.load(kubeconfig(tmp_path / "k", {}, **{"insecure-skip-tls-verify": True}))
    assert config.tls is not None
    assert config.tls.context().verify_mode is ssl.CERT_NONE
    assert asyncio.run(config.credentials.renew()) is False
    assert config.credentials.authorization() == ""


async def test_a_token_file_is_followed(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("first\n")
    config = Config.load(kubeconfig(tmp_path / "k", {"tokenFile": "token"}))
    assert config.credentials.authorization() == "Bearer first"
    (tmp_path / "next").write_text("second")
    (tmp_path / "next").rename(tmp_path / "token")
    assert await config.credentials.renew() is True
    assert config.credentials.authorization() == "Bearer second"
    assert await config.credentials.renew() is False


def test_a_token_file_is_looked_at_once_a_second(tmp_path: Path) -> None:
    clock = FakeClock()
    path = tmp_path / "token"
    path.write_text("first")
    token = FileToken(path, clock=clock)
    assert token.authorization() == "Bearer first"
    path.write_text("second")
    assert token.authorization() == "Bearer first"
    clock.jump(1)
    assert token.authorization() == "Bearer second"
    path.unlink()
    clock.jump(1)
    assert token.authorization() == "Bearer second", "the last one known is better than none"
    path.write_text("")
    clock.jump(1)
    assert token.authorization() == "Bearer second"


async def test_an_exec_plugin_is_asked_again_after_a_401_by_one_of_many(tmp_path: Path) -> None:
    counter = tmp_path / "count"
    counter.write_text("")
    plugin = tmp_path / "plugin"
    plugin.write_text(
        f"#!/bin/sh\necho x >> {counter}\nn=$(wc -l < {counter} | tr -d ' ')\n"
        'echo "{\\"apiVersion\\": \\"client.authentication.k8s.io/v1\\", \\"kind\\": \\"ExecCredential\\",'
        ' \\"status\\": {\\"token\\": \\"t$n\\", \\"expirationTimestamp\\": \\"2099-01-01T00:00:00Z\\"}}"\n'
    )
    plugin.chmod(plugin.stat().st_mode | stat.S_IXUSR)
    command = {
        "apiVersion": "client.authentication.k8s.io/v1",
        "command": os.fspath(plugin),
        "interactiveMode": "Never",
    }
    config = Config.load(kubeconfig(tmp_path / "k", {"exec": command}))
    assert isinstance(config.credentials, PluginToken)
    assert config.credentials.authorization() == "Bearer t1"
    assert all(await asyncio.gather(*(config.credentials.renew() for _ in range(5))))
    assert config.credentials.authorization() == "Bearer t2"


def test_where_the_kubeconfig_comes_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", os.fspath(tmp_path))
    with pytest.raises(ConfigError, match=r"kubeconfig '.*/\.kube/config': no such file; set KUBECONFIG"):
        Config.load()
    (tmp_path / ".kube").mkdir()
    kubeconfig(tmp_path / ".kube" / "config", {"token": "home"})
    assert Config.load().credentials.authorization() == "Bearer home"
    monkeypatch.setenv("KUBECONFIG", kubeconfig(tmp_path / "other", {"token": "variable"}))
    assert Config.load().credentials.authorization() == "Bearer variable"
    with pytest.raises(ConfigError, match="no such file"):
        Config.load("/does/not/exist")


@pytest.mark.parametrize("text", ["", "clusters: []", "{", "current-context: x\ncontexts: []\n"])
def test_a_broken_kubeconfig_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "k").write_text(text)
    with pytest.raises(ConfigError, match="kubeconfig"):
        Config.load(os.fspath(tmp_path / "k"))


def test_in_cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"in-cluster: .*is this a pod"):
        Config.from_in_cluster(directory=tmp_path)
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")
    monkeypatch.setattr("controller_runtime._config.SERVICE_ACCOUNT", tmp_path)
    with pytest.raises(ConfigError, match=r"in-cluster: .*token"):
        Config.from_in_cluster(directory=tmp_path)
    (tmp_path / "token").write_text("pod-token")
    (tmp_path / "namespace").write_text("here\n")
    CertificateAuthority(tmp_path)
    config = Config.from_in_cluster(directory=tmp_path)
    assert (config.server, config.namespace) == ("https://10.0.0.1:443", "here")
    assert config.credentials.authorization() == "Bearer pod-token"
    assert config.tls is not None
    assert config.tls.context() is config.tls.context()


def test_a_rotated_authority_makes_a_new_context(tmp_path: Path) -> None:
    clock = FakeClock()
    authority = CertificateAuthority(tmp_path)
    tls = TLS(ca_file=os.fspath(authority.file), clock=clock)
    first = tls.context()
    clock.jump(1)
    assert tls.context() is first
    authority.file.write_text("half a file")
    clock.jump(1)
    assert tls.context() is first, "a rotation in progress breaks nothing"
    CertificateAuthority(tmp_path, "another")
    clock.jump(1)
    assert tls.context() is not first


def test_missing_tls_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"TLS files .*/none\.crt: .*must exist and be PEM"):
        TLS(ca_file=os.fspath(tmp_path / "none.crt")).context()


def test_the_environments_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", "http://proxy:3128")
    monkeypatch.setenv("no_proxy", "inside.example")
    assert environment_proxy("https://api.example:6443") == "http://proxy:3128"
    assert environment_proxy("https://inside.example") == ""
    for local in ("https://127.0.0.1:6443", "https://localhost", "https://[::1]:1"):
        assert environment_proxy(local) == ""
    assert environment_proxy("http://api.example") == ""


@pytest.mark.parametrize(
    ("user", "cluster"),
    [
        ({"token": "t"}, {}),
        ({"username": "a", "password": "b"}, {"proxy-url": "http://proxy:1"}),
        ({"username": "a"}, {"insecure-skip-tls-verify": True}),
        ({}, {"certificate-authority": "ca.crt", "tls-server-name": "other"}),
        ({"client-certificate": "c/tls.crt", "client-key": "f"}, {}),
        ({"token": "t", "tokenFile": "f", "username": "a", "password": "b"}, {}),
    ],
)
def test_the_plain_reading_is_the_full_one(
    tmp_path: Path, user: dict[str, str], cluster: dict[str, object]
) -> None:
    for name in ("ca.crt", "f"):
        (tmp_path / name).write_text("x")
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "tls.crt").write_text("x")
    path = kubeconfig(tmp_path / "k", user, **cluster)
    found = read_plain(path, None)
    assert found is not None
    plain, full = _from_plain(found), asyncio.run(_from_kubeconfig(path, None))
    assert plain.credentials.authorization() == full.credentials.authorization()
    assert (plain.server, plain.proxy, plain.namespace) == (full.server, full.proxy, full.namespace)
    assert plain.tls is not None
    assert full.tls is not None
    for name in ("ca_file", "cert_file", "verify", "server_name"):
        assert getattr(plain.tls, name) == getattr(full.tls, name), name


@pytest.mark.parametrize("user", [{"exec": {}}, {"client-certificate-data": "eA=="}, {"impersonate": "x"}])
def test_what_is_not_plain_is_left_to_the_full_reading(tmp_path: Path, user: object) -> None:
    assert read_plain(kubeconfig(tmp_path / "k", user), None) is None
    several = os.pathsep.join([kubeconfig(tmp_path / "one", {}), kubeconfig(tmp_path / "two", {})])
    assert read_plain(several, None) is None
