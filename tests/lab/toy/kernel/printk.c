// SPDX-License-Identifier: GPL-2.0-or-later
/* Messages on the console, with the time since the first message. */
#include "toy.h"

enum { TICKS_PER_MICROSECOND = 2000 };	/* nominal; nobody measures with a toy */

void printk(const char *format, ...)
{
#ifdef CONFIG_PRINTK
	char line[512];
	int size = 0;
	va_list arguments;
#ifdef CONFIG_PRINTK_TIME
	static uint64_t boot;
	uint64_t now;

	if (!boot)
		boot = rdtsc();
	now = (rdtsc() - boot) / TICKS_PER_MICROSECOND;
	size = snprintf(line, sizeof(line), "[%5u.%06u] ", (unsigned int)(now / 1000000),
			(unsigned int)(now % 1000000));
#endif
	va_start(arguments, format);
	size += vsnprintf(line + size, sizeof(line) - size, format, arguments);
	va_end(arguments);
	serial_write(CONSOLE_PORT, line, size);
	serial_write(CONSOLE_PORT, "\r\n", 2);
#else
	(void)format;
#endif
}
