#!/bin/bash
# The steps of the packages' test, on a Debian that has nothing but systemd and Postfix; every line of /out/said is one that the test
# looks for. What an admin types is typed as the README has it.
exec > /out/log 2>&1
set -x
say() { echo "$*" >> /out/said; }
state() { systemctl show -p "$1" --value "${2:-firstclick}"; }
finish() { systemctl status firstclick --no-pager -l; journalctl -u firstclick -u firstclick-keys --no-pager | tail -80; say end; systemctl poweroff --force --no-block; }
trap finish EXIT
export DEBIAN_FRONTEND=noninteractive PAGER=cat
sudo() { "$@"; }
# The first block of code below a step of the README's first deployment.
block() { awk -v step="**$1. " 'index($0, step) == 1 { on = 1 } on && /^```$/ { inside = !inside; if (!inside) exit; next } on && inside' /src/README.md; }
commands() {
    block "$1" > /out/block
    local wrong=0
    [ -s /out/block ] || wrong=1
    while read -r line; do eval "$line" || { say "readme $1: $line: exit $?"; wrong=1; }; done < /out/block
    say "readme $1: $wrong"
}
about() { stat -c '%n %U:%G:%a' "$@" | tr '\n' ' '; }
tail_lines() { firstclick audit tail 2>&1 | sed -n 's/^[0-9-]* [0-9:+Z]* //p'; }
until_said() { for _ in $(seq 200); do tail_lines | grep -q "$1" && return 0; sleep 0.1; done; return 1; }

# What is there already: Postfix, the scanner as the README names it, the machine's own name.
echo '127.0.0.1 localhost
127.0.0.2 mx.corp.example mx
127.0.0.3 scanner.corp.example' > /etc/hosts
hostname mx.corp.example
systemctl stop postfix
postconf -e mydestination= inet_interfaces=127.0.0.1
systemctl start postfix
cat > /out/scanner.pl <<'END'
use IO::Socket::INET;
my $listener = IO::Socket::INET->new(LocalAddr => "127.0.0.3:25", Listen => 9, ReuseAddr => 1) or die;
while (my $client = $listener->accept) {
    next if fork;
    print $client "220 scanner.corp.example\r\n";
    my $mail = "";
    while (<$client>) {
        if (/^(EHLO|HELO)/i) { print $client "250 scanner.corp.example\r\n" }
        elsif (/^DATA/i) { print $client "354 go\r\n"; while (<$client>) { last if /^\.\r\n/; $mail .= $_ } open(my $out, ">>", "/out/mails"); print $out $mail; close $out; print $client "250 2.0.0 taken\r\n" }
        elsif (/^QUIT/i) { print $client "221 bye\r\n"; last }
        else { print $client "250 2.0.0 ok\r\n" }
    }
    exit;
}
END
perl /out/scanner.pl &
began=$SECONDS

cd /out/packages
commands 1
say "installed: $(state ActiveState) $(state UnitFileState), $(state StatusText)"
say "owners: $(about /etc/firstclick /etc/firstclick/* /var/log/firstclick)"
say "hostname: $(grep ^hostname /etc/firstclick/firstclick.toml)"
say "service may write: $(setpriv --reuid firstclick --regid firstclick --init-groups sh -c 'for f in /etc/firstclick /etc/firstclick/allow.d /etc/firstclick/*; do [ ! -w $f ] || echo $f; done')."
say "verify: $(systemd-analyze verify firstclick.service firstclick.socket firstclick-keys.service 2>&1 | grep firstclick)."
for unit in firstclick firstclick-keys; do say "security: $unit $(systemd-analyze security "$unit" --no-pager | sed -n 's/.*exposure level for .*: \([0-9.]*\).*/\1/p' | awk '{ print ($1 < 2.0) ? "below 2.0" : $1 }')"; done
systemd-analyze security firstclick --no-pager | tail -1
cp /etc/firstclick/tag.token /out/token
commands 2
commands 3
say "check: $(firstclick check --strict --as firstclick > /out/check 2>&1; echo $?)"
for _ in $(seq 100); do [[ "$(state StatusText)" = "takes mails"* ]] && break; sleep 0.1; done
say "status: $(state StatusText)"
say "health: $(firstclick health)"

commands 4
printf 'From: <noreply@salesforce.com>\nTo: <bob@corp.example>\nSubject: hello\n\nhello\n' | sendmail -f noreply@salesforce.com bob@corp.example
until_said noreply@salesforce.com
say "mail: $(grep -c '^Subject: hello' /out/mails) $(tail_lines | grep noreply@salesforce.com | cut -d ' ' -f 2-)"
echo "from dpkg -i to the first line: $((SECONDS - began)) seconds"
firstclick audit tail

# Again, as after a run that was cut off; and an upgrade, which loses no mail and changes nothing that is the admin's.
echo "# mine" >> /etc/firstclick/firstclick.toml
md5sum /etc/firstclick/*.* > /out/before
was=$(state MainPID)
export DPKG_MAINTSCRIPT_PACKAGE=firstclick
dpkg --configure -a && /var/lib/dpkg/info/firstclick.postinst configure "" && dpkg -i firstclick_*.deb; say "again: $?"
unset DPKG_MAINTSCRIPT_PACKAGE
sudo dpkg -i /out/packages/next/firstclick_*.deb; say "upgrade: $? $(state ActiveState) $(dpkg-query -W -f '${Version}' firstclick)"
say "restarted: $([ "$was" != "$(state MainPID)" ] && echo yes) $(md5sum -c --quiet /out/before && echo unchanged)"
printf 'Subject: again\n\nhello\n' | sendmail -f alice@else.example bob@corp.example
until_said alice@else.example; say "mail: $(grep -c '^Subject: again' /out/mails)"
# What is whole by the unit's environment alone, and an entry with a mistake, are no reason to leave an old program running; what the
# admin made of folders and links stays.
mkdir -p /etc/systemd/system/firstclick.service.d /root/etc
mv /etc/firstclick/firstclick.toml /root/etc/ && sed -i 's/^hostname = /#&/' /root/etc/firstclick.toml && ln -s /root/etc/firstclick.toml /etc/firstclick/
chmod 755 /root /root/etc; chmod 644 /root/etc/firstclick.toml; chmod 2770 /etc/firstclick/allow.d; chmod 751 /etc/firstclick
printf '[Service]\nEnvironment=FIRSTCLICK_SMTP__HOSTNAME=mx.corp.example "OTHER=two words"\nProtectHome=no\nWorkingDirectory=/run/conf\nBindReadOnlyPaths=/etc/firstclick:/run/conf\nExecStart=\nExecStart=@/usr/bin/firstclick fc --config firstclick.toml run\n' > /etc/systemd/system/firstclick.service.d/own.conf
echo 'sender = "nobody-knows"' > /etc/firstclick/allow.d/wrong.toml
systemctl daemon-reload; systemctl restart firstclick; was=$(state MainPID)
dpkg -i firstclick_*.deb; say "with a wrong entry and an environment: $? $(state ActiveState) $([ "$was" != "$(state MainPID)" ] && echo restarted) $(about /etc/firstclick /etc/firstclick/allow.d)$(readlink /etc/firstclick/firstclick.toml)"
systemctl stop firstclick; dpkg -i /out/packages/next/firstclick_*.deb; say "stopped: $? $(state UnitFileState) $(state ActiveState)"
rm -r /etc/systemd/system/firstclick.service.d /etc/firstclick/allow.d/wrong.toml /etc/firstclick/firstclick.toml
sed 's/^#hostname/hostname/' /root/etc/firstclick.toml > /etc/firstclick/firstclick.toml; chgrp firstclick /etc/firstclick/firstclick.toml; chmod 640 /etc/firstclick/firstclick.toml
chmod 750 /etc/firstclick /etc/firstclick/allow.d; chmod 700 /root; rm -r /root/etc
md5sum /etc/firstclick/*.* > /out/before
systemctl daemon-reload; systemctl start firstclick
# What the new version cannot read does not stop the old one.
was=$(state MainPID)
cp /etc/firstclick/firstclick.toml /root/good.toml; echo 'no_such_key = 1' >> /etc/firstclick/firstclick.toml
dpkg -i firstclick_*.deb 2> /out/warned; say "downgrade: $? $(state ActiveState) $([ "$was" = "$(state MainPID)" ] && echo 'the one before') $(grep -c 'goes on' /out/warned) warning"
cp /root/good.toml /etc/firstclick/firstclick.toml
systemctl restart firstclick; say "mended: $(state ActiveState) $(firstclick audit verify > /dev/null && echo holds)"
systemctl disable --now firstclick; dpkg -i /out/packages/next/firstclick_*.deb; say "disabled: $(state UnitFileState) $(state ActiveState)"
systemctl enable --now firstclick

dpkg --remove firstclick 2> /out/routed; say "routed: $(grep -c 'Postfix still hands over' /out/routed) $(sed -n 's/.*: : > /: > /p' /out/routed)"
say "removed: $? $(systemctl is-active firstclick) $(ls /usr/bin/firstclick /usr/lib/systemd/system/firstclick* 2>/dev/null | wc -l) $(ls /etc/firstclick | wc -l)"
# systemd holds the socket, and the service is for it to start.
dpkg -i firstclick_*.deb; systemctl disable --now firstclick; systemctl enable --now firstclick.socket; dpkg --remove firstclick; dpkg -i firstclick_*.deb
say "the socket: $(systemctl is-active firstclick.socket) $(firstclick health)"
systemctl disable --now firstclick.socket; systemctl enable --now firstclick; dpkg --remove firstclick
dpkg -i firstclick_*.deb; say "and back: $(state ActiveState) $(md5sum -c --quiet /out/before && echo unchanged)"
/usr/share/firstclick/postfix/remove; say "taken out of Postfix: $? $(postconf -h transport_maps)"
dpkg --purge firstclick > /out/purged 2>&1; say "purged: $? $(systemctl is-active firstclick) $(ls -d /etc/firstclick 2>/dev/null | wc -l)"
say "kept: $(ls /var/log/firstclick/*.jsonl | wc -l) $(grep -c 'the audit is kept' /out/purged) $(find / -xdev \( -path /out -o -path /proc -o -path /src -o -path /tmp -o -path /usr/local \) -prune -o -name '*firstclick*' ! -path '/var/spool/*' -print | sort | tr '\n' ' ')"
dpkg -i firstclick_*.deb; rm -r /var/log/firstclick /var/lib/firstclick; systemctl stop firstclick; rm -rf /var/log/firstclick
dpkg --purge firstclick; say "without an audit: $? $(ls -d /etc/firstclick /var/lib/firstclick /var/log/firstclick 2>/dev/null | wc -l)"
