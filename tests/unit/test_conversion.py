"""From JSON back to annotated types."""

import collections.abc
import dataclasses
import enum
import functools
import typing
from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, NamedTuple, NewType, NotRequired, Optional, TypedDict
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure.codec import dumps, loads
from perdure.conversion import DataConverter, JsonDataConverter, parameter_type, rebuild, return_type
from perdure.errors import PayloadError

if TYPE_CHECKING:
    from somewhere_else import NeverImported  # type: ignore[import-not-found]


class Colour(enum.Enum):
    RED = "red"
    GREEN = "green"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Odd(enum.Enum):
    PAIR = (1, 2)
    DAY = date(2024, 1, 2)
    NONE = None
    TRUE = True
    ONE = 2


class Mixed(enum.Enum):
    PLAIN = 1
    OPAQUE = object()


class TypeAliasType:
    """Looks like what `type Lines = list[Line]` makes from Python 3.12 on."""

    def __init__(self, value: Any) -> None:
        self.__value__ = value


class Right(enum.Flag):
    READ = 1
    WRITE = 2


class Lenient(enum.Enum):
    A = "a"

    @classmethod
    def _missing_(cls, value: object) -> "Lenient | None":
        return cls.A if value == "A" else None


class Point(NamedTuple):
    x: int
    y: float = 0.5


class Options(TypedDict):
    colour: Colour
    note: NotRequired[str]


class LateOptions(TypedDict):
    colour: "Colour"
    note: "NotRequired[str]"


class MoreOptions(Options, total=False):
    size: "Level"


OrderId = NewType("OrderId", str)


@dataclass(frozen=True)
class Line:
    name: str
    count: int = 1


@dataclass
class Order:
    id: UUID
    due: datetime
    lines: list[Line]
    colour: Colour | None = None
    tags: dict[str, tuple[int, ...]] = field(default_factory=dict)
    parent: Optional["Order"] = None
    size: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        self.size = len(self.lines)


@dataclass
class Checked:
    percent: int

    def __post_init__(self) -> None:
        if self.percent > 100:
            raise ValueError("over 100")


@dataclass
class Guarded:
    line: Line
    context: "NeverImported"
    limit: Final[int] = 3


ROUND_TRIPS: list[tuple[Any, Any]] = [
    (None, None),
    (True, bool),
    (5, int),
    (2.0, float),
    ("x", str),
    (datetime(2024, 1, 2, 3, 4, 5, 6, tzinfo=UTC), datetime),
    (datetime(2024, 1, 2), datetime),
    (date(2024, 1, 2), date),
    (time(1, 2, 3), time),
    (UUID(int=7), UUID),
    (Colour.RED, Colour),
    (Level.HIGH, Level),
    (list(Odd), list[Odd]),
    (Right.READ | Right.WRITE, Right),
    (Point(1), Point),
    ([Point(1, 2.0)], list[Point]),
    ((1, "a", None), tuple[int, str, None]),
    ((1, 2, 3), tuple[int, ...]),
    ((), tuple[int, ...]),
    ((1, "a"), tuple),
    ([Line("a"), Line("b", 2)], Sequence[Line]),
    ({"a": Line("a")}, Mapping[str, Line]),
    ({"a": {"b": [1]}}, dict[str, dict[str, list[int]]]),
    ({"a": 1}, dict),
    ([1, "a"], list),
    (Line("a"), Line | None),
    (None, Optional[Line]),  # noqa: UP045
    (OrderId("x"), OrderId),
    (Line("a"), Annotated[Line, "with", ["unhashable", "metadata"]]),
    ("b", Literal["a", "b"]),
    (Colour.RED, Literal[Colour.RED, 5]),
    (Order(UUID(int=1), datetime(2024, 1, 2, tzinfo=UTC), [Line("a")], Colour.RED, {"t": (1, 2)}), Order),
    (
        Order(UUID(int=1), datetime(2024, 1, 2), [], parent=Order(UUID(int=2), datetime(2024, 1, 2), [Line("x", 3)])),
        Order,
    ),
    ({"colour": Colour.RED, "note": "n"}, Options),
    ({"colour": Colour.RED, "size": Level.LOW}, MoreOptions),
    ({"colour": Colour.RED}, LateOptions),
    ({"colour": Colour.RED, "note": "n"}, LateOptions),
]


@pytest.mark.parametrize(("value", "kind"), ROUND_TRIPS, ids=lambda part: None)
def test_a_value_comes_back_as_its_type(value: Any, kind: Any) -> None:
    back = rebuild(loads(dumps(value)), kind)
    assert back == value
    assert type(back) is type(value)
    assert repr(back) == repr(value)


@pytest.mark.parametrize(
    ("value", "kind", "expected"),
    [
        ([1, 2, 1], set[int], {1, 2}),
        (["red"], frozenset[Colour], frozenset({Colour.RED})),
        (["red"], collections.abc.Set[Colour], frozenset({Colour.RED})),
        ([1], collections.abc.Iterable[int], [1]),
        ({"red": 1}, dict[Colour, int], {Colour.RED: 1}),
        (1, Mixed, Mixed.PLAIN),
        ([{"name": "a"}], TypeAliasType(list[Line]), [Line("a")]),
        ({"00000000-0000-0000-0000-000000000007": 1}, dict[UUID, int], {UUID(int=7): 1}),
        (2, float, 2.0),
        ("A", Lenient, Lenient.A),
        ("2024-01-02T03:04:05Z", datetime, datetime(2024, 1, 2, 3, 4, 5, tzinfo=UTC)),
        ([1], Point, Point(1, 0.5)),
        ({"name": "a", "new_key": [1]}, Line, Line("a")),
        # In a union what JSON itself has comes first, then the order of the members.
        ("2024-01-02", date | str, "2024-01-02"),
        ("2024-01-02", str | date, "2024-01-02"),
        ("2024-01-02", date | None, date(2024, 1, 2)),
        (3, float | int, 3),
        (3, float | None, 3.0),
        (True, int | bool, True),
        (1, bool | int, 1),
        ({"name": "a"}, Checked | Line, Line("a")),
        ({"percent": 5}, Line | Checked, Checked(5)),
        ([{"name": "a"}], list[int] | list[Line], [Line("a")]),
        ("red", Colour | Line | None, Colour.RED),
    ],
)
def test_json_is_read_as_the_type_asked_for(value: Any, kind: Any, expected: Any) -> None:
    back = rebuild(value, kind)
    assert back == expected
    assert type(back) is type(expected)


class Unknown:
    pass


@pytest.mark.parametrize(
    "kind", [Any, object, Unknown, typing.TypeVar("T"), [int], "Line", Callable[[], int], type[int]]
)
@pytest.mark.parametrize("value", [None, 1, "x", [1, {"a": 2}]])
def test_types_that_mean_nothing_here_leave_the_value(kind: Any, value: Any) -> None:
    assert rebuild(value, kind) is value


@pytest.mark.parametrize(
    ("value", "kind", "message"),
    [
        ("5", int, r"^\$: expected int, found '5' \(str\); "),
        (True, int, r"expected int, found True"),
        (1, bool, r"expected bool, found 1 \(int\)"),
        (1.0, int, r"expected int, found 1\.0"),
        (True, float, r"expected float, found True"),
        (None, str, r"expected str, found None \(NoneType\)"),
        (0, None, r"expected null, found 0"),
        ("2024-13-01", date, r"expected date in ISO form, found '2024-13-01'"),
        (20240101, date, r"expected date in ISO form, found 20240101"),
        ("x", UUID, r"expected UUID in ISO form"),
        ("blue", Colour, r"expected Colour \(\"red\", \"green\"\), found 'blue'"),
        (True, Level, r"expected Level \(1, 2\), found True"),
        ([1], Colour, r"expected Colour"),
        ("c", Literal["a", "b"], r"expected one of 'a', 'b', found 'c'"),
        (True, Literal[1], r"expected one of 1, found True"),
        ({}, list[int], r"expected list, found \{\}"),
        ([], dict[str, int], r"expected dict, found \[\]"),
        ([1, "x"], list[int], r"^\$\[1\]: expected int, found 'x'"),
        ({"a": {"b": [1, None]}}, dict[str, dict[str, list[int]]], r"^\$\.a\.b\[1\]: expected int, found None"),
        ({"purple": 1}, dict[Colour, int], r"^\$\.purple: expected Colour"),
        ([1], tuple[int, str], r"expected an array of 2"),
        ([1, 2], tuple[int, str], r"^\$\[1\]: expected str"),
        ([[1]], set[Any], r"^\$ can't be a set: unhashable.*; annotate it as a list"),
        ([1, 2, 3], Point, r"expected Point \(an array of 2\)"),
        ([], Point, r"expected Point"),
        (["a"], Point, r"^\$\[0\]: expected int"),
        ([], Line, r"expected Line, found \[\]"),
        ({"count": 1}, Line, r"^\$\.name is missing, and Line needs it; "),
        ({"name": "a", "count": "x"}, Line, r"^\$\.count: expected int"),
        ([{"name": "a"}, {}], list[Line], r"^\$\[1\]\.name is missing"),
        ({"percent": 101}, Checked, r"^\$ can't be a Checked: ValueError: over 100; "),
        ({"name": 1}, Line | None, r"^\$\.name: expected str, found 1"),
        ({"name": 1}, Optional[Line], r"^\$\.name: expected str, found 1"),  # noqa: UP045
        (b"", int | str, r"expected int or str, found b''"),
        ([1], Line | Colour, r"expected Line or Colour, found \[1\]"),
        ({}, LateOptions, r"^\$\.colour is missing, and LateOptions needs it"),
        ({}, Options, r"^\$\.colour is missing, and Options needs it"),
        ({"colour": "x"}, Options, r"^\$\.colour: expected Colour"),
        ([], Options, r"expected Options, found \[\]"),
        ("x" * 1000, int, r"found 'x{63}… \(str\)"),
    ],
)
def test_what_does_not_fit_is_refused_with_path_expectation_and_find(value: Any, kind: Any, message: str) -> None:
    with pytest.raises(PayloadError, match=message) as refused:
        rebuild(value, kind)
    assert "; " in str(refused.value)


def test_one_annotation_that_nobody_can_resolve_hides_no_other() -> None:
    assert rebuild({"line": {"name": "a"}, "context": [1]}, Guarded) == Guarded(Line("a"), [1])
    with pytest.raises(PayloadError, match=r"\$\.limit: expected int"):
        rebuild({"line": {"name": "a"}, "context": 1, "limit": "x"}, Guarded)


def test_a_dataclass_takes_no_field_that_its_constructor_has_not() -> None:
    data = {"id": str(UUID(int=1)), "due": "2024-01-02", "lines": [], "size": 99}
    assert rebuild(data, Order).size == 0


def test_inherited_fields_are_rebuilt() -> None:
    @dataclass
    class Special(Checked):
        line: Line = dataclasses.field(kw_only=True)

    assert rebuild({"percent": 1, "line": {"name": "a"}}, Special) == Special(1, line=Line("a"))


@dataclass
class Chain:
    next: Optional["Chain"] = None


def test_a_chain_of_any_depth_is_rebuilt_or_refused_by_name() -> None:
    chain: Any = {}
    for _ in range(150):
        chain = {"next": chain}
    assert isinstance(rebuild(chain, Chain).next, Chain)
    for _ in range(20_000):
        chain = {"next": chain}
    with pytest.raises(PayloadError, match="nested too deeply"):
        rebuild(chain, Chain)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["name", "x", "colour"]), inner),
)


@given(json_values, st.sampled_from([kind for _, kind in ROUND_TRIPS]))
def test_any_value_is_rebuilt_or_refused_by_name(value: Any, kind: Any) -> None:
    try:
        rebuild(value, kind)
    except PayloadError as refused:
        assert str(refused).startswith("$") or "outside" in str(refused)  # noqa: PT017


def activity(context: "NeverImported", order: "Order", note=None, /, *rest: str, key: int = 0) -> list[Line]:  # type: ignore[no-untyped-def]
    raise NotImplementedError


class Service:
    def run(self, context: Any, order: Order) -> "Line":
        raise NotImplementedError

    @staticmethod
    def static(order: Order) -> "Line":
        raise NotImplementedError

    @classmethod
    def made(cls, order: "Order") -> "Line":
        raise NotImplementedError

    def __call__(self, order: "Order") -> "Line":
        raise NotImplementedError


@functools.wraps(activity)
def wrapper(*args: Any, **kwargs: Any) -> Any:
    raise NotImplementedError


@pytest.mark.parametrize(
    ("function", "index", "expected"),
    [
        (activity, 0, Any),
        (activity, 1, Order),
        (activity, 2, Any),
        (activity, 3, Any),
        (activity, -1, Any),
        (wrapper, 1, Order),
        (functools.partial(activity, object()), 0, Order),
        (functools.partial(functools.partial(activity), object()), 0, Order),
        (Service().run, 1, Order),
        (Service.run, 2, Order),
        (Service.static, 0, Order),
        (Service.made, 0, Order),
        (Service(), 0, Order),
        (len, 5, Any),
        (dict, 0, Any),
        (lambda a: a, 0, Any),
        (5, 0, Any),
    ],
)
def test_parameter_type(function: Any, index: int, expected: Any) -> None:
    assert parameter_type(function, index) == expected


async def fetch() -> "Line": ...  # type: ignore[empty-body]


def later() -> Awaitable[Line]: ...  # type: ignore[empty-body]


def routine() -> Coroutine[Any, Any, Line]: ...  # type: ignore[empty-body]


def steps() -> Generator[Any, Any, "Line"]:
    yield
    return Line("a")


def bare_steps() -> Generator:  # type: ignore[type-arg]
    yield


def plain_steps() -> Iterator[int]:
    yield 1


def nothing() -> None: ...


def unresolvable() -> "NeverImported":
    raise NotImplementedError


def explosive() -> "1 / 0":  # type: ignore[valid-type]
    raise NotImplementedError


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (activity, list[Line]),
        (wrapper, list[Line]),
        (Service().run, Line),
        (Service(), Line),
        (functools.partial(activity), list[Line]),
        (fetch, Line),
        (later, Line),
        (routine, Line),
        (steps, Line),
        (bare_steps, Any),
        (plain_steps, Any),
        (nothing, type(None)),
        (unresolvable, Any),
        (explosive, Any),
        (len, Any),
        (lambda: 1, Any),
        (5, Any),
    ],
)
def test_return_type(function: Any, expected: Any) -> None:
    assert return_type(function) == expected


def test_the_default_converter() -> None:
    converter: DataConverter = JsonDataConverter()
    order = Order(UUID(int=1), datetime(2024, 1, 2, tzinfo=UTC), [Line("é")])
    text = converter.dumps(order)
    assert text == dumps(order)
    assert isinstance(text, bytes)
    assert converter.loads(text, Order) == order
    assert converter.loads(text) == loads(text)
    assert JsonDataConverter().loads("[1]", set[int]) == {1}
    with pytest.raises(PayloadError):
        converter.loads(b"NaN", float)
