#!/bin/bash
# The steps of the booted test; every line of /out/said is one that the test looks for.
exec > /out/log 2>&1
set -x
say() { echo "$*" >> /out/said; }
conf() { printf '[smtp]\nlisten = ["127.0.0.1:2525"]\nhostname = "hop.test"\n%s\n[audit]\ndirectory = "/var/log/firstclick"\n%s\n' "$1" "$2" > /etc/firstclick/firstclick.toml; }
state() { systemctl show -p "$1" --value "${2:-firstclick}"; }
until_active() { for _ in $(seq 300); do [ "$(state ActiveState)" = active ] && return 0; sleep 0.1; done; return 1; }
finish() { systemctl status firstclick --no-pager -l; journalctl -u firstclick --no-pager | tail -50; say end; systemctl poweroff --force --no-block; }
trap finish EXIT

# The installation from source, by the documentation's own commands: the block behind each step. What is built is there; a bare
# machine has no sudo.
sudo() { "$@"; }
cargo() { :; }
block() { awk -v step="**$1. " 'index($0, step) == 1 { on = 1 } on && /^```$/ { inside = !inside; if (!inside) exit; next } on && inside' /src/docs/deployment.md; }
cd /src
userdel firstclick; rm -rf /etc/firstclick /var/log/firstclick
wrong=0
commands() { block "$1" > /out/block; [ -s /out/block ] || wrong=1; while read -r line; do eval "$line" || { say "source: $line: exit $?"; wrong=1; }; done < /out/block; }
commands 1
sed -i 's/^#next_hop = .*/next_hop = "127.0.0.1:1"/' /etc/firstclick/firstclick.toml
commands 2
say "source: $wrong $(state ActiveState)"
say "source: check $(firstclick check --strict --as firstclick > /out/check 2>&1; echo $?) $(stat -c %U:%G:%a /etc/firstclick/tag.token)"
say "source: tail $(firstclick audit tail > /out/tail; echo $?)"
systemctl stop firstclick; rm -f /etc/firstclick/allow.d/*
cp /src/deploy/systemd/firstclick.socket /etc/systemd/system/
groupadd --system mta
systemctl daemon-reload
say "verify $(systemd-analyze verify firstclick.service firstclick.socket 2>&1 | grep -c firstclick)"

conf "" ""
timeout 30 systemctl start firstclick; say "no next hop: start $? $(state ActiveState)"
say "no next hop: $(state StatusText)"

conf 'next_hop = "127.0.0.1:1"' "$(printf '[milter]\nlisten = ["unix:/run/firstclick/m.sock"]\nsocket_owner = "firstclick:mta"')"
systemctl restart firstclick; say "not in the group: exit $(state ExecMainStatus)"
mkdir -p /run/systemd/system/firstclick.service.d
printf '[Service]\nSupplementaryGroups=mta\n' > /run/systemd/system/firstclick.service.d/group.conf
systemctl daemon-reload
systemctl restart firstclick; say "in the group: $(state ActiveState) $(stat -c %U:%G /run/firstclick/m.sock)"

printf 'mistake' > /etc/firstclick/firstclick.toml
systemctl restart firstclick; say "mistake: exit $(state ExecMainStatus)"
sleep 12; say "mistake: $(state ActiveState), restarts $(state NRestarts)"

conf 'next_hop = "127.0.0.1:1"' ""
perl -MIO::Socket::INET -e 'my $s = IO::Socket::INET->new(LocalAddr => "127.0.0.1:2525", Listen => 1) or die; sleep 300' & held=$!
sleep 1
systemctl start --no-block firstclick
for _ in $(seq 80); do [ "$(state NRestarts)" -ge 1 ] && [[ "$(state StatusText)" = waiting* ]] && break; sleep 1; done
say "busy: restarts $(state NRestarts), last exit $(state ExecMainStatus), $(state StatusText)"
kill $held
until_active; say "free: $(state ActiveState)"

systemctl stop firstclick
systemctl start firstclick.socket; systemctl start firstclick; say "socket: $(state ActiveState firstclick.socket), service $(state ActiveState)"
systemctl restart firstclick; say "restarted: $(state ActiveState firstclick.socket), service $(state ActiveState)"
cp /etc/firstclick/firstclick.toml /root/good.toml; printf 'mistake' > /etc/firstclick/firstclick.toml
systemctl restart firstclick
# Somebody connects meanwhile, and waits.
perl -MIO::Socket::INET -e 'my $s = IO::Socket::INET->new(PeerAddr => "127.0.0.1:2525") or die; print scalar <$s>' > /out/greeting & waiting=$!
sleep 8
say "failed: socket $(state ActiveState firstclick.socket)"
cp /root/good.toml /etc/firstclick/firstclick.toml
for _ in $(seq 200); do [ -s /out/greeting ] && break; sleep 0.1; done
say "mended: socket $(state ActiveState firstclick.socket), greeting $(head -c 3 /out/greeting)"
