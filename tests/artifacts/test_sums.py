from __future__ import annotations

import pytest

from artifacts import ArtifactError, File, Reason
from artifacts._sums import apply_sums, parse_sums, require_complete

A, B = "ab" * 32, "CD" * 32


def test_as_coreutils_writes_it() -> None:
    data = f"{A}  a.json\n{B} *dir/b c.bin\r\n\n# comment\n{A}  ./d\n".encode()
    assert parse_sums(data, where="x") == {"a.json": A, "dir/b c.bin": B.lower(), "d": A}


@pytest.mark.parametrize("line", ["abc  a", f"{A} a", "MD5 (a) = 1", f"{A}"])
def test_bad_lines_are_named(line: str) -> None:
    with pytest.raises(ArtifactError, match="x/SHA256SUMS line 2") as caught:
        parse_sums(f"{A}  ok\n{line}\n".encode(), where="x/SHA256SUMS")
    assert caught.value.reason is Reason.INVALID_SOURCE


def test_applied() -> None:
    files = (File("k/a", "a", 1), File("k/b", "b", 1, "e", "old"))
    assert [f.sha256 for f in apply_sums(files, {"a": A})] == [A, "old"]


def test_an_unfinished_upload() -> None:
    require_complete([File("a", "a", 1)], {"a": A, "SHA256SUMS": A}, where="x")
    with pytest.raises(ArtifactError, match="not there: b, c: finish the upload") as caught:
        require_complete([File("a", "a", 1)], {"a": A, "c": A, "b": A}, where="x")
    assert caught.value.reason is Reason.KEY_NOT_FOUND
