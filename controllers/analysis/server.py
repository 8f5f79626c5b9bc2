"""Prometheus servers as the operator is told of them: `--prometheus name=url[,tokenFile=…][,caFile=…]`. Pure.

Resources name a server and nothing else: whoever may write a PaddleService can neither make the operator talk
to another address nor use a token anywhere else than where its owner sends it.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

#: The server of a resource that names none.
DEFAULT: Final = "default"

_NAME: Final = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_KEYS: Final = ("tokenFile", "caFile")


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """url: scheme, host and path prefix, without a slash at its end. token_file: read for every query, so a
    rotated token is used at once; ca_file: likewise.
    """

    name: str
    url: str
    token_file: str = ""
    ca_file: str = ""


def parse(text: str) -> Server:
    """One flag. A bare URL is the server `default`. ValueError, one line, for anything that cannot work."""
    first, *rest = (part.strip() for part in text.split(","))
    name, separator, url = first.partition("=")
    if not separator or "://" in name:
        name, url = DEFAULT, first
    if not _NAME.fullmatch(name):
        raise ValueError(
            f"{name!r} is no name of a server: use at most 63 lower-case letters, digits and '-'"
        )
    files = dict.fromkeys(_KEYS, "")
    for part in rest:
        key, separator, value = part.partition("=")
        if key not in files or not value:
            raise ValueError(f"{part!r} of server {name}: use tokenFile=PATH or caFile=PATH")
        files[key] = value
    return Server(
        name=name,
        url=_checked(name, url, secret=any(files.values())),
        token_file=files["tokenFile"],
        ca_file=files["caFile"],
    )


def parse_all(texts: Iterable[str]) -> tuple[Server, ...]:
    """Several flags; each name once."""
    servers: dict[str, Server] = {}
    for server in map(parse, texts):
        if server.name in servers:
            raise ValueError(f"the server {server.name} is given twice: give each a name of its own")
        servers[server.name] = server
    return tuple(servers.values())


def _checked(name: str, url: str, *, secret: bool) -> str:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise ValueError(f"the URL of server {name} cannot be read: {error}") from None
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0:
        raise ValueError(f"the URL of server {name} must be http(s)://HOST[:PORT][/PREFIX], got {url!r}")
    if parts.username is not None or parts.query or parts.fragment:
        raise ValueError(
            f"the URL of server {name} must have no user, query or fragment: give a token with tokenFile=PATH"
        )
    if secret and parts.scheme != "https":
        raise ValueError(
            f"tokenFile and caFile of server {name} need https: a token must not travel in the open"
        )
    return url.rstrip("/")
