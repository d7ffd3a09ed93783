"""An inventory of a directory: one activity per file, and a report that no crash can spoil.

    perdure run examples/inventory.py --input '{"path": "."}'

Kill it half-way (Ctrl-C, or `kill -9`), start it again with the `--id` that it printed, and it goes on where it
was: what has been hashed is not hashed again. Equal trees give equal reports, byte for byte.

Symbolic links are not followed, and of the rest only regular files count. The database that perdure itself writes
would change while it is being hashed, so files named `perdure.db*` are left out; `"exclude"` in the input takes other
patterns instead (matched against names, as in `fnmatch`). Paths in the report are relative to the directory.
"""

from __future__ import annotations

import fnmatch
import hashlib
import mimetypes
import os
import stat
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import perdure

# Files are worked through in waves: wide enough to keep every thread of a worker busy, narrow enough for the
# custom status, which is set after each, to move.
WAVE = 100

# A page of a listing, so that the result of one activity stays below 4 MiB however large a directory is: a name has
# up to 255 bytes, and JSON up to six for each of them.
PAGE = 2_000

# The report has to stay below 4 MiB as well, so its lists are bounded, and say how long they would have been.
LARGEST = 10
MAX_GROUPS = 100
MAX_PATHS_PER_GROUP = 20
MAX_UNREADABLE = 1_000


@dataclass(frozen=True)
class Request:
    path: str = "."
    exclude: list[str] = field(default_factory=lambda: ["perdure.db*"])


@dataclass(frozen=True)
class Place:
    """A file or a directory in the tree."""

    root: str
    path: str
    """Relative to the root, with `/` between its parts; the root itself is ""."""
    exclude: list[str] = field(default_factory=list)
    after: str = ""
    """The last name on the page before, when a directory is listed."""

    @property
    def full_path(self) -> str:
        return os.path.join(self.root, *self.path.split("/"))

    def child(self, name: str) -> str:
        return f"{self.path}/{name}" if self.path else name


@dataclass(frozen=True)
class Listing:
    """A page of the names that a directory holds, sorted."""

    files: list[str]
    directories: list[str]
    next_page_after: str | None = None
    error: str | None = None


@dataclass(frozen=True)
class FileFacts:
    path: str
    size: int = 0
    type: str = ""
    sha256: str = ""
    error: str | None = None
    """Why it could not be read."""


@dataclass(frozen=True)
class Unreadable:
    path: str
    error: str


@dataclass(frozen=True)
class Sized:
    path: str
    size: int


@dataclass(frozen=True)
class Duplicates:
    """Files with the same content."""

    sha256: str
    size: int
    count: int
    paths: list[str]
    """The first of them."""


@dataclass(frozen=True)
class Kind:
    files: int
    bytes: int


@dataclass(frozen=True)
class Report:
    files: int
    bytes: int
    by_type: dict[str, Kind]
    largest: list[Sized]
    duplicates: list[Duplicates]
    """Those first that waste most."""
    duplicate_groups: int
    unreadable: list[Unreadable]
    unreadable_count: int


@perdure.activity
def find_root(ctx: perdure.ActivityContext, path: str) -> str:
    """Make the path absolute once: a resumed run may have another working directory."""
    root = os.path.realpath(path)
    if not os.path.isdir(root):
        raise NotADirectoryError(f"{path!r} is no directory (here it would be {root!r})")
    return root


@perdure.activity
def list_directory(ctx: perdure.ActivityContext, place: Place) -> Listing:
    files, directories = [], []
    try:
        with os.scandir(place.full_path) as entries:
            page = sorted((entry for entry in entries if entry.name > place.after), key=lambda entry: entry.name)
        for entry in page[:PAGE]:
            if entry.is_dir(follow_symlinks=False):
                directories.append(entry.name)
            elif entry.is_file(follow_symlinks=False) and not is_excluded(entry.name, place.exclude):
                files.append(entry.name)
    except OSError as error:
        return Listing([], [], error=describe(error))
    return Listing(files, directories, next_page_after=page[PAGE - 1].name if len(page) > PAGE else None)


@perdure.activity
def examine(ctx: perdure.ActivityContext, place: Place) -> FileFacts:
    try:
        # The tree may change under us: a pipe in the place of a file must not block the open, nor a link be followed.
        handle = os.open(place.full_path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOFOLLOW", 0))
        with os.fdopen(handle, "rb") as file:
            if not stat.S_ISREG(os.fstat(handle).st_mode):
                return FileFacts(place.path, error="no regular file any more")
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            size = file.tell()
    except OSError as error:
        return FileFacts(place.path, error=describe(error))
    return FileFacts(place.path, size=size, type=type_of(place.path), sha256=digest)


@perdure.orchestrator
async def inventory(ctx: perdure.OrchestrationContext, request: Request | None) -> Report:
    """Examine every file under a directory."""
    request = request or Request()
    ctx.set_custom_status({"progress": 0, "message": "looking for files"})
    root = await ctx.call_activity(find_root, input=request.path)

    paths: list[str] = []
    unreadable: list[Unreadable] = []
    directories = [Place(root, "", request.exclude)]
    while directories:
        wave, directories = directories[:WAVE], directories[WAVE:]
        listings = await perdure.when_all([ctx.call_activity(list_directory, input=place) for place in wave])
        for place, listing in zip(wave, listings, strict=True):
            paths += [place.child(name) for name in listing.files]
            directories += [Place(root, place.child(name), request.exclude) for name in listing.directories]
            if listing.next_page_after is not None:
                directories.append(Place(root, place.path, request.exclude, listing.next_page_after))
            if listing.error is not None:
                unreadable.append(Unreadable(place.path or ".", listing.error))
        ctx.set_custom_status({"progress": 0, "message": f"looking for files: {len(paths):,} so far"})

    facts: list[FileFacts] = []
    for wave_paths in waves(sorted(paths)):
        facts += await perdure.when_all([ctx.call_activity(examine, input=Place(root, path)) for path in wave_paths])
        done = f"{len(facts):,} of {len(paths):,} files, {sum(file.size for file in facts):,} bytes"
        ctx.set_custom_status({"progress": round(len(facts) / len(paths), 4), "message": done})

    unreadable += [Unreadable(file.path, file.error) for file in facts if file.error is not None]
    return summarise([file for file in facts if file.error is None], unreadable)


def waves(paths: list[str]) -> Iterator[list[str]]:
    for start in range(0, len(paths), WAVE):
        yield paths[start : start + WAVE]


def summarise(files: Iterable[FileFacts], unreadable: Iterable[Unreadable]) -> Report:
    """Pure, and so fit to run in the orchestrator: everything in it is sorted, with ties broken by path."""
    files = sorted(files, key=lambda file: file.path)
    unreadable = sorted(unreadable, key=lambda item: item.path)
    counts: Counter[str] = Counter()
    sizes: Counter[str] = Counter()
    same: defaultdict[tuple[str, int], list[str]] = defaultdict(list)
    for file in files:
        counts[file.type] += 1
        sizes[file.type] += file.size
        same[file.sha256, file.size].append(file.path)
    groups = [
        Duplicates(sha256, size, len(paths), paths[:MAX_PATHS_PER_GROUP])
        for (sha256, size), paths in same.items()
        if len(paths) > 1
    ]
    groups.sort(key=lambda group: (-group.size * (group.count - 1), group.paths[0]))
    return Report(
        files=len(files),
        bytes=sum(sizes.values()),
        by_type={kind: Kind(counts[kind], sizes[kind]) for kind in sorted(counts)},
        largest=[Sized(file.path, file.size) for file in sorted(files, key=lambda file: (-file.size, file.path))][
            :LARGEST
        ],
        duplicates=groups[:MAX_GROUPS],
        duplicate_groups=len(groups),
        unreadable=unreadable[:MAX_UNREADABLE],
        unreadable_count=len(unreadable),
    )


def is_excluded(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


# Python's own table only: what the machine adds to it would make reports differ from machine to machine.
_TYPES = mimetypes.MimeTypes(filenames=())


def type_of(path: str) -> str:
    kind, encoding = _TYPES.guess_type(path)
    return f"{kind or 'application/octet-stream'}" + (f" ({encoding})" if encoding else "")


def describe(error: OSError) -> str:
    return f"{type(error).__name__}: {error.strerror or 'unknown error'}"
