"""paddle.serving.PaddleModelService: Predict and its batch form."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from time import perf_counter

from google.protobuf.message import DecodeError

from runtime.codec.request import Parsed, check_datatype, find_input, from_binary, in_order, shape_of
from runtime.errors import Code, RequestError, bad_request
from runtime.grpc.calls import Call, Calls, Context, left, metadata_of, outcome, remaining
from runtime.grpc.stubs import paddle_serving_pb2 as pb
from runtime.grpc.stubs import paddle_serving_pb2_grpc as stubs
from runtime.job import InputTensor, OutputTensor, Result
from runtime.model import Model
from runtime.registry import Registry
from runtime.signature import Signature

NAME = "paddle.serving.PaddleModelService"
_PREDICT = f"/{NAME}/Predict"
_BATCH = f"/{NAME}/PredictBatch"
_MOST_REQUESTS = 256


class PaddleModelService(stubs.PaddleModelServiceServicer):
    """The status of the call is the truth; `code` repeats it, and within a batch stands for it."""

    def __init__(self, calls: Calls, registry: Registry) -> None:
        self._calls = calls
        self._registry = registry

    async def Predict(self, request: pb.PredictRequest, context: Context) -> pb.PredictResponse:
        async def answer(call: Call) -> pb.PredictResponse:
            await self._calls.http.inference.bring(call, request.model_name or None, remaining(context))
            model, future = self._submit(request, call, context)
            return _response(model, await outcome(future))

        return await self._calls.infer(context, _PREDICT, request.metadata, answer)

    async def PredictBatch(
        self,
        request: pb.PredictBatchRequest,
        context: Context,
    ) -> pb.PredictBatchResponse:
        def checked() -> Sequence[pb.PredictRequest]:
            if not 0 < len(request.requests) <= _MOST_REQUESTS:
                raise bad_request(f"requests has {len(request.requests)} entries; send 1 to {_MOST_REQUESTS}")
            return request.requests

        requests = await self._calls.ask(context, _BATCH, checked)
        metadata = metadata_of(context)
        calls = [self._calls.began(_BATCH, metadata, one.metadata) for one in requests]
        waiting: list[tuple[Model, asyncio.Future[Result]] | RequestError] = []
        response = pb.PredictBatchResponse()
        done = 0
        try:
            await self._bring(requests, calls, context)
            # All are admitted before any is waited for, so that the batcher sees them together.
            waiting += [self._admit(one, call, context) for one, call in zip(requests, calls, strict=True)]
            for call, started in zip(calls, waiting, strict=True):
                response.responses.append(await self._item(call, started))
                done += 1
        except asyncio.CancelledError:
            for started in waiting[done:]:
                if isinstance(started, tuple):
                    started[1].cancel()
            for call in calls[done:]:
                self._calls.ended(call, _BATCH, *left(context, perf_counter() - call.started))
            raise
        return response

    async def _bring(
        self, requests: Sequence[pb.PredictRequest], calls: Sequence[Call], context: Context
    ) -> None:
        """Has models on demand loaded. What cannot be found then is told for each request."""
        inference = self._calls.http.inference
        found = {request.model_name: call for request, call in zip(requests, calls, strict=True)}
        await asyncio.gather(
            *(inference.bring(call, name or None, remaining(context)) for name, call in found.items()),
            return_exceptions=True,
        )

    def _admit(
        self,
        request: pb.PredictRequest,
        call: Call,
        context: Context,
    ) -> tuple[Model, asyncio.Future[Result]] | RequestError:
        try:
            return self._submit(request, call, context)
        except RequestError as error:
            return error

    async def _item(
        self, call: Call, started: tuple[Model, asyncio.Future[Result]] | RequestError
    ) -> pb.PredictResponse:
        """One answer of a batch; only the end of the call itself is raised."""
        try:
            if isinstance(started, RequestError):
                raise started
            model, future = started
            response = _response(model, await outcome(future))
        except RequestError as error:
            code, problem = error.code, error.message
        except Exception as error:
            self._calls.http.failed(call, error)
            code, problem = Code.INTERNAL, "internal error"
        else:
            self._calls.ended(call, _BATCH, Code.OK, "")
            return response
        self._calls.ended(call, _BATCH, code, problem)
        version = call.model.spec.version if call.model is not None else ""
        return pb.PredictResponse(code=code.grpc, message=problem, model_version=version)

    def _submit(
        self, request: pb.PredictRequest, call: Call, context: Context
    ) -> tuple[Model, asyncio.Future[Result]]:
        model = call.model = self._registry.find(request.model_name or None, request.model_version or None)
        parsed = parse(request.input_tensor, model.known_signature())
        timeout = remaining(context) + call.waited
        inference = self._calls.http.inference
        future = inference.submit(model, parsed, timeout, context.cancelled, call.mark, call.waited)
        return model, future


def parse(data: bytes, signature: Signature) -> Parsed:
    """A checked request from a serialized TensorList. Raises a 400 naming the input."""
    listed = pb.TensorList()
    try:
        listed.ParseFromString(data)
    except DecodeError:
        raise bad_request("input_tensor is not a serialized paddle.serving.TensorList") from None
    found: dict[str, InputTensor] = {}
    for tensor in listed.tensors:
        if not tensor.name and len(signature.inputs) == 1:
            spec = signature.inputs[0]
        else:
            spec = find_input(signature, tensor.name)
        if spec.name in found:
            raise bad_request(f"input {spec.name!r} is given twice")
        check_datatype(spec, tensor.datatype)
        found[spec.name] = from_binary(spec, tensor.content, shape_of(spec.name, list(tensor.shape)))
    return Parsed(inputs=in_order(signature, found))


def _response(model: Model, result: Result) -> pb.PredictResponse:
    return pb.PredictResponse(output_tensor=_listed(result.outputs), model_version=model.spec.version)


def _listed(outputs: Sequence[OutputTensor]) -> bytes:
    listed = pb.TensorList()
    for output in outputs:
        listed.tensors.add(
            name=output.spec.name, datatype=output.spec.datatype, shape=output.shape, content=output.data
        )
    return listed.SerializeToString()
