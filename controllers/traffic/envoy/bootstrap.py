"""What a router starts with. Pure; both forms are Envoy's JSON.

Envoy's credential injector puts the token into every stream's metadata; it reads it from a file that the
router's entrypoint writes anew when Kubernetes renews the projected token. (A token that Envoy reads by
itself was tried: google_grpc's file_based_metadata breaks every stream of 1.40 with status 13, and metadata
of envoy_grpc knows no files.) The trusted certificates are read once; the pod template carries their hash, so
that a new authority restarts the routers one by one.
"""

import gzip
import json
from dataclasses import dataclass
from typing import Final

from ...kinds import PORT_GRPC, PORT_HTTP
from ...resources.meta import child_name
from ...resources.wire import JSON
from .admission import HEADER, PREFIX
from .clusters import ADS, HTTP_OPTIONS, aggregate, fixed
from .endpoints import PROTOCOLS
from .listeners import fixed_listener
from .routes import Sides, route_configuration
from .snapshot import Snapshot, cluster_name, fallback_name

#: The router's own port: /ready and /stats/prometheus, nothing else of Envoy's administration.
STATUS_PORT: Final = 9902
ADMIN_CLUSTER: Final = "router-admin"
ADS_CLUSTER: Final = "router-ads"
TOKEN_SECRET: Final = "router-token"
_TYPES: Final = "type.googleapis.com/"
_PORTS: Final = {"http": PORT_HTTP, "grpc": PORT_GRPC}


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a router finds things: `ads` is host:port, and `name` what its certificate must say; the others
    are paths of files and of Envoy's administration socket.
    """

    ads: str
    ca: str
    secret: str
    admin: str
    name: str
    status_port: int = STATUS_PORT
    address: str = "0.0.0.0"


def asking(place: Place, *, node: str, namespace: str) -> JSON:
    """For a router that gets everything from the leader. It is not ready before it has everything."""
    service: JSON = {
        "envoy_grpc": {"cluster_name": ADS_CLUSTER, "max_receive_message_length": 64 << 20},
        # The first attempts after a leader's death come quickly.
        "retry_policy": {"retry_back_off": {"base_interval": "0.2s", "max_interval": "2s"}},
    }
    patient: JSON = {**ADS, "initial_fetch_timeout": "0s"}
    common = _common(place, node, namespace, [_ads(place)])
    return common | {
        "dynamic_resources": {
            "ads_config": {
                "api_type": "GRPC",
                "transport_api_version": "V3",
                "set_node_on_first_message_only": True,
                "grpc_services": [service],
            },
            "cds_config": patient,
            "lds_config": patient,
        }
    }


def _ads(place: Place) -> JSON:
    """Where the leader is: a Service without a selector, whose one endpoint the leader itself writes."""
    host, _, port = place.ads.rpartition(":")
    endpoint: JSON = {"address": {"socket_address": {"address": host, "port_value": int(port)}}}
    exact: JSON = {"san_type": "DNS", "matcher": {"exact": place.name}}
    return {
        "name": ADS_CLUSTER,
        "type": "STRICT_DNS",
        "dns_lookup_family": "V4_PREFERRED",
        "connect_timeout": "2s",
        "load_assignment": {
            "cluster_name": ADS_CLUSTER,
            "endpoints": [{"lb_endpoints": [{"endpoint": endpoint}]}],
        },
        "transport_socket": {
            "name": "envoy.transport_sockets.tls",
            "typed_config": {
                "@type": f"{_TYPES}envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
                "sni": place.name,
                "common_tls_context": {
                    "tls_params": {
                        "tls_minimum_protocol_version": "TLSv1_3",
                        "tls_maximum_protocol_version": "TLSv1_3",
                    },
                    "validation_context": {
                        "trusted_ca": {"filename": place.ca},
                        "match_typed_subject_alt_names": [exact],
                    },
                },
            },
        },
        "typed_extension_protocol_options": {
            HTTP_OPTIONS: {
                "@type": f"{_TYPES}{HTTP_OPTIONS}",
                "explicit_http_config": {
                    # A leader that is frozen or cut off is noticed, and the next one is asked.
                    "http2_protocol_options": {"connection_keepalive": {"interval": "5s", "timeout": "10s"}}
                },
                "http_filters": [_credentials(place), _codec()],
            }
        },
        "upstream_connection_options": {
            "tcp_keepalive": {"keepalive_probes": 3, "keepalive_time": 10, "keepalive_interval": 3}
        },
    }


def alone(place: Place, *, node: str, namespace: str) -> JSON:
    """For a router that has nobody to ask: `fallback` belongs into its static resources."""
    return _common(place, node, namespace, [])


def _credentials(place: Place) -> JSON:
    """Puts the token into the metadata of every stream."""
    return {
        "name": "envoy.filters.http.credential_injector",
        "typed_config": {
            "@type": f"{_TYPES}envoy.extensions.filters.http.credential_injector.v3.CredentialInjector",
            "overwrite": True,
            "credential": {
                "name": "envoy.http.injected_credentials.generic",
                "typed_config": {
                    "@type": f"{_TYPES}envoy.extensions.http.injected_credentials.generic.v3.Generic",
                    "credential": {
                        "name": TOKEN_SECRET,
                        "sds_config": {
                            "resource_api_version": "V3",
                            "path_config_source": {"path": place.secret},
                        },
                    },
                    "header": HEADER,
                },
            },
        },
    }


def _codec() -> JSON:
    kind = f"{_TYPES}envoy.extensions.filters.http.upstream_codec.v3.UpstreamCodec"
    return {"name": "envoy.filters.http.upstream_codec", "typed_config": {"@type": kind}}


def secret(token: str) -> JSON:
    """The file that hands the token to Envoy; it is read again whenever another is moved into its place."""
    kind = f"{_TYPES}envoy.extensions.transport_sockets.tls.v3.Secret"
    value: JSON = {"secret": {"inline_string": f"{PREFIX}{token}"}}
    return {"resources": [{"@type": kind, "name": TOKEN_SECRET, "generic_secret": value}]}


def _common(place: Place, node: str, namespace: str, clusters: list[JSON]) -> JSON:
    return {
        "node": {"id": node, "cluster": namespace},
        "admin": {"address": {"pipe": {"path": place.admin, "mode": 0o600}}},
        "static_resources": {"clusters": [_admin(place), *clusters], "listeners": [_status(place)]},
    }


def _admin(place: Place) -> JSON:
    endpoint: JSON = {"address": {"pipe": {"path": place.admin}}}
    return {
        "name": ADMIN_CLUSTER,
        "connect_timeout": "1s",
        "load_assignment": {
            "cluster_name": ADMIN_CLUSTER,
            "endpoints": [{"lb_endpoints": [{"endpoint": endpoint}]}],
        },
    }


def _status(place: Place) -> JSON:
    """Two paths of the administration, read only."""
    routes: list[JSON] = [
        {
            "match": {"path": path, "headers": [{"name": ":method", "string_match": {"exact": "GET"}}]},
            "route": {"cluster": ADMIN_CLUSTER, "timeout": "5s"},
        }
        for path in ("/ready", "/stats/prometheus")
    ]
    hosts: list[JSON] = [{"name": "all", "domains": ["*"], "routes": routes}]
    return fixed_listener(
        ADMIN_CLUSTER,
        {"name": ADMIN_CLUSTER, "virtual_hosts": hosts},
        address=place.address,
        port=place.status_port,
    )


def fallback(snapshot: Snapshot, namespace: str) -> JSON:
    """Listeners and clusters that need nobody to ask, as of `snapshot`: endpoints are the revisions'
    Services, so they are right whatever became of the pods since.
    """
    clusters: list[JSON] = []
    listeners: list[JSON] = []
    for name, one in sorted(snapshot.parts.items()):
        split = one.split
        stable, candidate = split.stable.hash, split.candidate.hash if split.candidate is not None else ""
        for offset, protocol in enumerate(PROTOCOLS):
            for revision in [stable, candidate] if candidate else [stable]:
                host = f"{child_name(name, revision)}.{namespace}.svc"
                own = cluster_name(name, revision, protocol)
                clusters.append(fixed(own, protocol, host, _PORTS[protocol]))
            sides = Sides(stable=cluster_name(name, stable, protocol), candidate="")
            if candidate and split.weight:
                fallen = fallback_name(name, candidate, protocol)
                clusters.append(aggregate(fallen, [cluster_name(name, candidate, protocol), sides.stable]))
                sides = Sides(stable=sides.stable, candidate=fallen)
            own = f"{name}/{protocol}"
            routes = route_configuration(own, split, sides)
            listeners.append(fixed_listener(own, routes, address="0.0.0.0", port=split.port + offset))
    return {"clusters": clusters, "listeners": listeners}


def packed(body: JSON) -> bytes:
    """`body` compressed, the same bytes for the same content: a ConfigMap holds at most 1 MiB."""
    text = json.dumps(body, sort_keys=True, separators=(",", ":"))
    return gzip.compress(text.encode(), compresslevel=6, mtime=0)
