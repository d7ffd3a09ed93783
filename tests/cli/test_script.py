from __future__ import annotations

from pathlib import Path

import pytest
from tests.cli.conftest import Invoke

from perdure.cli.problems import UsageProblem
from perdure.cli.script import choose_orchestrator, load_file, load_source, register

ONE = "import perdure\n@perdure.orchestrator\ndef alone(ctx):\n    return 1\n    yield\n"
TWO = ONE + "@perdure.orchestrator(name='other')\ndef second(ctx):\n    return 2\n    yield\n"


def choose(file: Path, name: str | None = None) -> str:
    return choose_orchestrator(register(load_file(str(file)), file.name), name, file.name)


def write(directory: Path, name: str, text: str) -> Path:
    (directory / name).write_text(text)
    return directory / name


def test_the_only_orchestrator_is_found(directory: Path) -> None:
    assert choose(write(directory, "one_flow.py", ONE)) == "alone"


def test_a_name_chooses_among_several(directory: Path) -> None:
    file = write(directory, "two_flows.py", TWO)
    assert choose(file, "other") == "other"
    with pytest.raises(UsageProblem, match=r"^two_flows.py has several orchestrators; name one of them: alone, other$"):
        choose(file)
    with pytest.raises(UsageProblem, match=r"^two_flows.py has no orchestrator 'third'; it has alone, other$"):
        choose(file, "third")


def test_files_beside_it_can_be_imported(directory: Path) -> None:
    write(directory, "a_neighbour.py", "WORD = 'hello'\n")
    module = load_file(str(write(directory, "importing.py", "import a_neighbour\nword = a_neighbour.WORD\n")))
    assert module.word == "hello"


def test_a_file_takes_no_other_modules_place(directory: Path) -> None:
    import random  # noqa: PLC0415

    module = load_file(str(write(directory, "random.py", ONE)))
    assert module.__name__ == "random_file"
    import random as again  # noqa: PLC0415

    assert again is random


def test_modules_are_found_by_their_dotted_names(directory: Path) -> None:
    (directory / "some_package").mkdir()
    write(directory / "some_package", "flows.py", ONE)
    assert register(load_source("some_package.flows"), "some_package.flows").orchestrators.keys() == {"alone"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("def broken(:\n", r"broken_flow.py, line 1: .*\(SyntaxError\)"),
        ("\n\n1 / 0\n", r"ZeroDivisionError: division by zero \(.*broken_flow.py, line 3\)"),
        ("import no_such_module_at_all\n", r"ModuleNotFoundError: No module named 'no_such_module_at_all'"),
        ("raise SystemExit(3)\n", "ended the process while it was loaded"),
        ("x = 1\n", "has no orchestrators or activities; mark them with @perdure.orchestrator"),
        ("import perdure\n@perdure.activity\ndef a(ctx): ...\n", "has no orchestrators; mark one"),
        ("import perdure\n@perdure.orchestrator\ndef a(): ...\n", r"must take \(context\) or \(context, input\)"),
        (
            "import perdure\n@perdure.activity\ndef a(ctx): ...\nb = a\n@perdure.activity\ndef a(ctx): ...\n",
            "another activity is registered as 'a'",
        ),
        ("import perdure\n@perdure.orchestrator(name='\\n')\ndef a(ctx): ...\n", "InvalidName: .* a control character"),
        (b"\xff\xfe\0", "SyntaxError|can't be loaded"),
    ],
)
def test_what_is_wrong_with_a_file_is_said_in_one_line(
    directory: Path, invoke: Invoke, text: str | bytes, message: str
) -> None:
    (directory / "broken_flow.py").write_bytes(text if isinstance(text, bytes) else text.encode())
    failed = invoke("run", "broken_flow.py", code=2)
    assert failed.stderr.count("\n") == 1
    with pytest.raises(UsageProblem, match=message):
        choose(directory / "broken_flow.py")
    assert not (directory / "perdure.db").exists()


def test_what_a_file_prints_is_no_output(directory: Path, invoke: Invoke) -> None:
    failed = invoke("run", str(write(directory, "chatty.py", "print('hello')\n")), code=2)
    assert failed.stdout == ""
    assert failed.stderr.startswith("hello\n")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("no_such_file.py", "no_such_file.py does not exist; give the path of a .py file"),
        ("no.such.module", "there is neither a file nor a module 'no.such.module'"),
        ("./", "is a directory"),
    ],
)
def test_what_is_not_there(source: str, message: str) -> None:
    with pytest.raises(UsageProblem, match=message):
        load_source(source)
