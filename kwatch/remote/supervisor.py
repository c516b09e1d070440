# SPDX-License-Identifier: GPL-2.0-or-later
"""The small program that owns supervised commands on a host.

kwatch uploads this one file (standard library only, Python 3.9 or later) and runs it as
``python3 supervisor.py VERB PARENT [ID]``. A run lives in ``PARENT/ID``:

    spec.json   what was asked: argv, cwd, env, deadline_s, lease_s, nice, files (name -> limit)
    lease       touched while somebody is attached; too old, and everything is killed
    supervisor  who watches: pid, start time in ticks, boot id
    child       the command, likewise
    log, ...    what it writes: ``log`` is its standard output and error
    exit        how it ended, written once and atomically

A run survives the connection that started it. It never survives its deadline, its lease, its
supervisor (whose parent watches it), or its own first process: with any of them, every descendant
is killed. Every verb
answers with JSON on standard output; an error is ``{"error": TEXT}`` and status 1.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import json
import os
import re
import resource
import select
import shutil
import signal
import stat
import subprocess
import sys
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

RUN_ID = re.compile(r"[a-z0-9-]{1,64}")
FILE_NAME = re.compile(r"[a-z0-9][a-z0-9.-]{0,63}")
MARK = "KWATCH_RUN"
TOOLS = re.compile(
    r"(git|bwrap|make|cpio|mold|ccache|timeout|busybox|qemu-system-.+|clang(-\d+)?"
    r"|ld\.lld(-\d+)?|llvm-(cov|profdata|nm|objdump|symbolizer)(-\d+)?)"
)
PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36

LOOK_EVERY = 0.2  # seconds between two looks at lease, deadline and file sizes
FOLLOW_EVERY = 0.025  # seconds between two looks at a followed file
ALIVE_EVERY = 1.0  # seconds between two signs of life to whoever is attached
SILENCE = 60.0  # seconds after which an attached client that says nothing is given up
KILL_PATIENCE = 30.0  # seconds to wait for killed processes to vanish
PIECE = 256 << 10  # bytes of a followed file in one frame
# Free bytes of the disk under which nobody knows whether all is kept that the run writes.
LEAST_ROOM = 256 << 10
EXIT_ROOM = 4096  # bytes of the exit file, taken while the disk has them


class Identity(NamedTuple):
    """One process for all time: a pid alone may be used again."""

    pid: int
    start: int
    boot: str


class Stat(NamedTuple):
    """What /proc/PID/stat says that matters here (see proc(5))."""

    state: str
    parent: int
    session: int
    start: int


class Refused(Exception):  # noqa: N818 - it is an answer, not a fault
    """The request cannot be served; the text says why."""


def process_stat(pid: int) -> Stat | None:
    """The state of ``pid``, or None if there is no such process."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return None
    # The name, in parentheses, may itself hold spaces and parentheses.
    fields = text.rpartition(")")[2].split()
    return Stat(fields[0], int(fields[1]), int(fields[3]), int(fields[19]))


def boot_id() -> str:
    """What tells this boot of the host from every other."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def identity(pid: int) -> Identity:
    """The identity of the living process ``pid``."""
    found = process_stat(pid)
    return Identity(pid, found.start if found else -1, boot_id())


def alive(who: Identity | None) -> bool:
    """Whether this very process still runs; a zombie does not."""
    if who is None or who.boot != boot_id():
        return False
    found = process_stat(who.pid)
    return found is not None and found.start == who.start and found.state not in "ZX"


def send_signal(who: Identity, number: int) -> None:
    """Signal this very process; one that is gone, or not ours, is left alone."""
    try:
        handle = os.pidfd_open(who.pid)
    except OSError:
        return
    try:
        # The handle was opened first: if the check still fits, it can mean no other process.
        if alive(who):
            signal.pidfd_send_signal(handle, number)
    except OSError:
        pass
    finally:
        os.close(handle)


def processes() -> dict[int, Stat]:
    """Every process that can be seen, zombies left out."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            state = process_stat(int(entry.name))
            if state is not None and state.state not in "ZX":
                found[int(entry.name)] = state
    return found


def descendants(root: int) -> list[Identity]:
    """All living processes below ``root``."""
    everyone = processes()
    children: dict[int, list[int]] = {}
    for pid, state in everyone.items():
        children.setdefault(state.parent, []).append(pid)
    boot = boot_id()
    found: list[Identity] = []
    todo = [root]
    while todo:
        below = children.get(todo.pop(), [])
        todo.extend(below)
        found.extend(Identity(pid, everyone[pid].start, boot) for pid in below)
    return found


class Run:
    """The folder of one run."""

    def __init__(self, parent: Path, run_id: str) -> None:
        if not RUN_ID.fullmatch(run_id):
            raise Refused(f"{run_id!r} is no run id: use up to 64 of a-z, 0-9 and '-'")
        self.id = run_id
        self.directory = parent.resolve() / run_id
        self.lease = self.directory / "lease"

    def read_identity(self, name: str) -> Identity | None:
        """The process that the file ``name`` tells of, or None."""
        try:
            pid, start, boot = (self.directory / name).read_text().split()
            return Identity(int(pid), int(start), boot)
        except (OSError, ValueError):
            return None

    def write_identity(self, name: str, who: Identity) -> None:
        """Record ``who`` in the file ``name``."""
        self.write(name, f"{who.pid} {who.start} {who.boot}\n".encode())

    def write(self, name: str, data: bytes) -> None:
        """Write a file so that a reader sees all of it or nothing."""
        part = self.directory / f".{name}.part"
        part.write_bytes(data)
        part.rename(self.directory / name)

    def started(self) -> bool:
        """Whether a supervisor ever took the run on."""
        return (self.directory / "supervisor").exists()

    def running(self) -> bool:
        """Whether its supervisor lives."""
        return alive(self.read_identity("supervisor"))

    def exit(self) -> dict[str, Any] | None:
        """How it ended, or None if it did not (yet)."""
        try:
            found = json.loads((self.directory / "exit").read_bytes())
        except FileNotFoundError:
            return None
        return found if isinstance(found, dict) else None

    def age(self, name: str) -> float | None:
        """Seconds since the file ``name`` was changed."""
        with contextlib.suppress(OSError):
            return round(max(0.0, time.time() - (self.directory / name).stat().st_mtime), 3)
        return None

    def renew(self) -> None:
        """Make the lease new."""
        with contextlib.suppress(OSError):
            os.utime(self.lease)

    def leftovers(self) -> list[Identity]:
        """Living processes of this run, found by its mark or its session."""
        child = self.read_identity("child")
        boot = boot_id()
        mark = f"{MARK}={self.directory}".encode()
        found = []
        for pid, state in processes().items():
            ours = child is not None and (
                child.boot == boot and state.session == child.pid and state.start >= child.start
            )
            with contextlib.suppress(OSError):
                ours = ours or mark in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
            if ours and pid != os.getpid():
                found.append(Identity(pid, state.start, boot))
        return found

    def settle(self) -> None:
        """Close a run whose supervisor died: kill what it left and say so. Needs the lock."""
        who = self.read_identity("supervisor")
        if who is not None and not alive(who) and self.exit() is None:
            gone = kill_all(self.leftovers)
            why = "the supervisor died" if who.boot == boot_id() else "the host was started anew"
            self.write_exit("lost", -1, detail=why + ("" if gone else
                            "; some of its processes cannot be killed"))  # fmt: skip

    def reserve_exit(self) -> None:
        """Take the room for the exit file: it is written on a full disk as well."""
        (self.directory / ".exit.part").write_bytes(b" " * EXIT_ROOM)

    def write_exit(self, reason: str, status: int, *, took: float = 0.0, detail: str = "") -> None:
        """Close the run: nothing of it is alive any more."""
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        answer = {
            "reason": reason,
            "status": status,
            "took": round(took, 3),
            "max_rss_kib": used.ru_maxrss,
            "cpu_s": round(used.ru_utime + used.ru_stime, 3),
            "detail": detail,
        }
        part = self.directory / ".exit.part"
        with part.open("r+b" if part.exists() else "wb") as stream:
            # Over the spaces that hold its room: JSON may end in some.
            stream.write(json.dumps(answer).encode().ljust(EXIT_ROOM))
            stream.flush()
            os.fsync(stream.fileno())
        part.rename(self.directory / "exit")
        # Of all files only this one means something after a crash of the host.
        folder = os.open(self.directory, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


@contextlib.contextmanager
def locked(parent: Path) -> Iterator[None]:
    """Only one may start, settle or reap below ``parent`` at a time."""
    parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(parent / ".lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        # A forked supervisor shares the lock, so closing alone would not let go.
        fcntl.flock(handle, fcntl.LOCK_UN)
        os.close(handle)


def kill_all(find: Callable[[], list[Identity]]) -> bool:
    """Kill what ``find`` finds until it finds nothing; False if that does not come."""
    end = time.monotonic() + KILL_PATIENCE
    while targets := find():
        if time.monotonic() > end:
            return False
        for target in targets:
            send_signal(target, signal.SIGKILL)
        reap_children()
        time.sleep(0.005)
    return True


wait_statuses: dict[int, int] = {}


def reap_children() -> None:
    """Collect every child that has ended, orphans of the command among them."""
    with contextlib.suppress(ChildProcessError):
        while (ended := os.waitpid(-1, os.WNOHANG))[0] != 0:
            wait_statuses[ended[0]] = ended[1]


# --- start ---------------------------------------------------------------------------------------


def start(parent: Path, run_id: str) -> dict[str, Any]:
    """Start the run unless it was started before; answer its state."""
    spec = read_json()
    run = Run(parent, run_id)
    for name in spec.get("files", {}):
        check_name(name)
    with locked(parent):
        fresh = not run.started()
        if fresh:
            run.directory.mkdir(mode=0o700, exist_ok=True)
            run.write("spec.json", json.dumps(spec).encode())
            run.lease.touch()
            run.reserve_exit()
            launch(run, spec)
        else:
            run.settle()
    return {**describe(run), "fresh": fresh}


def launch(run: Run, spec: dict[str, Any]) -> None:
    """Fork the supervisor, and wait until it has started the command or failed to."""
    ready, tell = os.pipe()
    middle = os.fork()
    if middle == 0:
        os.setsid()
        if os.fork() == 0:
            guard_main(run, spec, tell)
        os._exit(0)
    os.close(tell)
    os.waitpid(middle, 0)
    os.read(ready, 1)
    os.close(ready)


def guard_main(run: Run, spec: dict[str, Any], tell: int) -> None:
    """The life of the supervisor's parent, which cleans up if the supervisor is killed."""
    detach(run, keep=tell)
    libc().prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    supervisor = os.fork()
    if supervisor == 0:
        supervisor_main(run, spec, tell)
        os._exit(0)
    os.close(tell)
    os.waitpid(supervisor, 0)
    kill_all(lambda: descendants(os.getpid()))
    with locked(run.directory.parent):
        run.settle()


def supervisor_main(run: Run, spec: dict[str, Any], tell: int) -> None:
    """The life of the supervisor; never returns with anything of the run alive."""
    run.write_identity("supervisor", identity(os.getpid()))
    begin = time.monotonic()
    try:
        libc().prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        try:
            child = start_child(run, spec)
        except (OSError, subprocess.SubprocessError) as error:
            run.write_exit("start-failed", 127, detail=f"{spec['argv'][0]}: {error}")
            return
        finally:
            os.close(tell)
        reason = watch(run, spec, child.pid)
        gone = kill_all(lambda: descendants(os.getpid()))
        cut(run, spec)
        child.returncode = child_status(child.pid)
        run.write_exit(reason, child.returncode, took=time.monotonic() - begin,
                       detail="" if gone else "some processes cannot be killed")  # fmt: skip
    except BaseException:  # noqa: BLE001 - whatever it was, nothing may be left behind
        traceback.print_exc()
        kill_all(lambda: descendants(os.getpid()))
        run.write_exit("lost", -1, took=time.monotonic() - begin, detail=traceback.format_exc())


def detach(run: Run, keep: int) -> None:
    """Let go of everything the connection owns."""
    os.umask(0o077)
    os.chdir(run.directory)
    null = os.open(os.devnull, os.O_RDWR)
    errors = os.open("supervisor.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for source, target in ((null, 0), (null, 1), (errors, 2)):
        os.dup2(source, target)
    for entry in list(Path("/proc/self/fd").iterdir()):
        if int(entry.name) not in (0, 1, 2, keep):
            with contextlib.suppress(OSError):
                os.close(int(entry.name))


SIGNALS = (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def libc() -> ctypes.CDLL:
    """The C library, for prctl(2)."""
    return ctypes.CDLL(None, use_errno=True)


def start_child(run: Run, spec: dict[str, Any]) -> subprocess.Popen[bytes]:
    """Start the command in a session of its own; it dies with this supervisor."""
    library = libc()
    supervisor = os.getpid()

    def prepare() -> None:
        library.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != supervisor:
            os._exit(127)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        if spec.get("nice"):
            os.nice(int(spec["nice"]))

    base = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    log = os.open("log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        child = subprocess.Popen(
            spec["argv"],
            cwd=spec.get("cwd") or run.directory,
            env={"LC_ALL": "C.UTF-8", **base, **spec.get("env", {}), MARK: str(run.directory)},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            preexec_fn=prepare,  # noqa: PLW1509 - this program has one thread
        )
    finally:
        os.close(log)
    run.write_identity("child", identity(child.pid))
    return child


def watch(run: Run, spec: dict[str, Any], child: int) -> str:
    """Wait for a reason to end the run."""
    now = time.monotonic()
    deadline = now + float(spec["deadline_s"])
    lease_s = float(spec.get("lease_s", 180))
    limits: dict[str, int] = spec.get("files", {})
    # Only that the lease changed is read from the file: the host's clock may be set at any time.
    lease, renewed = lease_mark(run), now
    while True:
        caught = signal.sigtimedwait(SIGNALS, LOOK_EVERY)
        now = time.monotonic()
        reap_children()
        if child in wait_statuses:
            return "exited"
        if caught is not None and caught.si_signo in (signal.SIGTERM, signal.SIGINT):
            return "stopped"
        if now >= deadline:
            return "deadline"
        current = lease_mark(run)
        if current != lease:
            lease, renewed = current, now
        elif now - renewed > lease_s:
            return "lease"
        if any(size(run.directory / name) > limit for name, limit in limits.items()):
            return "output-limit"
        if room(run.directory) < LEAST_ROOM:
            return "no-room"


def room(directory: Path) -> int:
    """Bytes that may still be written there."""
    found = os.statvfs(directory)
    return found.f_bavail * found.f_frsize


def cut(run: Run, spec: dict[str, Any]) -> None:
    """Give back what files grew over their limit between two looks."""
    for name, limit in spec.get("files", {}).items():
        if size(run.directory / name) > limit:
            with contextlib.suppress(OSError):
                os.truncate(run.directory / name, limit)


def lease_mark(run: Run) -> int:
    """What changes whenever the lease is renewed."""
    try:
        return run.lease.stat().st_mtime_ns
    except OSError:
        return 0


def size(path: Path) -> int:
    """Bytes of a file, 0 while it does not exist."""
    try:
        return path.stat().st_size
    except OSError:
        return 0


def child_status(child: int) -> int:
    """The exit status of the child, or minus the signal that ended it."""
    end = time.monotonic() + KILL_PATIENCE
    while child not in wait_statuses and time.monotonic() < end:
        reap_children()
        time.sleep(0.005)
    raw = wait_statuses.get(child, signal.SIGKILL)
    return os.WEXITSTATUS(raw) if os.WIFEXITED(raw) else -os.WTERMSIG(raw)


# --- attach --------------------------------------------------------------------------------------


def attach(parent: Path, run_id: str) -> None:
    """Stream what the files grow by until the run ends or the client goes away.

    Whatever the client sends renews the lease; a client that is merely still connected, behind a
    dead network say, does not.
    """
    run = Run(parent, run_id)
    offsets = {check_name(name): int(at) for name, at in read_json_line()["offsets"].items()}
    if not run.started():
        raise Refused(f"there is no run {run_id} here")
    run.renew()
    limits = json.loads((run.directory / "spec.json").read_bytes()).get("files", {})
    handles: dict[str, int] = {}
    spoke = looked = heard = time.monotonic()
    while True:
        # Read before the files: what was written before the end is then seen in full.
        ended = run.exit()
        moved = sum(follow(run, name, offsets, handles, limits.get(name)) for name in offsets)
        now = time.monotonic()
        if moved:
            spoke = now
        elif ended is not None:
            frame({"exit": ended})
            return
        elif now - spoke >= ALIVE_EVERY:
            frame({"alive": True})
            spoke = now
        if ended is None and now - looked >= ALIVE_EVERY:
            looked = now
            settle_if_dead(parent, run)
        if select.select([0], [], [], 0 if moved else FOLLOW_EVERY)[0]:
            if not os.read(0, 4096):
                return
            run.renew()
            heard = now
        if now - heard > SILENCE:
            return


def settle_if_dead(parent: Path, run: Run) -> None:
    """Close the run if nobody supervises it any more."""
    if not run.running():
        with locked(parent):
            run.settle()


def follow(
    run: Run, name: str, offsets: dict[str, int], handles: dict[str, int], limit: int | None
) -> int:
    """Send the next piece of the file ``name``, never beyond its limit; the bytes sent."""
    if name not in handles:
        try:
            handle = os.open(run.directory / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        except OSError:
            return 0
        handles[name] = handle
    state = os.fstat(handles[name])
    end = state.st_size if limit is None else min(state.st_size, limit)
    if not stat.S_ISREG(state.st_mode) or end <= offsets[name]:
        return 0
    data = os.pread(handles[name], min(PIECE, end - offsets[name]), offsets[name])
    if data:
        frame({"file": name, "offset": offsets[name], "size": len(data)}, data)
        offsets[name] += len(data)
    return len(data)


def frame(header: dict[str, Any], data: bytes = b"") -> None:
    """Write one frame: a line of JSON, then as many raw bytes as it says."""
    sys.stdout.buffer.write(json.dumps(header).encode() + b"\n" + data)
    sys.stdout.buffer.flush()


# --- the other verbs -----------------------------------------------------------------------------


def describe(run: Run) -> dict[str, Any]:
    """State of a run: prepared, running or ended."""
    ended = run.exit()
    state = "ended" if ended else "running" if run.started() else "prepared"
    return {"id": run.id, "state": state, "age": run.age("spec.json"),
            "lease_age": run.age("lease"), "exit": ended}  # fmt: skip


def stop(parent: Path, run_id: str) -> dict[str, Any]:
    """Kill the run, and return only when nothing of it is left."""
    run = Run(parent, run_id)
    if not run.started():
        return describe(run)
    who = run.read_identity("supervisor")
    if who is not None and alive(who) and run.exit() is None:
        send_signal(who, signal.SIGTERM)
        end = time.monotonic() + KILL_PATIENCE
        while alive(who) and time.monotonic() < end:
            time.sleep(0.01)
        # One that does not obey takes its child along: the kernel sees to that.
        send_signal(who, signal.SIGKILL)
    with locked(parent):
        run.settle()
    return describe(run)


def discard(parent: Path, run_id: str) -> dict[str, Any]:
    """Stop the run and delete its folder; answer how it ended."""
    last = stop(parent, run_id)
    shutil.rmtree(Run(parent, run_id).directory, ignore_errors=True)
    return last


def every_run(parent: Path) -> list[Run]:
    """All runs below ``parent``."""
    if not parent.is_dir():
        return []
    names = sorted(entry.name for entry in parent.iterdir() if entry.is_dir())
    return [Run(parent, name) for name in names if RUN_ID.fullmatch(name)]


def list_runs(parent: Path) -> dict[str, Any]:
    """Every run with its state and age."""
    with locked(parent):
        runs = every_run(parent)
        for run in runs:
            run.settle()
    return {"runs": [describe(run) for run in runs]}


def reap(parent: Path) -> dict[str, Any]:
    """Stop every run that is not to be kept, and delete its folder."""
    keep = set(read_json()["keep"])
    stopped, deleted = [], []
    for run in every_run(parent):
        if run.id in keep:
            continue
        if run.started() and run.exit() is None:
            stopped.append(run.id)
        discard(parent, run.id)
        deleted.append(run.id)
    return {"stopped": stopped, "deleted": deleted}


def probe(directory: Path) -> dict[str, Any]:
    """What this host has and is."""
    memory = dict(
        line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines() if ":" in line
    )
    disk = shutil.disk_usage(directory)
    return {
        "tools": find_tools(),
        "cpus": os.cpu_count(),
        "cpu": cpu_field("model name"),
        "microcode": cpu_field("microcode"),
        "memory_kib": int(memory["MemTotal"].split()[0]),
        "memory_available_kib": int(memory["MemAvailable"].split()[0]),
        "disk_bytes": disk.total,
        "disk_free_bytes": disk.free,
        "arch": os.uname().machine,
        "kernel": os.uname().release,
        "kernel_build": os.uname().version,
        "python": ".".join(map(str, sys.version_info[:3])),
        "machine_id": read_text("/etc/machine-id"),
        "boot_id": boot_id(),
        "time": time.time(),
        "uid": os.getuid(),
    }


def find_tools() -> dict[str, str]:
    """The programs on PATH that kwatch may use: name -> path."""
    found: dict[str, str] = {}
    for folder in os.get_exec_path():
        with contextlib.suppress(OSError):
            for entry in Path(folder).iterdir():
                if TOOLS.fullmatch(entry.name) and os.access(entry, os.X_OK):
                    found.setdefault(entry.name, str(entry))
    return dict(sorted(found.items()))


def cpu_field(name: str) -> str:
    """The field ``name`` of the first processor in /proc/cpuinfo."""
    for line in read_text("/proc/cpuinfo").splitlines():
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    return ""


def read_text(path: str) -> str:
    """A small file of the system, empty if it cannot be read."""
    try:
        return Path(path).read_text(errors="replace").strip()
    except OSError:
        return ""


def check_name(name: str) -> str:
    """A file name that stays inside the folder of the run."""
    if not FILE_NAME.fullmatch(name):
        raise Refused(f"{name!r} is no file name of a run")
    return name


def read_json() -> dict[str, Any]:
    """The request: all of standard input."""
    found = json.loads(sys.stdin.buffer.read())
    if not isinstance(found, dict):
        raise Refused("the request is no JSON object")
    return found


def read_json_line() -> dict[str, Any]:
    """The request: the first line of standard input."""
    line = b""
    # Unbuffered: what follows the line is for select().
    while not line.endswith(b"\n") and (byte := os.read(0, 1)):
        line += byte
    found = json.loads(line)
    if not isinstance(found, dict):
        raise Refused("the request is no JSON object")
    return found


def main(arguments: list[str]) -> int:
    """Serve one verb."""
    try:
        verb, parent, *run_ids = arguments
        table: dict[str, Callable[..., dict[str, Any] | None]] = {
            "start": start, "attach": attach, "stop": stop, "discard": discard,
            "list": list_runs, "reap": reap, "probe": probe,
        }  # fmt: skip
        answer = table[verb](Path(parent), *run_ids)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 0
    except (Refused, OSError, LookupError, ValueError, TypeError) as error:
        frame({"error": f"{type(error).__name__}: {error}"})
        return 1
    if answer is not None:
        frame(answer)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
