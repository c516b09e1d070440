// SPDX-License-Identifier: GPL-2.0-or-later
/* The end of a kernel that cannot go on. */
#include "toy.h"

void panic(const char *format, ...)
{
	char reason[128];
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(reason, sizeof(reason), format, arguments);
	va_end(arguments);
	printk("Kernel panic - not syncing: %s", reason);
	printk("CPU: 0 UID: 0 PID: 1 Comm: swapper Not tainted %s #1", KERNELRELEASE);
	printk("Kernel Offset: disabled");
	machine_restart();
}
