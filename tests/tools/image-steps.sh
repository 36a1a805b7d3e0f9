#!/bin/bash
# image-steps.sh ROOM: runs the image that is unpacked in ROOM/root as a container runtime does, with a read-only root, as a user of no
# name, in namespaces of its own (run it by `unshare --mount-proc --net --pid --fork --kill-child`). ROOM/environment and ROOM/command have
# what the image says of both. Every line of ROOM/said is one that the test looks for.
room=$1
exec > "$room/log" 2>&1
set -x
say() { echo "$*" >> "$room/said"; }
mapfile -t environment < "$room/environment"
mapfile -t command < "$room/command"
root=$room/root
ip link set lo up; ip address add 192.0.2.1/32 dev lo
mount --make-rprivate /
# As a runtime does.
printf 'nameserver 127.0.0.1\n' > "$root/etc/resolv.conf"
mount --bind "$root" "$root"; mount -o remount,bind,ro "$root"
for volume in lib log; do
    # A new volume is as the image's folder.
    cp -a "$root/var/$volume/firstclick" "$room/volume-$volume"
    mount --bind "$room/volume-$volume" "$root/var/$volume/firstclick"
done
mount -t proc proc "$root/proc"
in_image() { exec env -i "${environment[@]}" FIRSTCLICK_SMTP__NEXT_HOP=127.0.0.3:25 /usr/bin/unshare --pid --fork --kill-child /usr/sbin/chroot --userspec=4711:0 --groups= "$root" "$@"; }
health() { (in_image /usr/bin/firstclick health) | head -n 1; }

cat > "$room/scanner.pl" <<'END'
use IO::Socket::INET;
my $listener = IO::Socket::INET->new(LocalAddr => "127.0.0.3:25", Listen => 9, ReuseAddr => 1) or die;
while (my $client = $listener->accept) {
    next if fork;
    print $client "220 scanner.test\r\n";
    while (<$client>) {
        if (/^DATA/i) { print $client "354 go\r\n"; while (<$client>) { last if /^\.\r\n/ } print $client "250 2.0.0 taken\r\n" }
        elsif (/^QUIT/i) { print $client "221 bye\r\n"; last }
        else { print $client "250 ok\r\n" }
    }
    exit;
}
END
perl "$room/scanner.pl" &

(in_image /usr/bin/firstclick health); say "health before: exit $?"
in_image "${command[@]}" & runtime=$!
for _ in $(seq 300); do [[ "$(health)" = ready ]] && break; sleep 0.1; done
say "health: $(health)"
say "keys: $(stat -c '%n %u:%g:%a' "$room"/volume-lib/tag.* | sed "s|$room/||" | tr '\n' ' ')"
say "read-only: $(touch "$root/x" 2>&1 | grep -c 'Read-only')"

# From outside; and SIGTERM comes in the middle of the mail.
exec 3<>/dev/tcp/192.0.2.1/2525
heard() { local line; while read -r -t 20 line <&3; do [ "${line:3:1}" = - ] || break; done; echo "${line:0:3}"; }
tell() { printf '%s\r\n' "$@" >&3; }
greeting=$(heard)
for line in "EHLO mx.test" "MAIL FROM:<a@else.test>" "RCPT TO:<bob@corp.test>" DATA; do tell "$line"; said="$said $(heard)"; done
say "session: $greeting$said"
tell "From: <a@else.test>" "Subject: slow" ""
service=$(pgrep -P "$runtime")
kill -TERM "$service"
for _ in $(seq 100); do grep -q stopping "$room/log" && break; sleep 0.05; done
tell hello .
say "in the middle of a stop: $(heard)"
exec 3>&-
wait "$runtime"; say "exit: $?"
say "audit: $(grep -c '"type":"mail"' "$room"/volume-log/*.jsonl)"
say end
