#!/bin/sh
# Finish the base image whose root directory is $1. Run by mmdebstrap, outside of the root, after all packages are in.
set -eu
root=$1
inside() { chroot "$root" "$@"; }

# Programs get LANG=en_US.UTF-8; without that locale perl and bash would warn at each start.
inside localedef --no-archive -i en_US -f UTF-8 en_US.UTF-8
inside dpkg --purge locales libc-l10n >/dev/null
echo 'LANG=en_US.UTF-8' >"$root/etc/default/locale"

inside useradd --create-home --uid 1000 --user-group --shell /bin/bash --groups sudo lohar
echo 'lohar ALL=(ALL:ALL) NOPASSWD: ALL' >"$root/etc/sudoers.d/lohar"
chmod 0440 "$root/etc/sudoers.d/lohar"
install -d -o 1000 -g 1000 -m 0755 "$root/workspace"

# Debian calls it fdfind, the rest of the world fd.
ln -s /usr/bin/fdfind "$root/usr/local/bin/fd"

# What every guest must have of its own is written at boot.
: >"$root/etc/machine-id"
rm -f "$root/etc/resolv.conf" "$root/etc/hostname" "$root/var/lib/dbus/machine-id"
rm -rf "$root"/var/log/* "$root"/var/cache/debconf/*-old "$root"/var/cache/ldconfig/*
