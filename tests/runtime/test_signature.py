from __future__ import annotations

import pytest

from runtime.errors import ModelError, Reason, RequestError
from runtime.signature import Signature, TensorSpec, check_servable, check_successor, narrowed

X = TensorSpec("x", "FP32", (-1, 3))
Y = TensorSpec("y", "FP32", (-1, 2))
REAL = Signature((X,), (Y,))


def test_wire_round_trip() -> None:
    assert Signature.from_wire(REAL.to_wire()) == REAL


@pytest.mark.parametrize("shape", [(1, 3), (5, 3)])
def test_shapes_that_fit(shape: tuple[int, ...]) -> None:
    X.check_shape(shape)


@pytest.mark.parametrize("shape", [(), (3,), (1, 4), (0, 3), (1, 3, 1), (-1, 3)])
def test_shapes_that_do_not_fit_name_the_input(shape: tuple[int, ...]) -> None:
    with pytest.raises(RequestError, match="input 'x': shape") as error:
        X.check_shape(shape)
    assert error.value.status == 400


def test_nothing_declared_is_nothing_checked() -> None:
    assert narrowed(REAL, (), ()) == REAL


def test_a_declared_length_narrows_an_open_dimension() -> None:
    got = narrowed(REAL, [TensorSpec("x", "FP32", (8, 3))], [TensorSpec("y", "FP32", ())])
    assert got == Signature((TensorSpec("x", "FP32", (8, 3)),), (Y,))


@pytest.mark.parametrize(
    ("declared", "text"),
    [
        (TensorSpec("z", "FP32", (-1, 3)), "'z' is declared, but the model has x"),
        (TensorSpec("x", "INT64", (-1, 3)), "'x' is declared INT64, the model has FP32"),
        (TensorSpec("x", "FP32", (-1, 4)), r"'x' is declared with shape \[-1, 4\], the model has \[-1, 3\]"),
        (TensorSpec("x", "FP32", (-1, -1)), "'x' is declared with shape"),
        (TensorSpec("x", "FP32", (3,)), "'x' is declared with shape"),
    ],
)
def test_a_difference_is_named(declared: TensorSpec, text: str) -> None:
    with pytest.raises(ModelError, match=text) as error:
        narrowed(REAL, [declared], ())
    assert error.value.reason is Reason.SCHEMA_MISMATCH


def test_an_undeclared_tensor_is_a_difference() -> None:
    real = Signature((X, TensorSpec("m", "BOOL", (1,))), (Y,))
    with pytest.raises(ModelError, match="the model has 'm', which is not declared"):
        narrowed(real, [X], ())


@pytest.mark.parametrize("signature", [Signature((), (Y,)), Signature((TensorSpec("s", "BYTES", (1,)),), ())])
def test_what_no_request_could_carry_is_refused(signature: Signature) -> None:
    with pytest.raises(ModelError):
        check_servable(signature)
    assert check_servable(REAL) is REAL


def signature(x: TensorSpec = X, y: TensorSpec = Y) -> Signature:
    return Signature((x,), (y,))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (REAL, REAL),
        (signature(TensorSpec("x", "FP32", (1, 3))), REAL),  # an input that takes more
        (REAL, Signature((X,), (Y, TensorSpec("more", "FP32", (-1,))))),  # an output nobody asks for
        (REAL, signature(y=TensorSpec("y", "FP32", (1, 2)))),
        (signature(y=TensorSpec("y", "FP32", (1, 2))), REAL),
    ],
)
def test_what_may_follow_without_telling_clients(old: Signature, new: Signature) -> None:
    check_successor(old, new)


@pytest.mark.parametrize(
    ("new", "text"),
    [
        (signature(TensorSpec("z", "FP32", (-1, 3))), "input 'x' is gone; the new version has ['z']"),
        (signature(TensorSpec("x", "FP64", (-1, 3))), "input 'x' was FP32 and is FP64"),
        (signature(TensorSpec("x", "FP32", (1, 3))), "input 'x' was [-1, 3], is [1, 3]"),
        (signature(TensorSpec("x", "FP32", (-1, 3, 1))), "input 'x' was [-1, 3], is [-1, 3, 1]"),
        (
            Signature((X, TensorSpec("w", "FP32", (1,))), (Y,)),
            "input 'w' is new, and requests do not have it",
        ),
        (signature(y=TensorSpec("y", "FP32", (-1, 5))), "output 'y' was [-1, 2], is [-1, 5]"),
        (Signature((X,), ()), "output 'y' is gone; the new version has none"),
    ],
)
def test_what_clients_would_have_to_change_for_is_refused(new: Signature, text: str) -> None:
    with pytest.raises(ModelError) as error:
        check_successor(REAL, new)
    assert (error.value.reason, error.value.message) == (Reason.SIGNATURE_CHANGED, text)
