# The program of before, where one runs, takes mails until the new one can start: asked with the environment and the arguments of the one
# that runs, as the service's user.
pid=$(systemctl show -p MainPID --value firstclick.service 2>/dev/null || true)
if [ "${pid:-0}" -gt 0 ] && ! said=$({ cat "/proc/$pid/environ" "/proc/$pid/cmdline"; printf -- '--dry-run\0'; } | xargs -0 -x setpriv --reuid firstclick --regid firstclick --init-groups env -i 2>&1); then
    printf '%s\n' "$said" >&2
    for line in "this version cannot start by the configuration as it is. The service of before goes on, and takes mails until" \
        "it is stopped. \`firstclick migrate\` converts what it can; then: systemctl restart firstclick"; do
        echo "firstclick: $line" >&2
        logger -t firstclick -p mail.err "$line" || true
    done
    exit 0
fi
