systemd-sysusers firstclick.conf
# The configuration is root's, and the service may read it: who runs the hop must not write its allowlist. What is there already stays
# as it is, whosever it is.
file=/etc/firstclick/firstclick.toml
for folder in /etc/firstclick /etc/firstclick/allow.d; do
    # One that cannot be written, beside a configuration of the admin's, is as he wants it.
    [ -e "$folder" ] || [ -L "$folder" ] || install -d -m 750 -o root -g firstclick "$folder" || [ -e "$file" ]
done
if [ ! -e "$file" ] && [ ! -L "$file" ]; then
    # The machine's own name, where it is a name that others know. Whole or not at all, should this be cut off.
    name=$({ hostname -f || hostname || true; } 2>/dev/null | head -n 1)
    printf '%s\n' "$name" | LC_ALL=C grep -qxE '([a-zA-Z0-9]([a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?\.)+[a-zA-Z]([a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?' || name=
    case "$name" in "" | localhost.*) name=firstclick.localdomain ;; esac
    install -m 640 -o root -g firstclick /usr/share/firstclick/firstclick.toml "$file.new"
    sed -i "s/^hostname = .*/hostname = \"$name\"/" "$file.new"
    mv "$file.new" "$file"
fi
