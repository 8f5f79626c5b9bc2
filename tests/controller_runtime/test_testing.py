"""The test kit itself: servers that start, stop and leave nothing, users, files, audit."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from controller_runtime import CONFIG_MAP, Config, Forbidden, Key, connect
from controller_runtime.testing import Envtest, EnvtestError, FaultProxy, HTTPFaultProxy
from controller_runtime.testing._processes import Process, find_binary, free_ports

CRD = """
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: tests.kit.example}
spec:
  group: kit.example
  scope: Namespaced
  names: {kind: Test, plural: tests, singular: test, listKind: TestList}
  versions:
  - name: v1
    served: true
    storage: true
    schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}
"""


@pytest.mark.apiserver
def test_the_whole_life_of_an_envtest(tmp_path: Path) -> None:
    (tmp_path / "crds").mkdir()
    (tmp_path / "crds" / "test.yaml").write_text(CRD)
    env = Envtest(crds=[tmp_path / "crds"], audit=True)
    with pytest.raises(EnvtestError, match="not running"):
        _ = env.directory
    with env:
        assert env._etcd is not None
        assert env._apiserver is not None
        pids, directory = [env._etcd.pid, env._apiserver.pid], env.directory
        with pytest.raises(EnvtestError, match="running already"):
            env.start()

        async def use() -> None:
            async with env.client() as client:
                made = {"apiVersion": "kit.example/v1", "kind": "Test"}
                made["metadata"] = {"name": "a", "namespace": "default"}  # type: ignore[assignment]
                assert (await client.create(made)).kind.plural == "tests"

        asyncio.run(use())
        requests = [event["requestURI"] for event in env.audit_events() if event["verb"] == "create"]
        assert "/apis/kit.example/v1/namespaces/default/tests?fieldManager=envtest" in requests
        (tmp_path / "bad.yaml").write_text(CRD.replace("Namespaced", "Galactic"))
        with pytest.raises(EnvtestError, match=r"bad\.yaml: CRD tests\.kit\.example refused: 422"):
            env.install_crds(tmp_path / "bad.yaml")
    assert not directory.exists()
    assert [pid for pid in pids if Path(f"/proc/{pid}").exists()] == []
    env.stop()


@pytest.mark.apiserver
async def test_users_have_what_rbac_gives_them(apiserver: Envtest, namespace: str) -> None:
    group = f"readers-{namespace}"
    async with apiserver.client() as admin, connect(apiserver.user("reader", [group])) as reader:
        with pytest.raises(Forbidden):
            await reader.list(CONFIG_MAP, namespace=namespace)
        rbac = {"apiVersion": "rbac.authorization.k8s.io/v1"}
        metadata = {"name": "read", "namespace": namespace}
        rules = [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["list"]}]
        await admin.create({**rbac, "kind": "Role", "metadata": metadata, "rules": rules})
        subject = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": group}
        role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "read"}
        binding = {**rbac, "kind": "RoleBinding", "metadata": metadata}
        await admin.create({**binding, "subjects": [subject], "roleRef": role})
        async with asyncio.timeout(10):
            while True:
                try:
                    await reader.list(CONFIG_MAP, namespace=namespace)
                    break
                except Forbidden:  # the authorizer's own cache is a moment behind
                    await asyncio.sleep(0.02)
        assert apiserver.user("reader") == apiserver.user("reader")


@pytest.mark.apiserver
async def test_a_kubeconfig_file_works(apiserver: Envtest, tmp_path: Path) -> None:
    path = apiserver.kubeconfig(tmp_path / "kubeconfig")
    config = Config.load(os.fspath(path))
    assert config.server == apiserver.server
    async with connect(config) as client:
        assert await client.get(CONFIG_MAP, Key("default", "none")) is None


@pytest.mark.apiserver
def test_no_audit_log_unless_asked_for(apiserver: Envtest) -> None:
    with pytest.raises(EnvtestError, match=r"Envtest\(audit=True\)"):
        apiserver.audit_events()


def test_a_server_that_dies_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = tmp_path / "etcd"
    fake.write_text("#!/bin/sh\necho no disk left\nexit 3\n")
    fake.chmod(0o755)
    monkeypatch.setenv("CONTROLLER_RUNTIME_ASSETS", os.fspath(tmp_path))
    env = Envtest()
    with pytest.raises(EnvtestError, match=r"(?s)etcd exited with 3:.*no disk left"):
        env.start()
    assert env._directory is None


def test_a_server_that_never_gets_ready_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = tmp_path / "etcd"
    fake.write_text("#!/bin/sh\nexec sleep 60\n")
    fake.chmod(0o755)
    monkeypatch.setenv("CONTROLLER_RUNTIME_ASSETS", os.fspath(tmp_path))
    with pytest.raises(EnvtestError, match=r"etcd: not ready after 0\.2 s"):
        Envtest(start_timeout=0.2).start()


def test_a_missing_binary_is_named_with_where_it_was_looked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONTROLLER_RUNTIME_ASSETS", os.fspath(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", os.fspath(tmp_path))
    monkeypatch.setenv("PATH", "")
    with pytest.raises(EnvtestError, match=r"etcd: not in \$CONTROLLER_RUNTIME_ASSETS .*make binaries"):
        find_binary("etcd")


def test_a_stubborn_process_is_killed(tmp_path: Path) -> None:
    program = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True)\n"
    process = Process([sys.executable, "-c", program + "time.sleep(60)"], tmp_path / "log")
    while "up" not in process.tail():
        process.check()
    process.stop(timeout=0.1)
    process.stop()
    assert not Path(f"/proc/{process.pid}").exists()


@pytest.mark.skipif(sys.platform != "linux", reason="the death signal is Linux's")
def test_processes_die_with_the_test_run(tmp_path: Path) -> None:
    program = (
        "import os, pathlib, sys\n"
        "from controller_runtime.testing._processes import Process\n"
        f"process = Process(['sleep', '60'], pathlib.Path({os.fspath(tmp_path / 'log')!r}))\n"
        "print(process.pid, flush=True)\n"
        "os.kill(os.getpid(), 9)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    pid = int(done.stdout)
    state = Path(f"/proc/{pid}/stat")
    for _ in range(1000):
        if not state.exists() or state.read_text().split(")")[1].split()[0] == "Z":
            return
    raise AssertionError(f"process {pid} outlived its starter")


def test_free_ports_differ() -> None:
    assert len(set(free_ports(20))) == 20


class Echo:
    """A server that sends back what it gets."""

    def __init__(self) -> None:
        self.port = 0

    async def __aenter__(self) -> Echo:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with contextlib.suppress(ConnectionResetError):
                while data := await reader.read(100):
                    writer.write(data)
            writer.close()

        self.server = await asyncio.start_server(serve, "127.0.0.1", 0)
        self.port = self.server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self.server.close()


async def dial(proxy: FaultProxy) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    port = int(proxy.config.server.rsplit(":", 1)[1])
    return await asyncio.open_connection("127.0.0.1", port)


async def test_the_proxy_passes_cuts_freezes_and_refuses() -> None:
    async with Echo() as echo, FaultProxy(Config(server=f"http://127.0.0.1:{echo.port}")) as proxy:
        reader, writer = await dial(proxy)
        writer.write(b"hello")
        assert await reader.readexactly(5) == b"hello"
        assert proxy.connections == 1
        proxy.freeze()
        writer.write(b"late")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.readexactly(4), 0.05)
        proxy.thaw()
        assert await reader.readexactly(4) == b"late"
        proxy.delay(0.05)
        began = asyncio.get_running_loop().time()
        writer.write(b"slow")
        assert await reader.readexactly(4) == b"slow"
        assert asyncio.get_running_loop().time() - began >= 0.1
        proxy.cut()
        with pytest.raises(ConnectionResetError):
            await reader.readexactly(1)
        writer.close()
        proxy.refuse()
        reader, writer = await dial(proxy)
        with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
            await reader.readexactly(1)
        writer.close()
        assert proxy.accepted == 2


async def test_a_proxy_without_its_upstream_just_drops() -> None:
    (port,) = free_ports(1)
    async with FaultProxy(Config(server=f"http://127.0.0.1:{port}")) as proxy:
        reader, writer = await dial(proxy)
        assert await reader.read() == b""
        writer.close()


@pytest.mark.apiserver
async def test_the_http_proxy_sees_and_answers(apiserver: Envtest, namespace: str) -> None:
    async with HTTPFaultProxy(apiserver.config, apiserver.server_certificate) as proxy:
        proxy.answer(lambda method, path, query: method == "POST", 403, reason="Forbidden", message="not you")
        async with connect(proxy.config) as client:
            raw = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "namespace": namespace}}
            with pytest.raises(Forbidden, match="not you"):
                await client.create(raw)
            assert (await client.create(raw)).name == "a"
        assert [(one.method, one.status) for one in proxy.seen] == [("POST", 403), ("POST", 201)]
        assert not proxy.seen[0].is_list
        assert not proxy.seen[0].is_watch


def test_a_process_started_in_a_passing_thread_outlives_it(tmp_path: Path) -> None:
    made: list[Process] = []
    thread = threading.Thread(target=lambda: made.append(Process(["sleep", "60"], tmp_path / "log")))
    thread.start()
    thread.join()
    with pytest.raises(subprocess.TimeoutExpired):  # the kernel's signal, were there one, would have come
        made[0]._process.wait(0.2)
    made[0].stop(kill=True)
