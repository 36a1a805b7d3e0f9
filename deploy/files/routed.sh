# Mails that this machine's Postfix still hands over would wait in its queue.
map=$(postconf -h config_directory 2>/dev/null || true)/firstclick
if [ -s "$map" ]; then
    echo "firstclick: Postfix still hands over the mails of these domains, which wait in its queue from now on:" >&2
    sed 's/^/firstclick:   /' "$map" >&2
    echo "firstclick: to send them the way of before: : > $map && postfix reload && postqueue -f" >&2
fi
named=$({ postconf -n content_filter smtpd_milters; postconf -P; } 2>/dev/null | grep -E "content_filter = *firstclick:|milters = .*$(cat "$map.milter" 2>/dev/null || echo 'nothing of ours')" || true)
if [ -n "$named" ]; then
    echo "firstclick: Postfix still asks it, and its mails may wait, or go on untagged, from now on:" >&2
    printf '%s\n' "$named" | sed 's/^/firstclick:   /' >&2
    echo "firstclick: write there what was before (postconf -e ...), then: postfix reload && postqueue -f" >&2
fi
