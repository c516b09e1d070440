// SPDX-License-Identifier: GPL-2.0-or-later
/* The guest's end of kwatch's protocol, version 1, on the second serial line. */
#include "toy.h"

static __attribute__((format(printf, 1, 2))) void say(const char *format, ...)
{
	char line[256];
	va_list arguments;

	va_start(arguments, format);
	serial_write(CHANNEL_PORT, line, vsnprintf(line, sizeof(line), format, arguments));
	va_end(arguments);
}

static void send_profile(void)
{
	say("kwatch error no profile\n");
}

void guest_session(void)
{
	say("kwatch hello 1\n");
	say("kwatch ready\n");
	say("kwatch begin 0\n");
	say("kwatch end 0 %d\n", run_selftests());
	say("kwatch tested\n");
	send_profile();
	say("kwatch done\n");
}
