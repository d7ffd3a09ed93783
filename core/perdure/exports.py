"""The public names of perdure; the package itself hands them out."""

from perdure import spi
from perdure.activities import ActivityContext
from perdure.async_client import AsyncClient
from perdure.client import Client
from perdure.conversion import DataConverter, JsonDataConverter
from perdure.custom_status import custom_status_size
from perdure.errors import (
    AuthFailed,
    BadId,
    Closed,
    Corrupt,
    CustomStatusTooLarge,
    Evicted,
    InstanceAlreadyExists,
    InstanceFinished,
    InstanceNotFound,
    InvalidArgument,
    InvalidInstanceId,
    InvalidName,
    InvalidRequest,
    InvalidYield,
    NonDeterminismError,
    NotFound,
    NotRegistered,
    OrchestrationFailedError,
    OrchestrationNotStarted,
    OrchestrationTerminated,
    OutcomeUnknown,
    PayloadError,
    PayloadTooLarge,
    PerdureError,
    ProviderError,
    ProviderUnavailable,
    SchemaMismatch,
    TaskCancelledError,
    TaskFailedError,
    TooLarge,
    Transient,
    Unsupported,
)
from perdure.failures import FailureDetails
from perdure.plugins import connect, register_provider
from perdure.registry import activity, orchestrator
from perdure.replay.context import OrchestrationContext
from perdure.replay.tasks import Task, when_all, when_any
from perdure.requests import OrchestrationQuery, PurgeInstancesResult
from perdure.retry import RetryPolicy
from perdure.spi import OrchestrationStatus
from perdure.state import OrchestrationState
from perdure.worker import Worker

__all__ = [
    "ActivityContext",
    "AsyncClient",
    "AuthFailed",
    "BadId",
    "Client",
    "Closed",
    "Corrupt",
    "CustomStatusTooLarge",
    "DataConverter",
    "Evicted",
    "FailureDetails",
    "InstanceAlreadyExists",
    "InstanceFinished",
    "InstanceNotFound",
    "InvalidArgument",
    "InvalidInstanceId",
    "InvalidName",
    "InvalidRequest",
    "InvalidYield",
    "JsonDataConverter",
    "NonDeterminismError",
    "NotFound",
    "NotRegistered",
    "OrchestrationContext",
    "OrchestrationFailedError",
    "OrchestrationNotStarted",
    "OrchestrationQuery",
    "OrchestrationState",
    "OrchestrationStatus",
    "OrchestrationTerminated",
    "OutcomeUnknown",
    "PayloadError",
    "PayloadTooLarge",
    "PerdureError",
    "ProviderError",
    "ProviderUnavailable",
    "PurgeInstancesResult",
    "RetryPolicy",
    "SchemaMismatch",
    "Task",
    "TaskCancelledError",
    "TaskFailedError",
    "TooLarge",
    "Transient",
    "Unsupported",
    "Worker",
    "activity",
    "connect",
    "custom_status_size",
    "orchestrator",
    "register_provider",
    "spi",
    "when_all",
    "when_any",
]
