"""What an image is made of, and what is moved for it."""

import io
import json
import os
import tarfile
from hashlib import sha256
from pathlib import Path

import pytest

from hack.images import archive, base, build, inputs, names, site_packages, specs
from hack.images.addons import pod_targets
from hack.images.buildah import Store

REQUIREMENTS = """\
# a comment
alpha==1 ; python_version < '3.12' \\
    --hash=sha256:aa \\
    --hash=sha256:ab
alpha==2 ; python_version >= '3.12' \\
    --hash=sha256:ac
Beta_X==3 \\
    --hash=sha256:ba
"""


def test_requirements_are_chosen_whole_with_their_hashes() -> None:
    assert [entry.name for entry in site_packages.entries(REQUIREMENTS)] == ["alpha", "alpha", "beta-x"]
    kept = site_packages.chosen(
        REQUIREMENTS, lambda entry: entry.spec != "alpha==2 ; python_version >= '3.12'"
    )
    assert "sha256:ab" in kept
    assert "sha256:ac" not in kept
    assert kept.splitlines()[-1].strip() == "--hash=sha256:ba"


def test_the_runtime_image_gets_every_package_once() -> None:
    """An entry of runtime.txt is left out only when paddle.txt has the very same, marker included."""
    paddle = site_packages.entries((inputs.ROOT / "requirements/paddle.txt").read_text())
    runtime = site_packages.entries((inputs.ROOT / "requirements/runtime.txt").read_text())
    there = {entry.spec for entry in paddle}
    versions = {entry.name: entry.spec.split()[0] for entry in paddle if "3.12" not in entry.spec}
    for entry in runtime:
        if entry.spec not in there and entry.name in versions:
            assert entry.spec.split()[0] == versions[entry.name], "two versions of one package"
    assert "setuptools" in {entry.name for entry in runtime if entry.spec not in there}


def test_trim_removes_tests_and_headers_and_keeps_code(tmp_path: Path) -> None:
    for name in ("paddle/include/x.h", "paddle/tests/t.py", "paddle/nn/a.py", "paddle/nn/a.pyi"):
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("x = 1\n")
    site_packages.trim(tmp_path)
    assert [str(f.relative_to(tmp_path)) for f in tmp_path.rglob("*") if f.is_file()] == ["paddle/nn/a.py"]


def test_byte_code_is_the_same_whatever_the_file_times(tmp_path: Path) -> None:
    compiled = []
    for time in (1, 2_000_000_000):
        folder = tmp_path / str(time) / "app"
        folder.mkdir(parents=True)
        (folder / "m.py").write_text("def f():\n    return 1\n")
        os.utime(folder / "m.py", (time, time))
        site_packages.compile_all(folder)
        compiled += [file.read_bytes() for file in folder.rglob("*.pyc")]
    assert len(compiled) == 2
    assert compiled[0] == compiled[1]


def test_a_key_follows_names_contents_and_texts(tmp_path: Path) -> None:
    (tmp_path / "code").mkdir()
    (tmp_path / "code/a.py").write_text("1")

    def key(*texts: str) -> str:
        return inputs.digest(paths=["code"], texts=texts, root=tmp_path)

    first = key("x")
    assert key("x") == first
    assert key("y") != first
    (tmp_path / "code/__pycache__").mkdir()
    (tmp_path / "code/__pycache__/a.pyc").write_text("compiled")
    assert key("x") == first
    (tmp_path / "code/a.py").write_text("2")
    second = key("x")
    assert second != first
    (tmp_path / "code/a.py").rename(tmp_path / "code/b.py")
    assert key("x") != second
    with pytest.raises(FileNotFoundError, match="missing: an image is made of it"):
        inputs.digest(paths=["missing"], root=tmp_path)


@pytest.mark.parametrize("name", ["Dockerfile.operator", "Dockerfile.runtime"])
def test_packages_do_not_hang_on_our_code(name: str) -> None:
    text = (inputs.ROOT / name).read_text()
    part = inputs.dependency_part(text)
    assert "COPY artifacts" not in part
    assert "AS deps" in part
    assert inputs.dependency_part(text.replace("COPY artifacts /app/artifacts", "COPY artifacts /x")) == part
    assert inputs.dependency_part(text.replace("USER 1001:1001", "USER 0")) != part


@pytest.mark.parametrize("name", ["Dockerfile.operator", "Dockerfile.runtime"])
def test_the_last_stages_run_without_root_compiler_or_pip(name: str) -> None:
    text = (inputs.ROOT / name).read_text()
    final = text[text.index("AS deps") :]
    assert "USER 1001:1001" in final
    assert "ensurepip" in final  # removed
    assert "gcc" not in final
    assert "pip install" not in final
    assert ("HEALTHCHECK" in final) == (name == "Dockerfile.runtime")


def test_another_paddle_is_another_image() -> None:
    plain, gpu = (
        next(image for image in specs.images(environment) if image.name == names.RUNTIME)
        for environment in ({}, {"PADDLE_PACKAGE": "paddlepaddle-gpu==3.3.1"})
    )
    assert plain.deps_key("base") != gpu.deps_key("base")
    assert plain.deps_key("base") != plain.deps_key("another base")
    assert plain.short == "runtime"


def test_the_base_is_named_after_its_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    before = base.name()
    assert base.name() == before
    monkeypatch.setattr(base, "PACKAGES", ("python3",))
    assert base.name() != before


def blob(store: Store, content: bytes) -> str:
    digest = f"sha256:{sha256(content).hexdigest()}"
    store.blob(digest).parent.mkdir(parents=True, exist_ok=True)
    store.blob(digest).write_bytes(content)
    return digest


def published(store: Store, *layers: bytes) -> str:
    config = blob(store, b"{}")
    described = [{"digest": blob(store, layer), "size": len(layer)} for layer in layers]
    manifest = {"mediaType": "m", "config": {"digest": config, "size": 2}, "layers": described}
    return blob(store, json.dumps(manifest).encode())


def test_an_archive_leaves_out_the_layers_that_are_there(tmp_path: Path) -> None:
    store = Store(tmp_path)
    digest = published(store, b"paddle" * 1000, b"code")
    manifest, config, paddle, code = store.blobs(digest)
    sink = io.BytesIO()
    written = archive.write(store, sink, images={"a:1": digest, "a:2": digest}, present={paddle})
    assert written < 1000
    sink.seek(0)
    with tarfile.open(fileobj=sink) as tar:
        inside = tar.getnames()
        member = tar.extractfile("index.json")
        assert member is not None
        index = json.load(member)
    assert {f"blobs/sha256/{value[7:]}" for value in (manifest, config, code)} < set(inside)
    assert f"blobs/sha256/{paddle[7:]}" not in inside
    assert [entry["annotations"][archive.NAME] for entry in index["manifests"]] == ["a:1", "a:2"]


def test_sweep_keeps_what_the_index_names(tmp_path: Path) -> None:
    store = Store(tmp_path)
    kept, old = published(store, b"base", b"new"), published(store, b"base", b"old")
    # A newer build takes the name away from the older one, whose entry stays in the index.
    index = {"manifests": [{"digest": old}, {"digest": kept, "annotations": {"name": "a:1"}}]}
    (store.layout / "index.json").write_text(json.dumps(index))
    gone = set(store.blobs(old)) - set(store.blobs(kept))
    store.sweep()
    assert all(store.blob(value).is_file() for value in store.blobs(kept))
    assert len(gone) == 2
    assert not any(store.blob(value).exists() for value in gone)


def test_state_survives_a_damaged_file(tmp_path: Path) -> None:
    state = build.State(tmp_path / "state.json")
    entry = build.Built(name="localhost/x:dev", key="k", digest="sha256:0123456789abcdef", size=1)
    state.save([entry])
    assert state.load() == {"localhost/x:dev": entry}
    assert entry.pinned == "localhost/x:dev-0123456789ab"
    state.path.write_text("{")
    assert state.load() == {}


def test_prometheus_targets_are_the_running_pods_with_the_port() -> None:
    def pod(name: str, phase: str, port: str) -> dict[str, object]:
        ports = [{"name": "http", "containerPort": 8080}, {"name": port, "containerPort": 8081}]
        return {
            "metadata": {"name": name, "namespace": "n"},
            "spec": {"containers": [{"ports": ports}]},
            "status": {"phase": phase, "podIP": "fd00::1" if name == "six" else "10.0.0.1"},
        }

    pods = [pod("a", "Running", "admin"), pod("b", "Pending", "admin"), pod("c", "Running", "other")]
    found = pod_targets.targets("job", "admin", [*pods, pod("six", "Running", "admin"), {"metadata": {}}])
    assert [entry["targets"] for entry in found] == [["10.0.0.1:8081"], ["[fd00::1]:8081"]]
    assert found[0]["labels"] == {"job": "job", "namespace": "n", "pod": "a"}
