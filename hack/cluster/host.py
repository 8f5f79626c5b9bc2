"""What a node changes on its host, and the way back.

Everything is written down in ``RUN/host.json`` before it is changed, and only the first time, so that a
cluster that was killed and repaired still restores what was there before it. A reboot forgets both.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from hack.cluster import iptables, paths

RECORD = paths.RUN / "host.json"
CGROUPS = Path("/sys/fs/cgroup")
# kubelet, kube-proxy and the bridge plugin write these.
SYSCTLS = (
    "net/ipv4/ip_forward",
    "net/ipv4/conf/all/route_localnet",
    "net/ipv4/vs/conntrack",
    "net/bridge/bridge-nf-call-iptables",
    "net/bridge/bridge-nf-call-ip6tables",
    "vm/overcommit_memory",
    "vm/panic_on_oom",
    "kernel/panic",
    "kernel/panic_on_oops",
    "kernel/keys/root_maxkeys",
    "kernel/keys/root_maxbytes",
)
# Folders that containers' programs insist on. Inside the node's mount namespace each shows a folder of ours;
# the host only sees an empty one, and it goes again at `down`.
PRIVATE = {
    "/var/lib/kubelet": paths.NODE / "kubelet",
    "/run/containerd": paths.RUN / "shims",
    "/var/lib/cni": paths.NODE / "cni-results",
    "/var/log/containers": paths.LOG / "containers",
}
PASSING_FILES = ("/run/xtables.lock",)


def prepare() -> None:
    """Record the host's state, make the private mount points and set what a node needs."""
    paths.RUN.mkdir(mode=0o711, exist_ok=True)
    if not RECORD.exists():
        record = {
            "owner": str(paths.ROOT),
            "sysctls": {name: value for name in SYSCTLS if (value := _read_sysctl(name)) is not None},
            "iptables": iptables.record(),
            "absent": [path for path in (*PRIVATE, *PASSING_FILES) if not os.path.lexists(path)],
        }
        temporary = RECORD.with_suffix(".new")
        temporary.write_text(json.dumps(record, indent=1))
        temporary.rename(RECORD)
    for mount_point, content in PRIVATE.items():
        Path(mount_point).mkdir(parents=True, exist_ok=True)
        content.mkdir(parents=True, exist_ok=True)
    _write_sysctl("net/ipv4/ip_forward", "1")
    iptables.accept_forwarding()


def owner() -> str:
    """The checkout whose cluster this host runs or ran last; empty when it is clean."""
    try:
        return str(json.loads(RECORD.read_text())["owner"])
    except (OSError, ValueError, KeyError):
        return ""


def restore() -> None:
    """Undo `prepare` and remove what the components left. Safe to repeat, and after a half-done `prepare`."""
    remove_interfaces()
    record: dict[str, object] = {}
    with contextlib.suppress(OSError, ValueError):
        record = json.loads(RECORD.read_text())
    iptables.clean(record.get("iptables"))
    for name, value in _mapping(record.get("sysctls")).items():
        _write_sysctl(name, value)
    absent = record.get("absent")
    for path in map(Path, absent if isinstance(absent, list) else []):
        with contextlib.suppress(OSError):
            if path.is_dir() and not path.is_symlink():
                path.rmdir()  # refuses when somebody else put something there
            else:
                path.unlink()
    unmount_below((paths.RUN, paths.NODE, paths.CONTAINERD_ROOT))
    shutil.rmtree(paths.RUN, ignore_errors=True)


def _mapping(value: object) -> dict[str, str]:
    return {str(key): str(item) for key, item in value.items()} if isinstance(value, dict) else {}


def mount_script() -> str:
    """Shell that shows the private folders, to run in the node's own mount namespace.

    Every mount of the node lives in that namespace, so that none can outlive its processes.
    """
    binds = [f'mount --bind "{content}" "{mount_point}"' for mount_point, content in PRIVATE.items()]
    return " && ".join(["mount --make-rshared /", *binds])


# -- cgroups ---


def hierarchies(mounts: str) -> list[Path]:
    """Every cgroup hierarchy in /proc/mounts, version 1 and 2, each once."""
    found = [
        Path(line.split()[1]) for line in mounts.splitlines() if line.split()[2] in ("cgroup", "cgroup2")
    ]
    return list(dict.fromkeys(found))


def _hierarchies() -> list[Path]:
    return hierarchies(Path("/proc/mounts").read_text())


#: What the kernel gives a group that asks for nothing is as much as one process of the host has. All pods
#: together are more than that: as much as eight, or every probe fails once the host is busy.
_SHARES = {"cpu.shares": 8 * 1024, "cpu.weight": 8 * 100}


def make_cgroups() -> list[Path]:
    """Make the pods' root cgroup everywhere, and return the cgroups that our own daemons are born in.

    One hierarchy is enough to find daemons again; in the others they keep the limits of who started them.
    """
    mounted = _hierarchies()
    for hierarchy in mounted:
        group = hierarchy / paths.CGROUP
        group.mkdir(exist_ok=True)
        for name in (
            "cpuset.cpus",
            "cpuset.mems",
        ):  # empty in a new version 1 group, which then takes no process
            if (group / name).exists() and not (group / name).read_text().strip():
                (group / name).write_text((hierarchy / name).read_text())
        for name, share in _SHARES.items():
            if (group / name).exists():
                (group / name).write_text(str(share))
        controllers = hierarchy / "cgroup.controllers"
        if controllers.exists():
            for controller in controllers.read_text().split():
                with contextlib.suppress(OSError):
                    (hierarchy / "cgroup.subtree_control").write_text(f"+{controller}")
    tracking = next((path for path in mounted if path.name == "pids"), mounted[0])
    daemons = tracking / f"{paths.CGROUP}-daemons"
    daemons.mkdir(exist_ok=True)
    return [daemons]


def _ours() -> list[Path]:
    groups = [
        hierarchy / name for hierarchy in _hierarchies() for name in (paths.CGROUP, f"{paths.CGROUP}-daemons")
    ]
    return [group for group in groups if group.is_dir()]


def processes_in_cgroups(*, pods_only: bool = False) -> list[int]:
    """Every process in our cgroups: daemons, shims and pods, or pods only."""
    found: set[int] = set()
    for group in _ours():
        if pods_only and group.name != paths.CGROUP:
            continue
        for folder, _, _ in os.walk(group):
            with contextlib.suppress(OSError):
                found.update(map(int, (Path(folder) / "cgroup.procs").read_text().split()))
    return sorted(found)


def remove_cgroups(*, timeout: float = 5.0) -> None:
    """Remove our cgroups, which must hold no process. After the last one the kernel may need a moment."""
    deadline = time.monotonic() + timeout
    while groups := _ours():
        for group in groups:
            for folder, _, _ in os.walk(group, topdown=False):
                with contextlib.suppress(OSError):
                    Path(folder).rmdir()
        if not _ours() or time.monotonic() > deadline:
            return
        time.sleep(0.05)


# -- network and mounts ---


def run(command: Sequence[str], *, stdin: str | None = None, timeout: float = 30.0) -> str:
    """Run a host program; its output. Raises CalledProcessError."""
    done = subprocess.run(command, input=stdin, capture_output=True, text=True, check=True, timeout=timeout)
    return done.stdout


def routes() -> list[str]:
    """The networks that this host has routes to, our own bridge's apart."""
    found = []
    for route in json.loads(run(["ip", "-j", "-4", "route", "show", "table", "all"]) or "[]"):
        destination = str(route.get("dst", ""))
        if destination[:1].isdigit() and route.get("dev") != paths.BRIDGE:
            found.append(destination)
    return found


def default_mtu() -> int:
    """The MTU of the interface that the default route leaves by; 1500 without one."""
    for route in json.loads(run(["ip", "-j", "-4", "route", "show", "default"]) or "[]"):
        with contextlib.suppress(OSError, KeyError, ValueError):
            return int(Path(f"/sys/class/net/{route['dev']}/mtu").read_text())
    return 1500


def make_bridge(address: str, prefix: int, mtu: int) -> None:
    """Make the pods' bridge before the first pod does: its address is the node's."""
    remove_interfaces()
    run(["ip", "link", "add", "name", paths.BRIDGE, "mtu", str(mtu), "type", "bridge"])
    run(["ip", "address", "add", f"{address}/{prefix}", "brd", "+", "dev", paths.BRIDGE])
    run(["ip", "link", "set", paths.BRIDGE, "up"])


def remove_interfaces() -> None:
    """Remove the bridge and the pods' ends of it."""
    ports = Path(f"/sys/class/net/{paths.BRIDGE}/brif")
    names = [port.name for port in ports.iterdir()] if ports.is_dir() else []
    for name in (*names, paths.BRIDGE):
        subprocess.run(["ip", "link", "delete", name], capture_output=True, check=False, timeout=10.0)


def mounts_below(table: str, folders: Iterable[Path]) -> list[str]:
    """Mount points at or below any of the folders in /proc/mounts, the innermost first."""
    roots = [str(folder) for folder in folders]
    found = []
    for line in table.splitlines():
        point = line.split()[1].replace("\\040", " ")
        if any(point == root or point.startswith(f"{root}/") for root in roots):
            found.append(point)
    return sorted(found, key=len, reverse=True)


def unmount_below(folders: Iterable[Path]) -> None:
    """Unmount whatever is mounted in the host's own namespace at or below the folders."""
    for point in mounts_below(Path("/proc/mounts").read_text(), folders):
        subprocess.run(["umount", "--lazy", point], capture_output=True, check=False, timeout=10.0)


def _read_sysctl(name: str) -> str | None:
    try:
        return (Path("/proc/sys") / name).read_text().strip()
    except OSError:
        return None


def _write_sysctl(name: str, value: str) -> None:
    if _read_sysctl(name) not in (value, None):
        (Path("/proc/sys") / name).write_text(value)
