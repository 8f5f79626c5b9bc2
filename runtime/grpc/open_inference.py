"""inference.GRPCInferenceService: the Open Inference Protocol V2."""

from __future__ import annotations

from typing import NoReturn

from runtime.errors import RequestError
from runtime.grpc import tensors
from runtime.grpc.calls import Call, Calls, Context, outcome, remaining
from runtime.grpc.stubs import open_inference_pb2 as pb
from runtime.grpc.stubs import open_inference_pb2_grpc as stubs
from runtime.http import EXTENSIONS, SERVER, VERSION, metadata
from runtime.registry import Registry

NAME = "inference.GRPCInferenceService"
_INFER = f"/{NAME}/ModelInfer"


class OpenInference(stubs.GRPCInferenceServiceServicer):
    """Answers as the REST endpoints of the same names do."""

    def __init__(self, calls: Calls, registry: Registry) -> None:
        self._calls = calls
        self._registry = registry

    async def ServerLive(self, request: pb.ServerLiveRequest, context: Context) -> pb.ServerLiveResponse:
        return pb.ServerLiveResponse(live=True)

    async def ServerReady(self, request: pb.ServerReadyRequest, context: Context) -> pb.ServerReadyResponse:
        return pb.ServerReadyResponse(ready=not self._registry.reasons())

    async def ModelReady(self, request: pb.ModelReadyRequest, context: Context) -> pb.ModelReadyResponse:
        def answer() -> pb.ModelReadyResponse:
            model = self._registry.find(request.name, request.version or None)
            return pb.ModelReadyResponse(ready=model.ready)

        return await self._calls.ask(context, f"/{NAME}/ModelReady", answer)

    async def ServerMetadata(
        self,
        request: pb.ServerMetadataRequest,
        context: Context,
    ) -> pb.ServerMetadataResponse:
        return pb.ServerMetadataResponse(name=SERVER, version=VERSION, extensions=EXTENSIONS)

    async def ModelMetadata(
        self,
        request: pb.ModelMetadataRequest,
        context: Context,
    ) -> pb.ModelMetadataResponse:
        def answer() -> pb.ModelMetadataResponse:
            model = self._registry.find(request.name, request.version or None)
            return pb.ModelMetadataResponse(**metadata(model))  # type: ignore[arg-type]  # nested dicts

        return await self._calls.ask(context, f"/{NAME}/ModelMetadata", answer)

    async def ModelInfer(self, request: pb.ModelInferRequest, context: Context) -> pb.ModelInferResponse:
        async def answer(call: Call) -> pb.ModelInferResponse:
            inference = self._calls.http.inference
            await inference.bring(call, request.model_name, remaining(context))
            model = call.model = self._registry.find(request.model_name, request.model_version or None)
            parsed = tensors.parse(request, model.known_signature())
            timeout = remaining(context) + call.waited
            future = inference.submit(model, parsed, timeout, context.cancelled, call.mark, call.waited)
            result = await outcome(future)
            spec = model.spec
            return tensors.render(
                parsed,
                result.outputs,
                model=spec.name,
                version=spec.version,
                request_id=request.id or call.id,
            )

        return await self._calls.infer(context, _INFER, {"request_id": request.id}, answer)

    async def ModelStatistics(
        self,
        request: pb.ModelStatisticsRequest,
        context: Context,
    ) -> pb.ModelStatisticsResponse:
        def answer() -> pb.ModelStatisticsResponse:
            found = self._registry.statistics(request.name or None, request.version or None)
            return pb.ModelStatisticsResponse(model_stats=found)

        return await self._calls.ask(context, f"/{NAME}/ModelStatistics", answer)

    async def RepositoryIndex(
        self,
        request: pb.RepositoryIndexRequest,
        context: Context,
    ) -> pb.RepositoryIndexResponse:
        found = self._registry.index(ready=request.ready)
        return pb.RepositoryIndexResponse(models=found)

    async def RepositoryModelLoad(
        self,
        request: pb.RepositoryModelLoadRequest,
        context: Context,
    ) -> pb.RepositoryModelLoadResponse:
        def answer() -> pb.RepositoryModelLoadResponse:
            _refuse_control(request.model_name, "load")

        return await self._calls.ask(context, f"/{NAME}/RepositoryModelLoad", answer)

    async def RepositoryModelUnload(
        self,
        request: pb.RepositoryModelUnloadRequest,
        context: Context,
    ) -> pb.RepositoryModelUnloadResponse:
        def answer() -> pb.RepositoryModelUnloadResponse:
            _refuse_control(request.model_name, "unload")

        return await self._calls.ask(context, f"/{NAME}/RepositoryModelUnload", answer)


def _refuse_control(name: str, what: str) -> NoReturn:
    """This port is for clients; whoever may change the server speaks to the admin port."""
    raise RequestError(
        403, f"{what} is not for clients: the admin port has POST /v2/repository/models/{name[:100]}/{what}"
    )
