# SPDX-License-Identifier: GPL-2.0-or-later
"""The grammar: how the kernel announces each kind of trouble, and what a finding of it is called.

A table in the order of precedence. ``words`` are what the prefilter looks for; a line without any
of them is never looked at. Titles have the form that kernel people know from syzbot. The printk()
calls are those of lib/, mm/, kernel/ and arch/ from Linux 4.0 to 7.0.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum, auto

from kwatch.domain.finding import FindingKind, Severity

_K = FindingKind
# After these the kernel goes on as if nothing had been.
_MILD = {
    _K.WARNING, _K.LOCKDEP, _K.UBSAN, _K.ATOMIC_SLEEP, _K.KCSAN, _K.MEMLEAK, _K.KMSAN,
}  # fmt: skip


class Blamed(Enum):
    """Where the function of a finding is looked for."""

    NOBODY = auto()
    HEADER = auto()
    """The group ``function`` of the pattern, whatever it is."""
    HEADER_FIRST = auto()
    """That group unless it is passed over, then the trace."""
    TRACE = auto()
    """Instruction pointer and trace, what is passed over left out."""
    DISPATCH = auto()
    """The work that a stalled CPU was at."""
    LOCK = auto()
    """Where the lock was to be taken, then the trace."""


class Role(Enum):
    """What a line is to the report that is being read."""

    START = auto()
    """It begins a finding."""
    START_OR_PART = auto()
    """It begins one, unless one is open: the same trouble in other words."""
    LEAD = auto()
    """It says what the next START is about."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Splat:
    """One row. ``title`` may name groups of the pattern, ``access`` and ``function``.

    ``anonymous`` is the title where no function is found.
    """

    kind: FindingKind
    words: tuple[str, ...]
    pattern: re.Pattern[str]
    title: str
    anonymous: str
    blamed: Blamed
    passed_over: str
    role: Role
    severity: Severity


def _splat(
    kind: FindingKind,
    words: str | tuple[str, ...],
    pattern: str,
    title: str,
    *,
    blamed: Blamed = Blamed.TRACE,
    passed_over: str = "plain",
    role: Role = Role.START,
    severity: Severity | None = None,
    anonymous: str | None = None,
) -> Splat:
    return Splat(
        kind=kind,
        words=(words,) if isinstance(words, str) else words,
        pattern=re.compile(pattern),
        title=title,
        anonymous=anonymous or re.sub(r" in \{function\}$", "", title),
        blamed=blamed,
        passed_over=passed_over,
        role=role,
        severity=severity or (Severity.WARNING if kind in _MILD else Severity.ERROR),
    )


_FUNCTION = r"(?P<function>[A-Za-z_$<][^\s+]*)"
_AT = r"(?:\[<(?:0x)?[0-9a-f]+>\] )?"

SPLATS: tuple[Splat, ...] = (
    # --- sanitizers ---
    _splat(_K.KASAN, "BUG: KASAN", rf"BUG: KASAN: (?P<type>[\w-]+(?: or [\w-]+)?) (?:in|on) (?:{_FUNCTION}\+0x)?",
           "KASAN: {type}{access} in {function}", passed_over="access"),
    _splat(_K.KASAN, "KASAN: ", r"^KASAN: (?P<type>(?:maybe )?[\w-]+) in range",
           "general protection fault in {function}", role=Role.START_OR_PART, passed_over="access"),
    _splat(_K.KMSAN, "BUG: KMSAN: use of", r"BUG: KMSAN: use of un\w+ memory", "KMSAN: uninit-value in {function}", passed_over="access"),
    _splat(_K.KMSAN, "BUG: KMSAN", r"BUG: KMSAN: (?P<type>[\w-]+) in",
           "KMSAN: {type} in {function}", passed_over="access"),
    _splat(_K.KCSAN, "BUG: KCSAN", r"BUG: KCSAN: (?P<type>data-race|assert: race) in (?P<function>\S+(?: / \S+)?)",
           "KCSAN: {type} in {function}", blamed=Blamed.HEADER),
    _splat(_K.KFENCE, "BUG: KFENCE", r"BUG: KFENCE: (?P<type>[\w -]+?) in",
           "KFENCE: {type} in {function}", passed_over="access"),
    _splat(_K.UBSAN, "UBSAN: ", r"UBSAN: (?:Undefined|undefined) behaviour in (?P<file>[\w./-]+):(?P<line>\d+)",
           "UBSAN: undefined-behaviour in {function}"),
    _splat(_K.UBSAN, "UBSAN: ", r"UBSAN: (?P<type>[\w-]+) in (?P<file>[\w./-]+):(?P<line>\d+)",
           "UBSAN: {type} in {function}"),
    # --- memory ---
    _splat(_K.MEMLEAK, "BUG: memory leak", r"BUG: memory leak", "memory leak in {function}", passed_over="leak"),
    _splat(_K.MEMLEAK, "unreferenced object", r"^unreferenced object 0x",
           "memory leak in {function}", passed_over="leak", role=Role.START_OR_PART),
    _splat(_K.BUG, ("list_add", "list_del"), r"^list_(?:add|del)(?: corruption|_double)|^list_(?:add|del) (?:corruption|double)",
           "BUG: corrupted list in {function}", role=Role.LEAD),
    _splat(_K.BUG, "BUG: Bad ", r"BUG: Bad page state", "BUG: Bad page state in {function}"),
    _splat(_K.BUG, "BUG: Bad ", r"BUG: (?P<what>Bad page map|Bad rss-counter state|Bad page cache)",
           "BUG: {what}", blamed=Blamed.NOBODY),
    _splat(_K.BUG, "BUG: non-zero", r"BUG: non-zero (?P<what>\w+) on freeing mm", "BUG: non-zero {what} on freeing mm",
           blamed=Blamed.NOBODY),
    _splat(_K.BUG, "BUG ", r"^BUG [\w:.-]+ \((?:Not tainted|Tainted[^)]*)\): (?P<what>[A-Z][^.]*?)(?: @.*|\. .*)?$", "BUG: {what}",
           blamed=Blamed.NOBODY),
    _splat(_K.BUG, "BUG: Dentry", r"BUG: Dentry \S+ +still in use", "BUG: Dentry still in use in unmount",
           blamed=Blamed.NOBODY),
    _splat(_K.BUG, "BUG: Objects", r"BUG \S+.*: Objects remaining in", "BUG: Objects remaining in cache", blamed=Blamed.NOBODY),
    _splat(_K.BUG, "VFS: ", r"^VFS: Busy inodes after unmount of", "VFS: Busy inodes after unmount (use-after-free)",
           blamed=Blamed.NOBODY),
    _splat(_K.BUG, "VFS: ", r"^VFS: Close: file count is 0", "VFS: Close: file count is zero (use-after-free)",
           blamed=Blamed.NOBODY),
    _splat(_K.WARNING, "refcount_t: ", r"^refcount_t: ", "WARNING: refcount bug in {function}", role=Role.LEAD),
    _splat(_K.WARNING, "ODEBUG: ", r"^ODEBUG: (?!Out of memory)", "WARNING: ODEBUG bug in {function}", role=Role.LEAD),
    # --- faults ---
    _splat(_K.OOPS, "nable to handle", r"(?i:unable to handle kernel NULL pointer dereference)|BUG: kernel NULL pointer dereference",
           "BUG: unable to handle kernel NULL pointer dereference in {function}", passed_over="access"),
    _splat(_K.OOPS, ("BUG: kernel NULL", "BUG: Kernel NULL"), r"BUG: [kK]ernel NULL pointer dereference",
           "BUG: unable to handle kernel NULL pointer dereference in {function}", passed_over="access"),
    _splat(_K.OOPS, ("nable to handle",), r"(?i:unable to handle (?:kernel (?:paging request|access|pointer dereference|data access|instruction fetch|virtual memory|write|unknown)|page fault))",
           "BUG: unable to handle kernel paging request in {function}", passed_over="access"),
    _splat(_K.OOPS, ("nable to handle",), r"BUG: unable to handle kernel\s*$",
           "BUG: unable to handle kernel", blamed=Blamed.NOBODY),
    _splat(_K.OOPS, "general protection fault", r"^(?:Oops: )?general protection fault",
           "general protection fault in {function}", passed_over="access", role=Role.START_OR_PART),
    _splat(_K.OOPS, "divide error", r"^(?:Oops: )?divide error: ", "divide error in {function}", role=Role.START_OR_PART),
    _splat(_K.OOPS, "invalid opcode", r"^(?:Oops: )?invalid opcode: ", "invalid opcode in {function}", role=Role.START_OR_PART),
    _splat(_K.OOPS, "stack segment", r"^(?:Oops: )?stack segment: ", "stack segment fault in {function}", role=Role.START_OR_PART),
    _splat(_K.OOPS, ("double fault",), r"^(?:PANIC: |traps: PANIC: |Oops: )?double fault", "PANIC: double fault in {function}",
           role=Role.START_OR_PART, passed_over="access"),
    _splat(_K.OOPS, "triple fault", r"[Tt]riple fault", "triple fault", blamed=Blamed.NOBODY),
    _splat(_K.OOPS, "guard page was hit", r"BUG: .*stack guard page was hit", "BUG: stack guard page was hit in {function}",
           passed_over="access"),
    _splat(_K.OOPS, ("nsufficient stack",), r"Insufficient stack space to handle exception", "kernel stack overflow in {function}",
           blamed=Blamed.DISPATCH, passed_over="stall"),
    _splat(_K.OOPS, "stack overflow", r"^(?:BUG: )?(?:kernel|Kernel|do_IRQ: |.*)\s?stack overflow", "kernel stack overflow in {function}",
           blamed=Blamed.DISPATCH, passed_over="stall", role=Role.START_OR_PART),
    _splat(_K.OOPS, ("Internal error: ",), r"^Internal error: ", "Internal error in {function}", role=Role.START_OR_PART,
           passed_over="access"),
    _splat(_K.OOPS, ("nhandled fault",), r"^Unhandled fault: (?P<what>[\w -]+)", "Unhandled fault in {function}", passed_over="access"),
    _splat(_K.OOPS, "Alignment trap", r"^Alignment trap: not handling", "Alignment trap in {function}"),
    _splat(_K.OOPS, "SError Interrupt on CPU", r"SError Interrupt on CPU", "SError interrupt in {function}", passed_over="access"),
    _splat(_K.OOPS, "Machine check", r"\[Hardware Error\]: .*Machine check", "machine check", blamed=Blamed.NOBODY),
    _splat(_K.OOPS, "Bad mode in", r"^Bad mode in ", "kernel panic: bad mode", blamed=Blamed.NOBODY),
    _splat(_K.OOPS, "PANIC: early exception", r"PANIC: early exception", "PANIC: early exception in {function}"),
    _splat(_K.OOPS, "Kernel BUG", r"^Oops - (?P<what>[\w ]+)", "Oops - {what} in {function}", role=Role.START_OR_PART),
    _splat(_K.OOPS, ("Oops",), r"^Oops(?: - [\w ]+)?(?::| \[#)", "Oops in {function}", role=Role.START_OR_PART, passed_over="access"),
    _splat(_K.BUG, ("panicked at",), r"(?:^|: )panicked at (?:'(?P<what>[^']+)', )?(?P<file>[\w./-]+\.rs):(?P<line>\d+)",
           "{what} in {function}", role=Role.LEAD, passed_over="access"),
    _splat(_K.BUG, "ernel BUG at", r"^[Kk]ernel BUG at (?P<file>[\w./-]+):(?P<line>\d+)", "kernel BUG in {function}"),
    _splat(_K.BUG, "ernel BUG at", r"^[Kk]ernel BUG at (?P<function>\S+?)(?:\+0x\S*)? ", "kernel BUG in {function}"),
    # --- locks ---
    _splat(_K.LOCKDEP, ("possible circular", "possible recursive", "possible irq", "irq lock inversion", "lock inversion", "-safe -> "),
           r"(?:possible (?:circular|recursive|irq|nested) \w+.*detected|[Ii][Rr][Qq]-safe -> .*unsafe lock order|possible irq lock inversion)",
           "possible deadlock in {function}", blamed=Blamed.LOCK, passed_over="sleep"),
    _splat(_K.LOCKDEP, "inconsistent lock state", r"inconsistent lock state", "inconsistent lock state in {function}",
           blamed=Blamed.LOCK, passed_over="sleep"),
    _splat(_K.LOCKDEP, "uspicious", r"(?P<level>WARNING|INFO): [Ss]uspicious (?:RCU|rcu_dereference_check\(\)) usage",
           "{level}: suspicious RCU usage in {function}", passed_over="plain"),
    _splat(_K.LOCKDEP, "[ BUG: ", r"\[ BUG: (?P<what>bad unlock balance) detected", "WARNING: bad unlock balance in {function}"),
    _splat(_K.LOCKDEP, "bad unlock balance", r"WARNING: bad unlock balance", "WARNING: bad unlock balance in {function}"),
    _splat(_K.LOCKDEP, "held lock freed", r"(?P<level>WARNING|BUG): held lock freed", "{level}: held lock freed in {function}"),
    _splat(_K.LOCKDEP, "lock held when returning", r"(?P<level>WARNING|BUG): lock held when returning to user space",
           "{level}: lock held when returning to user space in {function}", blamed=Blamed.LOCK),
    _splat(_K.LOCKDEP, "still has locks held", r"(?P<level>WARNING|BUG): .*still has locks held",
           "{level}: still has locks held in {function}", blamed=Blamed.LOCK),
    _splat(_K.LOCKDEP, "lock held at task exit", r"(?P<level>WARNING|BUG): lock held at task exit", "{level}: lock held at task exit in {function}",
           blamed=Blamed.LOCK),
    _splat(_K.LOCKDEP, "ested lock was not taken", r"WARNING: [Nn]ested lock was not taken", "WARNING: nested lock was not taken in {function}",
           blamed=Blamed.LOCK, passed_over="plain"),
    _splat(_K.LOCKDEP, "non-static key", r"INFO: trying to register non-static key", "INFO: trying to register non-static key in {function}"),
    _splat(_K.LOCKDEP, "nvalid wait context", r"(?:BUG|WARNING): [Ii]nvalid wait context", "WARNING: invalid wait context in {function}",
           blamed=Blamed.LOCK),
    _splat(_K.LOCKDEP, ("BUG: spinlock", "BUG: rwlock", "BUG: rw", "BUG: mutex"), r"BUG: (?P<what>(?:spin|rw)lock (?:bad magic|lockup suspected|already unlocked|"
           r"recursion|wrong CPU|wrong owner|trylock failure|cpu recursion|lockup|bad \w+))", "BUG: {what} in {function}"),
    _splat(_K.LOCKDEP, ("MAX_LOCK", "BUG: key", "lock_class"), r"BUG: (?P<what>MAX_\w+ too (?:low|small)|key \S+ (?:not in \.data|has not been registered))", "BUG: {what}",
           blamed=Blamed.NOBODY),
    _splat(_K.LOCKDEP, "preemptible", r"BUG: using (?P<what>\w+(?:\(\))?) in preemptible", "BUG: using {what} in preemptible code in {function}"),
    _splat(_K.LOCKDEP, "workqueue leaked", r"BUG: workqueue leaked (?:lock|atomic)", "BUG: workqueue leaked lock or atomic in {function}"),
    _splat(_K.ATOMIC_SLEEP, "sleeping function called", r"BUG: sleeping function called from invalid context",
           "BUG: sleeping function called from invalid context in {function}", passed_over="sleep"),
    _splat(_K.ATOMIC_SLEEP, "scheduling while atomic", r"BUG: scheduling while atomic", "BUG: scheduling while atomic in {function}",
           passed_over="sleep"),
    # --- hangs ---
    _splat(_K.RCU_STALL, ("detected stall", "detected expedited stall", "self-detected"),
           r"INFO: rcu\w* (?:self-)?detected (?:expedited )?stalls?|rcu: INFO: rcu\w* .*detected .*stall", "INFO: rcu detected stall in {function}",
           blamed=Blamed.DISPATCH, passed_over="stall"),
    _splat(_K.SOFT_LOCKUP, "soft lockup", r"BUG: soft lockup - CPU#\d+ stuck", "BUG: soft lockup in {function}", blamed=Blamed.DISPATCH,
           passed_over="stall"),
    _splat(_K.HARD_LOCKUP, "ard LOCKUP", r"[Hh]ard LOCKUP", "BUG: hard lockup in {function}", blamed=Blamed.DISPATCH,
           passed_over="stall"),
    _splat(_K.WORKQUEUE_LOCKUP, "workqueue lockup", r"BUG: workqueue lockup", "BUG: workqueue lockup", blamed=Blamed.NOBODY),
    _splat(_K.HUNG_TASK, "blocked for more than", r"INFO: task .{1,80}:\d+ (?:<[^>]+> )?blocked (?:on an? \w+ )?.*for more than \d+ seconds",
           "INFO: task hung in {function}", passed_over="sleep"),
    _splat(_K.HUNG_TASK, "can't die for", r"INFO: task .{1,80}:\d+ can't die for more than \d+ seconds", "INFO: task can't die in {function}",
           passed_over="sleep"),
    _splat(_K.HUNG_TASK, "unregister_netdevice", r"unregister_netdevice: waiting for (?P<what>\S+) to become free",
           "unregister_netdevice: waiting for DEV to become free", blamed=Blamed.NOBODY),
    # --- warnings ---
    _splat(_K.WARNING, "WARNING: ", r"^WARNING: .*at lib/refcount\.c", "WARNING: refcount bug in {function}"),
    _splat(_K.WARNING, "WARNING: ", r"^WARNING: .*at lib/debugobjects\.c", "WARNING: ODEBUG bug in {function}"),
    _splat(_K.WARNING, "WARNING: ", r"^WARNING: .*at mm/(?:slab\w*|util)\.c:\d+ (?:kmalloc|kv?m|k\w*alloc|__kmalloc|__do_kmalloc|kmalloc_slab)",
           "WARNING: kmalloc bug in {function}", passed_over="access"),
    _splat(_K.WARNING, "WARNING: ", r"^WARNING: .*at mm/vmalloc\.c:\d+ (?:__vmalloc|vmalloc)", "WARNING: zero-size vmalloc in {function}",
           passed_over="access"),
    _splat(_K.LOCKDEP, "WARNING: ", r"^WARNING: .*at kernel/(?:locking/)?(?:lockdep|mutex|rwsem|rtmutex|locktorture)\.[ch]",
           "WARNING: locking bug in {function}"),
    _splat(_K.WARNING, "WARNING: ", r"^WARNING: .*at (?P<file>[\w./-]+):(?P<line>\d+) usb_submit_urb\+0x", "WARNING in {function}/usb_submit_urb",
           passed_over="access"),
    _splat(_K.WARNING, "WARNING: ", rf"^WARNING: (?:\[.{{1,200}}\] )?(?P<file>[\w./-]+):(?P<line>\d+) at {_FUNCTION}\+0x",
           "WARNING in {function}", blamed=Blamed.HEADER_FIRST, passed_over="access"),
    _splat(_K.WARNING, "WARNING: ", rf"^WARNING: (?:CPU: \d+ PID: \d+ |\[.{{1,200}}\] )?at (?P<file>[\w./-]+):(?P<line>\d+) {_FUNCTION}\+0x",
           "WARNING in {function}", blamed=Blamed.HEADER_FIRST, passed_over="access"),
    _splat(_K.WARNING, "WARNING: ", r"^WARNING: (?:CPU: \d+ PID: \d+ )?at (?P<file>[\w./-]+):(?P<line>\d+)", "WARNING in {function}",
           passed_over="access"),
    _splat(_K.WARNING, "WARNING: ", r"WARNING: kernel stack (?:regs|frame pointer) (?:at|in) .*has bad", "WARNING: kernel stack regs has bad value",
           blamed=Blamed.NOBODY),
    _splat(_K.WARNING, "Badness at", r"^Badness at (?P<file>[\w./-]+):(?P<line>\d+)", "WARNING in {function}", passed_over="access"),
    _splat(_K.WARNING, "nobody cared", r"irq \d+: nobody cared", "irq: nobody cared", blamed=Blamed.NOBODY),
    _splat(_K.WARNING, "page allocation", r"page allocation (?:failure|stalls for)", "page allocation failure in {function}", passed_over="access",
           severity=Severity.INFO),
    _splat(_K.BUG, "page_mapcount", r"^Eeek! page_mapcount", "BUG: negative page_mapcount in {function}"),
    _splat(_K.OUT_OF_MEMORY, "invoked oom-killer", r"invoked oom-killer: ", "out of memory", blamed=Blamed.NOBODY,
           severity=Severity.INFO),
    # --- the end ---
    _splat(_K.PANIC, "Kernel panic", rf"^Kernel panic - not syncing: (?:stack-protector: )?[Kk]ernel stack is corrupted in: {_FUNCTION}",
           "kernel panic: stack is corrupted in {function}", blamed=Blamed.HEADER, role=Role.START_OR_PART),
    _splat(_K.PANIC, "Kernel panic", r"^Kernel panic - not syncing: corrupted stack end", "kernel panic: corrupted stack end in {function}",
           blamed=Blamed.DISPATCH, passed_over="stall", role=Role.START_OR_PART),
    _splat(_K.PANIC, "Kernel panic", r"^Kernel panic - not syncing: (?:kernel: )?(?P<why>(?:panic_on_warn|.{0,20}Fatal exception|Oops|hung_task|softlockup|hardlockup|RCU Stall|sysrq).*?)(?: \.\.\.)?$",
           "kernel panic: {why}", blamed=Blamed.NOBODY, role=Role.START_OR_PART, severity=Severity.INFO),
    _splat(_K.PANIC, "Kernel panic", r"^Kernel panic - not syncing:? *(?P<what>.*)", "kernel panic: {what}", blamed=Blamed.NOBODY,
           role=Role.START_OR_PART),
)  # fmt: skip
