//! What stands below the options in help and man pages: examples, and what each exit code means. Lines that start with two blanks are
//! commands; a test holds that every command has examples and exit codes, and that each example is one that the program takes.

pub(super) const FIRSTCLICK: &str = "\
Examples:
  firstclick check
  firstclick audit tail --follow
  firstclick --config ./firstclick.toml run
  firstclick run --dry-run && systemctl restart firstclick
Exit codes: 0 done, or yes; 1 no: what was asked for does not hold, or is not there; 2 what was typed or written must be mended.
`run` ends with 2, too, where a person must mend something, and with 75 where trying again later may help.";

pub(super) const RUN: &str = "\
Examples:
  firstclick --config ./firstclick.toml run
Exit codes: 0 ended by TERM or INT, mails in flight done; 2 a person must mend something; 75 trying again later may help.
HUP has every file read again, as a change of one does.";

pub(super) const HEALTH: &str = "\
Example:
  firstclick health || echo \"firstclick takes no mails\"
Exit codes: 0 it takes mails; 1 it does not, or does not answer within 5 seconds.";

pub(super) const MIGRATE: &str = "\
Example:
  firstclick migrate
Exit codes: 0 all is converted, or nothing was to be; 1 something is left to a person, and is named; 2 the configuration cannot be read.";

pub(super) const CHECK: &str = "\
Examples:
  firstclick check
  firstclick check --as firstclick --strict
Exit codes: 0 it can run; 1 --strict, and there are dangers or warnings; 2 mistakes.";

pub(super) const EXPLAIN: &str = "\
Examples:
  firstclick explain --rcpt bob@corp.example reset.eml
  firstclick explain --at \"2026-11-24 10:00\" --rcpt bob@corp.example reset.eml    # saved a while ago
  firstclick explain --as-proven ~/Maildir                                        # saved behind the scanner
  firstclick explain --json archive.mbox | jq -r .decision | sort | uniq -c
Exit codes: 0 told; 2 an input is no mail, or the configuration has mistakes.";

pub(super) const ASK: &str = "\
Example:
  firstclick ask --from no-reply@acme-hr.example --link https://login.acme-hr.example/reset/6d0f6b2f9c1e4a7f8b3d
Exit codes: 0 the list would exempt it, if the sender proves itself; 1 it would not; 2 the configuration has mistakes.";

pub(super) const DRAFT: &str = "\
Example:
  firstclick draft reset.eml > acme-hr.toml
Read every line, and put the file into the folder of entries then.
Exit codes: 0 drafted; 1 no entry takes this mail, or one names its sender already, and why; 2 it is no mail.";

pub(super) const AUDIT: &str = "\
Examples:
  firstclick audit tail --follow
  firstclick audit find --to bob@corp.example --since yesterday
  firstclick audit verify
Exit codes: 0 done, or found; 1 nothing found, or the chain does not hold; 2 what was typed, or a file, cannot be read.";

pub(super) const FIND: &str = "\
Examples:
  firstclick audit find --to bob@corp.example --since yesterday
  firstclick audit find --from acme-hr.example --decision near_miss --since \"3 days ago\"
  firstclick audit find --entry acme-hr --since 2026-11-24 --until 2026-11-24 --json | jq -r .id
Exit codes: 0 found; 1 no record matches; 2 what was typed, or a file, cannot be read.";

pub(super) const VERIFY: &str = "\
Examples:
  firstclick audit verify
  firstclick audit verify --directory COPY --key-file audit.key
  journalctl -u firstclick | firstclick audit verify --at-log -
Exit codes: 0 the chain holds; 1 a record was changed or removed, or there is none; 2 a file or a key cannot be read.";

pub(super) const TAIL: &str = "\
Examples:
  firstclick audit tail --follow
  firstclick audit tail -n 50 --utc
Exit codes: 0 printed; 1 there is no record; 2 a file cannot be read.";

pub(super) const REPORT: &str = "\
Examples:
  firstclick audit report --since \"30 days ago\"
  firstclick audit report --since 2026-11-01 --until 2026-11-30 --csv > november.csv
Exit codes: 0 printed; 1 there is no record of that time; 2 what was typed, or a file, cannot be read.";

pub(super) const SENDERS: &str = "\
Examples:
  firstclick senders list
  firstclick senders show salesforce
Exit codes: 0 printed; 2 the catalogue does not know the name.";

pub(super) const SETUP: &str = "\
Examples:
  firstclick setup
  firstclick setup defender --hop 192.0.2.25
  firstclick setup safelinks --hop 192.0.2.25 --format md > ticket.md
  firstclick setup defender --hop 192.0.2.25 --check firstclick-export.json
Exit codes: 0 printed; 1 printed, and something is missing in the configuration that it needs; 2 the scanner is not known, or the
configuration has mistakes.
With --check: 0 all is as the recipe has it; 1 something is not; 2 something could not be judged, or not be read.";

pub(super) const UNWRAP: &str = "\
Examples:
  firstclick unwrap 'https://nam02.safelinks.protection.outlook.com/?url=https%3A%2F%2Facme.example%2F&data=x'
  firstclick unwrap --json < links.txt
Exit codes: 0 every link is told; 1 one cannot be told.";

pub(super) const DIGEST: &str = "\
Example:
  firstclick digest --dry-run
Exit codes: 0 printed; 2 the configuration has mistakes, or no section mail.";

pub(super) const KEYGEN: &str = "\
Examples:
  firstclick keygen --out /etc/firstclick/tag.key
  firstclick keygen --token --out /etc/firstclick/tag.token
A rotation that exempts without a gap:
  firstclick keygen --token --stage --out /etc/firstclick/tag.token
  firstclick setup defender            # and let the scanner's rule take what it prints
  firstclick keygen --token --activate --out /etc/firstclick/tag.token
  firstclick keygen --token --retire --out /etc/firstclick/tag.token     # a day later
Exit codes: 0 written, or printed; 2 the file is for something else, or cannot be written.";

pub(super) const MANUAL: &str = "\
Examples:
  firstclick manual ~/.local
  firstclick manual /usr/local
Exit codes: 0 written; 2 a file cannot be written.";

pub(super) const DEMO: &str = "\
Examples:
  firstclick demo
  firstclick demo --keep
Exit codes: 0 everything came out as promised; 1 something did not.";
