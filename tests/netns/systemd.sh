#!/bin/sh
# Boots systemd as PID 1 of namespaces of its own, in the network namespace of the caller.
#
#   systemd.sh SCRATCH CHECKOUT PYTHON CGROUP CONFIG
#
# SCRATCH is an empty directory, CHECKOUT this project's, PYTHON the prefix of a Python that
# has its dependencies, CGROUP a group of cgroup2 for all of it, CONFIG an lb.yaml.
set -e

enter() {
	echo $$ > "$4/cgroup.procs"
	exec unshare --mount --pid --fork --kill-child --uts --ipc --cgroup "$0" --inside "$@"
}

# A root over the machine's. The program lies where the unit expects it: /home and /tmp, where
# the checkout may be, are hidden from the unit.
make_root() {
	mount --make-rprivate /
	mount -t tmpfs tmpfs "$scratch"
	mkdir "$scratch/upper" "$scratch/work" "$root"
	mount -t overlay overlay -o "lowerdir=/,upperdir=$scratch/upper,workdir=$scratch/work" "$root"
	mkdir -p "$root/opt/xdplb/bin" "$root/opt/xdplb/python" "$root/etc/xdplb"
	mount --rbind "$python" "$root/opt/xdplb/python"
	for part in reconciler bpf schema; do
		mkdir -p "$root/opt/xdplb/$part"
		mount --bind "$checkout/$part" "$root/opt/xdplb/$part"
	done
	cat > "$root/opt/xdplb/bin/xdplb-reconcile" <<-'END'
		#!/bin/sh
		export PYTHONPATH=/opt/xdplb PYTHONDONTWRITEBYTECODE=1
		exec /opt/xdplb/python/bin/python3 -m reconciler.cli.main run "$@"
	END
	chmod 755 "$root/opt/xdplb/bin/xdplb-reconcile"
	printf '%s' "$config" > "$root/etc/xdplb/lb.yaml"
}

install_unit() {
	rm -rf "$root"/etc/systemd/system/*
	cp "$checkout/packaging/xdplb.service" "$root/etc/systemd/system/"
	mkdir "$root/etc/systemd/system/xdplb.service.d"
	# There are no other units here, and no journal.
	cat > "$root/etc/systemd/system/xdplb.service.d/test.conf" <<-'END'
		[Unit]
		DefaultDependencies=no
		Wants=
		After=
		[Service]
		StandardError=append:/run/log
	END
}

mount_kernel() {
	mount -t proc proc "$root/proc"
	mount -t sysfs sysfs "$root/sys"
	mount -t bpf -o mode=700 bpf "$root/sys/fs/bpf"
	mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
	mount -t tmpfs tmpfs "$root/run"
	mount --rbind /dev "$root/dev"
}

[ "$1" = --inside ] || enter "$@"
shift
scratch=$1 checkout=$2 python=$3 config=$5
root=$scratch/root
make_root
install_unit
mount_kernel
mkdir "$root/run/old"
cd "$root"
pivot_root . run/old
umount -l /run/old
exec env -i container=xdplb-test PATH=/usr/sbin:/usr/bin:/sbin:/bin \
	/lib/systemd/systemd --system --unit=xdplb.service --show-status=no
