// SPDX-License-Identifier: GPL-2.0-or-later
/* %s %c %d %u %x with l, ll and z, a width, and leading zeroes. */
#include "toy.h"

struct output {
	char *next, *end;
};

static void put(struct output *output, char letter)
{
	if (output->next < output->end)
		*output->next++ = letter;
}

static void put_number(struct output *output, uint64_t number, unsigned int base, int width,
		       char fill)
{
	char digits[24];
	int count = 0;

	do {
		digits[count++] = "0123456789abcdef"[number % base];
		number /= base;
	} while (number);
	for (; width > count; width--)
		put(output, fill);
	while (count)
		put(output, digits[--count]);
}

int vsnprintf(char *buffer, size_t size, const char *format, va_list arguments)
{
	struct output output = { buffer, buffer + size - 1 };

	for (; *format; format++) {
		char fill = ' ';
		int width = 0, longs = 0;

		if (*format != '%') {
			put(&output, *format);
			continue;
		}
		if (*++format == '0')
			fill = *format++;
		for (; *format >= '0' && *format <= '9'; format++)
			width = width * 10 + *format - '0';
		for (; *format == 'l' || *format == 'z'; format++)
			longs++;
		if (*format == 's') {
			for (const char *text = va_arg(arguments, const char *); *text; text++)
				put(&output, *text);
		} else if (*format == 'c') {
			put(&output, va_arg(arguments, int));
		} else if (*format == 'd' && !longs) {
			int number = va_arg(arguments, int);

			if (number < 0)
				put(&output, '-');
			put_number(&output, number < 0 ? 0u - number : (unsigned int)number, 10,
				   width, fill);
		} else if (*format == 'u' || *format == 'x') {
			put_number(&output, longs ? va_arg(arguments, uint64_t)
						  : va_arg(arguments, unsigned int),
				   *format == 'x' ? 16 : 10, width, fill);
		} else {
			put(&output, *format);
		}
	}
	*output.next = 0;
	return output.next - buffer;
}

int snprintf(char *buffer, size_t size, const char *format, ...)
{
	va_list arguments;
	int length;

	va_start(arguments, format);
	length = vsnprintf(buffer, size, format, arguments);
	va_end(arguments);
	return length;
}
