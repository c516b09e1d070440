// SPDX-License-Identifier: GPL-2.0-or-later
// The tiny guest that proves an accelerator of arm64, as probe_x86_64.S does that of x86. It waits
// until the counter that timers go by has advanced by 1/64 of a second, prints "kwatch" on the
// PL011 of QEMU's virt machine, and has PSCI reset the machine.
//   clang -c --target=aarch64-linux-gnu probe_arm64.S -o probe.o
//   llvm-objcopy -O binary -j .text probe.o probe.bin

	.text
	.globl	_start
_start:
	mrs	x1, cntvct_el0
	mrs	x2, cntfrq_el0
	add	x1, x1, x2, lsr #6
wait:	isb
	mrs	x3, cntvct_el0
	cmp	x3, x1
	b.lo	wait

	adr	x1, text
	mov	x2, #0x09000000
print:	ldrb	w0, [x1], #1
	cbz	w0, off
	str	w0, [x2]
	b	print
off:	mov	w0, #0x84000000
	add	w0, w0, #9		// PSCI: SYSTEM_RESET
	hvc	#0
	b	off

text:	.asciz	"kwatch\n"
	.balign	4
