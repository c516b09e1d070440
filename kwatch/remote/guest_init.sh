#!/bin/busybox sh
# SPDX-License-Identifier: GPL-2.0-or-later
# The guest's end of docs/guest-protocol.md: the first process of a kernel under test.
# kwatch/adapters/guest/initramfs.py packs it; /kwatch/settings says port, serial, counters and seconds.

export PATH=/bin
. /kwatch/settings

say() {
	printf 'kwatch %s\n' "$*" >&3
}

# The port of virtio-serial with our name, or nothing.
find_port() {
	for name in /sys/class/virtio-ports/*/name; do
		read -r found 2>/dev/null <"$name" && [ "$found" = "$port" ] || continue
		name=${name%/name}
		echo "/dev/${name##*/}"
	done
}

# A redirection that fails would end this shell, and with it the kernel: it is tried elsewhere.
is_usable() {
	[ -c "$1" ] && (: <>"$1") 2>/dev/null
}

# Closing the channel waits until its last byte is sent.
end_machine() {
	exec 3>&-
	sync
	# Without ACPI a power-off only halts the processor, and QEMU would run for ever.
	[ -d /sys/firmware/acpi ] && poweroff -f
	reboot -f
	echo "kwatch: cannot end the machine"
	while :; do sleep 3600; done
}

mount -t proc proc /proc
# For what commands call; it finds itself in /proc.
busybox --install -s /bin 2>/dev/null
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev 2>/dev/null
# A profile of a whole kernel is large, and copied as a whole before it is sent.
mount -t tmpfs -o size=80% tmpfs /tmp 2>/dev/null

channel=$(find_port)
# A device that has its driver has a name for each port soon.
set -- /sys/bus/virtio/drivers/virtio_console/virtio*
tries=0
while [ -e "$1" ] && [ -z "$channel" ] && [ "$tries" -lt 20 ]; do
	sleep 0.1
	channel=$(find_port)
	tries=$((tries + 1))
done
# Kernels without the driver have a second serial line.
is_usable "$channel" || channel=$serial
if ! is_usable "$channel"; then
	echo "kwatch: no channel $channel"
	end_machine
fi
exec 3<>"$channel"
if [ "$channel" = "$serial" ] && ! stty raw -echo <&3 2>/dev/null; then
	echo "kwatch: channel $channel cannot be made raw"
	end_machine
fi

say hello 1
mount -t debugfs debugfs /sys/kernel/debug 2>/dev/null || say error no debugfs
if [ "$counters" = reset ] && [ -e /sys/kernel/debug/llvm-cov/reset ]; then
	echo 1 >/sys/kernel/debug/llvm-cov/reset || say error counters were not reset
fi
say ready

index=0
while [ -f "/kwatch/commands/$index" ]; do
	say begin "$index"
	timeout -k 5 "$seconds" sh "/kwatch/commands/$index" </dev/null 3>&-
	say end "$index" "$?"
	index=$((index + 1))
done
say tested

profile=/sys/kernel/debug/llvm-cov/profraw
if ! [ -e "$profile" ]; then
	say error no profile
elif ! cat "$profile" >/tmp/profraw; then
	say error the profile could not be copied
else
	size=$(stat -c %s /tmp/profraw)
	digest=$(sha256sum </tmp/profraw)
	say blob profraw "$size" "${digest%% *}"
	cat /tmp/profraw >&3
	printf '\n' >&3
fi
say done
end_machine
