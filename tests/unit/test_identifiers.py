"""Instance ids, names and tags: each rule, and the error that names it."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure.errors import InvalidArgument, InvalidInstanceId, InvalidName
from perdure.identifiers import check_instance_id, check_name, check_tags, new_instance_id


class Text(str):
    __slots__ = ()


@pytest.mark.parametrize(
    "instance_id", ["a", "x" * 256, "order:42@shop", "é中😀", " a ", "%_$'\";--", "a.b-c_d", "😀" * 256]
)
def test_ids_that_are_fine(instance_id: str) -> None:
    assert check_instance_id(instance_id) is instance_id


@pytest.mark.parametrize(
    ("instance_id", "reason"),
    [
        ("", "is empty"),
        ("x" * 257, "has 257 characters, over the limit of 256"),
        ("@start", "starts with '@'"),
        ("a/b", "holds '/'"),
        ("a\\b", "holds '\\\\'"),
        ("a#b", "holds '#'"),
        ("a?b", "holds '?'"),
        ("a\x00", r"holds a control character, '\x00', at position 1"),
        ("a\n", r"holds a control character, '\n', at position 1"),
        ("\x1fa", "a control character"),
        ("a\x7f", "a control character"),
        ("a\x85", "a control character"),
        ("a\ud800", r"holds a lone surrogate, '\ud800', at position 1"),
        (None, "is of type NoneType, not str"),
        (5, "is of type int"),
        (b"a", "is of type bytes"),
        ({"$ne": None}, "is of type dict"),
        (Text("a"), "is of type Text"),
    ],
)
def test_ids_that_break_a_rule(instance_id: Any, reason: str) -> None:
    with pytest.raises(InvalidInstanceId, match=re.escape(reason)) as refused:
        check_instance_id(instance_id)
    assert "; use " in str(refused.value)
    assert len(str(refused.value)) < 300
    str(refused.value).encode()


@given(st.text(st.characters(exclude_categories=()), max_size=300))
def test_an_id_is_returned_or_refused_by_name(instance_id: str) -> None:
    bad = (
        not 1 <= len(instance_id) <= 256
        or instance_id[0] == "@"
        or any(c in "/\\#?" or ord(c) < 32 or 127 <= ord(c) < 160 or 0xD800 <= ord(c) < 0xE000 for c in instance_id)
    )
    if bad:
        with pytest.raises(InvalidInstanceId):
            check_instance_id(instance_id)
    else:
        assert check_instance_id(instance_id) == instance_id
        assert len(instance_id.encode()) <= 1024


@pytest.mark.parametrize("name", ["a", "x" * 256, "module.function", "a/b?c#d\\e", "@a", "é 中"])
def test_names_that_are_fine(name: str) -> None:
    assert check_name(name) is name


@pytest.mark.parametrize("name", ["", "x" * 257, "a\x00", "a\n", "a\x9f", "a\udfff", None, 5, b"a", Text("a")])
def test_names_that_break_a_rule(name: Any) -> None:
    with pytest.raises(InvalidName, match=r"(?s)^the event name .*; use 1 to 256"):
        check_name(name, "event")


def test_tags_that_are_fine() -> None:
    tags = {"k" * 256: "v" * 256, "empty": "", "a/b": "é"}
    checked = check_tags(tags)
    assert checked == tags
    assert checked is not tags
    assert check_tags({}) == {}
    assert len(check_tags({str(i): "" for i in range(32)})) == 32


@pytest.mark.parametrize(
    ("tags", "reason"),
    [
        ({str(i): "" for i in range(33)}, "33 tags are too many"),
        ({"": "v"}, "the tag key '' is empty"),
        ({"k" * 257: "v"}, "has 257 characters"),
        ({"k": "v" * 257}, "of the tag 'k' has 257 characters"),
        ({"k\x00": "v"}, "a control character"),
        ({"k": "v\n"}, "a control character"),
        ({"k": "\ud800"}, "a lone surrogate"),
        ({5: "v"}, "the tag key <int> is of type int"),
        ({"k": None}, "is of type NoneType"),
        ({"k": Text("v")}, "is of type Text"),
        ({"k": Text("")}, "is of type Text"),
        ([("k", "v")], "not list"),
        ("kv", "not str"),
        (None, "not NoneType"),
    ],
)
def test_tags_that_break_a_rule(tags: Any, reason: str) -> None:
    with pytest.raises(InvalidArgument, match=re.escape(reason)):
        check_tags(tags)


def test_new_ids_are_valid_and_all_different() -> None:
    ids = {new_instance_id() for _ in range(1000)}
    assert len(ids) == 1000
    assert all(re.fullmatch("[0-9a-f]{32}", check_instance_id(one)) for one in ids)
