systemd-sysusers firstclick.conf
systemd-tmpfiles --create firstclick.conf
# The machine's own name, where nobody has written one yet.
name=$(hostname -f 2>/dev/null || hostname 2>/dev/null || true)
case "$name" in
    "" | localhost* | *[!a-zA-Z0-9.-]*) ;;
    *) sed -i "s/^hostname = \"firstclick\.localdomain\"$/hostname = \"$name\"/" /etc/firstclick/firstclick.toml ;;
esac
