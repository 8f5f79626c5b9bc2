"""Requests with more rows than a batch: cut and joined in memory, and over every protocol of a server."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.batcher import Batcher, Options
from runtime.errors import RequestError
from runtime.grpc.stubs import paddle_serving_pb2 as paddle
from runtime.job import InputTensor, Job, OutputTensor, Result
from runtime.rows import Rows
from runtime.signature import TensorSpec
from runtime.split import Whole, join, oversized, parts
from tests.runtime.conftest import DEADLINE, Running
from tests.runtime.grpc_client import client, listed, raw
from tests.runtime.requests import binary, blob_input, v2

FP32 = TensorSpec("x", "FP32", (-1, -1))
INT64 = TensorSpec("n", "INT64", (-1,))


def tensors(rows: int, width: int) -> list[InputTensor]:
    values = numpy.arange(rows * width, dtype="float32").tobytes()
    return [
        InputTensor(FP32, (rows, width), values),
        InputTensor(INT64, (rows,), memoryview(numpy.arange(rows).tobytes())),
    ]


def result(inputs: Sequence[InputTensor], *, queue: float = 0.0) -> Result:
    outputs = [OutputTensor(one.spec, one.shape, bytes(one.data)) for one in inputs]
    return Result(outputs, queue, 0.5)


@given(st.integers(1, 60), st.integers(1, 5), st.integers(2, 9))
def test_parts_are_all_of_it_in_order(rows: int, width: int, limit: int) -> None:
    whole = tensors(rows, width)
    cut = parts(whole, limit)
    counts = [part[0].shape[0] for part in cut]
    assert counts == [limit] * (rows // limit) + [rows % limit] * (rows % limit > 0)
    joined = join([result(part, queue=float(index)) for index, part in enumerate(cut)], counts)
    assert joined == Result(result(whole).outputs, 0.0, 0.5 * len(cut))


def test_outputs_that_do_not_follow_the_rows_are_not_joined() -> None:
    x = Result([OutputTensor(FP32, (2, 1), bytes(8))], 0.0, 0.1)
    wide = Result([OutputTensor(FP32, (2, 2), bytes(16))], 0.0, 0.1)
    assert join([x, x], [2, 2]) is not None
    assert join([x, x], [2, 1]) is None
    assert join([x, wide], [2, 2]) is None
    assert join([Result([OutputTensor(FP32, (), bytes(4))], 0.0, 0.1)], [2]) is None


def test_only_what_can_be_cut_is_oversized() -> None:
    assert oversized(tensors(9, 1), 8)
    assert not oversized(tensors(8, 1), 8)
    assert not oversized(tensors(9, 1), 1), "a model that makes no batches gets requests as they come"
    assert not oversized([*tensors(9, 1), *tensors(8, 1)], 8), "inputs without common rows"
    assert not oversized([InputTensor(TensorSpec("s", "FP32", ()), (), bytes(4))], 8)


class Admits:
    """An admission whose requests the test answers; it is full after `room` of them."""

    def __init__(self, room: int = 1000) -> None:
        self.room = room
        self.batcher: Batcher[Job, Rows] = Batcher(Options(max_rows=2), lambda key, rows: 0.0)
        self.inputs: list[Sequence[InputTensor]] = []
        self.futures: list[asyncio.Future[Result]] = []
        self.withdrawn = 0

    def admit(self, inputs: Sequence[InputTensor], **_: object) -> object:
        if len(self.futures) >= self.room:
            raise RequestError(429, "full")
        self.inputs.append(inputs)
        self.futures.append(asyncio.get_running_loop().create_future())
        return Part(self.futures[-1], inputs[0].shape[0])

    def withdraw(self, entry: object) -> None:
        self.withdrawn += 1

    def whole(self, rows: int, unscaled: Callable[[], None] = lambda: None) -> Whole:
        return Whole(
            self, tensors(rows, 1), 2, now=0.0, deadline=9.0, abandoned=lambda: False, mark=None,
            unscaled=unscaled,
        )  # type: ignore[arg-type]  # fmt: skip


class Part:
    """Entry and job in one."""

    def __init__(self, future: asyncio.Future[Result], rows: int) -> None:
        self.future = future
        self.rows = rows
        self.item = self

    @property
    def done(self) -> bool:
        return self.future.done()

    def drop(self) -> None:
        self.future.cancel()


async def settled() -> None:
    for _ in range(3):
        await asyncio.sleep(0)


def test_answers_are_joined_in_the_order_of_the_rows_whenever_they_come() -> None:
    async def play() -> None:
        admits = Admits()
        whole = admits.whole(5)
        for index in (2, 0, 1):
            assert not whole.future.done()
            admits.futures[index].set_result(result(admits.inputs[index]))
            await settled()
        assert whole.future.result().outputs == result(tensors(5, 1)).outputs
        assert admits.withdrawn == 0

    asyncio.run(play())


def test_an_error_of_one_part_is_the_requests_and_the_others_are_given_up() -> None:
    async def play() -> None:
        admits = Admits()
        whole = admits.whole(7)
        admits.futures[0].set_result(result(admits.inputs[0]))
        admits.futures[2].set_exception(RequestError(500, "poisoned"))
        await settled()
        with pytest.raises(RequestError, match="poisoned"):
            whole.future.result()
        assert admits.withdrawn == 2
        assert [future.cancelled() for future in admits.futures] == [False, True, False, True]

    asyncio.run(play())


def test_a_client_that_leaves_takes_all_parts_with_it() -> None:
    async def play() -> None:
        admits = Admits()
        admits.whole(5).future.cancel()
        await settled()
        assert all(future.cancelled() for future in admits.futures)
        dropped = admits.whole(5)  # by the dispatcher, which found its client gone
        admits.futures[-1].cancel()
        await settled()
        assert dropped.future.cancelled()
        assert all(future.cancelled() for future in admits.futures)

    asyncio.run(play())


def test_without_room_for_all_of_it_nothing_of_it_waits() -> None:
    async def play() -> None:
        admits = Admits(room=2)
        with pytest.raises(RequestError, match="full"):
            admits.whole(5)
        await settled()
        assert admits.withdrawn == 2
        assert all(future.cancelled() for future in admits.futures)

    asyncio.run(play())


@pytest.mark.parametrize("ends", ["answer", "error", "cancel", "full"])
def test_when_outputs_do_not_follow_the_rows_the_request_runs_as_it_came(ends: str) -> None:
    async def play() -> None:
        admits = Admits(room=2 if ends == "full" else 1000)
        told: list[bool] = []
        whole = admits.whole(3, lambda: told.append(True))
        for future in list(admits.futures):
            future.set_result(Result([OutputTensor(FP32, (7, 1), bytes(28))], 0.0, 0.1))
        await settled()
        assert told == [True] * (ends != "full")
        if ends != "full":
            assert admits.inputs[-1] == tensors(3, 1)
        if ends == "answer":
            admits.futures[-1].set_result(result(admits.inputs[-1]))
        elif ends == "error":
            admits.futures[-1].set_exception(RequestError(500, "poisoned"))
        elif ends == "cancel":
            admits.futures[-1].cancel()
        await settled()
        if ends == "answer":
            assert whole.future.result() == result(tensors(3, 1))
        elif ends == "cancel":
            assert whole.future.cancelled()
        else:
            with pytest.raises(RequestError, match="full" if ends == "full" else "poisoned"):
                whole.future.result()

    asyncio.run(play())


# On a real server.

ROWS = [[float(n), 0.0, 1.0] for n in range(21)]
ANSWER = [[2.0 * n + 3] * 2 for n in range(21)]
FLAT = numpy.array(ROWS, dtype="float32").tobytes()


def counted(server: Running) -> tuple[float, float, float]:
    """Requests that were split, batches, and batches of at most 8 rows."""
    size = "inference_batch_size_"
    return (
        server.metric('inference_request_split_total{model="lin"'),
        server.metric(f'{size}count{{model="lin"'),
        server.metric(f'{size}bucket{{le="8.0",model="lin"'),
    )


def test_every_protocol_answers_more_rows_than_a_batch_in_order(server: Running) -> None:
    split, batches, small = counted(server)
    plain = server.post("/predict", {"model": "lin", "inputs": {"x": ROWS}})
    assert plain.json["outputs"] == {next(iter(plain.json["outputs"])): ANSWER}  # type: ignore[call-overload]
    got = server.post("/v2/models/lin/infer", {"inputs": [v2("x", "FP32", [21, 3], ROWS)]})
    (output,) = got.json["outputs"]  # type: ignore[misc]
    assert (output["shape"], output["data"]) == ([21, 2], [value for row in ANSWER for value in row])
    body, headers = binary({"inputs": [blob_input("x", "FP32", [21, 3], len(FLAT))]}, FLAT)
    got = server.request("POST", "/v2/models/lin/infer", body, headers)
    assert got.json["outputs"][0]["shape"] == [21, 2]  # type: ignore[index]
    with client(server.grpc) as calls:
        answer = calls.infer(raw(data=FLAT))
        assert numpy.frombuffer(answer.raw_output_contents[0], "float32").reshape(21, 2).tolist() == ANSWER
        tensor = {"name": "x", "datatype": "FP32", "shape": [21, 3], "content": FLAT}
        predicted = calls.paddle.Predict(
            paddle.PredictRequest(model_name="lin", input_tensor=listed(tensor)), timeout=DEADLINE
        )
        (found,) = paddle.TensorList.FromString(predicted.output_tensor).tensors
        assert numpy.frombuffer(found.content, "float32").reshape(21, 2).tolist() == ANSWER
    after = counted(server)
    assert after[0] - split == 5
    assert after[1] - batches == 15
    assert after[2] - small == 15, "no batch had more rows than the limit"
