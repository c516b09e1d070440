// SPDX-License-Identifier: GPL-2.0-or-later
/* The way of the boot: messages as Linux has them, then the session with kwatch. */
#include "toy.h"

/* What PVH hands over: Xen's hvm_start_info. */
struct start_info {
	uint32_t magic, version, flags, modules;
	uint64_t module_list, command_line;
};

enum { START_INFO_MAGIC = 0x336ec578 };

void start_kernel(const struct start_info *info)
{
	const char *command_line = "";
	char console[16];

	plant_early();
	serial_init(CONSOLE_PORT);
	serial_init(CHANNEL_PORT);
	if (info && info->magic == START_INFO_MAGIC && info->command_line)
		command_line = (const char *)(uintptr_t)info->command_line;

	printk("Linux version %s (kwatch@toy) (%s) #1", KERNELRELEASE, __VERSION__);
	printk("Command line: %s", command_line);
	page_init();
	printk("Memory: %zuK/%uK available", page_free_count() * PAGE_SIZE / 1024,
	       PAGE_COUNT * PAGE_SIZE / 1024u);
	if (cmdline_find_option(command_line, "console", console, sizeof(console)))
		printk("printk: legacy console [%s] enabled", console);
	plant_boot();
	if (info && info->modules)
		printk("Unpacking initramfs...");
	printk("Run /init as init process");
	guest_session();
	machine_power_off();
}
