"""Every reason that a condition, an event or a one-line message may carry.

Reasons are API: dashboards and `kubectl wait` match on them. Those of the artefact and of the runtime are the
same words that a pod reports in /progress and in its termination message, so nothing is translated.
"""

from enum import StrEnum


class Reason(StrEnum):
    # what a spec or the artefact store can do wrong (told in Initialized)
    InvalidSpec = "InvalidSpec"
    InvalidSource = "InvalidSource"
    Incompatible = "Incompatible"
    BucketNotFound = "BucketNotFound"
    KeyNotFound = "KeyNotFound"
    NoFiles = "NoFiles"
    AmbiguousKey = "AmbiguousKey"
    AccessDenied = "AccessDenied"
    InvalidCredentials = "InvalidCredentials"
    SecretNotFound = "SecretNotFound"
    SecretInvalid = "SecretInvalid"
    EndpointUnreachable = "EndpointUnreachable"
    EndpointForbidden = "EndpointForbidden"
    TLSError = "TLSError"
    Resolving = "Resolving"
    Resolved = "Resolved"
    UnresolvedUntilPodReports = "UnresolvedUntilPodReports"
    ContentDrifted = "ContentDrifted"
    # what a pull can report
    ChecksumMismatch = "ChecksumMismatch"
    SizeMismatch = "SizeMismatch"
    ContentChanged = "ContentChanged"
    NoSpace = "NoSpace"
    Stalled = "Stalled"
    UnsafeArchive = "UnsafeArchive"
    Timeout = "Timeout"
    PullFailed = "PullFailed"
    # what the runtime can report
    UnknownModelFormat = "UnknownModelFormat"
    AmbiguousModel = "AmbiguousModel"
    CorruptModel = "CorruptModel"
    SchemaMismatch = "SchemaMismatch"
    LoadFailed = "LoadFailed"
    WarmUpFailed = "WarmUpFailed"
    WorkerCrashed = "WorkerCrashed"
    InsufficientMemory = "InsufficientMemory"
    SignatureChanged = "SignatureChanged"
    GoldenSampleFailed = "GoldenSampleFailed"
    # what a pod can run into
    OutOfMemory = "OutOfMemory"
    ImagePullFailed = "ImagePullFailed"
    ContainerConfigError = "ContainerConfigError"
    Unschedulable = "Unschedulable"
    CrashLoop = "CrashLoop"
    PodRefused = "PodRefused"
    # progress of a rollout
    WaitingForModel = "WaitingForModel"
    ModelNotFound = "ModelNotFound"
    Pulling = "Pulling"
    Starting = "Starting"
    Loading = "Loading"
    WarmingUp = "WarmingUp"
    RollingOut = "RollingOut"
    RollingBack = "RollingBack"
    ReleasingInPlace = "ReleasingInPlace"
    LatencyOverSLA = "LatencyOverSLA"
    ProgressDeadlineExceeded = "ProgressDeadlineExceeded"
    Complete = "Complete"
    Serving = "Serving"
    NotServing = "NotServing"
    ScaledToZero = "ScaledToZero"
    ArtifactOnly = "ArtifactOnly"
    # a canary's analysis
    Analysing = "Analysing"
    PrometheusAnswers = "PrometheusAnswers"
    PrometheusUnavailable = "PrometheusUnavailable"
    # a canary: where it is, how its traffic and its analysis stand
    CanaryPreparing = "CanaryPreparing"
    CanaryShifting = "CanaryShifting"
    CanaryAnalysing = "CanaryAnalysing"
    CanaryPaused = "CanaryPaused"
    CanaryPromoting = "CanaryPromoting"
    CanarySoaking = "CanarySoaking"
    CanaryRollingBack = "CanaryRollingBack"
    CanaryDraining = "CanaryDraining"
    CanaryRolledBack = "CanaryRolledBack"
    CanaryUnreadable = "CanaryUnreadable"
    CanaryRefused = "CanaryRefused"
    TrafficVerified = "TrafficVerified"
    TrafficPending = "TrafficPending"
    TrafficRefused = "TrafficRefused"
    TrafficUnreachable = "TrafficUnreachable"
    TrafficDrifted = "TrafficDrifted"
    # ownership
    NameConflict = "NameConflict"
    Drifted = "Drifted"
    DeletionBlocked = "DeletionBlocked"
    AsExpected = "AsExpected"
    # events only
    CanaryStarted = "CanaryStarted"
    CanaryPromoted = "CanaryPromoted"
    CanaryEnded = "CanaryEnded"
    CanaryCommand = "CanaryCommand"
    CanaryTraffic = "CanaryTraffic"
    PhaseChanged = "PhaseChanged"
    RevisionCreated = "RevisionCreated"
    RevisionPromoted = "RevisionPromoted"
    RevisionRemoved = "RevisionRemoved"
    Scaled = "Scaled"

    @classmethod
    def parse(cls, value: str, default: "Reason") -> "Reason":
        """`value` as a Reason; `default` for a word this operator does not know (a newer runtime's, say)."""
        try:
            return cls(value)
        except ValueError:
            return default


#: No retry cures these without a change of spec: failed at once, without waiting for the deadline.
FATAL_IN_POD: frozenset[Reason] = frozenset(
    {
        Reason.ChecksumMismatch,
        Reason.SizeMismatch,
        Reason.ContentChanged,
        Reason.UnsafeArchive,
        Reason.UnknownModelFormat,
        Reason.AmbiguousModel,
        Reason.CorruptModel,
        Reason.SchemaMismatch,
        Reason.LoadFailed,
    }
)
