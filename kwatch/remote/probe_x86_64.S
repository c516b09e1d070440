# SPDX-License-Identifier: GPL-2.0-or-later
# The tiny guest that proves an accelerator: a boot sector. It waits for three timer interrupts
# with HLT, enters 64-bit mode with paging, prints "kwatch" on COM1, and resets the machine.
# kwatch/adapters/guest/accelerator.py holds its bytes; a test assembles this file and compares:
#   clang -c -m32 probe_x86_64.S -o probe.o && llvm-objcopy -O binary -j .text probe.o probe.bin

	.text
	.code16
	.globl	_start
_start:
	cli
	xorw	%ax, %ax
	movw	%ax, %ds
	movw	%ax, %es
	movw	%ax, %ss
	movw	$0x7c00, %sp
	cld
	sti
	movb	0x46c, %al		# the BIOS counts timer interrupts here
	addb	$3, %al
wait:	hlt
	cmpb	%al, 0x46c
	jne	wait
	cli

	# One page table of each level at 0x1000, 0x2000 and 0x3000 maps the first 2 MiB.
	movw	$0x1000, %di
	xorw	%ax, %ax
	movw	$0x1800, %cx
	rep stosw
	movw	$0x2003, 0x1000
	movw	$0x3003, 0x2000
	movw	$0x0083, 0x3000

	lgdtw	0x7c00 + gdt_pointer - _start
	movl	$0x20, %eax		# CR4.PAE
	movl	%eax, %cr4
	movl	$0x1000, %eax
	movl	%eax, %cr3
	movl	$0xc0000080, %ecx	# EFER.LME
	rdmsr
	orw	$0x100, %ax
	wrmsr
	movl	$0x80000011, %eax	# CR0.PG, ET and PE
	movl	%eax, %cr0
	ljmpw	$8, $(0x7c00 + long_mode - _start)

	.code64
long_mode:
	movl	$(0x7c00 + text - _start), %esi
	movw	$0x3f8, %dx
print:	lodsb
	testb	%al, %al
	jz	off
	outb	%al, %dx
	jmp	print
off:	movb	$0xfe, %al		# the keyboard controller resets the machine
	outb	%al, $0x64
	hlt
	jmp	off

text:	.asciz	"kwatch\n"
	.balign	8
gdt:	.quad	0
	.quad	0x00209a0000000000	# 64-bit code
gdt_pointer:
	.word	gdt_pointer - gdt - 1
	.long	0x7c00 + gdt - _start
	.org	510
	.word	0xaa55
