"""The plain forms of a kubeconfig, read without `kubernetes_asyncio`, whose import costs 1 s and 65 MB."""

from __future__ import annotations

import base64
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

Node: TypeAlias = Mapping[str, Any]

_CLUSTER = frozenset(
    ("server", "certificate-authority", "insecure-skip-tls-verify", "tls-server-name", "proxy-url")
)
_USER = frozenset(("client-certificate", "client-key", "token", "tokenFile", "username", "password"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Plain:
    """What a kubeconfig of files, tokens and passwords says; paths are absolute."""

    server: str
    namespace: str
    ca_file: str
    cert_file: str
    key_file: str
    verify: bool
    server_name: str
    proxy: str
    token_file: str
    authorization: str


def read_plain(path: str, context: str | None) -> Plain | None:
    """None for a file that needs more (plugins, inline certificates, several files) or is broken.

    For those `kubernetes_asyncio` is asked, which also has the better words for what is wrong.
    """
    if os.pathsep in path:
        return None
    import yaml

    file = Path(path).expanduser()
    try:
        content = yaml.safe_load(file.read_text())
        name = context or content["current-context"]
        chosen = _named(content["contexts"], name, "context")
        cluster = _named(content["clusters"], chosen["cluster"], "cluster")
        user = _named(content["users"], chosen["user"], "user")
        return _plain(file.parent.absolute(), chosen, cluster, user)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, yaml.YAMLError):
        return None


def _plain(folder: Path, context: Node, cluster: Node, user: Node) -> Plain | None:
    if not (cluster.keys() <= _CLUSTER and user.keys() <= _USER):
        return None

    def located(node: Node, name: str) -> str:
        value = node.get(name)
        return os.fspath(folder / value) if value else ""

    authorization = ""
    if user.get("token"):
        authorization = f"Bearer {user['token']}"
    elif not user.get("tokenFile") and user.get("username") and user.get("password"):
        pair = f"{user['username']}:{user['password']}".encode()
        authorization = f"Basic {base64.b64encode(pair).decode()}"
    return Plain(
        server=str(cluster["server"]).rstrip("/"),
        namespace=context.get("namespace") or "",
        ca_file=located(cluster, "certificate-authority"),
        cert_file=located(user, "client-certificate"),
        key_file=located(user, "client-key"),
        verify=not cluster.get("insecure-skip-tls-verify", False),
        server_name=cluster.get("tls-server-name") or "",
        proxy=cluster.get("proxy-url") or "",
        token_file="" if user.get("token") else located(user, "tokenFile"),
        authorization=authorization,
    )


def _named(nodes: list[Node], name: str, part: str) -> Node:
    for node in nodes:
        if node["name"] == name:
            found: Node = node[part] or {}
            return found
    raise KeyError(name)
