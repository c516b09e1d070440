// SPDX-License-Identifier: GPL-2.0-or-later
/* Pages from one MiB behind the image, one bit each. */
#include "toy.h"

enum { FIRST_PAGE = 0x1000000, RESERVED = 4 };

static uint64_t used[PAGE_COUNT / 64];

void page_init(void)
{
	memset(used, 0, sizeof(used));
	bitmap_set(used, 0, RESERVED);
}

void *page_alloc(void)
{
	size_t page = bitmap_find_zero(used, PAGE_COUNT);

	if (page == PAGE_COUNT)
		return NULL;
	bitmap_set(used, page, 1);
	return (void *)(uintptr_t)(FIRST_PAGE + page * PAGE_SIZE);
}

size_t page_free_count(void)
{
	size_t count = 0;

	for (size_t i = 0; i < PAGE_COUNT; i++)
		count += !(used[i / 64] >> i % 64 & 1);
	return count;
}
