#!/bin/bash
# systemd-boot.sh BASE PROGRAM PROJECT STEPS ROOM NAME: boots an overlay of BASE and runs STEPS in it, whose /out is ROOM/out and whose
# /src is the project, with PROGRAM as it was built by the README's command. Every mount is
# in a namespace of its own (run it by `unshare --mount`), every process in the control group NAME. Exit code 77: it cannot.
set -eu
base=$1 program=$2 project=$3 steps=$4 room=$5 name=$6
mkdir -p "$room/out" "$room/disk" /run/systemd
mount -t tmpfs tmpfs /run/systemd || exit 77
mount -t tmpfs tmpfs "$room/disk" || exit 77
mkdir "$room"/disk/{upper,work,root}
mount -t overlay overlay -o "lowerdir=$base,upperdir=$room/disk/upper,workdir=$room/disk/work" "$room/disk/root" || exit 77
for tree in /sys/fs/cgroup/systemd /sys/fs/cgroup/unified /sys/fs/cgroup; do
    if [ -f "$tree/cgroup.procs" ]; then
        mkdir "$tree/$name" && echo $$ > "$tree/$name/cgroup.procs" || exit 77
    fi
done
root=$room/disk/root
mkdir -p "$root/src/target/release"
cp -r "$project/README.md" "$project/docs" "$project/config" "$project/deploy" "$root/src/"
touch "$root/src/target/release/firstclick"
install -m 755 "$steps" "$root/usr/local/bin/steps"
rm -f "$root/usr/bin/firstclick"
mkdir -p "$root/out"
printf '[Unit]\nRequires=basic.target dbus.service\nAfter=basic.target\nWants=steps.service\n' > "$root/etc/systemd/system/steps.target"
printf '[Unit]\nAfter=basic.target dbus.service\n[Service]\nExecStart=/usr/local/bin/steps\n' > "$root/etc/systemd/system/steps.service"
rm -rf "$root/etc/machine-id"
: > "$root/etc/machine-id"
exec systemd-nspawn --quiet --boot --directory="$root" --machine="$name" --register=no --keep-unit --private-network --console=pipe \
    --bind-ro="$program:/src/target/release/firstclick" --bind="$room/out:/out" systemd.unit=steps.target
