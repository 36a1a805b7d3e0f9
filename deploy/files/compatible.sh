# The program of before, where one runs, takes mails until the new one can start in its place: as its user, with its environment and
# its arguments, and with its view of the file system.
pid=$(systemctl show -p MainPID --value firstclick.service 2>/dev/null || true)
enter=
case "$(readlink "/proc/${pid:-0}/exe" 2>/dev/null)" in
    */firstclick | */firstclick" (deleted)") ! nsenter --target "$pid" --mount true 2>/dev/null || enter="nsenter --target $pid --mount" ;;
    # None runs, or it is started by a program of the admin's, which nobody here knows.
    *) pid=0 ;;
esac
if [ "$pid" -gt 0 ] && ! said=$($enter timeout 60 /usr/bin/firstclick run --dry-run --of "$pid" 2>&1); then
    printf '%s\n' "$said" >&2
    for line in "this version cannot start by the configuration as it is. The service of before goes on, and takes mails until" \
        "it is stopped. Mend that, or let \`firstclick migrate\` convert what it can; then: systemctl restart firstclick"; do
        echo "firstclick: $line" >&2
        logger -t firstclick -p mail.err "$line" || true
    done
    exit 0
fi
