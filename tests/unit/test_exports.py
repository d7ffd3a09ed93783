"""The public names: whoever adds or drops one does it on purpose."""

import importlib
import pkgutil
import tomllib
from pathlib import Path
from types import ModuleType

import pytest

import perdure
import perdure.exports
import perdure.spi

PUBLIC = [
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

SPI = [
    "Activity",
    "ActivityBatch",
    "ActivityDone",
    "AuthFailed",
    "BadId",
    "Capabilities",
    "ClaimActivities",
    "ClaimTurns",
    "Clock",
    "Closed",
    "Corrupt",
    "DEFAULT_HUB",
    "Delivery",
    "Exchange",
    "ExchangeResult",
    "Fields",
    "HistoryPage",
    "Hub",
    "HubStats",
    "InstanceInfo",
    "InstanceQuery",
    "InvalidRequest",
    "Lease",
    "LeaseKind",
    "Limits",
    "MIN_ID_BYTES",
    "MIN_PAYLOAD_BYTES",
    "ManualClock",
    "Message",
    "MigrationStep",
    "Millis",
    "NewActivity",
    "NewInstance",
    "NextExecution",
    "NotFound",
    "OnWake",
    "OrchestrationStatus",
    "Outcome",
    "OutcomeUnknown",
    "Page",
    "PerdureError",
    "Provider",
    "ProviderError",
    "ProviderURL",
    "ProviderUnavailable",
    "PumpResult",
    "PurgeRequest",
    "PurgeResult",
    "QueueStats",
    "Release",
    "SPI_VERSION",
    "START_MESSAGE_ID",
    "SchemaMismatch",
    "SchemaStatus",
    "Subscription",
    "SystemClock",
    "ThreeValued",
    "TooLarge",
    "Transient",
    "TurnBatch",
    "TurnCommit",
    "TurnItem",
    "UNSET",
    "Unset",
    "Unsupported",
    "Wake",
    "checks",
    "redact",
]


def test_the_public_names_are_these() -> None:
    assert sorted(perdure.exports.__all__) == sorted(PUBLIC)


def test_the_package_hands_them_all_out() -> None:
    names: dict[str, object] = {}
    exec("from perdure import *", names)
    assert set(PUBLIC) <= set(names) <= {*PUBLIC, "__builtins__"}
    assert set(PUBLIC) <= set(dir(perdure))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = perdure.nothing  # type: ignore[attr-defined]


def test_the_names_of_the_provider_interface_are_these() -> None:
    assert sorted(perdure.spi.__all__) == sorted(SPI)


def modules() -> list[str]:
    packages = (perdure,)
    return [
        found.name
        for package in packages
        for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
        if not found.name.endswith("__main__")
    ]


@pytest.mark.parametrize("name", modules())
def test_every_module_says_what_it_exports(name: str) -> None:
    module: ModuleType = importlib.import_module(name)
    names = getattr(module, "__all__", [])
    assert len(set(names)) == len(names)
    for exported in names:
        assert hasattr(module, exported), f"{name}.__all__ names {exported}, which isn't there"
    assert module.__doc__, f"{name} has no docstring"


def test_the_version_is_the_distributions() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    assert perdure.__version__ == project["version"]


def test_every_public_name_is_documented() -> None:
    for name in perdure.exports.__all__:
        assert getattr(perdure, name).__doc__, name
