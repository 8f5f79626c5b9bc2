"""Our two kinds on a real API server."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import controller_runtime as ctrl

from .objects import GROUP, KINDS, Tree

Kubectl = Callable[..., str]


class Environment(Protocol):
    """What is used of the running API server."""

    def client(self, user: str | None = None) -> ctrl.Client: ...
    def kubeconfig(self, path: Path) -> object: ...


class Api:
    """Our two kinds in one namespace."""

    def __init__(self, client: ctrl.Client, namespace: str) -> None:
        self._client = client
        self._namespace = namespace

    def path(self, kind: str, name: str = "", subresource: str = "") -> str:
        parts = [f"{GROUP}/namespaces/{self._namespace}/{KINDS[kind]}", name, subresource]
        return "/".join(part for part in parts if part)

    async def create(self, document: Tree, *, dry_run: bool = True) -> Any:
        params = {"fieldValidation": "Strict"} | ({"dryRun": "All"} if dry_run else {})
        return await self._client.request("POST", self.path(document["kind"]), params=params, body=document)

    async def change(self, document: Tree, *, dry_run: bool = True) -> Any:
        """Replace the stored object of that name by `document`."""
        path = self.path(document["kind"], document["metadata"]["name"])
        stored: Any = await self._client.request("GET", path)
        version = stored["metadata"]["resourceVersion"]
        body = document | {"metadata": document["metadata"] | {"resourceVersion": version}}
        params = {"fieldValidation": "Strict"} | ({"dryRun": "All"} if dry_run else {})
        return await self._client.request("PUT", path, params=params, body=body)

    async def patch(self, path: str, body: Tree) -> Any:
        return await self._client.request(
            "PATCH", path, body=body, content_type="application/merge-patch+json"
        )

    async def get(self, path: str) -> Any:
        return await self._client.request("GET", path)
