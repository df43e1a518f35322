#!/bin/busybox sh
# The first program of the guest: devices, modules, then the workload, and off.
busybox=/bin/busybox
$busybox mount -t devtmpfs devtmpfs /dev
$busybox mount -t proc proc /proc
$busybox mount -t sysfs sysfs /sys

# Numbered in the order in which they depend on each other.
for module in /modules/*; do
    $busybox insmod "$module"
done
$busybox ifconfig lo up

exec </dev/ttyS0 >/dev/ttyS0 2>&1
# No echo of orders, and lines that end as they were written.
$busybox stty -echo -onlcr
/workload || echo "NOVACRON-GUEST FAULT workload ended with exit code $?"
$busybox poweroff -f
