"""Commands, the live view and the words for what goes wrong, on a cluster made of desks."""

from __future__ import annotations

import io
import json
import stat
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from cli import live
from cli.cluster import COMMAND, MODELS, SERVICES, Kubectl, refused
from cli.command import command, objection
from cli.errors import CliError, NotFound
from cli.look import look
from cli.main import main
from controllers.analysis.tally import Verdict
from controllers.rollout import canary
from controllers.rollout.canary import Phase, Verb
from tests.cli.objects import JSON, analysis, others, service
from tests.controllers.rollout.test_canary_desk import Desk, at


class DeskCluster:
    """A Cluster with one service. Its operator looks whenever somebody sleeps."""

    namespace = "default"

    def __init__(self, desk: Desk, *, model: JSON | None = None) -> None:
        self.desk = desk
        self.model = model
        self.annotations: list[str] = []
        self.asleep = False
        self.forbidden = False
        self.slept = 0.0

    def get(self, kind: str, name: str) -> JSON:
        if kind == SERVICES and name == "svc" and self.model is None:
            return service(self.desk)
        if kind == MODELS and self.model is not None:
            return self.model
        raise NotFound(f"{kind} {name!r} not found")

    def list(self, kinds: Sequence[str], selector: str) -> Sequence[JSON]:
        if self.forbidden:
            raise CliError("pods is forbidden")
        assert selector == "serving.paddlepaddle.org/paddle-service=svc"
        found = others(self.desk)
        return [*found, analysis(self.desk)] if self.desk.state.phase is Phase.Analysing else found

    def annotate(self, kind: str, name: str, key: str, value: str) -> None:
        assert (kind, name, key) == (SERVICES, "svc", COMMAND)
        self.annotations.append(value)

    def sleep(self, seconds: float) -> None:
        self.slept += seconds
        if self.annotations and not self.asleep:
            self.desk.look(seconds, command=canary.command(self.annotations[-1]))

    def now(self) -> float:
        return self.desk.facts.now + self.slept

    def send(self, verb: Verb, *, timeout: float = 10.0) -> str:
        return command(self, "svc", verb, token="t1", now=self.now, sleep=self.sleep, timeout=timeout)


@pytest.mark.parametrize(
    ("phase", "verb", "answer"),
    [
        (Phase.Analysing, Verb.Promote, "svc: run 1: promote: done, now Shifting"),
        (Phase.Analysing, Verb.PromoteFull, "svc: run 1: promote-full: done, now Promoting"),
        (Phase.Analysing, Verb.Pause, "svc: run 1: pause: done, now Paused"),
        (Phase.Paused, Verb.Resume, "svc: run 1: resume: done, now Analysing"),
        (Phase.Soaking, Verb.Abort, "svc: run 1: abort: done, now RollingBack"),
    ],
)
def test_a_command_is_written_for_its_run_and_its_answer_told(phase: Phase, verb: Verb, answer: str) -> None:
    cluster = DeskCluster(at(phase))
    assert cluster.send(verb) == answer
    assert cluster.annotations == [f"{verb}/1/t1"]


@pytest.mark.parametrize(
    ("phase", "verb", "why"),
    [
        (
            Phase.Idle,
            Verb.Abort,
            "abort does nothing in phase Idle: it works in Preparing, Shifting, Analysing, Paused, "
            "Promoting, Soaking",
        ),
        (
            Phase.Preparing,
            Verb.Promote,
            "promote does nothing in phase Preparing: it works in Soaking, Analysing, Paused",
        ),
        (Phase.Analysing, Verb.Resume, "resume does nothing in phase Analysing: it works in Paused"),
        (Phase.Idle, Verb.Retry, "nothing to retry: the revision that svc asks for was not rejected"),
    ],
)
def test_a_command_that_would_do_nothing_is_not_sent(phase: Phase, verb: Verb, why: str) -> None:
    cluster = DeskCluster(Desk() if phase is Phase.Idle else at(phase))
    if phase is Phase.Idle:
        cluster.desk.facts = canary.Facts(now=1.0, wanted="old")
    with pytest.raises(CliError) as error:
        cluster.send(verb)
    assert str(error.value) == why
    assert cluster.annotations == []


def test_a_rejected_revision_can_be_tried_again() -> None:
    desk = at(Phase.Analysing)
    desk.verdict(Verdict.Failed)
    desk.until(Phase.Idle)
    cluster = DeskCluster(desk)
    assert objection(look(cluster, "svc", cluster.now), Verb.Retry) == ""
    assert cluster.send(Verb.Retry).startswith("svc: run 1: retry: done")


def test_a_run_that_ended_meanwhile_is_told() -> None:
    desk = at(Phase.Analysing)
    cluster = DeskCluster(desk)
    send = cluster.annotate

    def late(kind: str, name: str, key: str, value: str) -> None:
        desk.look(1, wanted="old")
        send(kind, name, key, value)

    cluster.annotate = late  # type: ignore[method-assign]
    with pytest.raises(CliError, match=r"pause: nothing to do in phase \w+, run 1"):
        cluster.send(Verb.Pause)


def test_an_operator_that_does_not_answer_is_told() -> None:
    cluster = DeskCluster(at(Phase.Analysing))
    cluster.asleep = True
    with pytest.raises(
        CliError, match=r"not answered within 3 s; the command pause/1/t1 stays on the service"
    ):
        cluster.send(Verb.Pause, timeout=3.0)


def test_names_that_lead_nowhere() -> None:
    cluster = DeskCluster(Desk())
    with pytest.raises(CliError, match="no PaddleService or PaddleModel 'other' in namespace default"):
        look(cluster, "other", cluster.now)
    kept = DeskCluster(Desk(), model={"status": {"phase": "Failed", "message": "bucket b does not exist"}})
    with pytest.raises(CliError, match="PaddleModel svc serves nothing yet: bucket b does not exist"):
        look(kept, "svc", kept.now)


def test_who_may_not_see_pods_sees_the_rest() -> None:
    cluster = DeskCluster(at(Phase.Analysing))
    cluster.forbidden = True
    seen = look(cluster, "svc", cluster.now)
    assert seen.trouble == "pods and analyses are not shown: pods is forbidden"
    assert seen.state.phase is Phase.Analysing


def script(cluster: DeskCluster, *steps: Callable[[], object]) -> Callable[[float], None]:
    """What happens at each sleep of the watch; then the test has hung."""
    left = list(steps)

    def sleep(seconds: float) -> None:
        assert left, "the watch goes on for ever"
        left.pop(0)()

    return sleep


def test_a_watch_tells_changes_line_by_line_and_ends_with_the_run() -> None:
    desk = at(Phase.Analysing)
    cluster = DeskCluster(desk)
    out = io.StringIO()
    broken: list[bool] = []

    def see() -> object:
        if broken:
            broken.pop()
            raise CliError("the API server does not answer")
        return look(cluster, "svc", cluster.now)

    sleep = script(
        cluster,
        lambda: desk.look(1),  # nothing new
        lambda: broken.append(True),
        lambda: desk.verdict(Verdict.Failed),
        lambda: desk.look(1),
        lambda: None,
    )
    ended = live.watch(see, out, terminal=False, sleep=sleep, stamp=lambda: "12:00:00")  # type: ignore[arg-type]
    lines = out.getvalue().splitlines()
    assert lines[0].startswith("12:00:00 Analysing; step 1 of 3, weight 5 %; passes 2/3;")
    assert lines[1] == "12:00:00 the API server does not answer"
    assert lines[2].startswith("12:00:00 RollingBack")
    assert lines[3].startswith("12:00:00 Draining; AnalysisFailed: numbers;")
    assert lines[4] == "svc: run 1 ended: AnalysisFailed (numbers)"
    assert len(lines) == 5
    assert not ended.state.active


def test_on_a_terminal_the_picture_is_drawn_over_the_last_one() -> None:
    desk = at(Phase.Soaking)
    cluster = DeskCluster(desk)
    out = io.StringIO()
    sleep = script(cluster, lambda: desk.verdict(Verdict.Passed, 400), lambda: desk.look(1))
    live.watch(lambda: look(cluster, "svc", cluster.now), out, terminal=True, sleep=sleep)
    text = out.getvalue()
    assert text.count("\x1b[2J") == 1
    assert text.count("\x1b[H") == 2
    assert text.endswith("svc: run 1 ended: Promoted (every step has passed)\n")


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ('Error from server (NotFound): paddleservices "x" not found', 'paddleservices "x" not found'),
        (
            'error: the server doesn\'t have a resource type "paddleservices"',
            "no paddle-operator: install it",
        ),
        (
            "The connection to the server localhost:8080 was refused - did you specify the right host?",
            "the API server does not answer; is the cluster up",
        ),
        (
            'Error from server (Forbidden): pods is forbidden: User "a" cannot list',
            'pods is forbidden: User "a" cannot list: ask for a Role that allows it',
        ),
        ('W1 warning\nerror: context "x" does not exist', 'context "x" does not exist'),
        ("", "said nothing"),
    ],
)
def test_what_kubectl_says_becomes_one_line(said: str, told: str) -> None:
    error = refused(said)
    assert told in str(error)
    assert "\n" not in str(error)


def fake(folder: Path, script: str) -> str:
    program = folder / "kubectl"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return str(program)


def test_kubectl_is_asked_with_the_flags_given(tmp_path: Path) -> None:
    log = tmp_path / "log"
    program = fake(tmp_path, f"echo \"$@\" >> {log}\necho '{json.dumps({'items': [{'a': 1}]})}'")
    kubectl = Kubectl(namespace="team", kubeconfig="/k", context="c", program=program)
    assert kubectl.list(["pods"], "a=b") == [{"a": 1}]
    kubectl.annotate("pods", "x", "k", "v")
    asked = log.read_text().splitlines()
    assert asked[0] == "--kubeconfig /k --context c --request-timeout=20s get pods -n team -l a=b -o json"
    assert asked[1].endswith("annotate pods x -n team --overwrite k=v")


def test_kubectl_knows_the_namespace_unless_one_is_given(tmp_path: Path) -> None:
    assert Kubectl(program=fake(tmp_path, "printf team-b")).namespace == "team-b"
    assert Kubectl(program=fake(tmp_path, "true")).namespace == "default"


def test_a_kubectl_that_fails_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(CliError, match="printed no object"):
        Kubectl(namespace="a", program=fake(tmp_path, "echo []")).get("pods", "x")
    with pytest.raises(CliError, match="cannot be started"):
        Kubectl(namespace="a", program=str(tmp_path / "none")).get("pods", "x")
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    monkeypatch.delenv("KUBECTL", raising=False)
    with pytest.raises(CliError, match="kubectl is not on the PATH"):
        Kubectl()


def test_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    cluster = DeskCluster(at(Phase.Analysing))
    assert main(["canary", "explain", "svc"], cluster=cluster) == 0
    assert capsys.readouterr().out.startswith("svc: run 1, Analysing at 5 %")
    assert main(["canary", "history", "svc"], cluster=cluster) == 0
    assert main(["canary", "status", "svc"], cluster=cluster) == 0
    capsys.readouterr()
    assert main(["canary", "status", "none", "-w"], cluster=cluster) == 1
    assert main(["canary", "resume", "svc"], cluster=cluster) == 1
    assert capsys.readouterr().err.splitlines()[-1] == (
        "error: resume does nothing in phase Analysing: it works in Paused"
    )
    for wrong in (["canary"], ["canary", "abort"], ["canary", "abort", "svc", "--full"], []):
        with pytest.raises(SystemExit) as left:
            main(wrong)
        assert left.value.code == 2
