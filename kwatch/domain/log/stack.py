# SPDX-License-Identifier: GPL-2.0-or-later
"""Stack traces and registers: which functions a report names, and which of them is to blame.

The function that noticed is seldom the one at fault: a sanitizer's hook, memcpy() or a lock only
does what it was told. What is passed over is a table for each kind of report.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

_ADDRESS = r"(?:\[<(?:0x)?[0-9a-f]{4,16}>\]\s*)"
_NAME = r"(?P<name>(?:<[^+]{1,200}>::)?[A-Za-z_$][\w$.:@]*)"
_PLACE = r"(?P<file>[\w+./-]+\.(?:[chS]|rs)):(?P<line>\d+)"

_FRAME = re.compile(
    rf"^\s*{_ADDRESS}*(?P<guess>\?\s+)?\(?{_NAME}\+0x(?P<offset>[0-9a-f]{{1,8}})(?:/0x[0-9a-f]+)?\)?"
    rf"(?:\s+\[(?P<module>[\w-]+)[^\]]*\])?(?:\s+{_PLACE})?(?:\s+\(.*\))?\s*$"
)
_INLINE = re.compile(rf"^\s*{_ADDRESS}*(?P<guess>\?\s+)?{_NAME}\s+{_PLACE}(?:\s+\[inline\])?\s*$")
# 32-bit arm prints a call as "(callee) from (caller)".
_FROM = re.compile(rf"^\s*{_ADDRESS}\({_NAME}(?:\+0x[0-9a-f/x]+)?\) from\b")
_POINTER = re.compile(
    r"^(?:RIP|EIP|IP|PC is at|pc|epc|NIP|PC)\s?:?\s*(?:[0-9a-f]{4}:)?\s*"
    rf"{_ADDRESS}*(?:\[[0-9a-f]{{8,16}}\]\s*)?(?:0x[0-9a-f]{{2,4}}:)?{_NAME}"
    rf"(?:\+0x(?P<offset>[0-9a-f]{{1,8}})|\s+{_PLACE})"
)
_EIP_IS_AT = re.compile(rf"^(?:EIP|PC) is at {_NAME}\+0x(?P<offset>[0-9a-f]{{1,8}})")
_CLONE = re.compile(r"(?:\.(?:constprop|isra|part|cold|llvm|lto_priv|cfi|cfi_jt)(?:\.\d+)*)+$")


@dataclass(frozen=True, slots=True)
class Frame:
    """A function in a trace. ``is_guess``: found on the stack, maybe never called.

    ``place`` is where in which symbol, as symbolizers take it (``f.cold+0x12``).
    """

    name: str
    is_guess: bool = False
    is_pointer: bool = False
    module: str | None = None
    file: str | None = None
    line: int | None = None
    place: str | None = None


def read_frame(text: str) -> Frame | None:
    """The frame that a line is, if it is one."""
    if "+0x" in text:
        found = _FRAME.match(text) or _EIP_IS_AT.match(text) or _POINTER.match(text)
        if found is None:
            found = _FROM.match(text)
    elif ":" in text:
        found = _INLINE.match(text) or _POINTER.match(text)
    else:
        found = None
    if found is None:
        return None
    groups = found.groupdict()
    is_pointer = found.re in (_POINTER, _EIP_IS_AT)
    place = None
    if offset := groups.get("offset"):
        # A return address may belong to the next line already, or to the next function.
        place = f"{groups['name']}+{max(0, int(offset, 16) - (not is_pointer)):#x}"
    return Frame(
        name=plain_name(groups["name"]),
        is_guess=bool(groups.get("guess")),
        is_pointer=is_pointer,
        module=groups.get("module"),
        file=groups.get("file"),
        line=int(groups["line"]) if groups.get("line") else None,
        place=place,
    )


def plain_name(name: str) -> str:
    """A function without what a compiler adds to the names of its clones."""
    return _CLONE.sub("", name)


def _any(*patterns: str) -> re.Pattern[str]:
    return re.compile("|".join(f"(?:{pattern})" for pattern in patterns))


# Reporting itself, and the way into the kernel.
_REPORTING = (
    r"_*dump_(?:stack|backtrace|cpu_task)", r"_*(?:sched_)?show_(?:stack|regs|task|trace)", r"unwind", r"walk_stackframe",
    r"print_\w*(?:report|description|bug|trailer|splat|usage|stall)", r"_*(?:k[acm]san|kfence|asan|hwasan|msan|tsan|ubsan)_",
    r"check_memory_region", r"check_(?:slab|page)_allocation", r"poison_slab_object", r"__(?:sanitizer|sancov)_", r"(?:end|start|object)_(?:err|report)$", r"report_\w*(?:bug|error|free|tag_fault)",
    r"_*warn(?:_slowpath)?(?:_\w+)?$", r"fixup_bug", r"handle_(?:bug|invalid_op|ud|bad_stack)", r"check_panic_on_warn",
    r"_*(?:nmi_|v)?_*panic(?:_|$)", r"(?:oops|__?die|die|bust)(?:_|$)", r"\w*bug_handler$", r"spin_(?:dump|bug)$", r"rwlock_bug",
    r"do_(?:error_trap|invalid_op|trap\w*|undefinstr|general_protection|divide_error|ud2?|tag_\w*fault|tag_recovery)",
    r"(?:a?sm_)?(?:exc|sysvec)_", r"(?:asm_)?common_interrupt", r"invalid_op$", r"error_entry", r"general_protection$", r"divide_error$",
    r"(?:async_|do_|__do_|asm_exc_|exc_)?(?:user_addr_|kern_addr_)?(?:page|translation|kernel|bad_area|alignment)_fault$",
    r"do_(?:page_fault|mem_abort|translation_fault|DataAbort|PrefetchAbort|bad_area|sea|kern_addr_fault|sync_external)",
    r"_*bad_(?:area|stack|mode|page|el\d)", r"no_context", r"page_fault_oops", r"search_bad", r"double_fault",
    r"ret_from_", r"ret_fast_syscall", r"entry_(?:SYSCALL|INT80|SYSENTER)", r"do_syscall_", r"el[01][ht]?_", r"invoke_syscall", r"do_el0_svc",
    r"vectors$", r"__(?:irq|dabt|pabt|und)_(?:svc|usr)", r"trace_", r"perf_trace_", r"lockdep_", r"lock_stat_",
    r"debug_(?:print|check|locks|mutex|spin|object|atomic|smp|rcu)", r"arch_(?:stack|local|atomic|static|irq)", r"stack_trace_",
    r"save_(?:stack|trace)", r"_*v?printk", r"crash_kexec", r"notify_die", r"assertfail", r"assfail", r"check_preemption_disabled",
    r"__this_cpu_preempt_check", r"ref_tracker_", r"rust_helper_", r"rust_begin_unwind", r"_*core::(?:panicking|result|option)", r"__rustc", r"_R\w*(?:rust_begin_unwind|9panicking|6result|6option)",
    r"hlock_class", r"__warn_", r"refcount_warn", r"usercopy_abort", r"__check_(?:object|heap)", r"check_(?:stack|heap)_object",
    r"fortify_panic", r"__fortify_", r"__stack_chk_fail", r"kernel_panic", r"do_exit$", r"rewind_stack", r"make_task_dead",
)  # fmt: skip
# Copying, comparing, allocating and freeing: they do what they are told.
_MEMORY = (
    r"_*(?:mem|str)n?\w{0,2}(?:cpy|set|move|cmp|chr|len|cat|str|sep|case\w*|dup|scan|spn|inv)\w*$", r"b(?:cmp|copy)$", r"kmem(?:dup|leak|_cache)", r"kstr(?:n?dup|to)",
    r"kvasprintf|kasprintf", r"_*copy_(?:\w+_)?(?:user|iter|page)", r"_*copy_(?:to|from|in)_", r"__(?:get|put|clear)_user", r"sized_str", r"csum_partial",
    r"crc\d*_", r"crc\d+", r"_*k(?:v|z|vz)?m?(?:alloc|calloc|realloc|free)", r"_*kv?m?z?alloc", r"___?slab", r"_*slab_", r"_*kmem_cache_", r"new_slab",
    r"(?:alloc|free|allocate|discard)_slab", r"_*v(?:z|un)?(?:malloc|alloc|map|free)", r"cache_(?:alloc|free)", r"_*(?:alloc|free)_(?:frozen_|large_|unref_)?pages?",
    r"free_large_kmalloc", r"_*folio_(?:alloc|unlock|lock|put)", r"qlist_free", r"do_slab_free", r"(?:alloc|free)_debug", r"get_(?:partial|freelist)", r"memdup",
    r"__(?:phys|virt)_(?:addr|to_phys)", r"_*page_pool_", r"__free_slab", r"mempool_", r"prep_new_page", r"post_alloc_hook", r"get_page_from_freelist", r"rcu_free",
    r"_*iov_iter_(?:copy|zero)", r"iterate_and_advance", r"_*bitmap_", r"_*find_(?:next|first|last)_", r"_*hweight",
)  # fmt: skip
_LOCKING = (
    r"_*lock_(?:acquire|release|acquired|contended|unpin|pin|downgrade|repin|set)", r"_*(?:raw_)?(?:spin|read|write)_(?:un|try)?(?:lock|relax)", r"_*raw_\w*lock",
    r"do_raw_", r"_*(?:rt_|ww_)?mutex_", r"_*(?:down|up)(?:_(?:read|write|try|kill|inter)\w*)?$", r"rwsem_", r"osq_", r"mcs_", r"_*percpu_(?:down|up|rwsem)",
    r"queued_(?:spin|read|write)", r"(?:native|pv)_queued", r"mark_(?:lock|usage|held)", r"validate_chain",
    r"check_(?:prev|deadlock|usage|noncircular|wait_context|irq|redundant|flags|no_)", r"register_lock_class", r"assign_lock_key", r"_*lockref_", r"rtlock", r"__rt_",
    r"rt_(?:spin|read|write)", r"task_blocks_on_rt", r"rwbase_", r"seq(?:lock|count)", r"local_lock", r"_*might_(?:fault|sleep|alloc|resched)", r"reacquire_held", r"find_lock_lowest",
    r"graph_lock", r"lock_sock", r"bit_spin", r"rcu_(?:lockdep|note|read_(?:un)?lock|dereference|is_watching)", r"__rcu_read",
)  # fmt: skip
# Counting, linking, waking: data structures whose user is the one to ask.
_HELPING = (
    r"_*refcount_", r"_*kref_", r"_*kobject_", r"klist_", r"_*atomic\d*_", r"(?:arch_|_*)?(?:test|set|clear|change)_(?:and_\w+_)?bit", r"instrument_",
    r"_*h?list_", r"rb_(?:insert|erase|next|first|last|prev|link)", r"_*xas?_", r"_*rht_", r"rhashtable_", r"id[ra]_", r"percpu_(?:ref|counter)_", r"this_cpu_",
    r"smp_processor_id", r"skb_(?:put|push|pull|panic|over|under)", r"_*read_(?:once|word)", r"static_key", r"dev_printk", r"work_is_static", r"_*call_rcu", r"_*queue_(?:delayed_)?work",
    r"_*complete(?:_all|_with_flags)?$", r"swake_", r"_*wake_up", r"finish_wait", r"autoremove_wake", r"_*(?:del|mod|add)_timer", r"timer_(?:delete|shutdown|fixup|is)", r"__?init_work",
    r"drain_workqueue", r"_*flush_work", r"sysfs_(?:remove|create)_", r"dpm_sysfs_", r"(?:get_|put_)?device_(?:parent|release|add|del|register|unregister|initialize)", r"i2c_(?:add|del)_adapter", r"destroy_workqueue", r"_*sk_(?:free|destruct|put)", r"kernfs_(?:remove|get|put)", r"devres_", r"usb_(?:submit|kill|unlink|start_wait|control|bulk|interrupt)_(?:urb|msg)",
    r"usb_internal_control", r"usb_hcd_", r"map_urb", r"_*iput$", r"evict_inodes$", r"put_device$", r"get_device$", r"lockref",
)  # fmt: skip
_WAITING = (
    r"_*schedule(?:_|$)", r"context_switch", r"preempt_schedule", r"_*io_schedule", r"_*wait_(?:for|on|woken)", r"do_wait_for", r"bit_wait", r"out_of_line_wait", r"usleep", r"msleep",
    r"_*cond_resched", r"__switch_to", r"_*folio_(?:wait|lock)", r"_*lock_page", r"\w*fdata(?:wait|write)", r"_*synchronize_(?:s?rcu|sched|net)", r"_*flush_work",
    r"_*cancel_(?:delayed_)?work", r"rcu_barrier", r"kthread_(?:stop|flush)", r"_*wait_rcu", r"__?wait_", r"drain_workqueue", r"swait", r"prepare_to_wait", r"rpc_wait",
    r"wait_transaction", r"usb_(?:start_wait|control|bulk|interrupt|kill)_(?:urb|msg)", r"blk_(?:execute|mq_freeze)", r"submit_bio_wait", r"request_wait", r"__sync_dirty",
)  # fmt: skip
# How a stalled CPU was made to print its stack.
_TICKING = (
    r"rcu_(?:dump|check|sched_clock|pending|stall|exp|gp|state)", r"check_(?:cpu|slow)_", r"update_process_times", r"tick_", r"_*hrtimer_", r"_*(?:smp_)?(?:trace_)?apic_timer",
    r"local_apic_timer", r"smp_(?:trace_)?apic", r"(?:smp_)?reschedule_interrupt", r"arch_timer_", r"(?:generic_)?handle_(?:\w*irq|domain|edge|level|fasteoi|percpu)", r"__handle_(?:irq|domain)",
    r"gic_handle", r"_*irq_(?:exit|enter)", r"irqentry_", r"_*n?mi_", r"(?:arch_)?trigger_\w*backtrace", r"do_n?mi$", r"nmi$", r"end_repeat_nmi", r"watchdog_", r"profile_tick", r"__run_hrtimer",
    r"csd_lock", r"restore_(?:regs|all)", r"retint_", r"do_IRQ", r"preempt_count", r"_*local_(?:bh|irq)", r"(?:is|in)_(?:task|bpf|module|kernel)_?\w*text", r"_*kernel_text_address",
    r"orc_find", r"stack_access_ok", r"get_stack_info", r"on_(?:accessible_)?stack", r"match_held_lock", r"native_", r"pv_", r"kvm_(?:wait|kick)", r"arch_cpu_idle", r"default_idle",
    r"memory_is_", r"__switch_to", r"bytes_is_", r"find_stack", r"_*(?:stack_)?depot_", r"filter_irq", r"__bfs", r"cpu_relax", r"call_on_(?:irq_)?stack", r"do_interrupt_handler", r"do_softirq_own",
)  # fmt: skip
# Waiting for another processor, or for ever.
_SPINNING = (
    r"(?:native|pv)_(?:\w*halt|io_delay|queued|wait|kick)", r"kvm_(?:wait|kick)", r"cpu_relax", r"csd_lock", r"smp_call_function", r"multi_cpu_stop", r"stop_(?:this_cpu|machine)",
    r"_*(?:const_)?[un]?delay$", r"delay_", r"\w*play_dead",
)  # fmt: skip
_INTERRUPTED = _any(
    r"(?:smp_)?(?:trace_)?apic_timer_interrupt", r"asm_sysvec", r"sysvec_apic", r"el1h?_(?:64_)?irq", r"__irq_svc", r"gic_handle_irq", r"asm_common_interrupt", r"do_interrupt_handler",
    r"(?:asm_exc_|end_repeat_)?nmi", r"do_IRQ", r"reschedule_interrupt",
)  # fmt: skip

PASSED_OVER = {
    "access": _any(*_REPORTING, *_MEMORY, *_LOCKING, *_HELPING, *_WAITING),
    "plain": _any(*_REPORTING, *_MEMORY, *_LOCKING, *_HELPING),
    "leak": _any(*_REPORTING, *_MEMORY, *_HELPING, r"debug_objects_mem", r"sock_alloc_send", r"__?alloc_skb", r"sk_prot_alloc", r"create_object", r"radix_tree_node_alloc"),
    "sleep": _any(*_REPORTING, *_LOCKING, *_WAITING, *_MEMORY),
    "stall": _any(*_REPORTING, *_LOCKING, *_TICKING),
    "stuck": _any(*_REPORTING, *_LOCKING, *_SPINNING),
}  # fmt: skip
"""What is passed over, by the name of the list; each matches from the start of a name."""

_ANCHOR = _any(
    r"do_syscall_", r"_*do_fast_syscall", r"sysenter", r"tracesys", r"entry_(?:SYSCALL|INT80|SYSENTER)", r"ret_fast_syscall", r"el0t?_", r"invoke_syscall", r"do_el0_svc",
    r"process_one_work", r"do_one_initcall", r"smpboot_thread_fn", r"cpu_stopper_thread", r"kthread$", r"ret_from_fork", r"_*netif_receive_skb", r"_*do_softirq", r"handle_softirqs", r"call_timer_fn", r"_*run_timers?(?:_softirq)?$", r"expire_timers",
    r"_*hrtimer_run", r"__run_hrtimer", r"_*(?:do_)?vfs_(?:ioctl|read|write|open|fsync)", r"do_iter_", r"do_dentry_open", r"do_loop_readv", r"(?:compat_)?(?:SyS|ksys)_(?:ioctl|read|write|close)",
    r"_*(?:x64_|se_|arm64_|ia32_|do_|compat_)*sys_(?:ioctl|read|write|close|exit)", r"C_SYSC_", r"\w*blkdev_(?:driver_)?ioctl", r"task_work_run", r"_+fput$", r"new_sync_(?:read|write)",
    r"call_(?:read|write)_iter", r"netlink_rcv_skb", r"netlink_unicast", r"genl_", r"rtnetlink_rcv", r"nfnetlink_rcv", r"_*tasklet_action", r"_*napi_poll", r"net_rx_action", r"rcu_(?:do_batch|core)",
    r"_*sock_sendmsg", r"notifier_call_chain", r"irq_work_run", r"flush_smp_call", r"generic_smp_call", r"scheduler_ipi", r"worker_thread", r"\w+_compat_ioctl$", r"cpu_startup_entry", r"do_idle", r"start_secondary", r"secondary_start",
)  # fmt: skip


def blamed(frames: Sequence[Frame], passed_over: str) -> Frame | None:
    """The first frame that is not on the list; guesses count where there is nothing else."""
    skipped = PASSED_OVER[passed_over]
    sure = [frame for frame in frames if not frame.is_guess]
    return next((one for one in sure or frames if not skipped.match(one.name)), None)


def dispatched(frames: Sequence[Frame]) -> Frame | None:
    """Who was at work when a CPU stalled: the last frame before the kernel's own dispatchers.

    Where exactly it was interrupted is chance; what it was asked to do is not. A CPU that waits
    for another one is named by that wait, for whom it waits for the report does not tell.
    """
    sure = [frame for frame in frames if not frame.is_guess]
    skipped = PASSED_OVER["stall"]
    begins = next((n for n, frame in enumerate(sure) if _INTERRUPTED.match(frame.name)), -1) + 1
    at_work = sure[begins:] or sure
    inner = next((frame for frame in at_work if not skipped.match(frame.name)), None)
    if inner and inner.name.startswith("smp_call_function"):
        return inner
    found: Frame | None = None
    for frame in at_work:
        if _ANCHOR.match(frame.name):
            if found is not None:
                return found
            if frame.name.endswith("_compat_ioctl"):
                found = frame
        elif not skipped.match(frame.name):
            found = frame
    return found


_SYSCALL = re.compile(r"^(?:compat_)?(?:SyS_|ksys_|__do_sys_)(\w+)$")
_SYSCALL_STUB = re.compile(r"^__(?:x64|ia32|arm64|se|riscv|s390x?|x32)_(?:compat_)?sys_(\w+)$")


def display_name(name: str) -> str:
    """A function as titles name it: system calls without what an architecture adds to them."""
    if found := _SYSCALL.match(name):
        return found[1]
    if found := _SYSCALL_STUB.match(name):
        return f"sys_{found[1]}"
    if name.startswith("smp_call_function"):
        return "smp_call_function"
    return name
