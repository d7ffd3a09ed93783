"""The size of a custom status, at every boundary."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure.codec import dumps
from perdure.custom_status import custom_status_size, dump_custom_status
from perdure.errors import CustomStatusTooLarge, PayloadError
from perdure.limits import MAX_CUSTOM_STATUS_BYTES


@pytest.mark.parametrize(
    ("fits", "too_large", "size"),
    [
        ("a" * 8190, "a" * 8191, 16_384),
        ("😀" * 4095, "😀" * 4096, 16_384),
        ("中" * 8190, "中" * 8191, 16_384),
        ('"' * 4095, '"' * 4096, 16_384),
        ("\\" * 4095, "\\" * 4096, 16_384),
        ("\n" * 4095, "\n" * 4096, 16_384),
        ("\x01" * 1365, "\x01" * 1366, 16_384),
        ("\ud800" * 1365, "\ud800" * 1366, 16_384),  # six characters each
        ("é" * 8190, "é" * 8191, 16_384),
        ([1] * 4095, [1] * 4096, 16_382),
        ({"a": "b" * 8184}, {"a": "b" * 8185}, 16_384),
    ],
    ids=["ascii", "emoji", "han", "quote", "backslash", "newline", "control", "surrogate", "latin", "array", "object"],
)
def test_boundaries(fits: Any, too_large: Any, size: int) -> None:
    assert custom_status_size(fits) == size
    assert dump_custom_status(fits) == dumps(fits)
    assert custom_status_size(too_large) > MAX_CUSTOM_STATUS_BYTES
    with pytest.raises(CustomStatusTooLarge) as refused:
        dump_custom_status(too_large)
    assert refused.value.size == custom_status_size(too_large)
    assert refused.value.limit == 16_384


@pytest.mark.parametrize(
    ("value", "size"),
    [(None, 8), (0, 2), (False, 10), ("", 4), ([], 4), ({}, 4), ("a", 6), ("😀", 8), ("\ud83d", 16), ({"a": 1}, 14)],
)
def test_sizes_count_quotes_and_braces_and_no_mark(value: Any, size: int) -> None:
    assert custom_status_size(value) == size


@given(st.text(st.characters(exclude_categories=())) | st.lists(st.integers(0, 9)))
def test_the_size_is_that_of_the_canonical_text(value: Any) -> None:
    assert custom_status_size(value) == len(dumps(value).decode().encode("utf-16-le"))


@given(st.integers(1300, 8300), st.sampled_from("a\n\x01é中😀\ud800"))
def test_dumping_refuses_exactly_what_is_over_the_limit(count: int, character: str) -> None:
    value = character * count
    if custom_status_size(value) <= MAX_CUSTOM_STATUS_BYTES:
        assert dump_custom_status(value) == dumps(value)
    else:
        with pytest.raises(CustomStatusTooLarge):
            dump_custom_status(value)


def test_the_error_says_size_limit_largest_keys_and_remedy() -> None:
    value = {"small": 1, "rows": ["x"] * 3000, "log": "é" * 2000, "tail": "z" * 10, "more": 2}
    with pytest.raises(CustomStatusTooLarge) as refused:
        dump_custom_status(value)
    text = str(refused.value)
    assert f"{custom_status_size(value):,} bytes of UTF-16" in text
    assert "16,384" in text
    # Each with its quotes, its colon and its value: "rows":["x",...] is 7 + 4 * 3000 + 1 characters.
    assert refused.value.largest == (
        ("rows", 2 * (6 + 1 + 4 * 3000 + 1)),
        ("log", 2 * (5 + 1 + 2002)),
        ("tail", 2 * 19),
    )
    assert "'rows' (24,016), 'log' (4,016), 'tail' (38)" in text
    assert "reference" in text
    assert "small" not in text


def test_the_error_for_fields_arrays_and_long_keys() -> None:
    @dataclass
    class Status:
        rows: list[int]
        done: bool

    with pytest.raises(CustomStatusTooLarge) as refused:
        dump_custom_status(Status([1] * 9000, done=False))
    assert [key for key, _ in refused.value.largest] == ["rows", "done"]
    with pytest.raises(CustomStatusTooLarge) as refused:
        dump_custom_status([1] * 9000)
    assert refused.value.largest == ()
    with pytest.raises(CustomStatusTooLarge) as refused:
        dump_custom_status({"k" * 9000: "\ud800"})
    assert len(str(refused.value)) < 400
    str(refused.value).encode()


def test_what_is_not_json_is_refused_as_such() -> None:
    with pytest.raises(PayloadError, match=r"\$\.a is nan"):
        dump_custom_status({"a": float("nan")})
    with pytest.raises(PayloadError, match=r"\$ is of type set"):
        custom_status_size({1})
