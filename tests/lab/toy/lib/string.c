// SPDX-License-Identifier: GPL-2.0-or-later
#include "toy.h"

void *memcpy(void *to, const void *from, size_t size)
{
	char *target = to;
	const char *source = from;

	while (size--)
		*target++ = *source++;
	return to;
}

void *memset(void *to, int value, size_t size)
{
	char *target = to;

	while (size--)
		*target++ = value;
	return to;
}

int memcmp(const void *left, const void *right, size_t size)
{
	const unsigned char *one = left, *other = right;

	for (; size; size--, one++, other++)
		if (*one != *other)
			return *one < *other ? -1 : 1;
	return 0;
}

size_t strlen(const char *text)
{
	size_t length = 0;

	while (text[length])
		length++;
	return length;
}

int strcmp(const char *left, const char *right)
{
	while (*left && *left == *right) {
		left++;
		right++;
	}
	return (unsigned char)*left - (unsigned char)*right;
}

int strncmp(const char *left, const char *right, size_t size)
{
	while (size && *left && *left == *right) {
		left++;
		right++;
		size--;
	}
	return size ? (unsigned char)*left - (unsigned char)*right : 0;
}

bool isalnum(char letter)
{
	return (letter >= '0' && letter <= '9') || (letter >= 'A' && letter <= 'Z') ||
	       (letter >= 'a' && letter <= 'z');
}
