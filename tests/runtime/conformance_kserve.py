"""KServe's own inference clients against a server: python conformance_kserve.py HTTP_ADDRESS GRPC_ADDRESS.

A program of its own, in an environment with the package kserve. The server is that of conformance.py.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import numpy
from kserve import (  # type: ignore[import-not-found]  # only in its own environment
    InferenceGRPCClient,
    InferenceRESTClient,
    InferInput,
    InferRequest,
    RESTConfig,
)
from kserve.protocol.infer_type import RequestedOutput  # type: ignore[import-not-found]

ROWS = numpy.arange(12, dtype=numpy.float32).reshape(4, 3)
WANTED = numpy.repeat(2 * ROWS.sum(axis=1, keepdims=True) + 1, 2, axis=1)


async def raises(call: Awaitable[object], text: str) -> None:
    said = "no error"
    try:
        await call
    except Exception as error:
        said = str(error)
    assert text in said, said


def lin(*, binary: bool, outputs: list[Any] | None = None, name: str = "lin") -> Any:
    x = InferInput("x", list(ROWS.shape), "FP32")
    x.set_data_from_numpy(ROWS, binary_data=binary)
    return InferRequest(model_name=name, infer_inputs=[x], request_id="mine", request_outputs=outputs or [])


def two() -> Any:
    a = InferInput("a", [1, 4], "FP32")
    a.set_data_from_numpy(numpy.array([[0, 1, 2, 3]], dtype=numpy.float32), binary_data=True)
    ids = InferInput("ids", [1, 2], "INT64")
    ids.set_data_from_numpy(numpy.array([[5, 6]], dtype=numpy.int64), binary_data=True)
    return InferRequest(model_name="two", infer_inputs=[a, ids])


async def check(ask: Callable[[Any], Awaitable[Any]]) -> None:
    """What both protocols have to do; `ask` sends a request object and gives the response object."""
    for binary in (True, False):
        answer = await ask(lin(binary=binary))
        assert (answer.id, answer.model_name) == ("mine", "lin")
        # Its REST client does not read the version.
        assert answer.model_version == ("v1.2.3" if answer.from_grpc else None)
        (output,) = answer.outputs
        assert numpy.array_equal(output.as_numpy(), WANTED)
    for outputs in ([RequestedOutput(output.name)], [RequestedOutput(output.name, {"binary_data": True})]):
        answer = await ask(lin(binary=True, outputs=outputs))
        assert numpy.array_equal(answer.outputs[0].as_numpy(), WANTED)
    first, second = (await ask(two())).outputs
    assert first.as_numpy().tolist() == [[1, 3, 5, 7]]
    assert second.as_numpy().tolist() == [[5, 6, 5, 6]]
    await raises(ask(lin(binary=True, name="none")), "'none' is unknown")
    wrong = InferInput("x", [1, 2], "FP32")
    wrong.set_data_from_numpy(numpy.zeros((1, 2), dtype=numpy.float32), binary_data=True)
    await raises(ask(InferRequest(model_name="lin", infer_inputs=[wrong])), "does not fit")
    answers = await asyncio.gather(*(ask(two()) for _ in range(8)))
    assert all(one.outputs[0].as_numpy().tolist() == [[1, 3, 5, 7]] for one in answers)


async def rest(address: str) -> None:
    base = f"http://{address}"
    async with InferenceRESTClient(RESTConfig(protocol="v2", retries=1)) as client:
        assert await client.is_server_live(base)
        assert await client.is_server_ready(base)
        assert await client.is_model_ready(base, "lin")
        await check(lambda request: client.infer(base, request, request.model_name))


async def grpc(address: str) -> None:
    async with InferenceGRPCClient(address, retries=2) as client:
        assert await client.is_server_live()
        assert await client.is_server_ready()
        assert await client.is_model_ready("lin")
        await check(client.infer)


async def main() -> None:
    await rest(sys.argv[1])
    await grpc(sys.argv[2])
    print("conforms")


if __name__ == "__main__":
    asyncio.run(main())
