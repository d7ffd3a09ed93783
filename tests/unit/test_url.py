"""Provider URLs: how they are split, and that no password comes out of them."""

from __future__ import annotations

import dataclasses
import traceback

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure.spi import DEFAULT_HUB, InvalidRequest, ProviderURL, redact

# What a password is recognised by, wherever a piece of it turns up.
HEAD, TAIL = "Xq7Wz", "Kv9Jy"
passwords = st.text(st.characters(exclude_categories=())).map(lambda text: HEAD + text + TAIL)
hostile_passwords = st.text(alphabet="@:/?#&=%+ \n\\'\".").map(lambda text: HEAD + text + TAIL)


def test_the_parts() -> None:
    url = ProviderURL.parse("Postgres+Psycopg://u:p%40w@h:5432/db?op_hub=blue&op_migrate=auto&sslmode=require&a=b%20c")
    assert url.scheme == "postgres+psycopg"
    assert url.rest == "u:p%40w@h:5432/db"
    assert url.hub == "blue"
    assert url.options == {"migrate": "auto"}
    assert url.parameters == {"sslmode": "require", "a": "b c"}
    assert url.driver_url() == "postgres+psycopg://u:p%40w@h:5432/db?sslmode=require&a=b%20c"
    assert str(url) == "postgres+psycopg://u:***@h:5432/db?op_hub=blue&op_migrate=auto&sslmode=require&a=b%20c"
    assert repr(url) == f"ProviderURL({str(url)!r})"


@pytest.mark.parametrize(
    ("text", "rest"),
    [
        ("sqlite:///perdure.db", "/perdure.db"),
        ("sqlite:////var/lib/x.db", "//var/lib/x.db"),
        ("memory://", ""),
        ("mongodb+srv://h/db", "h/db"),
        ("sqlite:///C:/x y.db", "/C:/x y.db"),
        ("mongodb://u:p@h1:1,h2:2/db", "u:p@h1:1,h2:2/db"),
    ],
)
def test_urls_without_parameters(text: str, rest: str) -> None:
    url = ProviderURL.parse(text)
    assert url.rest == rest
    assert (url.hub, url.options, url.parameters, url.query) == (DEFAULT_HUB, {}, {}, "")
    assert url.driver_url() == text


def test_parameters_of_the_driver_arrive_as_they_were_written() -> None:
    url = ProviderURL.parse("mongodb://h/db?tags=a%3A1&op_hub=x&tags=&flag&mail=a+b")
    assert url.driver_url() == "mongodb://h/db?tags=a%3A1&tags=&flag&mail=a+b"
    assert url.parameters == {"tags": "", "flag": "", "mail": "a b"}


def test_our_own_parameters_are_found_however_they_are_escaped() -> None:
    url = ProviderURL.parse("x://h?%6Fp_hub=a%26b")
    assert url.hub == "a&b"
    assert url.driver_url() == "x://h"
    assert str(url) == "x://h?op_hub=a%26b"
    assert ProviderURL.parse(str(url)) == url


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "/x.db",
        "x.db",
        ":memory:",
        "sqlite:x.db",
        "sqlite:/x.db",
        "1x://h",
        "x y://h",
        "://h",
        "x://h#f",
        "\x00://",
    ],
)
def test_what_is_no_url_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequest, match="is not a provider URL; write scheme://"):
        ProviderURL.parse(text)


@pytest.mark.parametrize("query", ["op_hub=a&op_hub=b", "op_hub=", "op_hub", "op_migrate=a&op_migrate=a", "op_=&op_=x"])
def test_our_own_parameters_stand_once_and_with_a_value(query: str) -> None:
    with pytest.raises(InvalidRequest, match="must stand once, with a value"):
        ProviderURL.parse(f"x://u:secret@h?{query}")


def test_a_password_with_a_bare_question_mark_is_refused_and_not_taken_for_a_host() -> None:
    with pytest.raises(InvalidRequest, match=r"u:\*\*\*@h.*%3F"):
        ProviderURL.parse(f"x://u:{HEAD}?{TAIL}@h/db")
    assert ProviderURL.parse("sqlite:///x.db?mail=a@b").parameters == {"mail": "a@b"}


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("x://u:p@h/db", "x://u:***@h/db"),
        ("x://u:p@w@h/db", "x://u:***@h/db"),
        ("x://u:p:w/x?y#z@h/db", "x://u:***@h/db"),
        ("x://u:@h", "x://u:***@h"),
        ("x://:p@h", "x://:***@h"),
        ("x://u@h/db", "x://u@h/db"),
        ("x://h:5432/db", "x://h:5432/db"),
        ("x://h/db?password=p&a=1", "x://h/db?password=***&a=1"),
        ("x://h/db?a=1&sslPassword=p=q", "x://h/db?a=1&sslPassword=***"),
        ("x://h/db?p%61ssword=p", "x://h/db?p%61ssword=***"),
        ("x://h/db?passwd=p&pwd=p&api_key=p&authToken=p&clientSecret=p", "x://h/db?passwd=***&pwd=***&api_key=***&authToken=***&clientSecret=***"),
        ("x://h/db?authMechanismProperties=AWS_SESSION_TOKEN:p", "x://h/db?authMechanismProperties=***"),
        ("x://h/db?password=", "x://h/db?password="),
        ("u:p@h/db", "u:***@h/db"),
        ("x:/u:p@h/db", "x:***@h/db"),
        ("u:p://w@h/db", "u:***@h/db"),
        ("sqlite:///perdure.db", "sqlite:///perdure.db"),
        ("", ""),
    ],
)  # fmt: skip
def test_redaction(text: str, shown: str) -> None:
    assert redact(text) == shown
    assert redact(shown) == shown


@given(passwords | hostile_passwords, st.sampled_from(["x://", "postgres+psycopg://", "", "x:/", "no scheme://"]))
def test_redaction_hides_any_password_in_any_text(password: str, scheme: str) -> None:
    for tail in ("@h", "@h:1/db", "@h1:1,h2:2/db?op_hub=a&sslmode=b", "@", "@h/db#f"):
        shown = redact(f"{scheme}user:{password}{tail}")
        assert HEAD not in shown
        assert TAIL not in shown
        assert "user" in shown or scheme not in ("x://", "")


@given(passwords | hostile_passwords, st.sampled_from(["", "?op_hub=a", "?op_hub=a&op_hub=b", "?a=b@c", "?password=x"]))
def test_a_password_never_appears(password: str, query: str) -> None:
    try:
        url = ProviderURL.parse(f"x://user:{password}@h:1/db{query}")
    except InvalidRequest as error:
        texts = [str(error), repr(error), "".join(traceback.format_exception(error))]
    else:
        texts = [str(url), repr(url), f"{url}", f"{url!r}", repr([url]), repr({"url": url})]
        assert password in url.driver_url()
    for text in texts:
        assert HEAD not in text
        assert TAIL not in text


@given(st.text(st.characters(exclude_categories=())))
def test_any_text_is_parsed_or_refused_by_name(text: str) -> None:
    for candidate in (text, f"x://{text}", f"x://h?{text}"):
        redact(candidate)
        try:
            url = ProviderURL.parse(candidate)
        except InvalidRequest:
            continue
        str(url)
        url.driver_url()


def test_options_are_not_shown_where_they_are_secret() -> None:
    url = ProviderURL.parse(f"x://h?op_token={HEAD}&op_migrate=auto")
    assert url.options == {"token": HEAD, "migrate": "auto"}
    assert HEAD not in f"{url}{url!r}"
    assert "op_migrate=auto" in str(url)


def test_a_url_is_frozen_and_compared_by_its_parts() -> None:
    url = ProviderURL.parse("x://h?op_hub=a")
    assert url == ProviderURL.parse("X://h?op_hub=a")
    assert url != ProviderURL.parse("x://h?op_hub=b")
    with pytest.raises(dataclasses.FrozenInstanceError):
        url.hub = "b"  # type: ignore[misc]
