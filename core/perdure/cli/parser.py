"""The grammar of the command line: every command with its arguments, and which function runs it.

Functions stand here by name ("module:function"), so that reading the command line imports none of them.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any, NoReturn

import perdure
from perdure.plugins import register_plugin_commands

__all__ = ["parse"]

_DESCRIPTION = "Durable orchestrations in Python, on the database that you already run."
_EPILOG = """\
provider URL: --provider, else the environment variable PERDURE_PROVIDER, else sqlite:///perdure.db
JSON values:  given as they are, as @FILE, or as - for stdin
exit codes:   0 ok, 1 the instance failed or was terminated, 2 usage, 3 provider unreachable, 4 not found;
              130 and 143 where Ctrl-C or SIGTERM ended it
"""
_STATUSES = ("pending", "running", "suspended", "completed", "failed", "terminated")

_MAX_SECONDS = 1e9
_MIN_LEASE_SECONDS = 0.1
_MAX_COUNT_DIGITS = 9

_Commands = Any  # argparse's own type for it is private


class _Parser(argparse.ArgumentParser):
    """Prints its errors on one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"error: {message}; see `{self.prog} --help`\n")


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Return the arguments; `run` among them is the command's function, or its name.

    Raises:
        SystemExit: they are wrong, or help was asked for; what there is to say is printed.
    """
    parser = _Parser(
        prog="perdure", description=_DESCRIPTION, epilog=_EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--version", action="version", version=f"perdure {perdure.__version__}")
    _add_common(parser, provider=None, json=False)
    commands = parser.add_subparsers(metavar="COMMAND", required=True, title="commands")
    for add in (
        _add_run,
        _add_worker,
        _add_start,
        _add_list,
        _add_show,
        _add_history,
        _add_watch,
        _add_raise_event,
        _add_suspend,
        _add_resume,
        _add_terminate,
        _add_purge,
        _add_provider,
        _add_conformance,
    ):
        add(commands)
    word = _first_word(argv)
    if word is not None and word not in commands.choices:
        # Finding plugins means to look through everything that is installed: only for a command that is none of ours.
        register_plugin_commands(commands)
    return parser.parse_args(argv)


def _first_word(argv: Sequence[str]) -> str | None:
    words = iter(argv)
    for word in words:
        if word == "--provider":
            next(words, None)
        elif not word.startswith("-"):
            return word
    return None


def _add_common(parser: argparse.ArgumentParser, *, provider: Any, json: Any) -> None:
    parser.add_argument("--provider", metavar="URL", default=provider, help="where orchestrations are stored")
    parser.add_argument("--json", action="store_true", default=json, help="print JSON, and nothing else, on stdout")


def _command(commands: _Commands, name: str, function: str, about: str, **options: Any) -> argparse.ArgumentParser:
    description = about[0].upper() + about[1:] + "."
    parser: argparse.ArgumentParser = commands.add_parser(name, help=about, description=description, **options)
    parser.set_defaults(run=f"perdure.cli.{function}")
    # Also accepted before the command, whose value a default here would overwrite.
    _add_common(parser, provider=argparse.SUPPRESS, json=argparse.SUPPRESS)
    return parser


def _add_run(commands: _Commands) -> None:
    parser = _command(
        commands,
        "run",
        "run:run",
        "run an orchestration here, and show its custom status while it runs",
        epilog="Ctrl-C leaves the instance resumable and prints how. What the code prints goes to stderr; stdout is "
        "for the output of the orchestration alone.",
    )
    parser.add_argument("file", metavar="FILE.py", help="a file with functions marked @perdure.orchestrator")
    parser.add_argument("name", metavar="NAME", nargs="?", help="the orchestrator, if there are several in FILE.py")
    parser.add_argument("--input", metavar="JSON", help="its input")
    parser.add_argument("--id", metavar="ID", help="of the instance; that of an unfinished one continues it")
    parser.add_argument(
        "--lease-seconds",
        metavar="SECONDS",
        type=_lease,
        default=3.0,
        help="after a crash the next run goes on once the leases of this one have run out (default: 3)",
    )


def _add_worker(commands: _Commands) -> None:
    parser = _command(commands, "worker", "worker:work", "run orchestrators and activities until stopped")
    parser.add_argument("source", metavar="FILE_OR_MODULE", help="a file, or the dotted name of a module")
    parser.add_argument("--lease-seconds", metavar="SECONDS", type=_lease, default=30.0, help="default: 30")
    parser.add_argument("--max-activities", metavar="N", type=_count, default=32, help="at once (default: 32)")
    parser.add_argument("--max-turns", metavar="N", type=_count, default=100, help="at once (default: 100)")


def _add_start(commands: _Commands) -> None:
    parser = _command(commands, "start", "starting:start", "start an instance, for a worker to run")
    parser.add_argument("name", metavar="NAME", help="the orchestrator")
    parser.add_argument("--input", metavar="JSON", help="its input")
    parser.add_argument("--id", metavar="ID", help="of the instance (default: a new one)")
    parser.add_argument("--tag", metavar="KEY=VALUE", action="append", help="for finding it again; repeatable")
    parser.add_argument("--version", metavar="TEXT", help="of the orchestrator, which it can read")
    when = parser.add_mutually_exclusive_group()
    when.add_argument("--start-at", metavar="TIME", help="not before this time (ISO form)")
    when.add_argument("--delay", metavar="DURATION", help="not before this has passed: 90s, 15m, 2h, 30d")
    parser.add_argument(
        "--reuse-id",
        choices=("error", "replace_finished", "ignore"),
        default="error",
        help="what to do if the id is taken (default: error)",
    )
    parser.add_argument(
        "--wait",
        metavar="SECONDS",
        type=_seconds,
        default=2.0,
        help="how long to wait for a worker to take it before warning (default: 2; 0: don't)",
    )


def _add_list(commands: _Commands) -> None:
    parser = _command(commands, "list", "listing:list_instances", "list instances, the newest first")
    _add_filter(parser)
    parser.add_argument("--limit", metavar="N", type=_count, default=100, help="at most (default: 100)")


def _add_show(commands: _Commands) -> None:
    _add_id(_command(commands, "show", "showing:show", "show all that is known of an instance"))


def _add_history(commands: _Commands) -> None:
    _add_id(_command(commands, "history", "history:show_history", "list the events of an instance"))


def _add_watch(commands: _Commands) -> None:
    _add_id(
        _command(commands, "watch", "watching:watch", "follow an instance until it ends; the exit code is its result")
    )


def _add_raise_event(commands: _Commands) -> None:
    parser = _command(commands, "raise-event", "control:raise_event", "raise an external event on an instance")
    _add_id(parser)
    parser.add_argument("name", metavar="NAME", help="of the event")
    parser.add_argument("--data", metavar="JSON", help="what the orchestrator receives")


def _add_suspend(commands: _Commands) -> None:
    parser = _command(commands, "suspend", "control:suspend", "hold an instance until it is resumed")
    _add_id(parser)
    parser.add_argument("--reason", metavar="TEXT", help="kept in its history")


def _add_resume(commands: _Commands) -> None:
    parser = _command(commands, "resume", "control:resume", "let a suspended instance go on")
    _add_id(parser)
    parser.add_argument("--reason", metavar="TEXT", help="kept in its history")


def _add_terminate(commands: _Commands) -> None:
    parser = _command(commands, "terminate", "control:terminate", "end an instance and its sub-orchestrations")
    _add_id(parser)
    parser.add_argument("--output", metavar="JSON", help="the output it is to have")
    parser.add_argument("--no-recursive", action="store_true", help="leave its sub-orchestrations running")


def _add_purge(commands: _Commands) -> None:
    parser = _command(
        commands,
        "purge",
        "purging:purge",
        "delete finished instances with their history",
        epilog="Give ids, or a filter, or --all. Nothing brings purged instances back.",
    )
    parser.add_argument("ids", metavar="ID", nargs="*", help="of the instances")
    _add_filter(parser)
    parser.add_argument("--older-than", metavar="DURATION", help="that ended at least so long ago: 90s, 2h, 30d")
    parser.add_argument("--all", action="store_true", help="every finished instance of the task hub")
    parser.add_argument("--dry-run", action="store_true", help="only say what would be deleted")
    parser.add_argument("--force", action="store_true", help="also instances that have not ended")
    parser.add_argument("--recursive", action="store_true", help="sub-orchestrations too")


def _add_conformance(commands: _Commands) -> None:
    parser = _command(
        commands,
        "conformance",
        "conformance:run",
        "find out what a provider keeps of its promises",
        epilog="The store may hold other hubs: the suite makes its own, and deletes them. Exit code 0: every required "
        "case of the levels asked for passed.",
    )
    parser.add_argument("url", metavar="URL", nargs="?", help="the provider under test")
    parser.add_argument("--level", choices=("L0", "L1", "L2"), help="the highest (default: L2)")
    parser.add_argument("-k", dest="keyword", metavar="EXPRESSION", help="run some cases alone: -k LSE-04, -k CST")
    parser.add_argument("-n", dest="workers", metavar="N", type=_count, default=1, help="processes (default: 1)")
    parser.add_argument("--report", metavar="FILE", help="write all results as JSON")
    parser.add_argument("--junit", metavar="FILE", help="write all results as JUnit XML")
    parser.add_argument("--waivers", metavar="FILE", help="a TOML file of cases that may fail for a while")
    parser.add_argument("--seed", metavar="N", type=int, help="that of a former run, to repeat what it generated")
    parser.add_argument(
        "--full", action="store_true", help="run the large cases in full; with --self-test, all on each"
    )
    parser.add_argument(
        "--self-test", action="store_true", help="prove the suite on broken providers: each must be found out"
    )


def _add_provider(commands: _Commands) -> None:
    parser = commands.add_parser("provider", help="see which providers are installed")
    actions = parser.add_subparsers(metavar="COMMAND", required=True, title="commands")
    _command(actions, "list", "providers:list_providers", "list the providers installed here, and where they come from")


def _add_id(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("id", metavar="ID", help="of the instance")


def _add_filter(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--status", action="append", choices=_STATUSES, type=str.lower, help="repeatable")
    parser.add_argument("--name", metavar="NAME", action="append", help="of the orchestrator; repeatable")
    parser.add_argument("--tag", metavar="KEY=VALUE", action="append", help="repeatable; all must be there")
    parser.add_argument("--version", metavar="TEXT", action="append", help="of the orchestrator; repeatable")
    parser.add_argument("--prefix", metavar="TEXT", help="the beginning of the id")


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1
    if not 0 <= seconds <= _MAX_SECONDS:
        raise argparse.ArgumentTypeError(f"takes a number of seconds, not {text!r}")
    return seconds


def _lease(text: str) -> float:
    seconds = _seconds(text)
    if seconds < _MIN_LEASE_SECONDS:
        raise argparse.ArgumentTypeError(f"takes at least {_MIN_LEASE_SECONDS} seconds, not {text!r}")
    return seconds


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= _MAX_COUNT_DIGITS and int(text) > 0):
        raise argparse.ArgumentTypeError(f"takes a whole number from 1 on, not {text!r}")
    return int(text)
