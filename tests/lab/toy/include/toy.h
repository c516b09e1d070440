/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef TOY_H
#define TOY_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

static inline __attribute__((always_inline)) void outb(uint16_t port, uint8_t value)
{
	asm volatile("outb %0, %1" : : "a"(value), "Nd"(port));
}

static inline __attribute__((always_inline)) uint8_t inb(uint16_t port)
{
	uint8_t value;

	asm volatile("inb %1, %0" : "=a"(value) : "Nd"(port));
	return value;
}

static inline __attribute__((always_inline)) void outw(uint16_t port, uint16_t value)
{
	asm volatile("outw %0, %1" : : "a"(value), "Nd"(port));
}

static inline __attribute__((always_inline)) uint64_t rdtsc(void)
{
	uint32_t low, high;

	asm volatile("rdtsc" : "=a"(low), "=d"(high));
	return (uint64_t)high << 32 | low;
}

/* drivers/serial.c */
enum { CONSOLE_PORT = 0x3f8, CHANNEL_PORT = 0x2f8 };
void serial_init(uint16_t port);
void serial_write(uint16_t port, const void *data, size_t size);

/* init/guest.c */
void guest_session(void);

/* init/selftest.c */
int run_selftests(void);

/* kernel/ */
__attribute__((format(printf, 1, 2))) void printk(const char *format, ...);
__attribute__((noreturn, format(printf, 1, 2))) void panic(const char *format, ...);
__attribute__((noreturn)) void machine_restart(void);
__attribute__((noreturn)) void machine_power_off(void);
void plant_early(void);
void plant_boot(void);
void plant_selftest(void);

/* lib/ */
size_t bitmap_find_zero(const uint64_t *map, size_t size);
void bitmap_set(uint64_t *map, size_t start, size_t count);
bool bitmap_full(const uint64_t *map, size_t size);
bool cmdline_find_option(const char *line, const char *option, char *value, size_t size);
__attribute__((format(printf, 3, 0)))
int vsnprintf(char *buffer, size_t size, const char *format, va_list arguments);
__attribute__((format(printf, 3, 4)))
int snprintf(char *buffer, size_t size, const char *format, ...);
void sha256(const void *data, size_t size, uint8_t digest[32]);
void sort(int *values, size_t count, bool descending);
void *memcpy(void *to, const void *from, size_t size);
void *memset(void *to, int value, size_t size);
int memcmp(const void *left, const void *right, size_t size);
size_t strlen(const char *text);
int strcmp(const char *left, const char *right);
int strncmp(const char *left, const char *right, size_t size);
bool isalnum(char letter);

/* mm/page.c */
enum { PAGE_COUNT = 256, PAGE_SIZE = 4096 };
void page_init(void);
void *page_alloc(void);
size_t page_free_count(void);

#endif
