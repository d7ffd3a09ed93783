"""What is kept of an exception, and what is asked of it later."""

from __future__ import annotations

import json
import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure import errors
from perdure.codec import dumps, loads
from perdure.errors import OrchestrationFailedError, PayloadError, TaskFailedError
from perdure.failures import FailureDetails
from perdure.limits import (
    MAX_FAILURE_DEPTH,
    MAX_FAILURE_MESSAGE_CHARS,
    MAX_FAILURE_PROPERTIES_BYTES,
    MAX_FAILURE_STACK_CHARS,
)

any_text = st.text(st.characters(exclude_categories=()))


class PaymentError(Exception):
    class Declined(ValueError):
        pass


def raised(error: BaseException) -> BaseException:
    try:
        raise error
    except BaseException as caught:
        return caught


def describe(error: BaseException) -> FailureDetails:
    return FailureDetails.from_exception(raised(error))


def depth(details: FailureDetails) -> int:
    return 1 + (depth(details.inner_failure) if details.inner_failure else 0)


def test_type_message_and_stack() -> None:
    details = describe(ValueError("no such city"))
    assert (details.error_type, details.message) == ("ValueError", "no such city")
    assert details.stack_trace is not None
    assert "in raised" in details.stack_trace
    assert details.stack_trace.rstrip().endswith("ValueError: no such city")
    assert (details.inner_failure, details.non_retriable, details.properties) == (None, False, None)
    assert describe(PaymentError.Declined()).error_type == f"{__name__}.PaymentError.Declined"
    assert FailureDetails.from_exception(ValueError(), non_retriable=True).non_retriable


def test_the_cause_wins_over_the_context() -> None:
    try:
        try:
            raise KeyError("k")
        except KeyError:
            raise ValueError("v") from OSError("o")
    except ValueError as error:
        details = FailureDetails.from_exception(error)
    assert details.inner_failure is not None
    assert (details.inner_failure.error_type, details.inner_failure.message) == ("OSError", "o")
    assert details.stack_trace is not None
    assert "KeyError" not in details.stack_trace
    assert "direct cause" not in details.stack_trace


def test_the_context_counts_unless_it_is_suppressed() -> None:
    for suppress in (False, True):
        try:
            try:
                raise KeyError("k")
            except KeyError as key_error:
                error = ValueError("v")
                error.__context__ = key_error
                error.__suppress_context__ = suppress
                raise error  # noqa: B904
        except ValueError as caught:
            # `raise` sets the context, not whether it is suppressed.
            inner = FailureDetails.from_exception(caught).inner_failure
        assert (inner is None) is suppress


def test_the_failure_of_a_task_is_the_inner_failure() -> None:
    child = describe(PaymentError("declined"))
    for error in (TaskFailedError("charge failed", child), OrchestrationFailedError("x failed", child)):
        assert FailureDetails.from_exception(error).inner_failure == child
    assert describe(OrchestrationFailedError("x was terminated")).inner_failure is None


def test_depth_is_bounded_for_cycles_long_chains_and_nested_task_failures() -> None:
    first, second = ValueError("1"), ValueError("2")
    first.__cause__, second.__cause__ = second, first
    assert depth(FailureDetails.from_exception(first)) == MAX_FAILURE_DEPTH + 1
    error: Exception = ValueError("0")
    for _ in range(5000):
        following = ValueError("x")
        following.__cause__ = error
        error = following
    assert depth(FailureDetails.from_exception(error)) == MAX_FAILURE_DEPTH + 1
    details = FailureDetails.from_exception(ValueError("leaf"))
    for level in range(10):
        details = FailureDetails.from_exception(TaskFailedError(f"{level}", details))
    assert depth(details) == MAX_FAILURE_DEPTH + 1


@pytest.mark.parametrize("kind", [ValueError, RecursionError, SystemExit, KeyboardInterrupt])
def test_an_exception_that_cannot_be_shown_is_described_all_the_same(kind: type[BaseException]) -> None:
    class Broken(Exception):
        def __str__(self) -> str:
            raise kind

        __repr__ = __str__

    details = describe(Broken())
    assert details.message == f"<str() of the exception raised {kind.__name__}>"
    assert details.error_type.endswith("Broken")


def test_str_that_is_no_text() -> None:
    class Odd(Exception):
        def __str__(self) -> Any:
            return 5  # noqa: PLE0307

    assert "raised TypeError" in describe(Odd()).message


def test_notes_that_are_no_texts() -> None:
    error = ValueError("x")
    error.__notes__ = 5  # type: ignore[assignment]
    assert describe(error).message == "x"


def test_a_stack_that_cannot_be_formatted_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: Any, **kwargs: Any) -> Any:
        raise SystemExit

    monkeypatch.setattr("traceback.format_exception", fail)
    assert describe(ValueError("x")) == FailureDetails(error_type="ValueError", base_types=("Exception",), message="x")


def test_text_is_made_fit_for_stores_and_terminals() -> None:
    details = describe(ValueError("\x1b[31m\x00\ud800\x9b é\t\n😀\r"))
    assert details.message == "\\x1b[31m\\x00\\ud800\\x9b é\t\n😀\\r"
    for text in (details.message, details.stack_trace):
        assert text is not None
        text.encode()
        assert "\x00" not in text


def test_a_long_message_keeps_its_head_and_a_long_stack_its_tail() -> None:
    details = describe(ValueError("a" + "b" * 10_000_000))
    assert len(details.message) == MAX_FAILURE_MESSAGE_CHARS
    assert details.message.startswith("ab")
    assert details.message.endswith("b … ")

    def sink(level: int) -> None:
        if level:
            sink(level - 1)
        else:
            raise ValueError("bottom")

    def other(level: int) -> None:
        (sink if not level else lambda n: other(n - 1))(level)

    with pytest.raises(ValueError, match="bottom") as caught:
        other(100)
    stack = FailureDetails.from_exception(caught.value).stack_trace
    assert stack is not None
    assert len(stack) <= MAX_FAILURE_STACK_CHARS
    assert stack.startswith(" … ")
    assert stack.rstrip().endswith("ValueError: bottom")


def test_a_message_at_the_limit_is_kept_whole() -> None:
    for length in (MAX_FAILURE_MESSAGE_CHARS - 1, MAX_FAILURE_MESSAGE_CHARS):
        assert describe(ValueError("a" * length)).message == "a" * length
    assert describe(ValueError("a" * (MAX_FAILURE_MESSAGE_CHARS + 1))).message.endswith("a … ")


@pytest.mark.parametrize(
    "character", ["a", '"', "\\", "\n", "\x00", "\x1f", "\x9f", "é", "中", "😀", "\ud800", "\ud83d\ude00"]
)
def test_a_failure_is_under_256_kib_whatever_it_holds(character: str) -> None:
    details = None
    for _ in range(10):
        details = FailureDetails(
            error_type=character * 100_000,
            message=character * 100_000,
            stack_trace=character * 100_000,
            inner_failure=details,
            properties={character: character * (MAX_FAILURE_PROPERTIES_BYTES // 6 - 20)},
        )
    assert details is not None
    text = dumps(details.to_json())
    assert len(text) < 256 * 1024
    again = FailureDetails.from_json(loads(text))
    assert dumps(again.to_json()) == text


def test_properties_that_are_too_large_or_no_json_are_left_out() -> None:
    def kept(properties: Any) -> bool:
        return "properties" in FailureDetails(error_type="E", message="", properties=properties).to_json()

    assert kept({})
    assert kept({"a": "x" * (MAX_FAILURE_PROPERTIES_BYTES - 8)})
    assert not kept({"a": "x" * (MAX_FAILURE_PROPERTIES_BYTES - 7)})
    assert not kept({"a": object()})
    assert not kept({"a": loads("[" * 100 + "]" * 100)})


def test_json_and_back() -> None:
    try:
        try:
            raise KeyError("k")
        except KeyError as error:
            raise PaymentError("p") from error
    except PaymentError as error:
        details = FailureDetails.from_exception(error, non_retriable=True)
    data = loads(dumps(details.to_json()))
    assert set(data) == {"error_type", "base_types", "message", "stack_trace", "inner", "non_retriable"}
    assert FailureDetails.from_json(data) == details
    smallest = FailureDetails(error_type="E", message="m")
    assert smallest.to_json() == {"error_type": "E", "message": "m"}
    full = FailureDetails(error_type="E", message="m", inner_failure=smallest, properties={"code": 5})
    assert FailureDetails.from_json(loads(dumps(full.to_json()))) == full


def test_reading_passes_over_what_it_does_not_know() -> None:
    data = {"error_type": "E", "message": "m", "colour": "red", "inner": None, "stack_trace": 5, "properties": [1]}
    assert FailureDetails.from_json(data) == FailureDetails(error_type="E", message="m")


@pytest.mark.parametrize("data", [None, 5, [], "x", {}, {"error_type": "E"}, {"error_type": 5, "message": "m"}])
def test_reading_refuses_what_is_no_failure(data: Any) -> None:
    with pytest.raises(PayloadError):
        FailureDetails.from_json(data)


def test_reading_cuts_hostile_depth() -> None:
    data: dict[str, Any] = {"error_type": "E", "message": "m"}
    for _ in range(150):
        data = {"error_type": "E", "message": "m" * 5000, "inner": data}
    details = FailureDetails.from_json(data)
    assert depth(details) == MAX_FAILURE_DEPTH + 1
    assert len(details.message) == MAX_FAILURE_MESSAGE_CHARS


@given(any_text)
def test_any_message_survives_storage(message: str) -> None:
    details = describe(ValueError(message))
    assert FailureDetails.from_json(loads(dumps(details.to_json()))) == details


@pytest.mark.parametrize(
    ("error", "kind", "expected"),
    [
        (ValueError(), ValueError, True),
        (ValueError(), Exception, True),
        (ValueError(), BaseException, True),
        (ConnectionResetError(), OSError, True),
        (ValueError(), KeyError, False),
        (json.JSONDecodeError("m", "d", 0), ValueError, True),
        (json.JSONDecodeError("m", "d", 0), json.JSONDecodeError, True),
        (errors.CustomStatusTooLarge(5, 4), PayloadError, True),
        (PaymentError.Declined(), PaymentError.Declined, True),
        (PaymentError.Declined(), ValueError, True),
        (PaymentError.Declined(), PaymentError, False),
        (SystemExit(), Exception, False),
    ],
)
def test_is_caused_by(error: BaseException, kind: type[BaseException], expected: bool) -> None:
    stored = loads(dumps(FailureDetails.from_exception(error).to_json()))
    assert FailureDetails.from_json(stored).is_caused_by(kind) is expected


def test_is_caused_by_knows_the_bases_of_classes_that_are_not_there_any_more() -> None:
    # A replay in another process answers as the first run did, whatever is imported there.
    class Local(PaymentError):
        pass

    details = describe(Local())
    del Local
    assert details.is_caused_by(PaymentError)
    assert not FailureDetails(error_type="json.decoder.JSONDecodeError", message="").is_caused_by(ValueError)


def test_errors_survive_pickling() -> None:
    details = FailureDetails(error_type="E", message="m")
    samples: list[BaseException] = [
        errors.PayloadError(),
        errors.PayloadTooLarge(5, 4),
        errors.CustomStatusTooLarge(5, 4, [("a", 3)]),
        errors.InstanceNotFound("x"),
        errors.InstanceAlreadyExists("x", "RUNNING"),
        errors.InstanceFinished("x", "FAILED"),
        errors.OrchestrationNotStarted("x", 1.5, "f"),
        errors.NotRegistered("activity", "f", ["g"]),
        errors.NonDeterminismError(3, "a", "b"),
        errors.InvalidYield(5),
        TaskFailedError("m", details),
        OrchestrationFailedError("m", details),
        errors.Evicted(),
    ]
    for error in samples:
        again = pickle.loads(pickle.dumps(error))
        assert type(again) is type(error)
        assert str(again) == str(error)
        assert vars(again) == vars(error)


def test_errors_say_what_to_do() -> None:
    assert "start a worker" in str(errors.OrchestrationNotStarted("x", 30))
    assert "reuse_id_policy" in str(errors.InstanceAlreadyExists("x"))
    assert "(COMPLETED)" in str(errors.InstanceFinished("x", "COMPLETED"))
    listed = str(errors.NotRegistered("activity", "f", (f"name{i:02}" for i in range(25))))
    assert "'name19' and 5 more" in listed
    assert "name20" not in listed
    assert "registered: none" in str(errors.NotRegistered("activity", "f"))
    assert "event 3" in str(errors.NonDeterminismError(3, "a timer", "an activity"))
    assert isinstance(errors.OrchestrationNotStarted("x", 1), TimeoutError)
    assert isinstance(errors.InvalidYield(5), TypeError)
    assert isinstance(errors.InvalidInstanceId(), ValueError)
    assert not isinstance(errors.Evicted(), Exception)


def test_an_invalid_yield_names_the_type_and_points_asyncio_out() -> None:
    async def coroutine() -> None: ...

    value = coroutine()
    text = str(errors.InvalidYield(value))
    value.close()
    assert "can't wait for coroutine:" in text
    assert "asyncio" in text
    assert "asyncio" not in str(errors.InvalidYield(5))


def test_every_error_has_one_root_and_is_in_the_drawing() -> None:
    assert errors.__doc__ is not None
    for name in errors.__all__:
        kind = getattr(errors, name)
        assert issubclass(kind, errors.PerdureError) or kind is errors.Evicted
        assert f" {name} " in errors.__doc__.replace("\n", " \n"), name
    defined = {
        name for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, BaseException)
    }
    assert defined == set(errors.__all__)
