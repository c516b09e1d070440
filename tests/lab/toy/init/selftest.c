// SPDX-License-Identifier: GPL-2.0-or-later
/* Self tests, reported in KTAP as KUnit does. */
#include "toy.h"

#ifdef CONFIG_TOY_SELFTEST
static bool string_test(void)
{
	return strlen("toy") == 3 && !strcmp("toy", "toy") && strcmp("toy", "top") &&
	       !strncmp("toys", "toy!", 3) && isalnum('7') && isalnum('q') && !isalnum('-');
}

static bool format_test(void)
{
	char text[32];

	snprintf(text, sizeof(text), "%05u|%3x|%d|%s|%c", 42u, 255u, -7, "x", 'y');
	return !strcmp(text, "00042| ff|-7|x|y");
}

static bool cmdline_test(void)
{
	char value[8];

	return cmdline_find_option("quiet console=ttyS0 ro", "console", value, sizeof(value)) &&
	       !strcmp(value, "ttyS0") && !cmdline_find_option("quieter", "quiet", NULL, 0);
}

static bool page_test(void)
{
	size_t before = page_free_count();

	return page_alloc() && page_free_count() == before - 1;
}

#ifndef CONFIG_TOY_NO_COVERAGE
static bool sort_test(void)
{
	int values[] = { 3, 1, 2 };

	sort(values, 3, false);
	return values[0] == 1 && values[1] == 2 && values[2] == 3;
}

static bool sha256_test(void)
{
	static const uint8_t expected[4] = { 0xba, 0x78, 0x16, 0xbf };
	uint8_t digest[32];

	sha256("abc", 3, digest);
	return !memcmp(digest, expected, sizeof(expected));
}
#endif

#ifdef CONFIG_TOY_SELFTEST_FAIL
static bool failing_test(void)
{
	return false;
}
#endif

static const struct {
	const char *name;
	bool (*run)(void);
} tests[] = {
	{ "string_test", string_test },
	{ "format_test", format_test },
	{ "cmdline_test", cmdline_test },
	{ "page_test", page_test },
#ifndef CONFIG_TOY_NO_COVERAGE
	{ "sort_test", sort_test },
	{ "sha256_test", sha256_test },
#endif
#ifdef CONFIG_TOY_SELFTEST_FAIL
	{ "failing_test", failing_test },
#endif
};
#endif

/* Exit status of command 0: 0 when every test passed, else 1. */
int run_selftests(void)
{
	unsigned int failed = 0;

	plant_selftest();
#ifdef CONFIG_TOY_SELFTEST
	unsigned int count = sizeof(tests) / sizeof(tests[0]);

	printk("KTAP version 1");
	printk("1..1");
	printk("    KTAP version 1");
	printk("    # Subtest: toy");
	printk("    # module: toy");
	printk("    1..%u", count);
	for (unsigned int i = 0; i < count; i++) {
		bool passed = tests[i].run();

		if (!passed)
			printk("    # %s: EXPECTATION FAILED at init/selftest.c:%u", tests[i].name,
			       (unsigned int)__LINE__);
		printk("    %s %u %s", passed ? "ok" : "not ok", i + 1, tests[i].name);
		failed += !passed;
	}
	printk("# toy: pass:%u fail:%u skip:0 total:%u", count - failed, failed, count);
	printk("%s 1 toy", failed ? "not ok" : "ok");
#endif
	return failed ? 1 : 0;
}
