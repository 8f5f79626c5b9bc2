"""An asyncio port of Go's controller-runtime: watch, queue, reconcile. Import it as `ctrl`.

What a test needs is in `controller_runtime.testing`.
"""

from __future__ import annotations

from ._builder import Builder as Builder
from ._builder import controller as controller
from ._cache import Cache as Cache
from ._cache import CacheStatistics as CacheStatistics
from ._client import Client as Client
from ._client import connect as connect
from ._clock import Clock as Clock
from ._clock import SystemClock as SystemClock
from ._config import TLS as TLS
from ._config import Config as Config
from ._config import ConfigError as ConfigError
from ._config import Credentials as Credentials
from ._consistency import CacheBarrier as CacheBarrier
from ._controller import Controller as Controller
from ._controller import ControllerOptions as ControllerOptions
from ._controller import WriteBarrier as WriteBarrier
from ._events import EventOptions as EventOptions
from ._events import EventRecorder as EventRecorder
from ._finalizers import add_finalizer as add_finalizer
from ._finalizers import remove_finalizer as remove_finalizer
from ._informer_api import Handler as Handler
from ._informer_api import Informer as Informer
from ._informer_api import Registration as Registration
from ._kinds import CONFIG_MAP as CONFIG_MAP
from ._kinds import CRON_JOB as CRON_JOB
from ._kinds import CUSTOM_RESOURCE_DEFINITION as CUSTOM_RESOURCE_DEFINITION
from ._kinds import DAEMON_SET as DAEMON_SET
from ._kinds import DEPLOYMENT as DEPLOYMENT
from ._kinds import ENDPOINT_SLICE as ENDPOINT_SLICE
from ._kinds import EVENT as EVENT
from ._kinds import HPA as HPA
from ._kinds import JOB as JOB
from ._kinds import LEASE as LEASE
from ._kinds import NAMESPACE as NAMESPACE
from ._kinds import NETWORK_POLICY as NETWORK_POLICY
from ._kinds import NODE as NODE
from ._kinds import PDB as PDB
from ._kinds import PERSISTENT_VOLUME_CLAIM as PERSISTENT_VOLUME_CLAIM
from ._kinds import POD as POD
from ._kinds import REPLICA_SET as REPLICA_SET
from ._kinds import SECRET as SECRET
from ._kinds import SERVICE as SERVICE
from ._kinds import SERVICE_ACCOUNT as SERVICE_ACCOUNT
from ._kinds import STATEFUL_SET as STATEFUL_SET
from ._leaderelection import LeaderElection as LeaderElection
from ._leaderelection import LeaderLost as LeaderLost
from ._logging import add_reconcile as add_reconcile
from ._logging import configure_logging as configure_logging
from ._manager import Manager as Manager
from ._manager import ShutdownTimeout as ShutdownTimeout
from ._metrics import PrometheusMetrics as PrometheusMetrics
from ._metrics_api import Metrics as Metrics
from ._metrics_api import NoMetrics as NoMetrics
from ._metrics_api import WatchMetrics as WatchMetrics
from ._objects import JSON as JSON
from ._objects import Key as Key
from ._objects import Kind as Kind
from ._objects import Object as Object
from ._objects import Objects as Objects
from ._objects import Request as Request
from ._objects import owner_reference as owner_reference
from ._operations import create_or_update as create_or_update
from ._predicates import Predicate as Predicate
from ._predicates import all_of as all_of
from ._predicates import annotations_changed as annotations_changed
from ._predicates import any_of as any_of
from ._predicates import deletion_started as deletion_started
from ._predicates import generation_changed as generation_changed
from ._predicates import has_labels as has_labels
from ._predicates import labels_changed as labels_changed
from ._predicates import matching as matching
from ._predicates import not_ as not_
from ._predicates import resource_version_changed as resource_version_changed
from ._ratelimit import BucketRateLimiter as BucketRateLimiter
from ._ratelimit import ExponentialRateLimiter as ExponentialRateLimiter
from ._ratelimit import MaxOfRateLimiter as MaxOfRateLimiter
from ._ratelimit import RateLimiter as RateLimiter
from ._rbac import Rule as Rule
from ._reconcile import Reconciler as Reconciler
from ._reconcile import Result as Result
from ._reflector_api import ReflectorOptions as ReflectorOptions
from ._retry import retry_on_conflict as retry_on_conflict
from ._runnables import Runnable as Runnable
from ._sources import Channel as Channel
from ._sources import Source as Source
from ._sources import TimerSource as TimerSource
from ._store import IndexFunction as IndexFunction
from ._transport import Transport as Transport
from ._wire import Transform as Transform
from ._workqueue import LOW_PRIORITY as LOW_PRIORITY
from ._workqueue import Ageing as Ageing
from ._workqueue import WorkQueue as WorkQueue
from .errors import AlreadyExists as AlreadyExists
from .errors import ApiError as ApiError
from .errors import BadRequest as BadRequest
from .errors import CacheSyncTimeout as CacheSyncTimeout
from .errors import Conflict as Conflict
from .errors import ControllerRuntimeError as ControllerRuntimeError
from .errors import Forbidden as Forbidden
from .errors import Gone as Gone
from .errors import Invalid as Invalid
from .errors import NotCached as NotCached
from .errors import NotFound as NotFound
from .errors import NotLeader as NotLeader
from .errors import RequestTimeout as RequestTimeout
from .errors import ServerError as ServerError
from .errors import ServerTimeout as ServerTimeout
from .errors import TerminalError as TerminalError
from .errors import TooManyRequests as TooManyRequests
from .errors import TransportError as TransportError
from .errors import Unauthorized as Unauthorized

__all__ = [
    "CONFIG_MAP",
    "CRON_JOB",
    "CUSTOM_RESOURCE_DEFINITION",
    "DAEMON_SET",
    "DEPLOYMENT",
    "ENDPOINT_SLICE",
    "EVENT",
    "HPA",
    "JOB",
    "JSON",
    "LEASE",
    "LOW_PRIORITY",
    "NAMESPACE",
    "NETWORK_POLICY",
    "NODE",
    "PDB",
    "PERSISTENT_VOLUME_CLAIM",
    "POD",
    "REPLICA_SET",
    "SECRET",
    "SERVICE",
    "SERVICE_ACCOUNT",
    "STATEFUL_SET",
    "TLS",
    "Ageing",
    "AlreadyExists",
    "ApiError",
    "BadRequest",
    "BucketRateLimiter",
    "Builder",
    "Cache",
    "CacheBarrier",
    "CacheStatistics",
    "CacheSyncTimeout",
    "Channel",
    "Client",
    "Clock",
    "Config",
    "ConfigError",
    "Conflict",
    "Controller",
    "ControllerOptions",
    "ControllerRuntimeError",
    "Credentials",
    "EventOptions",
    "EventRecorder",
    "ExponentialRateLimiter",
    "Forbidden",
    "Gone",
    "Handler",
    "IndexFunction",
    "Informer",
    "Invalid",
    "Key",
    "Kind",
    "LeaderElection",
    "LeaderLost",
    "Manager",
    "MaxOfRateLimiter",
    "Metrics",
    "NoMetrics",
    "NotCached",
    "NotFound",
    "NotLeader",
    "Object",
    "Objects",
    "Predicate",
    "PrometheusMetrics",
    "RateLimiter",
    "Reconciler",
    "ReflectorOptions",
    "Registration",
    "Request",
    "RequestTimeout",
    "Result",
    "Rule",
    "Runnable",
    "ServerError",
    "ServerTimeout",
    "ShutdownTimeout",
    "Source",
    "SystemClock",
    "TerminalError",
    "TimerSource",
    "TooManyRequests",
    "Transform",
    "Transport",
    "TransportError",
    "Unauthorized",
    "WatchMetrics",
    "WorkQueue",
    "WriteBarrier",
    "add_finalizer",
    "add_reconcile",
    "all_of",
    "annotations_changed",
    "any_of",
    "configure_logging",
    "connect",
    "controller",
    "create_or_update",
    "deletion_started",
    "generation_changed",
    "has_labels",
    "labels_changed",
    "matching",
    "not_",
    "owner_reference",
    "remove_finalizer",
    "resource_version_changed",
    "retry_on_conflict",
]
