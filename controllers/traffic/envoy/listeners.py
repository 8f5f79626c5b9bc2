"""Listeners: a port of the routers for each protocol of a service. Pure; bodies are Envoy's JSON."""

from typing import Final

from ...resources.wire import JSON
from .clusters import ADS

_MANAGER: Final = (
    "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
)
_ROUTER: Final = "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"


def listener(name: str, routes: str, *, address: str, port: int) -> JSON:
    """Listens on `port` and follows the RouteConfiguration `routes`. HTTP/1 and HTTP/2 without TLS.

    It opens once its routes are there, however long that takes: without them it would answer 404.
    """
    return _listener(name, address, port, {"rds": {"route_config_name": routes, "config_source": _ADS_WAIT}})


def fixed_listener(name: str, routes: JSON, *, address: str, port: int) -> JSON:
    """The same with its RouteConfiguration inside, for a router that has nobody to ask."""
    return _listener(name, address, port, {"route_config": routes})


_ADS_WAIT: Final[JSON] = {**ADS, "initial_fetch_timeout": "0s"}


def _listener(name: str, address: str, port: int, routes: JSON) -> JSON:
    socket: JSON = {"address": address, "port_value": port}
    if ":" in address:
        socket["ipv4_compat"] = True
    manager: JSON = {
        "@type": _MANAGER,
        "stat_prefix": name,
        "codec_type": "AUTO",
        **routes,
        "http_filters": [
            {
                "name": "envoy.filters.http.router",
                "typed_config": {"@type": _ROUTER, "suppress_envoy_headers": True},
            }
        ],
        # The proxy is to be invisible: what the runtime says of itself stays, ids that clients give stay.
        "use_remote_address": True,
        "server_header_transformation": "PASS_THROUGH",
        "preserve_external_request_id": True,
        "stream_idle_timeout": "3600s",
        "http_protocol_options": {"accept_http_10": True},
    }
    return {
        "name": name,
        "address": {"socket_address": socket},
        "per_connection_buffer_limit_bytes": 1 << 20,
        "filter_chains": [
            {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}
        ],
    }
