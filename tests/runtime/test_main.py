"""The command line: what it refuses, in one line, with a last word for the kubelet."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest

from runtime.__main__ import main
from runtime.errors import ModelError, Reason, summarise
from runtime.progress import write_termination


def refused(arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> str:
    last = tmp_path / "last"
    assert main(["serve", "--termination-log", str(last), *arguments]) == 2
    message = json.loads(last.read_text())
    assert message["result"] == "failed"
    assert message["reason"] == "LoadFailed"
    assert capsys.readouterr().err.strip() == f"runtime: {message['message']}"
    assert "\n" not in message["message"]
    return str(message["message"])


def test_a_configuration_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "no.yaml" in refused(["--config", str(tmp_path / "no.yaml")], tmp_path, capsys)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--model", "nopath"], "write name=path"),
        (["--model", "a=b", "--max-body", "0"], "--max-body 0 must be above 0"),
        (["--model", "a=b", "--max-body", "200"], "--arena 256 is too small for --max-body 200"),
        (["--model", "a=/none", "--http", "nowhere"], "address 'nowhere' is not usable: write host:port"),
    ],
)
def test_bad_arguments(
    arguments: list[str], text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert text in refused(arguments, tmp_path, capsys)


def test_a_port_that_is_taken(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        message = refused(["--model", "a=/none", "--http", address], tmp_path, capsys)
    assert f"address '{address}' cannot be used" in message


def test_the_last_word_fits_the_kubelet(tmp_path: Path) -> None:
    last = tmp_path / "last"
    models = [{"name": "m" * 50, "digest": "d" * 71, "contentDigest": "", "size": 1}] * 100
    write_termination({"result": "failed", "reason": "R", "message": "x" * 9000, "models": models}, last)
    assert len(last.read_bytes()) <= 4096
    assert json.loads(last.read_text())["reason"] == "R"
    write_termination({}, tmp_path / "no" / "folder")


def test_native_error_texts_become_one_sentence() -> None:
    error = ValueError(
        "In user code:\n\n\n    InvalidArgumentError: In operator matmul, dimensions differ.\n"
        "      [Hint: Expected 1 == 2.] (at /paddle/paddle/phi/binary.cc:3087)\n"
        "      [operator < pd_kernel.phi_kernel > error]"
    )
    assert (
        summarise(error)
        == "InvalidArgumentError: In operator matmul, dimensions differ. [Hint: Expected 1 == 2.]"
    )
    assert summarise(ValueError()) == "ValueError"
    assert len(summarise(ValueError("x" * 1000))) == 400
    assert repr(ModelError(Reason.LOAD_FAILED, "a\n b")) == "ModelError(LoadFailed, 'a b')"
