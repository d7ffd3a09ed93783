"""The canonical JSON text: what it is, what it refuses, and that both ways of making it agree."""

from __future__ import annotations

import collections
import dataclasses
import enum
import functools
import json
import math
import struct
import sys
import threading
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, NamedTuple
from uuid import UUID

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure import codec
from perdure.codec import dump_payload, dumps, format_path, loads
from perdure.errors import PayloadError, PayloadTooLarge
from perdure.limits import MAX_INT, MAX_NESTING, MAX_PAYLOAD_BYTES, MIN_INT

any_text = st.text(st.characters(exclude_categories=()))  # lone surrogates included
clean_text = st.text(st.characters(exclude_categories=["Cs"]))
integers = st.integers(MIN_INT, MAX_INT)
floats = st.floats(allow_nan=False, allow_infinity=False)


def json_values(text: st.SearchStrategy[str], numbers: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.recursive(
        st.none() | st.booleans() | numbers | text,
        lambda inner: st.lists(inner, max_size=5) | st.dictionaries(text, inner, max_size=5),
        max_leaves=20,
    )


def nested_list(depth: int) -> Any:
    value: Any = []
    for _ in range(depth - 1):
        value = [value]
    return value


def with_surrogate_pairs_joined(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")
    if isinstance(value, list):
        return [with_surrogate_pairs_joined(item) for item in value]
    if isinstance(value, dict):
        return {with_surrogate_pairs_joined(k): with_surrogate_pairs_joined(v) for k, v in value.items()}
    return value


@given(json_values(clean_text, integers | floats))
def test_a_value_comes_back_as_it_was(value: Any) -> None:
    back = loads(dumps(value))
    assert back == value
    assert repr(back) == repr(value)  # tells True from 1, 1 from 1.0 and -0.0 from 0.0


@given(json_values(any_text, integers | floats))
def test_text_with_surrogates_comes_back_with_pairs_joined(value: Any) -> None:
    assert loads(dumps(value)) == with_surrogate_pairs_joined(value)


@given(json_values(any_text, integers | floats))
def test_what_was_read_is_written_as_the_same_text(value: Any) -> None:
    text = dumps(value)
    assert dumps(loads(text)) == text


@given(json_values(clean_text, integers))
def test_the_text_is_compact_json_with_non_ascii_raw(value: Any) -> None:
    assert dumps(value) == json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


@given(json_values(clean_text, integers | floats))
def test_the_full_encoder_writes_what_orjson_writes(value: Any) -> None:
    assert codec._encode(value) == orjson.dumps(value) == dumps(value)


@given(st.binary(min_size=8, max_size=8).map(lambda raw: struct.unpack("d", raw)[0]).filter(math.isfinite))
def test_a_float_has_one_text_whatever_stands_beside_it(number: float) -> None:
    assert dumps([number, "\ud800"]) == b"[" + dumps(number) + b',"\\ud800"]'
    assert loads(dumps(number)) == number


@pytest.mark.parametrize("number", [1e16, 1e22, -1e300, 1e-7, 1.5e-5, 5e-324, 0.1, -0.0, 1.7976931348623157e308])
def test_floats_at_the_edges_of_notation(number: float) -> None:
    assert codec._encode(number) == orjson.dumps(number)
    assert dumps({"\udfff": number}) == b'{"\\udfff":' + orjson.dumps(number) + b"}"


class Colour(enum.Enum):
    RED = "red"
    PAIR = (1, 2)
    NOT_A_NUMBER = math.nan


class Size(enum.IntEnum):
    BIG = 3


class Key(enum.StrEnum):
    A = "a"


class Point(NamedTuple):
    x: int
    y: float


@dataclasses.dataclass
class Order:
    id: str
    lines: list[Any]
    _note: str = "n"
    parent: Order | None = None

    @functools.cached_property
    def total(self) -> int:
        return len(self.lines)


@dataclasses.dataclass(slots=True)
class Slotted:
    a: int = 1


class Celsius(float):
    pass


class Headers(dict[str, Any]):
    pass


class Texts(list[str]):
    pass


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "null"),
        (Colour.RED, '"red"'),
        (Colour.PAIR, "[1,2]"),
        (Size.BIG, "3"),
        (datetime(2024, 1, 2, 3, 4, 5, 6, tzinfo=UTC), '"2024-01-02T03:04:05.000006+00:00"'),
        (datetime(2024, 1, 2), '"2024-01-02T00:00:00"'),
        (date(2024, 1, 2), '"2024-01-02"'),
        (time(3, 4, 5), '"03:04:05"'),
        (UUID(int=1), '"00000000-0000-0000-0000-000000000001"'),
        ((1, (2,)), "[1,[2]]"),
        (Point(1, 2.5), "[1,2.5]"),
        (Slotted(), '{"a":1}'),
        (Celsius(1.5), "1.5"),
        (Texts(["a"]), '["a"]'),
        ({Key.A: Key.A}, '{"a":"a"}'),
        ({"b": 1, "a": 2}, '{"b":1,"a":2}'),
        (collections.OrderedDict(b=None, a=Headers(c=None)), '{"b":null,"a":{"c":null}}'),
        ("é\u2028\x7f\x00\n/", '"é\u2028\x7f\\u0000\\n/"'),
    ],
)
def test_python_values_have_one_text(value: Any, text: str) -> None:
    assert dumps(value).decode() == text
    assert codec._encode(value).decode() == text


def test_a_dataclass_is_written_by_its_fields_alone() -> None:
    order = Order("1", [1, 2], parent=Order("0", []))
    before = dumps(order)
    assert order.total == 2  # now in the instance's __dict__
    assert dumps(order) == before
    assert before == b'{"id":"1","lines":[1,2],"_note":"n","parent":{"id":"0","lines":[],"_note":"n","parent":null}}'
    assert codec._encode(order) == before


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("\ud800", rb'"\ud800"'),
        ("a\udfffb", rb'"a\udfffb"'),
        ("\ude00\ud83d", rb'"\ude00\ud83d"'),
        ("\ud83d\ude00", '"😀"'.encode()),  # read back, an escaped pair would be the character
        ({"\ud800": "\ud800"}, rb'{"\ud800":"\ud800"}'),
    ],
)
def test_lone_surrogates_are_written_as_escapes(value: Any, text: bytes) -> None:
    assert dumps(value) == text
    assert dumps(loads(text)) == text


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf, Celsius("nan")])
def test_numbers_that_json_has_not_are_refused_with_their_path(number: float) -> None:
    for value in ({"a": [None, {"b c": number}]}, {"a": (None, {"b c": number})}):
        with pytest.raises(PayloadError, match=r"\$\.a\[1\]\['b c'\] is (nan|inf|-inf), .*; use"):
            dumps(value)
    with pytest.raises(PayloadError, match=r"\$\.lines\[0\] is "):
        dumps(Order("1", [number]))


def test_a_nan_inside_an_enum_is_refused() -> None:
    with pytest.raises(PayloadError, match=r"\$\[1\] is nan"):
        dumps([None, Colour.NOT_A_NUMBER])


def test_the_word_null_and_real_nulls_are_no_nans() -> None:
    value = [None, "null", {"null": None}, Order("null", [None]), Colour.RED, Point(1, 2.0), 1.5, True]
    assert dumps(value) == codec._encode(value)


@pytest.mark.parametrize("number", [MIN_INT, MAX_INT, 2**53 + 1])
def test_integers_in_range_are_exact(number: int) -> None:
    assert loads(dumps([number])) == [number]
    assert loads(dumps([number, "\ud800"])) == [number, "\ud800"]


@pytest.mark.parametrize("number", [MIN_INT - 1, MAX_INT + 1, 10**30, -(10**30)])
def test_integers_out_of_range_are_refused(number: int) -> None:
    with pytest.raises(PayloadError, match=r"\$\[0\] is an integer outside"):
        dumps([number])
    for text in (f"[{number}]", f'["\\ud800",{number}]', f'{{"a":{number} }}', f" {number}"):
        with pytest.raises(PayloadError, match="integer outside"):
            loads(text)


def test_an_integer_of_a_million_digits_is_refused_at_once() -> None:
    with pytest.raises(PayloadError, match="integer outside"):
        dumps(1 << 3_000_000)
    with pytest.raises(PayloadError, match="a key of type int"):
        dumps({1 << 3_000_000: 1})
    with pytest.raises(PayloadError):
        loads("1" * 1_000_000)
    with pytest.raises(PayloadError, match="integer outside"):
        loads('["\\ud800",' + "1" * 1_000_000 + "]")


@pytest.mark.parametrize(
    "text",
    [
        "0.11111111111111111111111",
        "1e0000000000000000000000001",
        "1e-0000000000000000000000001",
        "1.5e+00000000000000000000",
        "99999999999999999999.5",
        "99999999999999999999e0",
    ],
)
def test_long_runs_of_digits_in_floats_are_floats(text: str) -> None:
    assert loads(text) == float(text)


def test_long_runs_of_digits_in_strings_are_strings() -> None:
    value = {"1" * 40: "2" * 40, "a": '"' + "3" * 40, "b": "\\" + "4" * 40}
    assert loads(dumps(value)) == value


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (b"x", r"\$ is of type bytes, which is not JSON; "),
        ({"a": [1, {"b": {1}}]}, r"\$\.a\[1\]\.b is of type set"),
        ([timedelta(1)], r"\$\[0\] is of type datetime\.timedelta"),
        ([time(1, tzinfo=UTC)], r"\$\[0\] is of type datetime\.time.*tzinfo"),
        ([object()], r"\$\[0\] is of type object"),
        ([Order], r"\$\[0\] is of type type"),
        ({"a": {1: 2}}, r"\$\.a has a key of type int; JSON keys are strings"),
        ({None: 2}, r"\$ has a key of type NoneType"),
        ({("a" * 100): object()}, r"\$\.a{63}… is of type object"),
    ],
)
def test_what_is_not_json_is_refused_with_its_type_and_path(value: Any, reason: str) -> None:
    with pytest.raises(PayloadError, match=reason):
        dumps(value)


def test_two_keys_of_one_text_are_refused() -> None:
    with pytest.raises(PayloadError, match=r"\$\[0\]\.a\['😀'\] stands twice"):
        dumps([{"a": {"\ud83d\ude00": 1, "😀": 2}}])


def test_a_nan_inside_a_subclass_of_dict_is_refused() -> None:
    with pytest.raises(PayloadError, match=r"\$\.a is nan"):
        dumps(Headers(a=math.nan))


def test_a_dataclass_without_one_of_its_fields_is_refused() -> None:
    slotted = Slotted()
    del slotted.a
    with pytest.raises(PayloadError, match=r"the fields of \$\[0\] .*Slotted\) can't be read"):
        dumps([slotted])


def test_nesting_up_to_the_limit() -> None:
    for value in (nested_list(MAX_NESTING), {"a": nested_list(MAX_NESTING - 1)}):
        text = dumps(value)
        assert loads(text) == value
        assert codec._encode(value) == text
    assert loads(dumps(["\ud800", nested_list(MAX_NESTING - 1)]))[0] == "\ud800"


def test_nesting_over_the_limit_is_refused() -> None:
    for value in (nested_list(MAX_NESTING + 1), {"a": nested_list(MAX_NESTING)}, [{}, nested_list(MAX_NESTING)]):
        with pytest.raises(PayloadError, match="nested over 200 levels"):
            dumps(value)
        with pytest.raises(PayloadError, match="nested over 200 levels"):
            loads(orjson.dumps(value))
    with pytest.raises(PayloadError, match="nested over 200 levels"):
        loads('["\\ud800",' + "[" * MAX_NESTING + "]" * MAX_NESTING + "]")


def test_nested_dataclasses_count_as_levels() -> None:
    order = Order("1", [])
    for _ in range(MAX_NESTING - 2):
        order = Order("1", [], parent=order)
    assert loads(dumps(order))["parent"]["id"] == "1"
    order = Order("1", [], parent=order)
    with pytest.raises(PayloadError, match="nested over 200 levels"):
        dumps(order)


def test_many_brackets_are_no_nesting() -> None:
    value = [[[], {"a": []}]] * 1000 + ["[" * 500, '"[' * 500, "\\[" * 500]
    assert loads(dumps(value)) == value
    assert loads('["\\ud800"' + ",[{}]" * 1000 + "]") == ["\ud800", *[[{}]] * 1000]


def test_cycles_and_very_deep_values_are_refused_even_on_a_full_stack() -> None:
    cycle: list[Any] = []
    cycle.append(cycle)
    wheel: dict[str, Any] = {}
    wheel["a"] = [wheel, wheel]
    order = Order("1", [])
    order.parent = order

    def deep_down(frames: int, value: Any) -> None:
        if frames:
            deep_down(frames - 1, value)
        else:
            dumps(value)

    for value in (cycle, wheel, order, nested_list(30_000)):
        with pytest.raises(PayloadError, match="nested over 200 levels deep, or holds itself"):
            dumps(value)
        with pytest.raises(PayloadError, match="nested over 200 levels"):
            deep_down(sys.getrecursionlimit() // 2, value)
    for text in ("[" * 1_000_000, '{"a":' * 100_000, '"\\ud800' + '"[' * 100_000, '["\\ud800",' + "[" * 100_000):
        with pytest.raises(PayloadError):
            loads(text)


@pytest.mark.parametrize("text", [b'"' * 400_000, b'"\\"' * 400_000, b'"' + b'\\"' * 400_000, b'["\\ud800' * 200_000])
def test_hostile_text_takes_no_quadratic_time(text: bytes) -> None:
    done = threading.Event()

    def run() -> None:
        with pytest.raises(PayloadError):
            loads(text)
        done.set()

    threading.Thread(target=run, daemon=True).start()
    assert done.wait(10)


@pytest.mark.parametrize(
    "text",
    [
        "", " ", "NaN", "Infinity", "-Infinity", "[NaN]", '["\\ud800",NaN]', '["\\ud800",-Infinity]', "1e400", "-1e400",
        '["\\ud800",1e400]', "{", "[1,]", '{"a"}', "{'a':1}", "01", "1 2", '"\\ud800', '"\x01"', "\ufeff1", "tru",
        "'a'", '["\\ud800" 1]',
    ],
)  # fmt: skip
def test_what_is_not_json_text_is_refused(text: str) -> None:
    for form in (text, text.encode()):
        with pytest.raises(PayloadError) as refused:
            loads(form)
        assert ";" in str(refused.value)


def test_errors_say_where() -> None:
    with pytest.raises(PayloadError, match="at character 4;"):
        loads("[1, nope]")
    with pytest.raises(PayloadError, match="at byte 5;"):
        loads("[12, 99999999999999999999]")
    with pytest.raises(PayloadError, match="byte 1 is not UTF-8"):
        loads(b'"\xff"')
    with pytest.raises(PayloadError, match="byte 1 is not UTF-8"):
        loads(b'"\xed\xa0\x80"')
    with pytest.raises(PayloadError, match="a lone surrogate at character 1;"):
        loads('"\ud800"')


def test_of_equal_keys_the_last_wins() -> None:
    assert loads('{"a":1,"a":2}') == {"a": 2}
    assert loads('{"\\ud800":1,"\\uD800":2}') == {"\ud800": 2}


@given(st.text() | st.binary())
def test_any_text_is_read_or_refused_by_name(text: str | bytes) -> None:
    try:
        value = loads(text)
    except PayloadError:
        return
    assert loads(dumps(value)) == value


@given(json_values(any_text, integers | floats), st.data())
def test_damaged_text_is_read_or_refused_by_name(value: Any, data: st.DataObject) -> None:
    text = bytearray(json.dumps(value).encode())
    text[data.draw(st.integers(0, len(text) - 1))] = data.draw(st.integers(0, 255))
    try:
        value = loads(bytes(text))
    except PayloadError:
        return
    assert loads(dumps(value)) == value


def test_a_payload_at_the_limit_and_over_it() -> None:
    fits = "a" * (MAX_PAYLOAD_BYTES - 2)
    assert len(dump_payload(fits)) == MAX_PAYLOAD_BYTES
    with pytest.raises(PayloadTooLarge, match=r"4,194,305 bytes.*at most 4,194,304.*reference") as refused:
        dump_payload(fits + "a")
    assert (refused.value.size, refused.value.limit) == (MAX_PAYLOAD_BYTES + 1, MAX_PAYLOAD_BYTES)
    with pytest.raises(PayloadTooLarge):
        dump_payload("é" * (MAX_PAYLOAD_BYTES // 2))


def test_a_path_is_shown_short() -> None:
    assert format_path(["a", 3, "b", "c d", ""]) == "$.a[3].b['c d']['']"
    assert len(format_path(["k" * 1000] * 1000)) < 400
