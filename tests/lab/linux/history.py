# SPDX-License-Identifier: GPL-2.0-or-later
"""A git repository that plays linux-next: Debian's kernel source, topic branches, daily tags.

The tarball and opt-in.patch become the branch `stable`. The commits of `topics` grow on topic
branches, and each tag is a fresh set of merges of these branches into `stable`, so no tag descends
from another. All dates and people are fixed: one tarball gives the same commits on every machine.

    refs/heads/stable             the tarball, and coverage of some directories
    refs/lab/branches/<branch>    topic branches, as of the last tag
    refs/lab/tags/<tag>           annotated tags, until publish() reveals them
    refs/lab/complete/<digest>    written last; names what the repository was made from
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tarfile
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import IO, TYPE_CHECKING

from tests.lab.linux.topics import (
    COMMITS,
    CULPRIT_SUBJECT,
    NEXT_MAINTAINER,
    Branch,
    Commit,
    Tag,
    maintainer,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

STABLE = "refs/heads/stable"
STABLE_MAINTAINER = "stable maintainer <stable@example.org>"
STABLE_DATE = datetime(2026, 11, 10, 12, tzinfo=UTC)
BRANCHES = "refs/lab/branches"
TAGS = "refs/lab/tags"
COMPLETE = "refs/lab/complete"
FORMAT = b"2"
PIPE_BYTES = 1 << 20
ABBREVIATION = 12


class LabTreeError(Exception):
    """The repository cannot be made; the message says of which command or file."""


@dataclass(slots=True, kw_only=True)
class _Work:
    """What the steps share: the repository, and the edited files as each branch has them now."""

    repository: Path
    opt_in: Path
    texts: dict[str, str] = field(default_factory=dict)
    heads: dict[Branch, str] = field(default_factory=dict)
    culprit: str = ""


def make_tree(repository: Path, tarball: Path, *, progress: Callable[[str], None]) -> None:
    """Make the bare `repository` from a kernel `tarball` (.tar.xz, one top-level folder).

    Returns at once if it is complete and was made from the same tarball and topics; anything else
    at that path which is a repository is made anew. Takes about half a minute.

    Raises LabTreeError if `repository` is something else, if an edit does not fit, or if git fails.
    """
    opt_in = Path(__file__).parent / "opt-in.patch"
    complete = f"{COMPLETE}/{_digest(tarball, opt_in)}"
    if repository.exists():
        if not (repository / "objects").is_dir() and any(repository.iterdir()):
            raise LabTreeError(f"{repository} is not a git repository; name another path")
        if _has_ref(repository, complete):
            return
        progress(f"removing what is left of {repository}")
        shutil.rmtree(repository)
    _run("init", "--quiet", "--bare", str(repository))
    _git(repository, "config", "gc.auto", "0")
    _git(repository, "symbolic-ref", "HEAD", STABLE)
    work = _Work(repository=repository, opt_in=opt_in)
    progress(f"importing {tarball}")
    stable = _commit_opt_in(work, _import_tarball(work, tarball))
    _git(repository, "update-ref", STABLE, stable)
    progress("committing topics")
    for tag in Tag:
        _commit_topics(work, tag, stable)
        _make_tag(work, tag, stable)
    for branch, head in work.heads.items():
        _git(repository, "update-ref", f"{BRANCHES}/{branch}", head)
    _git(repository, "update-ref", complete, stable)
    progress(f"{repository} is complete")


def publish(source: Path, public: Path, tag: Tag) -> None:
    """Reveal `tag` of the repository `source` in the bare repository `public`, made if missing.

    `public` gets the tag, `stable`, and `master` as linux-next has it: moved to the tag by force.
    It borrows the objects of `source`, which has to stay where it is.
    """
    if not public.exists():
        _run("init", "--quiet", "--bare", "--initial-branch=master", str(public))
        _git(public, "config", "gc.auto", "0")
        objects = (source / "objects").resolve()
        (public / "objects/info/alternates").write_text(f"{objects}\n")
    _git(
        source,
        *("push", "--quiet", str(public.resolve())),
        *(f"{STABLE}:{STABLE}", f"+{TAGS}/{tag}:refs/tags/{tag}"),
        f"+{TAGS}/{tag}^{{commit}}:refs/heads/master",
    )


def _digest(tarball: Path, opt_in: Path) -> str:
    with tarball.open("rb") as archive:
        digest = hashlib.file_digest(archive, "sha256")
    digest.update(FORMAT + opt_in.read_bytes() + repr(COMMITS).encode())
    return digest.hexdigest()[:ABBREVIATION]


def _environment() -> dict[str, str]:
    settings = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
    return {"PATH": os.environ["PATH"], "HOME": "/", "LC_ALL": "C.UTF-8", **settings}


def _run(*arguments: str, data: bytes = b"", extra: Mapping[str, str] | None = None) -> str:
    environment = _environment() | dict(extra or {})
    result = subprocess.run(
        ["git", *arguments], input=data, env=environment, capture_output=True, check=False
    )
    if result.returncode:
        tail = result.stderr.decode(errors="replace")[-2000:]
        raise LabTreeError(f"git {' '.join(arguments)} ended with {result.returncode}: {tail}")
    return result.stdout.decode().strip()


def _git(
    repository: Path, *arguments: str, data: bytes = b"", extra: Mapping[str, str] | None = None
) -> str:
    return _run(f"--git-dir={repository}", *arguments, data=data, extra=extra)


def _has_ref(repository: Path, ref: str) -> bool:
    command = ["git", f"--git-dir={repository}", "show-ref", "--verify", "--quiet", ref]
    return subprocess.run(command, env=_environment(), check=False).returncode == 0


def _stamp(when: datetime) -> str:
    return f"{int(when.timestamp())} +0000"


def _day(tag: Tag) -> datetime:
    return datetime.strptime(tag, "next-%Y%m%d").replace(tzinfo=UTC, hour=5)


def _commit_header(
    ref: str, message: str, when: datetime, *, author: str, committer: str, parent: str | None
) -> bytes:
    """Return the start of a commit for git fast-import; file commands follow."""
    text = message.encode()
    lines = [
        f"commit {ref}",
        "mark :1",
        f"author {author} {_stamp(when)}",
        f"committer {committer} {_stamp(when)}",
        f"data {len(text)}",
    ]
    origin = f"from {parent}\n".encode() if parent else b""
    return "\n".join(lines).encode() + b"\n" + text + b"\n" + origin


def _file_command(path: str, content: bytes, mode: str = "100644") -> bytes:
    if "\n" in path or path.startswith('"'):
        raise LabTreeError(f"a path that git fast-import does not take: {path!r}")
    return f"M {mode} inline {path}\ndata {len(content)}\n".encode() + content + b"\n"


def _import_tarball(work: _Work, tarball: Path) -> str:
    """Stream the tarball into one commit; the texts that topics edit are kept. Return its id.

    Level 1 and no deltas: a pack that is half as large takes minutes, and it only has to be copied
    to the one who clones.
    """
    options = ["core.compression=1", "pack.compression=1", "fastimport.unpackLimit=0"]
    command = ["git", f"--git-dir={work.repository}"]
    command += [word for option in options for word in ("-c", option)]
    command += ["fast-import", "--quiet", "--depth=0"]
    wanted = {edit.path for commit in COMMITS for edit in commit.edits}
    header = _commit_header(
        STABLE,
        f"Import {tarball.name}\n",
        STABLE_DATE,
        author=STABLE_MAINTAINER,
        committer=STABLE_MAINTAINER,
        parent=None,
    )
    with (
        subprocess.Popen(["xz", "-dc", str(tarball)], stdout=subprocess.PIPE) as xz,
        subprocess.Popen(command, stdin=subprocess.PIPE, env=_environment()) as importer,
    ):
        assert xz.stdout is not None
        assert importer.stdin is not None
        importer.stdin.write(header)
        for path, mode, content in _members(xz.stdout):
            importer.stdin.write(_file_command(path, content, mode))
            if path in wanted:
                work.texts[path] = content.decode()
        importer.stdin.close()
    if xz.returncode or importer.returncode:
        raise LabTreeError(
            f"cannot import {tarball}: xz ended with {xz.returncode}, "
            f"git fast-import with {importer.returncode}; both wrote why to stderr"
        )
    return _git(work.repository, "rev-parse", STABLE)


def _members(stream: IO[bytes]) -> Iterator[tuple[str, str, bytes]]:
    """Yield path below the top-level folder, git mode and content of each file and link."""
    with tarfile.open(fileobj=stream, mode="r|", bufsize=PIPE_BYTES) as archive:
        for member in archive:
            path = member.name.partition("/")[2]
            if member.issym():
                yield path, "120000", member.linkname.encode()
            elif member.isfile():
                content = archive.extractfile(member)
                assert content is not None
                yield path, "100755" if member.mode & 0o100 else "100644", content.read()
            elif not member.isdir():
                raise LabTreeError(f"the tarball has {path!r}, which git cannot store")


def _commit_opt_in(work: _Work, imported: str) -> str:
    """Commit opt-in.patch on what was imported; return the commit's id.

    All branches start from it, so that the coverage of every commit can be measured.
    """
    message = work.repository / "lab-message"
    index = {"GIT_INDEX_FILE": str(work.repository / "lab-index")}
    patch = work.opt_in.read_bytes()
    info = _git(work.repository, "mailinfo", str(message), os.devnull, data=patch)
    subject = next(line for line in info.splitlines() if line.startswith("Subject: "))
    _git(work.repository, "read-tree", imported, extra=index)
    _git(work.repository, "apply", "--cached", data=patch, extra=index)
    tree = _git(work.repository, "write-tree", extra=index)
    text = f"{subject.removeprefix('Subject: ')}\n\n{message.read_text()}"
    person = _identity(STABLE_MAINTAINER, STABLE_DATE + timedelta(hours=1))
    commit = _git(
        work.repository, "commit-tree", tree, "-p", imported, data=text.encode(), extra=person
    )
    (work.repository / "lab-index").unlink()
    message.unlink()
    return commit


def _identity(person: str, when: datetime) -> dict[str, str]:
    name, _, address = person.rstrip(">").partition(" <")
    roles = ("AUTHOR", "COMMITTER")
    values = {"NAME": name, "EMAIL": address, "DATE": f"@{_stamp(when)}"}
    return {f"GIT_{role}_{key}": value for role in roles for key, value in values.items()}


def apply_edits(commit: Commit, texts: dict[str, str]) -> None:
    """Apply the edits of `commit` to `texts` (path -> content).

    Raises LabTreeError unless the text to replace occurs exactly once.
    """
    for edit in commit.edits:
        found = texts.get(edit.path, "").count(edit.old)
        if found != 1:
            raise LabTreeError(
                f"{commit.subject!r}: {edit.old!r} occurs {found} times in {edit.path}, not once; "
                "correct topics.py for this kernel source"
            )
        texts[edit.path] = texts[edit.path].replace(edit.old, edit.new)


def _commit_topics(work: _Work, tag: Tag, stable: str) -> None:
    start = _day(tag) - timedelta(hours=18)
    for number, commit in enumerate(entry for entry in COMMITS if entry.tag is tag):
        apply_edits(commit, work.texts)
        committer = maintainer(commit.branch)
        author = commit.author or committer
        signed = dict.fromkeys((author, committer))
        trailers = "".join(f"Signed-off-by: {person}\n" for person in signed)
        body = commit.body.replace("{culprit}", work.culprit)
        gap = "\n" if "\nFixes: " in body else "\n\n"
        ref = f"{BRANCHES}/{commit.branch}"
        header = _commit_header(
            ref,
            f"{commit.subject}\n\n{body}{gap}{trailers}",
            start + timedelta(minutes=17 * number),
            author=author,
            committer=committer,
            parent=work.heads.get(commit.branch, stable),
        )
        paths = dict.fromkeys(edit.path for edit in commit.edits)
        files = b"".join(_file_command(path, work.texts[path].encode()) for path in paths)
        _git(work.repository, "fast-import", "--quiet", data=header + files)
        head = _git(work.repository, "rev-parse", ref)
        work.heads[commit.branch] = head
        if commit.subject == CULPRIT_SUBJECT:
            work.culprit = head[:ABBREVIATION]


def _make_tag(work: _Work, tag: Tag, stable: str) -> None:
    """Merge all branches into `stable` anew, add linux-next's own files, and tag that."""
    head = stable
    for number, (branch, tip) in enumerate(sorted(work.heads.items())):
        tree = _git(work.repository, "merge-tree", "--write-tree", head, tip)
        head = _git(
            work.repository,
            *("commit-tree", tree, "-p", head, "-p", tip),
            data=f"Merge branch '{branch}'\n".encode(),
            extra=_identity(NEXT_MAINTAINER, _day(tag) + timedelta(minutes=number)),
        )
    listing = [f"{branch}\t{tip}\n" for branch, tip in sorted(work.heads.items())]
    when = _day(tag) + timedelta(hours=1)
    header = _commit_header(
        f"{TAGS}/{tag}",
        f"Add linux-next specific files for {tag.removeprefix('next-')}\n\n"
        f"Signed-off-by: {NEXT_MAINTAINER}\n",
        when,
        author=NEXT_MAINTAINER,
        committer=NEXT_MAINTAINER,
        parent=head,
    )
    sha1s = f"stable\t{stable}\n" + "".join(listing)
    files = _file_command("Next/SHA1s", sha1s.encode())
    files += _file_command("localversion-next", f"-{tag}\n".encode())
    _git(work.repository, "fast-import", "--quiet", data=header + files)
    commit = _git(work.repository, "rev-parse", f"{TAGS}/{tag}")
    text = f"object {commit}\ntype commit\ntag {tag}\ntagger {NEXT_MAINTAINER} {_stamp(when)}\n\n"
    name = _git(work.repository, "mktag", data=f"{text}{tag}\n".encode())
    _git(work.repository, "update-ref", f"{TAGS}/{tag}", name)
