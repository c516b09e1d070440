// SPDX-License-Identifier: GPL-2.0-or-later
#include "toy.h"

size_t bitmap_find_zero(const uint64_t *map, size_t size)
{
	for (size_t i = 0; i < size; i++)
		if (!(map[i / 64] >> i % 64 & 1))
			return i;
	return size;
}

void bitmap_set(uint64_t *map, size_t start, size_t count)
{
	for (size_t i = start; i < start + count; i++)
		map[i / 64] |= 1ull << i % 64;
}

bool bitmap_full(const uint64_t *map, size_t size)
{
	return bitmap_find_zero(map, size) == size;
}
