"""A missing server is a counted skip, and a failure where it is required."""

import pytest

pytest_plugins = ["pytester"]

TEST = """
    import sys
    sys.path.insert(0, {tests!r})
    from servers import require

    def test_it():
        require("postgres", "no binary was found")
"""


@pytest.fixture
def suite(pytester: pytest.Pytester, request: pytest.FixtureRequest) -> pytest.Pytester:
    pytester.makepyfile(TEST.format(tests=str(request.config.rootpath / "tests")))
    return pytester


def test_a_missing_server_is_a_skip_that_is_printed(suite: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PERDURE_REQUIRE", "mongodb")
    result = suite.runpytest_subprocess("-rs")
    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines(["*postgres can't be had: no binary was found*"])


def test_a_required_server_is_a_failure(suite: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PERDURE_REQUIRE", "mongodb, postgres")
    suite.runpytest_subprocess().assert_outcomes(failed=1)
