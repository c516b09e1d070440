// SPDX-License-Identifier: GPL-2.0-or-later
#include "toy.h"

/* Finds "option" or "option=value" in a line of words; value may be NULL. */
bool cmdline_find_option(const char *line, const char *option, char *value, size_t size)
{
	size_t length = strlen(option);
	bool word_starts = true;

	for (; *line; word_starts = *line == ' ', line++) {
		if (!word_starts || strncmp(line, option, length))
			continue;
		if (line[length] && line[length] != ' ' && line[length] != '=')
			continue;
		if (value && size) {
			line += length + (line[length] == '=');
			while (size > 1 && *line && *line != ' ') {
				*value++ = *line++;
				size--;
			}
			*value = 0;
		}
		return true;
	}
	return false;
}
