"""What makes two specs one revision."""

import json
from collections.abc import Mapping
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controllers.resources.desired import Desired, Model, decode, pin, requests
from controllers.rollout import identity
from controllers.rollout.identity import Recorded, choose, digest, identify, same

MODEL = Model(
    name="m",
    model="resnet50",
    uid="u",
    version="v1.0.0",
    digest="sha256:aa",
    source={"scheme": "s3", "bucket": "b", "files": [{"key": "k", "path": "p", "size": 1}]},
)
DESIRED = Desired(models=(MODEL,))


def recorded(desired: Desired, image: str, collisions: int = 0) -> Recorded:
    made = identify(desired, image=image, collisions=collisions)
    assert made is not None
    return Recorded(made.hash, made.image, made.version, made.inputs)


@given(st.text(max_size=40))
def test_a_hash_is_eight_lower_case_letters_and_digits(text: str) -> None:
    short = digest(text)
    assert len(short) == 8
    assert short == short.lower()
    assert short.isalnum()


@pytest.mark.parametrize(
    "changed",
    [
        replace(DESIRED, models=(replace(MODEL, version="v1.0.1"),)),
        replace(DESIRED, models=(replace(MODEL, uid="other"),)),
        replace(DESIRED, models=(replace(MODEL, digest="sha256:bb"),)),
        replace(DESIRED, models=(replace(MODEL, source={**MODEL.source, "bucket": "c"}),)),
        replace(DESIRED, models=(replace(MODEL, source={**MODEL.source, "files": [{"key": "other"}]}),)),
        replace(DESIRED, models=(replace(MODEL, latency_sla=20),)),
        replace(DESIRED, models=(replace(MODEL, secret="s"),)),
        replace(DESIRED, models=(MODEL, replace(MODEL, name="n"))),
        replace(DESIRED, engine="onednn"),
        replace(DESIRED, workers=2),
        replace(DESIRED, gpu={"count": 1}),
        replace(DESIRED, pod={"nodeSelector": {"a": "b"}}),
        replace(DESIRED, resources={"limits": {"cpu": "2"}}),
        replace(DESIRED, warm_up={"runs": 4}),
        replace(DESIRED, image="mine:1"),
    ],
)
def test_what_reaches_a_pod_is_in_it(changed: Desired) -> None:
    assert not same(recorded(DESIRED, "default:1"), changed)
    assert recorded(changed, changed.image or "default:1").hash != recorded(DESIRED, "default:1").hash


def _decoded(spec: Mapping[str, object]) -> Desired:
    return decode(spec, tuple(pin(item, item.pinned) for item in requests(spec)))


def test_what_does_not_reach_a_pod_is_not_in_it() -> None:
    spec: dict[str, object] = {"models": [{"name": "m", "pinned": {"uid": "u", "source": {"scheme": "s3"}}}]}
    more = spec | {
        "replicas": 9,
        "autoscaling": {"minReplicas": 3},
        "traffic": {"provider": "Envoy"},
        "updateStrategy": {"type": "Recreate"},
        "progressDeadlineSeconds": 11,
        "revisionHistoryLimit": 1,
    }
    assert identify(_decoded(spec), image="i") == identify(_decoded(more), image="i")


@given(st.permutations([replace(MODEL, name=name) for name in "abcd"]))
def test_the_order_of_models_means_nothing(models: list[Model]) -> None:
    ordered = tuple(sorted(models, key=lambda item: item.name))
    assert identify(Desired(models=tuple(models)), image="i") == identify(Desired(models=ordered), image="i")


def test_an_unset_image_is_the_one_the_revision_has() -> None:
    old = recorded(DESIRED, "default:1")
    chosen = choose(DESIRED, [old], default_image="default:2")
    assert (chosen.hash, chosen.image) == (old.hash, "default:1")
    named = choose(replace(DESIRED, image="default:2"), [old], default_image="default:2")
    assert named.hash != old.hash
    explicit = choose(replace(DESIRED, image="default:1"), [old], default_image="default:2")
    assert explicit.hash == old.hash, "naming the image it has changes nothing"


def test_back_to_an_earlier_spec_is_back_to_its_revision() -> None:
    other = replace(DESIRED, engine="onednn")
    first, second = recorded(DESIRED, "default:1"), recorded(other, "default:1")
    assert choose(DESIRED, [second, first], default_image="default:3").hash == first.hash
    assert choose(other, [second, first], default_image="default:3").hash == second.hash


def test_of_two_that_fit_the_current_one_stays() -> None:
    one, two = recorded(DESIRED, "default:1"), recorded(DESIRED, "default:2")
    for current in (one, two):
        chosen = choose(DESIRED, [one, two], default_image="x", preferred=(current.hash,))
        assert chosen.hash == current.hash


def test_an_unknown_hash_version_matches_nothing() -> None:
    old = recorded(DESIRED, "default:1")
    later = Recorded(old.hash, old.image, 99, old.inputs)
    assert not same(later, DESIRED)
    assert identify(DESIRED, image="i", version=99) is None


def test_a_taken_hash_gives_way(monkeypatch: pytest.MonkeyPatch) -> None:
    hashes = {0: "taken", 1: "free"}
    monkeypatch.setattr(identity, "digest", lambda inputs: hashes[json.loads(inputs).get("collisions", 0)])
    stranger = Recorded("taken", "i", 1, '{"other":1}')
    made = choose(DESIRED, [stranger], default_image="i")
    assert made.hash == "free"
    again = choose(
        DESIRED, [stranger, Recorded(made.hash, made.image, made.version, made.inputs)], default_image="j"
    )
    assert again == made


def test_broken_inputs_match_nothing() -> None:
    assert not same(Recorded("x", "i", 1, "not json"), DESIRED)
    assert not same(Recorded("x", "i", 1, "[]"), DESIRED)


def test_a_long_file_list_stays_short() -> None:
    files = [{"key": f"k{n}", "path": f"p{n}", "size": n} for n in range(1024)]
    long = replace(DESIRED, models=(replace(MODEL, source={"scheme": "s3", "files": files}),))
    made = identify(long, image="i")
    assert made is not None
    assert len(made.inputs) < 1000
