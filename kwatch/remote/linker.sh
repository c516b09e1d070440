#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# LD of a kernel build with two linkers: one for vmlinux.o, one for everything else.
#
# Kbuild has a single LD. scripts/Makefile.vmlinux_o (scripts/link-vmlinux.sh before v6.1) runs it
# with "-r -o vmlinux.o"; no other output has this name. adapters/kernel/kbuild.py fills in
# @OBJECTS@ and @LINKER@.
relocatable=
output=
previous=
for word in "$@"; do
	case $previous in
	-o | --output)
		output=$word
		previous=
		continue
		;;
	esac
	case $word in
	-r | -i | --relocatable) relocatable=yes ;;
	-o?*) output=${word#-o} ;;
	--output=*) output=${word#--output=} ;;
	esac
	previous=$word
done
if [ "$relocatable" = yes ] && [ "$output" = vmlinux.o ]; then
	exec @OBJECTS@ "$@"
fi
exec @LINKER@ "$@"
