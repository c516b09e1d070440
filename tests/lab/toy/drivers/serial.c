// SPDX-License-Identifier: GPL-2.0-or-later
/* Two 16550 lines: the console, and the raw channel to kwatch. */
#include "toy.h"

enum { DATA = 0, INTERRUPTS = 1, FIFO = 2, LINE_CONTROL = 3, MODEM_CONTROL = 4, LINE_STATUS = 5 };
enum { TRANSMITTER_EMPTY = 0x20, TRIES = 100000 };

void serial_init(uint16_t port)
{
	outb(port + INTERRUPTS, 0);
	outb(port + LINE_CONTROL, 0x80);
	outb(port + DATA, 1);			/* 115200 baud */
	outb(port + INTERRUPTS, 0);
	outb(port + LINE_CONTROL, 3);		/* 8n1 */
	outb(port + FIFO, 7);
	outb(port + MODEM_CONTROL, 3);
}

/* A line that is not there must not hold the boot up, so the wait is bounded. */
void serial_write(uint16_t port, const void *data, size_t size)
{
	const uint8_t *bytes = data;

	for (size_t i = 0; i < size; i++) {
		for (int tries = TRIES; tries > 0; tries--)
			if (inb(port + LINE_STATUS) & TRANSMITTER_EMPTY)
				break;
		outb(port + DATA, bytes[i]);
	}
}
