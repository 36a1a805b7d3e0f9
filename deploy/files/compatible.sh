# The program of before, where one runs, takes mails until the new one can start: asked with the environment and the arguments of the one
# that runs, as its user and with its groups.
pid=$(systemctl show -p MainPID --value firstclick.service 2>/dev/null || true)
of_running() { sed -n "s/^$1:[[:space:]]*//p" "/proc/$pid/status" | sed 's/[[:space:]]*$//' | tr -s '[:space:]' "$2"; }
dry_run() {
    groups=$(of_running Groups , | sed 's/,$//')
    { cat "/proc/$pid/environ" "/proc/$pid/cmdline"; printf -- '--dry-run\0'; } | xargs -0 -x setpriv --reuid "$(of_running Uid '\n' | head -n 1)" \
        --regid "$(of_running Gid '\n' | head -n 1)" "$([ -n "$groups" ] && echo "--groups=$groups" || echo --clear-groups)" env -i 2>&1
}
if [ "${pid:-0}" -gt 0 ] && ! said=$(dry_run); then
    printf '%s\n' "$said" >&2
    for line in "this version cannot start by the configuration as it is. The service of before goes on, and takes mails until" \
        "it is stopped. \`firstclick migrate\` converts what it can; then: systemctl restart firstclick"; do
        echo "firstclick: $line" >&2
        logger -t firstclick -p mail.err "$line" || true
    done
    exit 0
fi
