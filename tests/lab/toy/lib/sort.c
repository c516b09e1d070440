// SPDX-License-Identifier: GPL-2.0-or-later
#include "toy.h"

void sort(int *values, size_t count, bool descending)
{
	for (size_t i = 1; i < count; i++) {
		int value = values[i];
		size_t j = i;

		while (j > 0 && ((descending && values[j - 1] < value) ||
				 (!descending && values[j - 1] > value))) {
			values[j] = values[j - 1];
			j--;
		}
		values[j] = value;
	}
}
