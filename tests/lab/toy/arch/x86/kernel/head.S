/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Entered by PVH: 32-bit protected mode, paging off, %ebx points to the start info. */
	.section .note.Xen, "a", @note
	.balign 4
	.long 4, 8, 18			/* name size, value size, XEN_ELFNOTE_PHYS32_ENTRY */
	.asciz "Xen"
	.quad startup_32

	.section .text.head, "ax"
	.code32
	.globl startup_32
startup_32:
	cli
	movl $stack_end, %esp
	movl $level4_page_table, %eax
	movl %eax, %cr3
	movl %cr4, %eax
	orl $0x20, %eax			/* PAE */
	movl %eax, %cr4
	movl $0xc0000080, %ecx		/* EFER: long mode */
	rdmsr
	orl $0x100, %eax
	wrmsr
	movl %cr0, %eax
	orl $0x80000000, %eax
	movl %eax, %cr0
	lgdt descriptor_table_pointer
	ljmp $8, $startup_64

	.code64
	.globl startup_64
startup_64:
	movl $16, %eax
	movl %eax, %ds
	movl %eax, %es
	movl %eax, %ss
	xorl %ebp, %ebp
	movl %ebx, %edi
	call start_kernel
1:	cli
	hlt
	jmp 1b

	.data
	.balign 4096
level4_page_table:
	.quad level3_page_table + 3
	.fill 511, 8, 0
level3_page_table:
	.quad level2_page_table + 3
	.fill 511, 8, 0
level2_page_table:			/* the first GiB, identity, in 2 MiB pages */
	.set page, 0
	.rept 512
	.quad page + 0x83
	.set page, page + 0x200000
	.endr
descriptor_table:
	.quad 0, 0x00af9a000000ffff, 0x00cf92000000ffff
descriptor_table_pointer:
	.word . - descriptor_table - 1
	.long descriptor_table

	.bss
	.balign 16
	.fill 32768
stack_end:
