from __future__ import annotations

import copy
from pathlib import Path

import pytest
import yaml

from artifacts import (
    ArtifactError,
    Batching,
    Desired,
    File,
    ModelEntry,
    PinnedSource,
    Reason,
    Tensor,
    WarmUp,
    load_config,
    models_yaml,
)
from artifacts._config import load_ca

HEX = "ab" * 32
SOURCE = PinnedSource(
    scheme="s3", endpoint="http://h:8333", bucket="models", files=(File("r/m", "m", 3, "e", HEX),)
)
ENTRY = ModelEntry(
    name="resnet50",
    uid="4f6e-1",
    version="v1.0.0",
    digest=f"sha256:{HEX}",
    framework="paddle",
    source=SOURCE,
    checksum=HEX,
    credentials_env="MODEL_0",
    ca_file="/etc/paddle/ca/0/ca.crt",
    priority=7,
    latency_sla_milliseconds=200,
    batching=Batching(max_batch_size=8, max_delay_milliseconds=0.5),
    warm_up=WarmUp(samples=({"x": [1.5]},), runs=2, batch_sizes=(1, 4)),
    engine="onednn",
    workers=2,
    threads=3,
    inputs=(Tensor(name="x", datatype="FP32", shape=(-1, 3)),),
    outputs=(Tensor(name="y", datatype="FP32"),),
)
DESIRED = Desired(service="resnet50", namespace="default", revision="ab12cd34", models=(ENTRY,))
MINIMAL = """
schema: 1
service: s
namespace: default
models:
- name: m
  uid: u
  version: v1.0.0
  framework: onnx
  source: {scheme: file, root: /models/m, files: []}
"""


def test_round_trip(tmp_path: Path) -> None:
    text = models_yaml(DESIRED)
    assert load_config(text) == DESIRED
    assert models_yaml(load_config(text)) == text
    path = tmp_path / "models.yaml"
    path.write_text(text)
    assert load_config(path) == load_config(str(path)) == DESIRED


def test_defaults_are_left_out_and_come_back() -> None:
    found = load_config(MINIMAL)
    entry = found.models[0]
    assert (entry.priority, entry.workers, entry.threads, entry.engine) == (100, 1, 0, "auto")
    assert entry.latency_sla_milliseconds is None
    assert entry.batching is None
    assert entry.digest == ""
    assert entry.folder_name == "unpinned"
    assert "priority" not in models_yaml(found)
    assert load_config(models_yaml(found)) == found


def test_folder_names() -> None:
    assert ENTRY.folder_name == HEX[:12]


def _change(path: str, value: object) -> str:
    raw = copy.deepcopy(yaml.safe_load(models_yaml(DESIRED)))
    *parents, last = path.split(".")
    at = raw
    for name in parents:
        at = at[int(name)] if name.isdigit() else at[name]
    if value is ...:
        del at[last]
    else:
        at[last] = value
    return yaml.safe_dump(raw)


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("schema", 2, "schema: 2"),
        ("schema", ..., "schema: None"),
        ("service", 7, "service: 7"),
        ("service", "A B", "service: 'A B'"),
        ("models", {}, "models: {}"),
        ("extra", 1, "extra: 1"),
        ("models.0.name", ..., "models[0].name: None"),
        ("models.0.name", "", "models[0].name: ''"),
        ("models.0.uid", "../x", "models[0].uid: '../x'"),
        ("models.0.version", 1.0, "models[0].version: 1.0"),
        ("models.0.digest", "sha256:x", "models[0].digest: 'sha256:x'"),
        ("models.0.digest", "", "models[0].digest: ''"),
        ("models.0.framework", "torch", "models[0].framework: 'torch'"),
        ("models.0.source", ..., "models[0].source: None"),
        ("models.0.source", [], "models[0].source: []"),
        ("models.0.checksum", "md5:1", "models[0].checksum: 'md5:1'"),
        ("models.0.credentialsEnv", "a-b", "models[0].credentialsEnv: 'a-b'"),
        ("models.0.priority", "high", "models[0].priority: 'high'"),
        ("models.0.workers", 0, "models[0].workers: 0"),
        ("models.0.latencySLAMilliseconds", -1, "models[0].latencySLAMilliseconds: -1"),
        ("models.0.latencySLAMilliseconds", float("nan"), "models[0].latencySLAMilliseconds: nan"),
        ("models.0.batching.maxBatchSize", 0, "models[0].batching.maxBatchSize: 0"),
        ("models.0.batching.size", 1, "models[0].batching.size: 1"),
        ("models.0.warmUp.batchSizes", [0], "models[0].warmUp.batchSizes[0]: 0"),
        ("models.0.warmUp.samples", "x", "models[0].warmUp.samples: 'x'"),
        (
            "models.0.inputs",
            [{"name": "x", "datatype": "FP32", "shape": ["a"]}],
            "models[0].inputs[0].shape[0]",
        ),
        ("models.0.inputs", [{"name": "x"}], "models[0].inputs[0].datatype: None"),
        ("models.0.typo", 1, "models[0].typo: 1"),
    ],
)
def test_each_bad_field_is_one_line(path: str, value: object, said: str) -> None:
    with pytest.raises(ArtifactError) as caught:
        load_config(_change(path, value))
    assert caught.value.reason is Reason.INVALID_SOURCE
    assert caught.value.message.startswith(said), caught.value.message
    assert " is not usable: " in caught.value.message


def test_two_models_of_one_name() -> None:
    twice = Desired(service="s", namespace="d", revision="r", models=(ENTRY, ENTRY))
    with pytest.raises(ArtifactError, match="models: 'resnet50'"):
        load_config(models_yaml(twice))


@pytest.mark.parametrize("text", ["a: [\n", "- a\n- b\n", "just\ntext"])
def test_no_mapping(text: str) -> None:
    with pytest.raises(ArtifactError):
        load_config(text)


def test_unreadable(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"mount models\.yaml there"):
        load_config(tmp_path / "none.yaml")


def test_ca_file(tmp_path: Path) -> None:
    assert load_ca("") == ""
    (tmp_path / "ca").write_text("PEM")
    assert load_ca(str(tmp_path / "ca")) == "PEM"
    with pytest.raises(ArtifactError, match="caSecretRef") as caught:
        load_ca(str(tmp_path / "none"))
    assert caught.value.reason is Reason.TLS_ERROR
