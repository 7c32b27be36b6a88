#!/bin/busybox sh
# First program of every guest: load modules, stack the drives, become the agent.
# Each process costs some ten milliseconds under emulation, hence tables for `mount -a` instead of single mounts.

fail() {
    echo "bhatti: boot failed: $*" >/dev/console
    exit 1 # the kernel panics, and with panic=-1 the machine ends: the host sees it at once
}

clock() { # milliseconds are not to be had here; hundredths are good enough to see which part is slow
    read -r uptime idle </proc/uptime
    times="$times $1=$uptime"
}

mount -a -T /etc/early || fail "cannot mount /proc and /dev"
clock init

# Machines without PCI announce their devices on the command line. They run on hardware, where the two extra modules cost
# nothing; under emulation each costs 30 ms, and the processor has random numbers of its own.
bus=virtio_pci
read -r cmdline </proc/cmdline
case $cmdline in
*virtio_mmio.device=*) bus="virtio_mmio virtio_rng vmw_vsock_virtio_transport" ;;
esac
modprobe -a $bus virtio_blk virtio_net overlay || fail "cannot load the virtio modules"
# And what the engine has devices for that others have not: bhatti.modules=A,B on the command line.
for word in $cmdline; do
    case $word in
    bhatti.modules=*)
        IFS=,
        for module in ${word#*=}; do
            modprobe "$module" || echo "bhatti: no module $module" >/dev/console
        done
        unset IFS
        ;;
    esac
done
clock modules

for drive in vda vdb vdc vdd; do
    tries=0
    while [ ! -b /dev/$drive ]; do
        tries=$((tries + 1))
        [ $tries -le 50 ] || fail "drive $drive has not appeared within 5 s"
        sleep 0.1
    done
done
mount -a -T /etc/drives || fail "cannot mount the image or its layer"
[ -d /upper/root ] || mkdir /upper/root /upper/work || fail "cannot write to the layer"
[ -d /lower/proc ] && [ -d /lower/sys ] && [ -d /lower/dev ] && [ -d /lower/run ] && [ -d /lower/tmp ] ||
    mkdir -p /upper/root/proc /upper/root/sys /upper/root/dev /upper/root/run /upper/root/tmp
mount -a -T /etc/root || fail "cannot stack the layer on the image"
mkdir -p /new/run/bhatti/agent /new/run/bhatti/config /new/dev/pts /new/dev/shm
mount -a -T /etc/late || fail "cannot mount the agent drive or the config drive"

set --
while read -r word; do set -- "$@" "$word"; done </new/run/bhatti/agent/run
[ $# -gt 0 ] || fail "the agent drive does not say how to start the agent"
clock mounts
export LOHAR_BOOT="${times# }"
exec switch_root /new "$@"
fail "cannot start the agent"
