"""From Envoy's JSON to protobuf. Imports Envoy's types, so import it late."""

# Every type that a resource may hold must be known before it can be read.
import envoy.extensions.clusters.aggregate.v3.cluster_pb2
import envoy.extensions.filters.http.router.v3.router_pb2
import envoy.extensions.filters.network.http_connection_manager.v3.http_connection_manager_pb2
import envoy.extensions.retry.host.previous_hosts.v3.previous_hosts_pb2
import envoy.extensions.retry.priority.previous_priorities.v3.previous_priorities_config_pb2
import envoy.extensions.upstreams.http.v3.http_protocol_options_pb2  # noqa: F401
from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.endpoint.v3 import endpoint_pb2
from envoy.config.listener.v3 import listener_pb2
from envoy.config.route.v3 import route_pb2
from envoy.service.discovery.v3 import discovery_pb2
from google.protobuf import json_format
from google.protobuf.any_pb2 import Any as Packed
from google.protobuf.message import Message

from .snapshot import Kind, Resource
from .stream import Response

_MESSAGES: dict[Kind, type[Message]] = {
    Kind.Cluster: cluster_pb2.Cluster,
    Kind.Endpoint: endpoint_pb2.ClusterLoadAssignment,
    Kind.Listener: listener_pb2.Listener,
    Kind.Route: route_pb2.RouteConfiguration,
}


class Encoder:
    """Encodes each resource once. Keeps what was used by the last message of its type and name."""

    def __init__(self) -> None:
        self._packed: dict[tuple[Kind, str, str], tuple[str, Packed]] = {}

    def prepare(self, resource: Resource) -> int:
        """1 if `resource` had to be encoded, 0 if it was there. Raises ParseError for a body that Envoy's
        types do not know.
        """
        key = (resource.kind, resource.service, resource.name)
        known = self._packed.get(key)
        if known is not None and known[0] == resource.version:
            return 0
        message = json_format.ParseDict(resource.body, _MESSAGES[resource.kind]())
        value = message.SerializeToString(deterministic=True)
        self._packed[key] = (resource.version, Packed(type_url=str(resource.kind), value=value))
        return 1

    def response(self, response: Response) -> discovery_pb2.DiscoveryResponse:
        packed = []
        for resource in response.resources:
            self.prepare(resource)
            packed.append(self._packed[resource.kind, resource.service, resource.name][1])
        return discovery_pb2.DiscoveryResponse(
            version_info=response.version,
            type_url=str(response.kind),
            nonce=response.nonce,
            resources=packed,
        )
