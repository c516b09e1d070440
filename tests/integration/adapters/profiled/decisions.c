// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A program to count by hand. What one run covers of it:
 *
 *		lines	branches	MC/DC conditions
 *	both	5/5	4/4		2/2
 *	either	5/5	3/4		1/2
 *	never	0/3	0/0		0/0
 *	main	9/11	1/2		0/0
 *	all	19/24	8/10		3/4		functions 3/4
 */

#define POSITIVE(x) ((x) > 0)

int write_profile(const char *path);

static int both(int a, int b)
{
	if (a && b)
		return 1;
	return 0;
}

static int either(int a, int b)
{
	if (POSITIVE(a) || b)
		return 1;
	return 0;
}

static int never(int a)
{
	return a + 1;
}

int main(int argc, char **argv)
{
	both(1, 1);
	both(1, 0);
	both(0, 1);
	either(1, 0);
	either(0, 0);
	if (argc != 2)
		return never(argc);
	return write_profile(argv[1]);
	return 0;
}
