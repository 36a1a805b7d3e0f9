# The program of before, where one runs, takes mails until the new one can start in its place: as its user, with its environment and
# its arguments.
pid=$(systemctl show -p MainPID --value firstclick.service 2>/dev/null || true)
if [ "${pid:-0}" -gt 0 ] && ! said=$(/usr/bin/firstclick run --dry-run --of "$pid" 2>&1); then
    printf '%s\n' "$said" >&2
    for line in "this version cannot start by the configuration as it is. The service of before goes on, and takes mails until" \
        "it is stopped. \`firstclick migrate\` converts what it can; then: systemctl restart firstclick"; do
        echo "firstclick: $line" >&2
        logger -t firstclick -p mail.err "$line" || true
    done
    exit 0
fi
