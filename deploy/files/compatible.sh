# The program of before, where one runs, takes mails until the new one can read what was written for it.
if systemctl is-active --quiet firstclick.service && ! said=$(firstclick check --as firstclick 2>&1); then
    printf '%s\n' "$said" >&2
    echo "firstclick: this version cannot run by the configuration as it is. The service of before goes on, and takes mails until" >&2
    echo "firstclick: it is stopped. \`firstclick migrate\` converts what it can; then: systemctl restart firstclick" >&2
    exit 0
fi
