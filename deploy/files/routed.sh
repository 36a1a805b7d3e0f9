# Mails that this machine's Postfix still hands over would wait in its queue.
map=$(postconf -h config_directory 2>/dev/null || true)/firstclick
if [ -s "$map" ]; then
    echo "firstclick: Postfix still hands over the mails of these domains, which wait in its queue from now on:" >&2
    sed 's/^/firstclick:   /' "$map" >&2
    echo "firstclick: to send them the way of before: : > $map && postfix reload && postqueue -f" >&2
fi
