// SPDX-License-Identifier: GPL-2.0-or-later
/* Faults that an option, or a commit that flips its default, plants. */
#include "toy.h"

static __attribute__((unused)) bool half_of_the_boots(void)
{
	/* The lowest bits of some hosts' counters never change, so all of them are mixed. */
	return rdtsc() * 0x9e3779b97f4a7c15u >> 63;
}

static __attribute__((unused, noinline)) void spin_for_ever(void)
{
	for (;;)
		asm volatile("pause");
}

/* Before the first message. */
void plant_early(void)
{
#ifdef CONFIG_TOY_SILENT
	for (;;)
		asm volatile("cli; hlt");
#endif
}

/* In the middle of the boot, before the guest side says hello. */
void plant_boot(void)
{
#ifdef CONFIG_TOY_BUILD_ERROR
	toy_function_that_nobody_declared();
#endif
#ifdef CONFIG_TOY_HANG
	spin_for_ever();
#endif
#ifdef CONFIG_TOY_FLAKE
	if (half_of_the_boots())
		spin_for_ever();
#endif
#ifdef CONFIG_TOY_PANIC
	panic("toy panic");
#endif
#ifdef CONFIG_TOY_TRIPLE_FAULT
	struct __attribute__((packed)) { uint16_t limit; uint64_t base; } no_handlers = { 0, 0 };

	asm volatile("lidt %0; ud2" : : "m"(no_handlers));
#endif
}

/* While the self tests run. The text has the form that Linux gives it on x86. */
void plant_selftest(void)
{
#ifdef CONFIG_TOY_OOPS
	printk("BUG: kernel NULL pointer dereference, address: 0000000000000008");
	printk("#PF: supervisor write access in kernel mode");
	printk("#PF: error_code(0x0002) - not-present page");
	printk("Oops: Oops: 0002 [#1] NOPTI");
	printk("CPU: 0 UID: 0 PID: 1 Comm: swapper Not tainted %s #1", KERNELRELEASE);
	printk("Hardware name: QEMU Standard PC (Q35 + ICH9, 2009)");
	printk("RIP: 0010:plant_selftest+0x14/0x30");
	printk("RSP: 0018:000000000010bf80 EFLAGS: 00000046");
	printk("CR2: 0000000000000008 CR3: 0000000000103000 CR4: 0000000000000020");
	printk("Call Trace:");
	printk(" <TASK>");
	printk(" run_selftests+0x1b/0x120");
	printk(" guest_session+0x4c/0xd0");
	printk(" start_kernel+0xe2/0x110");
	printk(" startup_64+0x12/0x17");
	printk(" </TASK>");
	printk("---[ end trace 0000000000000000 ]---");
	panic("Fatal exception");
#endif
}
