"""The local cluster's pure parts: what it decides and renders, and how it recognises processes."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import tarfile
import tomllib
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from hack.cluster import (
    ClusterError,
    Console,
    binaries,
    commands,
    config,
    files,
    host,
    images,
    kind,
    packages,
    paths,
    processes,
)
from hack.cluster.config import Plan

PLAN = Plan(ports=config.PORTS, pod_network="10.244.0.0/24", mtu=1400, adjusts_oom_score=False)


class TestPlan:
    @given(busy=st.sets(st.sampled_from(sorted(config.PORTS.values()))))
    def test_ports_are_never_busy_and_never_shared(self, busy: set[int]) -> None:
        chosen = config.choose_ports(config.PORTS, busy=busy, free=iter(range(26240, 65000)))
        assert len(set(chosen.values())) == len(config.PORTS)
        assert not busy & set(chosen.values())
        assert all(chosen[name] == port for name, port in config.PORTS.items() if port not in busy)

    def test_the_pod_network_overlaps_no_route(self) -> None:
        assert config.choose_pod_network([]) == "10.244.0.0/24"
        assert config.choose_pod_network(["10.0.0.0/8", "192.0.2.2"]) == "172.29.244.0/24"
        with pytest.raises(ValueError, match=r"overlaps a route"):
            config.choose_pod_network(["0.0.0.0/0"])

    def test_a_port_in_use_is_not_free(self) -> None:
        with socket.socket() as sock:
            sock.bind(("127.0.0.1", 0))
            sock.listen()
            assert not files.port_is_free(sock.getsockname()[1])

    def test_the_root_file_system_is_the_last_one_mounted(self) -> None:
        assert (
            files.root_type("rootfs / rootfs rw 0 0\n/dev/vda / ext4 rw 0 0\nproc /proc proc rw 0 0\n")
            == "ext4"
        )
        assert files.root_type("") == ""

    def test_a_capability_is_read_from_the_mask(self) -> None:
        status = "Name:\tx\nCapPrm:\t000001ffffffffff\nCapEff:\t000001fffeffffff\n"
        assert not files.has_capability(status, files.CAP_SYS_RESOURCE)
        assert files.has_capability(status, 0)
        assert not files.has_capability("", 0)


class TestRendering:
    def test_containerd_keeps_to_its_own_folders(self) -> None:
        parsed = tomllib.loads(config.containerd_config(PLAN))
        assert parsed["root"] == str(paths.CONTAINERD_ROOT)
        assert parsed["state"].startswith(str(paths.RUN))
        cri = parsed["plugins"]["io.containerd.grpc.v1.cri"]
        assert cri["restrict_oom_score_adj"] is True
        assert cri["sandbox_image"] == paths.TOOL_IMAGE
        assert cri["containerd"]["runtimes"]["runc"]["options"]["Root"].startswith(str(paths.RUN))

    def test_the_kubelet_stays_in_its_cgroup_and_on_the_bridge(self) -> None:
        kubelet = config.kubelet_config(PLAN)
        assert kubelet["cgroupRoot"] == "/paddle-local"
        assert kubelet["address"] == "10.244.0.1"
        assert kubelet["failCgroupV1"] is False
        assert yaml.safe_load(config.dump(kubelet)) == kubelet

    def test_node_ports_answer_on_this_host_alone(self) -> None:
        proxy = config.proxy_config(PLAN, kubeconfig=Path("/x"))
        assert proxy["nodePortAddresses"] == ["127.0.0.0/8", "10.244.0.0/24"]

    def test_every_port_of_the_plan_is_used_once(self) -> None:
        moved = Plan(
            ports={name: 1000 + n for n, name in enumerate(config.PORTS)}, pod_network="10.244.0.0/24"
        )
        flags = [flag for command in commands.control_plane(moved).values() for flag in command]
        rendered = "\n".join([*flags, ""]) + config.dump(config.kubelet_config(moved))
        rendered += config.dump(config.proxy_config(moved, kubeconfig=Path("/x")))
        for port in moved.ports.values():
            assert re.search(rf"\b{port}\b", rendered)

    def test_programs_come_from_the_cache(self) -> None:
        everything = commands.control_plane(PLAN) | commands.node(PLAN)
        assert {command[0] for command in everything.values()} == {
            str(paths.BIN / name) for name in everything
        }
        assert set(everything) <= set(binaries.PROGRAMS)

    def test_loopback_resolvers_are_kept_from_pods(self) -> None:
        text = "# stub\nsearch a.b\nnameserver 127.0.0.53\nnameserver 192.0.2.53\nnameserver ::1\n"
        assert config.nameservers(text) == "nameserver 192.0.2.53\n"

    @pytest.mark.parametrize("forward", [True, False])
    def test_coredns_forwards_only_where_there_is_an_upstream(self, forward: bool) -> None:
        objects = list(yaml.safe_load_all(config.coredns_manifest(forward=forward)))
        [corefile] = [item["data"]["Corefile"] for item in objects if item["kind"] == "ConfigMap"]
        assert ("forward . /etc/resolv.conf" in corefile) is forward
        [service] = [item for item in objects if item["kind"] == "Service"]
        assert service["spec"]["clusterIP"] == config.DNS_IP
        [image] = {
            container["image"]
            for item in objects
            if item["kind"] == "Deployment"
            for container in item["spec"]["template"]["spec"]["containers"]
        }
        assert image == config.COREDNS_IMAGE

    def test_the_coredns_image_is_named_after_the_version_built(self) -> None:
        assert config.COREDNS_IMAGE.endswith(":" + binaries.PROGRAMS["coredns"].version.lstrip("v"))


class TestProcesses:
    def test_a_name_with_spaces_and_parentheses_does_not_confuse(self) -> None:
        fields = " ".join(str(number) for number in range(3, 53))
        stat = f"7 (a) (b c)) S {fields.split(' ', 1)[1]}"
        assert processes.parse_stat(stat) == ("S", 22)

    def test_a_process_is_itself_and_no_other(self) -> None:
        me = processes.identify(os.getpid())
        assert me is not None
        assert me.is_alive()
        reused = processes.Process(pid=me.pid, started=me.started + 1, program=me.program)
        assert not reused.is_alive()
        assert not processes.Process(pid=me.pid, started=me.started, program="kubelet").is_alive()

    def test_spawn_outlives_its_session_and_end_ends_it(self, tmp_path: Path) -> None:
        process = processes.spawn(["sleep", "60"], log=tmp_path / "log", groups=[])
        try:
            assert process.is_alive()
            assert os.getsid(process.pid) == process.pid
        finally:
            left = processes.end(lambda: [process.pid] if process.is_alive() else [], grace=5.0)
        assert not left
        assert not process.is_alive()

    def test_a_program_that_fails_at_once_is_told_with_its_last_words(self, tmp_path: Path) -> None:
        with pytest.raises(RuntimeError, match=r"no-such-program did not start: .*not found"):
            processes.spawn(["/nowhere/no-such-program"], log=tmp_path / "log", groups=[])

    def test_what_was_saved_is_loaded(self, tmp_path: Path) -> None:
        table = {"etcd": processes.Process(pid=1, started=2, program="etcd")}
        processes.save(tmp_path / "processes.json", table)
        assert processes.load(tmp_path / "processes.json") == table
        assert processes.load(tmp_path / "absent") == {}
        (tmp_path / "broken").write_text('{"etcd": {"pid": 1}}')
        assert processes.load(tmp_path / "broken") == {}

    def test_only_a_foreign_kubelet_in_this_network_is_a_rival(self, tmp_path: Path) -> None:
        def add(pid: str, program: str, network: str) -> None:
            (tmp_path / pid / "ns").mkdir(parents=True)
            (tmp_path / pid / "exe").symlink_to(program)
            (tmp_path / pid / "ns" / "net").symlink_to(f"net:[{network}]")

        add("self", "/usr/bin/python", "1")
        add("10", "/usr/bin/kubelet", "1")
        add("11", "/usr/bin/kubelet", "2")  # in a container: kind
        add("12", "/usr/bin/kubelet (deleted)", "1")
        add("13", "/usr/bin/sleep", "1")
        assert processes.find_kubelets(ours=[], proc=tmp_path) == [10, 12]
        assert processes.find_kubelets(ours=[10], proc=tmp_path) == [12]


class TestHost:
    def test_every_hierarchy_is_found_once(self) -> None:
        mounts = (
            "tmpfs /sys/fs/cgroup tmpfs rw 0 0\ncgroup /sys/fs/cgroup/pids cgroup rw,pids 0 0\n"
            "cgroup /sys/fs/cgroup/pids cgroup rw,pids 0 0\ncgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n"
        )
        assert host.hierarchies(mounts) == [Path("/sys/fs/cgroup/pids"), Path("/sys/fs/cgroup/unified")]

    def test_only_mounts_of_ours_are_found_the_innermost_first(self) -> None:
        mounts = "a /r x rw 0 0\nb /r/run x rw 0 0\nc /r/run/deep\\040er x rw 0 0\nd /r/runner x rw 0 0\n"
        assert host.mounts_below(mounts, [Path("/r/run")]) == ["/r/run/deep er", "/r/run"]


class TestPackages:
    def test_nothing_is_missing_where_every_program_is(self) -> None:
        assert packages.missing(which=lambda program: f"/bin/{program}", cni="/usr/lib/cni") == []

    def test_each_package_is_named_once(self) -> None:
        assert packages.missing(which=lambda program: None, cni="").count("containerd") == 1
        only = packages.missing(which=lambda program: None if program == "ctr" else "/bin/x", cni="")
        assert only == ["containerd", "containernetworking-plugins"]


class TestBinaries:
    def test_versions_come_from_the_modules(self) -> None:
        assert binaries.PROGRAMS["etcd"].version.startswith("v3.6.")
        assert binaries.PROGRAMS["kubelet"].version.startswith("v1.36.")
        assert "gitMinor=36" in binaries.PROGRAMS["kubelet"].linker_flags
        assert binaries.PROGRAMS["nodetool"].version == ""

    def test_go_versions(self) -> None:
        assert binaries.go_version("go version go1.26.8 linux/amd64") == (1, 26)
        assert binaries.go_version("go version go1.9 linux/amd64") < binaries.GO_MINIMUM
        assert binaries.go_version("") == (0, 0)

    def test_an_unknown_name_is_told_with_the_known_ones(self) -> None:
        with pytest.raises(ClusterError, match=r"unknown program 'kubeadm': use one of etcd, kube-apiserver"):
            binaries.missing(["kubeadm"])

    def test_a_program_is_current_only_with_its_own_stamp(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.setattr(paths, "BIN", tmp_path)
        assert binaries.missing(["etcd"]) == ["etcd"]
        (tmp_path / "etcd").touch()
        assert binaries.missing(["etcd"]) == ["etcd"]
        (tmp_path / ".etcd.stamp").write_text(binaries.PROGRAMS["etcd"].stamp)
        assert binaries.missing(["etcd"]) == []
        (tmp_path / ".etcd.stamp").write_text("etcd v3.6.6 0000\n")
        assert binaries.missing(["etcd"]) == ["etcd"]


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    program = tmp_path / "program"
    program.write_bytes(b"\x7fELF")
    target = tmp_path / "image.tar"
    images.write_archive(
        target, reference="docker.io/library/a:1", files={"program": program}, entrypoint=["/program"]
    )
    return target


class TestImages:
    def test_an_archive_says_what_it_holds(self, archive: Path) -> None:
        [(reference, digest)] = images.describe(archive).items()
        assert reference == "docker.io/library/a:1"
        with tarfile.open(archive) as tar:
            member = tar.extractfile(f"{digest}.json")
            assert member is not None
            assert json.load(member)["config"]["User"] == "65532"

    def test_the_same_program_gives_the_same_archive(self, archive: Path, tmp_path: Path) -> None:
        first = archive.read_bytes()
        files_ = {"program": tmp_path / "program"}
        images.write_archive(
            archive, reference="docker.io/library/a:1", files=files_, entrypoint=["/program"]
        )
        assert archive.read_bytes() == first

    def test_references_are_spelled_as_the_runtime_does(self) -> None:
        assert images.full_reference("a:1") == "docker.io/library/a:1"
        assert images.full_reference("me/a:1") == "docker.io/me/a:1"
        assert images.full_reference("localhost/a:1") == "localhost/a:1"
        assert images.full_reference("registry.example:5000/a:1") == "registry.example:5000/a:1"

    def test_the_runtimes_list_is_read(self) -> None:
        table = "REF TYPE DIGEST SIZE PLATFORMS LABELS\na:1 application/x sha256:1 1.0 KiB linux/amd64 -\n"
        assert images.parse_list(table) == {"a:1": "sha256:1"}
        assert images.parse_list("") == {}

    def test_a_file_that_is_no_archive_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "x.tar").write_text("no")
        with pytest.raises(ClusterError, match="is no docker-archive"):
            images.describe(tmp_path / "x.tar")


class TestCommandLine:
    def test_an_unknown_kind_of_cluster_is_one_line(self) -> None:
        done = subprocess.run(
            [sys.executable, "-m", "hack.cluster", "status"],
            env={**os.environ, "CLUSTER": "minikube"},
            cwd=paths.ROOT,
            capture_output=True,
            text=True,
            check=False,
            timeout=60.0,
        )
        assert done.returncode == 1
        assert done.stderr == "error: CLUSTER=minikube is unknown: use node (the default) or kind\n"


class TestKind:
    @pytest.mark.parametrize("absent", ["docker", "kind"])
    def test_a_missing_program_is_named(self, absent: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("shutil.which", lambda program: None if program == absent else f"/bin/{program}")
        with pytest.raises(
            ClusterError, match=rf"CLUSTER=kind needs {absent}, which is not on PATH: install"
        ):
            kind.up(console=Console(quiet=True))

    def test_its_workers_carry_the_labels_that_tests_select_by(self) -> None:
        nodes = yaml.safe_load(kind.CONFIG.read_text())["nodes"]
        workers = [item for item in nodes if item["role"] == "worker"]
        assert workers
        for worker in workers:
            assert worker["labels"][paths.NODE_LABEL] == "true"
            assert worker["labels"]["nvidia.com/gpu.present"] == "true"
