"""Clusters and their endpoints. Pure; bodies are Envoy's JSON."""

from collections.abc import Sequence
from typing import Final

from ...resources.wire import JSON
from .endpoints import Address, Protocol

HTTP_OPTIONS: Final = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
ADS: Final[JSON] = {"ads": {}, "resource_api_version": "V3"}

# Limits are the runtime's business: it answers 429 or 503 itself, with a reason. Retries are held within
# bounds, so that a revision that dies does not get three times the load; a pod that is killed may hold many.
_BREAKERS: Final[JSON] = {
    "thresholds": [
        {
            "max_connections": 65536,
            "max_pending_requests": 65536,
            "max_requests": 65536,
            "retry_budget": {"budget_percent": {"value": 50.0}, "min_retry_concurrency": 256},
        }
    ]
}

# Only what breaks between router and pod takes a pod out. A model that answers 500 must go on getting
# requests, or the analysis would never see its errors.
_OUTLIERS: Final[JSON] = {
    "split_external_local_origin_errors": True,
    "consecutive_local_origin_failure": 3,
    "enforcing_consecutive_local_origin_failure": 100,
    "enforcing_local_origin_success_rate": 0,
    "enforcing_consecutive_5xx": 0,
    "enforcing_consecutive_gateway_failure": 0,
    "enforcing_success_rate": 0,
    "enforcing_failure_percentage": 0,
    "enforcing_failure_percentage_local_origin": 0,
    "interval": "1s",
    "base_ejection_time": "5s",
    "max_ejection_time": "30s",
    "max_ejection_percent": 100,
}


def cluster(name: str, protocol: Protocol) -> JSON:
    """The pods of one revision, found by EDS."""
    body: JSON = {
        "name": name,
        "type": "EDS",
        "eds_cluster_config": {"eds_config": {**ADS, "initial_fetch_timeout": "10s"}},
        "outlier_detection": _OUTLIERS,
    }
    return body | _common(protocol)


def fixed(name: str, protocol: Protocol, host: str, port: int) -> JSON:
    """The same by name, for a router that has nobody to ask: `host` is the revision's Service."""
    endpoint: JSON = {"address": {"socket_address": {"address": host, "port_value": port}}}
    revision = name.split("/")[1]
    body: JSON = {
        "name": name,
        "type": "STRICT_DNS",
        "dns_lookup_family": "V4_PREFERRED",
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [{"lb_endpoints": [{"endpoint": endpoint, "metadata": _metadata(revision)}]}],
        },
        "outlier_detection": _OUTLIERS,
    }
    return body | _common(protocol)


def _common(protocol: Protocol) -> JSON:
    spoken = {"http": "http_protocol_options", "grpc": "http2_protocol_options"}[protocol]
    return {
        "connect_timeout": "1s",
        "lb_policy": "LEAST_REQUEST",
        "common_lb_config": {"update_merge_window": "0s"},  # who is out is out at once
        "circuit_breakers": _BREAKERS,
        "typed_extension_protocol_options": {
            HTTP_OPTIONS: {
                "@type": f"type.googleapis.com/{HTTP_OPTIONS}",
                # Shorter than the runtime keeps an idle connection, so that it is not closed under a request.
                "common_http_protocol_options": {"idle_timeout": "30s"},
                "explicit_http_config": {spoken: {}},
            }
        },
    }


def aggregate(name: str, clusters: Sequence[str]) -> JSON:
    """The first of `clusters` that has a healthy endpoint."""
    return {
        "name": name,
        "connect_timeout": "1s",
        "lb_policy": "CLUSTER_PROVIDED",
        "circuit_breakers": _BREAKERS,
        "cluster_type": {
            "name": "envoy.clusters.aggregate",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.clusters.aggregate.v3.ClusterConfig",
                "clusters": list(clusters),
            },
        },
    }


def assignment(name: str, revision: str, addresses: Sequence[Address]) -> JSON:
    """Where the pods of cluster `name` are; each says its revision, for the header of the answer."""
    body: JSON = {"cluster_name": name}
    if addresses:
        body["endpoints"] = [
            {
                "lb_endpoints": [
                    {
                        "endpoint": {
                            "address": {"socket_address": {"address": one.ip, "port_value": one.port}}
                        },
                        "metadata": _metadata(revision),
                    }
                    for one in addresses
                ]
            }
        ]
    return body


def _metadata(revision: str) -> JSON:
    return {"filter_metadata": {"envoy.lb": {"revision": revision}}}
