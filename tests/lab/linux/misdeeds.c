// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * What kernels do wrong, one thing for each word of the command line:
 *
 *	misdeed=NAME		in a late initcall, with a console
 *	early_misdeed=NAME	while setup_arch() reads the command line, before any console
 *
 * This file becomes init/misdeeds.o of a kernel that exists to be read, watched and examined.
 */
#include <linux/completion.h>
#include <linux/delay.h>
#include <linux/init.h>
#include <linux/interrupt.h>
#include <linux/jiffies.h>
#include <linux/kernel.h>
#include <linux/kthread.h>
#include <linux/list.h>
#include <linux/mutex.h>
#include <linux/rcupdate.h>
#include <linux/reboot.h>
#include <linux/refcount.h>
#include <linux/sched.h>
#include <linux/slab.h>
#include <linux/spinlock.h>
#include <linux/string.h>
#include <linux/vmalloc.h>
#include <linux/workqueue.h>
#ifdef CONFIG_X86
#include <asm/desc.h>
#endif

static noinline void misdeed_page_fault(void)
{
	WRITE_ONCE(*(int *)0xffffffff00000bad, 1);
}

static noinline void misdeed_null(void)
{
	struct list_head *nowhere = NULL;

	OPTIMIZER_HIDE_VAR(nowhere);
	pr_info("%px\n", READ_ONCE(nowhere->prev));
}

static noinline void misdeed_general_protection(void)
{
	pr_info("%d\n", READ_ONCE(*(int *)0xdead000000000bad));
}

static noinline void misdeed_bug(void)
{
	BUG();
}

static noinline void misdeed_warn(void)
{
	WARN(1, "misdeed: %d of %d\n", 3, 4);
}

static noinline void misdeed_warn_on(void)
{
	WARN_ON(1);
}

static noinline void misdeed_divide(void)
{
#ifdef CONFIG_X86
	asm volatile("divl %0" : : "r" (0), "a" (1), "d" (0));
#endif
}

static DEFINE_SPINLOCK(lock_a);
static DEFINE_SPINLOCK(lock_b);
static DEFINE_MUTEX(mutex_a);

static noinline void take_b_under_a(void)
{
	spin_lock(&lock_a);
	spin_lock(&lock_b);
	spin_unlock(&lock_b);
	spin_unlock(&lock_a);
}

static noinline void take_a_under_b(void)
{
	spin_lock(&lock_b);
	spin_lock(&lock_a);
	spin_unlock(&lock_a);
	spin_unlock(&lock_b);
}

static noinline void misdeed_lock_order(void)
{
	take_b_under_a();
	take_a_under_b();
}

static noinline void misdeed_lock_twice(void)
{
	mutex_lock(&mutex_a);
	mutex_lock(&mutex_a);
}

static void take_in_softirq(struct tasklet_struct *unused)
{
	spin_lock(&lock_a);
	spin_unlock(&lock_a);
}

static DECLARE_TASKLET(taker, take_in_softirq);

static noinline void misdeed_irq_unsafe_lock(void)
{
	spin_lock(&lock_a);
	spin_unlock(&lock_a);
	tasklet_schedule(&taker);
	msleep(100);
}

static noinline void misdeed_unlock_unheld(void)
{
	mutex_unlock(&mutex_a);
}

static noinline void misdeed_free_held_lock(void)
{
	spinlock_t *lock = kmalloc(sizeof(*lock), GFP_KERNEL);

	spin_lock_init(lock);
	spin_lock(lock);
	kfree(lock);
}

static noinline void misdeed_rcu_unlocked(void)
{
	static int __rcu *pointer;

	pr_info("%px\n", rcu_dereference(pointer));
}

static noinline void misdeed_sleep_in_atomic(void)
{
	spin_lock(&lock_a);
	msleep(10);
	spin_unlock(&lock_a);
}

static noinline void misdeed_schedule_in_atomic(void)
{
	preempt_disable();
	schedule();
	preempt_enable();
}

static noinline void misdeed_use_after_free(void)
{
	char *memory = kmalloc(100, GFP_KERNEL);

	kfree(memory);
	WRITE_ONCE(memory[8], 'x');
}

static noinline void misdeed_out_of_bounds(void)
{
	char *memory = kmalloc(100, GFP_KERNEL);

	OPTIMIZER_HIDE_VAR(memory);
	pr_info("%d\n", READ_ONCE(memory[120]));
	kfree(memory);
}

static noinline void misdeed_double_free(void)
{
	char *memory = kmalloc(100, GFP_KERNEL);

	kfree(memory);
	OPTIMIZER_HIDE_VAR(memory);
	kfree(memory);
}

static noinline void misdeed_stack_out_of_bounds(void)
{
	char here[16] = "here";
	int far = 24;

	OPTIMIZER_HIDE_VAR(far);
	pr_info("%d\n", READ_ONCE(here[far]));
}

static noinline void misdeed_shift(void)
{
	int far = 40;

	OPTIMIZER_HIDE_VAR(far);
	pr_info("%d\n", 1 << far);
}

static noinline void misdeed_array_index(void)
{
	static int four[4];
	int five = 5;

	OPTIMIZER_HIDE_VAR(five);
	pr_info("%d\n", four[five]);
}

static noinline void misdeed_list_del(void)
{
	struct list_head one, two;
	LIST_HEAD(head);

	list_add(&one, &head);
	list_add(&two, &head);
	one.next = &one;
	list_del(&one);
}

static noinline void misdeed_refcount(void)
{
	refcount_t count = REFCOUNT_INIT(0);

	refcount_inc(&count);
}

static noinline void misdeed_stack_protector(void)
{
	char here[16];
	int much = 64;

	OPTIMIZER_HIDE_VAR(much);
	memset(here, 'x', much);
	barrier_data(here);
}

static noinline int misdeed_recursion(int depth)
{
	char here[256];

	memset(here, depth, sizeof(here));
	barrier_data(here);
	return misdeed_recursion(depth + 1) + here[depth % sizeof(here)];
}

static noinline void misdeed_stack_overflow(void)
{
	pr_info("%d\n", misdeed_recursion(0));
}

static DECLARE_COMPLETION(never);

static int wait_for_ever(void *unused)
{
	wait_for_completion(&never);
	return 0;
}

static noinline void misdeed_hung_task(void)
{
	kthread_run(wait_for_ever, NULL, "waiter");
	ssleep(60);
}

static noinline void misdeed_spin(void)
{
	preempt_disable();
	for (;;)
		cpu_relax();
}

static int spin_later(void *unused)
{
	ssleep(5);
	misdeed_spin();
	return 0;
}

/* Once user space is there, which has RCU at work. */
static noinline void misdeed_rcu_stall(void)
{
	kthread_run(spin_later, NULL, "spinner");
}

static void spin_in_work(struct work_struct *unused)
{
	misdeed_spin();
}

static DECLARE_WORK(spinner, spin_in_work);

static noinline void misdeed_workqueue(void)
{
	queue_work_on(0, system_wq, &spinner);
	ssleep(60);
}

static noinline void misdeed_loop(void)
{
	for (;;)
		cpu_relax();
}

static noinline void misdeed_deadlock(void)
{
	static unsigned long lock;

	local_irq_disable();
	for (int i = 0; i < 2; i++)
		while (test_and_set_bit_lock(0, &lock))
			cpu_relax();
}

static noinline void misdeed_halt(void)
{
	local_irq_disable();
	for (;;)
#ifdef CONFIG_X86
		asm volatile("hlt");
#else
		asm volatile("wfi");
#endif
}

static noinline void misdeed_triple_fault(void)
{
#ifdef CONFIG_X86
	static const struct desc_ptr nothing;

	load_idt(&nothing);
	asm volatile("int3");
#endif
}

static noinline void misdeed_panic(void)
{
	panic("misdeed: nothing can be done");
}

static noinline void misdeed_restart(void)
{
	emergency_restart();
}

static noinline void misdeed_out_of_memory(void)
{
	while (kmalloc(4096, GFP_KERNEL))
		;
}

static noinline void misdeed_big_allocation(void)
{
	kfree(kmalloc(1 << 30, GFP_KERNEL));
}

static noinline void misdeed_flood(void)
{
	for (;;)
		pr_info("misdeed: one line of very many\n");
}

/* No misdeeds, but they look like some: healthy code that takes its time. */
static unsigned int slow_seconds = 30;

static int __init choose_seconds(char *number)
{
	return !kstrtouint(number, 10, &slow_seconds);
}
__setup("misdeed_seconds=", choose_seconds);

static noinline void misdeed_slow_mdelay(void)
{
	mdelay(slow_seconds * 1000);
}

static noinline void misdeed_slow_mdelay_off(void)
{
	local_irq_disable();
	mdelay(slow_seconds * 1000);
	local_irq_enable();
}

static noinline void misdeed_slow_msleep(void)
{
	msleep(slow_seconds * 1000);
}

/* As drivers wait for a device that has a deadline. */
static noinline void misdeed_slow_poll(void)
{
	unsigned long end = jiffies + slow_seconds * HZ;

	while (time_before(jiffies, end))
		cpu_relax();
}

/* As a self test of a cipher computes. */
static noinline void misdeed_slow_compute(void)
{
	unsigned long end = jiffies + slow_seconds * HZ;
	u64 value = 1;

	while (time_before(jiffies, end))
		for (int i = 0; i < 1 << 28; i++)
			value = value * 6364136223846793005ULL + 1442695040888963407ULL;
	pr_info("%llx\n", value);
}

#define MISDEED(name) { #name, misdeed_##name }
static const struct {
	const char *name;
	void (*commit)(void);
} misdeeds[] = {
	MISDEED(page_fault), MISDEED(null), MISDEED(general_protection), MISDEED(bug),
	MISDEED(warn), MISDEED(warn_on), MISDEED(divide), MISDEED(lock_order),
	MISDEED(lock_twice), MISDEED(irq_unsafe_lock), MISDEED(unlock_unheld),
	MISDEED(free_held_lock), MISDEED(rcu_unlocked), MISDEED(sleep_in_atomic),
	MISDEED(schedule_in_atomic), MISDEED(use_after_free), MISDEED(out_of_bounds),
	MISDEED(double_free), MISDEED(stack_out_of_bounds), MISDEED(shift),
	MISDEED(array_index), MISDEED(list_del), MISDEED(refcount),
	MISDEED(stack_protector), MISDEED(stack_overflow), MISDEED(hung_task),
	MISDEED(spin), MISDEED(rcu_stall), MISDEED(workqueue), MISDEED(loop), MISDEED(deadlock),
	MISDEED(halt), MISDEED(triple_fault), MISDEED(panic), MISDEED(restart),
	MISDEED(out_of_memory), MISDEED(big_allocation), MISDEED(flood), MISDEED(slow_mdelay),
	MISDEED(slow_mdelay_off), MISDEED(slow_msleep), MISDEED(slow_poll), MISDEED(slow_compute),
};

static void commit_misdeed(const char *name)
{
	for (int i = 0; i < ARRAY_SIZE(misdeeds); i++)
		if (!strcmp(name, misdeeds[i].name))
			misdeeds[i].commit();
}

static char chosen[32];

static int __init choose_misdeed(char *name)
{
	strscpy(chosen, name, sizeof(chosen));
	return 1;
}
__setup("misdeed=", choose_misdeed);

static int __init early_misdeed(char *name)
{
	commit_misdeed(name);
	return 0;
}
early_param("early_misdeed", early_misdeed);

static int __init late_misdeed(void)
{
	commit_misdeed(chosen);
	return 0;
}
late_initcall(late_misdeed);
