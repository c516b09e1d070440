// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Writes the counters of this program as a raw profile of version 10: the header, then four
 * sections as the linker left them, each padded to eight bytes.
 */

#include <stdint.h>
#include <stdio.h>

#define SECTION(name) extern char __start___llvm_prf_##name[], __stop___llvm_prf_##name[]
#define SIZE(name) ((uint64_t)(__stop___llvm_prf_##name - __start___llvm_prf_##name))
#define DISTANCE(from, to) \
	((uintptr_t)__start___llvm_prf_##to - (uintptr_t)__start___llvm_prf_##from)

SECTION(data);
SECTION(cnts);
SECTION(bits);
SECTION(names);

/* Instrumented objects refer to it, so that a runtime is linked in: this one. */
int __llvm_profile_runtime;

enum { RECORD = 64, LAST_VALUE_KIND = 2 };

static uint64_t padding(uint64_t size)
{
	return -size & 7;
}

static void append(FILE *file, const char *section, uint64_t size)
{
	static const char zero[8];

	fwrite(section, size, 1, file);
	fwrite(zero, padding(size), 1, file);
}

int write_profile(const char *path)
{
	const uint64_t header[] = {
		0xff6c70726f667281, 10, 0, SIZE(data) / RECORD,
		0, SIZE(cnts) / sizeof(uint64_t), 0, SIZE(bits),
		padding(SIZE(bits)), SIZE(names), DISTANCE(data, cnts), DISTANCE(data, bits),
		(uintptr_t)__start___llvm_prf_names, 0, 0, LAST_VALUE_KIND,
	};
	FILE *file = fopen(path, "wb");

	if (!file)
		return 1;
	fwrite(header, sizeof(header), 1, file);
	append(file, __start___llvm_prf_data, SIZE(data));
	append(file, __start___llvm_prf_cnts, SIZE(cnts));
	append(file, __start___llvm_prf_bits, SIZE(bits));
	append(file, __start___llvm_prf_names, SIZE(names));
	return fclose(file);
}
