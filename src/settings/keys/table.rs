//! The table of keys: a row for each, in the order in which they are written.

use std::time::Duration;

use super::{Key, Kind, Preset, SectionKeys, Shipped};

/// The type of bounds on a number of things.
const COUNT: Kind = Kind::Number(1, 1_000_000);
/// The type of SMTP deadlines.
const DEADLINE: Kind = Kind::Time(Duration::from_millis(100), Duration::from_hours(24));

/// The sections, in the order in which they are written.
pub const SECTIONS: &[SectionKeys] = &[
    SectionKeys { path: "", doc: "", shipped: Shipped::InForce },
    SectionKeys { path: "smtp", doc: "The SMTP hop, between an upstream and the scanner.", shipped: Shipped::InForce },
    SectionKeys { path: "smtp.bounds", doc: "What the hop takes on at once.", shipped: Shipped::InForce },
    SectionKeys {
        path: "smtp.deadlines",
        doc: "How long the hop waits: connect, reply and final_reply for the next hop, command, data_block and data for an upstream.",
        shipped: Shipped::InForce,
    },
    SectionKeys {
        path: "milter",
        doc: "In place of [smtp], or beside it: the same inside your own Postfix or Sendmail (docs/deployment.md).",
        shipped: Shipped::Commented,
    },
    SectionKeys { path: "identity", doc: "How senders are proven.", shipped: Shipped::InForce },
    SectionKeys { path: "readers", doc: "Which addresses are the same reader's (docs/allowlist.md).", shipped: Shipped::Commented },
    SectionKeys {
        path: "tag",
        doc: "The header whose token the scanner's rule looks for. `firstclick keygen --token --out tag.token` and `firstclick keygen --out tag.key` write the files.",
        shipped: Shipped::InForce,
    },
    SectionKeys {
        path: "guard",
        doc: "For action = \"guard\": the page that only a person's press gets past (docs/guard.md).",
        shipped: Shipped::Commented,
    },
    SectionKeys {
        path: "admin",
        doc: "The admin page: /healthz, /readyz and /metrics (docs/operations.md). It does not authenticate.",
        shipped: Shipped::Commented,
    },
    SectionKeys {
        path: "log",
        doc: "The log of the service (docs/operations.md). RUST_LOG counts instead of level where it is set.",
        shipped: Shipped::Commented,
    },
    SectionKeys {
        path: "mail",
        doc: "The digest: what owners of entries, and the operator, are told by mail once a day at most, where there is news (docs/digest.md).",
        shipped: Shipped::Commented,
    },
    SectionKeys { path: "arc", doc: "In whose name mails are ARC-sealed whose links were replaced.", shipped: Shipped::Commented },
    SectionKeys { path: "audit", doc: "The record of what was decided (docs/audit.md).", shipped: Shipped::InForce },
];

/// The keys of all sections, in the order in which they are written.
pub const KEYS: &[Key] = &[
    Key::new(
        "mode",
        Kind::Word(&["observe", "enforce"]),
        Preset::Default("\"observe\""),
        "observe: decide and audit, do nothing (forged tags are removed all the same). enforce: act.",
    ),
    Key::new(
        "allow",
        Kind::Folder,
        Preset::Unset("\"allow.d\""),
        "The folder of allowlist files, one a sender. An edit takes effect by itself. A file with a mistake is left out, and the others count; check names it.",
    ),
    Key::new(
        "never",
        Kind::List,
        Preset::Unset("[\"shares@acme.example\"]"),
        "Authors whose mails no entry exempts, as addresses or domains: those that carry strangers' text.",
    ),
    Key::new("smtp.listen", Kind::List, Preset::Required("[\"127.0.0.1:2525\"]"), "Where upstreams connect.").at_start(),
    Key::new(
        "smtp.listen_tls",
        Kind::List,
        Preset::Unset("[\"127.0.0.1:2465\"]"),
        "Where upstreams connect that speak TLS from the first octet. Needs a certificate; with it, listen may be left out.",
    )
    .at_start(),
    Key::new(
        "smtp.next_hop",
        Kind::TextOrList,
        Preset::Required("\"127.0.0.1:2526\""),
        "The scanner, or the MTA before it. A list is tried in order: [\"scanner1.corp.example:25\", \"scanner2.corp.example:25\"].",
    ),
    Key::new(
        "smtp.hostname",
        Kind::Text,
        Preset::Required("\"firstclick.corp.example\""),
        "The hop's own name, in its greeting, its trace field and as its authserv-id.",
    ),
    Key::new(
        "smtp.next_hop_tls",
        Kind::Word(&["off", "opportunistic", "required", "verified"]),
        Preset::Default("\"opportunistic\""),
        "TLS with the next hop. off; opportunistic: where offered, with any certificate; required: always, with any certificate; verified: always, with a certificate of a known authority for the next hop's name.",
    ),
    Key::new(
        "smtp.next_hop_ca",
        Kind::File,
        Preset::Unset("\"/etc/firstclick/authorities.pem\""),
        "Authorities for `verified`, in PEM; without it, the system's.",
    ),
    Key::new(
        "smtp.pool",
        Kind::Word(&["on", "off"]),
        Preset::Default("\"on\""),
        "Whether connections to the next hop are kept for the next session. on: after a mail that was accepted, for 4 seconds. off: each session has its own.",
    ),
    Key::new(
        "smtp.chunking",
        Kind::Word(&["on", "off"]),
        Preset::Default("\"off\""),
        "Whether mails go by BDAT to a next hop that announces CHUNKING: one wait less for each. One that replies 5xx to it gets DATA from then on, until the next reload.",
    ),
    Key::new(
        "smtp.certificate",
        Kind::File,
        Preset::Unset("\"/etc/firstclick/hop.pem\""),
        "Our certificate, in PEM: STARTTLS is offered where it is given, with key.",
    ),
    Key::new("smtp.key", Kind::File, Preset::Unset("\"/etc/firstclick/hop.key\""), "The key of the certificate, in PEM."),
    Key::new(
        "smtp.accept_from",
        Kind::List,
        Preset::Unset("[\"127.0.0.0/8\", \"10.0.0.0/8\"]"),
        "Who may connect; behind a proxy, the client that it names. Without it everybody may, so that whoever reaches `listen` can send to the next hop.",
    ),
    Key::new(
        "smtp.proxies",
        Kind::List,
        Preset::Unset("[\"10.0.0.5\"]"),
        "Hosts whose connections start with a PROXY header (version 1 or 2): your HAProxy. Theirs must, others' must not.",
    ),
    Key::new(
        "smtp.inspect_limit",
        Kind::Size,
        Preset::Default("\"1MiB\""),
        "A larger mail is never exempted; it is passed on while it comes in (docs/operations.md).",
    ),
    Key::new("smtp.size_limit", Kind::Size, Preset::Default("\"50MiB\""), "A larger mail is refused."),
    Key::new(
        "smtp.bare_line_endings",
        Kind::Word(&["reject", "normalize"]),
        Preset::Default("\"reject\""),
        "A CR or an LF that stands alone. reject: 550 5.5.2. normalize: it becomes CR LF, and the mail is not exempted.",
    ),
    Key::new(
        "smtp.trace",
        Kind::Flag,
        Preset::Default("true"),
        "Whether the hop leaves a Received field. Exchange Online finds the sender's address there: leave it on. A mail that has no header and a forged tag in its body gets it all the same.",
    ),
    Key::new("smtp.bounds.connections", COUNT, Preset::Default("2500"), "Sessions at once; past it, 421."),
    Key::new(
        "smtp.bounds.connections_per_address",
        COUNT,
        Preset::Default("500"),
        "Sessions at once from one address (behind a proxy, of one client that it names); past it, 421.",
    ),
    Key::new("smtp.bounds.recipients", COUNT, Preset::Default("1000"), "Recipients of one mail; past it, 452."),
    Key::new(
        "smtp.bounds.idle_commands",
        COUNT,
        Preset::Default("100"),
        "Commands that bring no mail nearer, in one session, before it is closed.",
    ),
    Key::new("smtp.bounds.memory", Kind::Size, Preset::Default("\"128MiB\""), "Memory of all mails at once, of [milter] too; past it, 452: SMTP and milter each keep a quarter that the other cannot take, and one client network takes a tenth at most, or one mail of inspect_limit; trusted_upstreams and loopback speak for many and are not held to it.").at_start(),
    Key::new("smtp.deadlines.connect", DEADLINE, Preset::Default("\"30s\""), "For the next hop to connect and greet."),
    Key::new("smtp.deadlines.reply", DEADLINE, Preset::Default("\"5m\""), "For the next hop to reply."),
    Key::new("smtp.deadlines.final_reply", DEADLINE, Preset::Default("\"10m\""), "For the next hop to reply to the final dot."),
    Key::new("smtp.deadlines.command", DEADLINE, Preset::Default("\"5m\""), "For an upstream, between commands."),
    Key::new("smtp.deadlines.data_block", DEADLINE, Preset::Default("\"3m\""), "For an upstream, between two reads of data."),
    Key::new("smtp.deadlines.data", DEADLINE, Preset::Default("\"1h\""), "For all of a mail's data."),
    Key::new(
        "smtp.deadlines.drain",
        DEADLINE,
        Preset::Default("\"30s\""),
        "For sessions to finish once the hop stops; a milter takes a change at its next start.",
    ),
    Key::new(
        "smtp.deadlines.dead_hop",
        DEADLINE,
        Preset::Default("\"30s\""),
        "How long a next hop that could not be reached is tried last.",
    ),
    Key::new(
        "milter.listen",
        Kind::List,
        Preset::Required("[\"inet:127.0.0.1:8891\", \"unix:/run/firstclick/milter.sock\"]"),
        "Where MTAs connect.",
    )
    .at_start(),
    Key::new(
        "milter.hostname",
        Kind::Text,
        Preset::Unset("\"firstclick.corp.example\""),
        "The hop's own name, as its authserv-id. Without it smtp.hostname counts; where there is no [smtp], it must be written.",
    ),
    Key::new("milter.socket_mode", Kind::Text, Preset::Default("\"0660\""), "Who may open a socket in the file system, in octal.")
        .at_start(),
    Key::new(
        "milter.socket_owner",
        Kind::Text,
        Preset::Unset("\"firstclick:postfix\""),
        "User and group of a socket in the file system; without it, those that firstclick runs as.",
    )
    .at_start(),
    Key::new("milter.connections", COUNT, Preset::Default("1000"), "Connections of MTAs at once.").at_start(),
    Key::new(
        "milter.inspect_limit",
        Kind::Size,
        Preset::Default("\"1MiB\""),
        "A larger mail is never exempted. Only where there is no [smtp], whose inspect_limit counts for both.",
    ),
    Key::new(
        "identity.verify",
        Kind::Word(&["here", "upstream"]),
        Preset::Default("\"here\""),
        "here: SPF, DKIM and DMARC by DNS. upstream: believe the Authentication-Results of trusted_upstreams.",
    ),
    Key::new(
        "identity.authserv_ids",
        Kind::List,
        Preset::Unset("[\"mx.corp.example\"]"),
        "The names in which the upstream writes Authentication-Results.",
    ),
    Key::new(
        "identity.results",
        Kind::Word(&["above_received", "below_received"]),
        Preset::Default("\"above_received\""),
        "Where it writes them. above_received: above its own Received, where nobody else can. below_received: right below it too, as milters of Postfix and Sendmail do; only where the upstream removes fields of its own name that come in.",
    ),
    Key::new("identity.dns", Kind::List, Preset::Unset("[\"127.0.0.1:53\"]"), "Resolvers; without it, the system's."),
    Key::new(
        "identity.deadline",
        Kind::Time(Duration::from_millis(100), Duration::from_mins(1)),
        Preset::Default("\"5s\""),
        "For all look-ups of one mail. Past it there is no exemption.",
    ),
    Key::new(
        "identity.trusted_upstreams",
        Kind::List,
        Preset::Unset("[\"127.0.0.0/8\", \"::1\"]"),
        "Hosts that may say for whom they speak (XCLIENT, XFORWARD), and whose Received field names the client.",
    ),
    Key::new(
        "identity.arc_sealers",
        Kind::List,
        Preset::Unset("[\"list.example\"]"),
        "Domains of mailing lists and gateways whose ARC seal tells what held before they changed a mail. Nobody else's is looked at.",
    ),
    Key::new("readers.domains", Kind::List, Preset::Unset("[\"corp.example\"]"), "The company's domains."),
    Key::new(
        "readers.aliases",
        Kind::File,
        Preset::Unset("\"aliases\""),
        "A file of aliases, `alias@corp.example: address, address` on each line.",
    ),
    Key::new("tag.header", Kind::Text, Preset::Default("\"X-Firstclick\""), "The header's name."),
    Key::new(
        "tag.token_file",
        Kind::File,
        Preset::Required("\"tag.token\""),
        "Tokens, one a line. The newest, on top, is written; older ones stay until they are retired, and `next TOKEN` is staged: `setup` prints it, and no mail carries it yet (docs/operations.md).",
    ),
    Key::new("tag.key_file", Kind::File, Preset::Required("\"tag.key\""), "Keys, one a line. The newest, on top, signs; older ones still verify."),
    Key::new(
        "guard.url",
        Kind::Text,
        Preset::Required("\"https://links.corp.example\""),
        "Where readers reach the page: https://HOST without a path.",
    ),
    Key::new(
        "guard.listen",
        Kind::Text,
        Preset::Required("\"127.0.0.1:8443\""),
        "Where the page is served, or where the proxy in front connects.",
    )
    .at_start(),
    Key::new(
        "guard.key_file",
        Kind::File,
        Preset::Required("\"guard.key\""),
        "Keys of the links, one a line (`firstclick keygen --out guard.key`). The newest, on top, seals; older ones still open what they sealed.",
    ),
    Key::new(
        "guard.certificate",
        Kind::File,
        Preset::Unset("\"links.pem\""),
        "The page's certificate, in PEM, with key. Without it a proxy in front does TLS.",
    ),
    Key::new("guard.key", Kind::File, Preset::Unset("\"links.key\""), "The key of the certificate, in PEM."),
    Key::new("guard.proxies", Kind::List, Preset::Unset("[\"127.0.0.0/8\"]"), "Proxies whose X-Forwarded-For is believed."),
    Key::new(
        "guard.lifetime",
        Kind::Time(Duration::from_hours(1), Duration::from_hours(90 * 24)),
        Preset::Default("\"7d\""),
        "How long a guard link opens.",
    ),
    Key::new(
        "guard.store",
        Kind::Folder,
        Preset::Unset("\"/var/lib/firstclick/links\""),
        "A folder of firstclick's: guard links are short enough for plain text of 76 columns. Without it each holds what it needs, in some 165 characters. Several machines need one folder that all of them see (docs/guard.md).",
    ),
    Key::new(
        "guard.confirm",
        Kind::Word(&["press", "choose"]),
        Preset::Default("\"press\""),
        "How a reader shows that it is a person. press: a button. choose: the sender among three names.",
    ),
    Key::new("guard.logo", Kind::File, Preset::Unset("\"logo.png\""), "A picture on the page: .png, .svg, .jpg or .webp, at most 256 KiB."),
    Key::new(
        "guard.note",
        Kind::Text,
        Preset::Unset("\"Questions? Service desk, extension 4711.\""),
        "A sentence on the page, of at most 300 characters.",
    ),
    Key::new("guard.help_desk", Kind::Flag, Preset::Default("false"), "Whether the help desk's page, /unwrap, is there."),
    Key::new("admin.listen", Kind::Text, Preset::Required("\"127.0.0.1:9925\""), "Where the page is served.").at_start(),
    Key::new(
        "log.format",
        Kind::Word(&["auto", "journal", "text", "json"]),
        Preset::Default("\"auto\""),
        "auto: to the journal, with priorities and fields, where systemd has connected standard error to it; text elsewhere.",
    )
    .at_start(),
    Key::new(
        "log.level",
        Kind::Word(&["error", "warn", "info", "debug"]),
        Preset::Default("\"info\""),
        "The least severe lines that are written. info: one line a mail. debug: one a connection, too.",
    )
    .at_start(),
    Key::new("mail.server", Kind::Text, Preset::Required("\"127.0.0.1:25\""), "The mail server that takes digests."),
    Key::new(
        "mail.tls",
        Kind::Word(&["off", "starttls", "tls"]),
        Preset::Default("\"starttls\""),
        "TLS with that server, whose certificate a known authority must have signed for its name. off; starttls: always, by STARTTLS; tls: from the first octet.",
    ),
    Key::new("mail.ca", Kind::File, Preset::Unset("\"/etc/firstclick/authorities.pem\""), "Authorities for its certificate, in PEM; without it, the system's."),
    Key::new("mail.username", Kind::Text, Preset::Unset("\"firstclick\""), "As whom to log in, with password_file. Without it nobody logs in."),
    Key::new("mail.password_file", Kind::File, Preset::Unset("\"mail.password\""), "A file with the password in its first line; keep it from other users."),
    Key::new(
        "mail.from",
        Kind::Text,
        Preset::Required("\"firstclick@corp.example\""),
        "The address in From, which nothing else sends from: mails from it are never exempted, and are no near misses.",
    ),
    Key::new(
        "mail.to",
        Kind::List,
        Preset::Required("[\"postmaster@corp.example\"]"),
        "Who hears of what has no owner: certificates, a reload that was refused, entries whose owner is no address.",
    ),
    Key::new("mail.at", Kind::Text, Preset::Default("\"07:00\""), "From when on, by the machine's time zone, the day's digests are sent."),
    Key::new(
        "mail.state",
        Kind::Folder,
        Preset::Unset("\"/var/lib/firstclick/digest\""),
        "Where it is remembered what was sent. Of several machines that share it one sends. Without it, `digest` in $STATE_DIRECTORY, or in /var/lib/firstclick.",
    ),
    Key::new("arc.domain", Kind::Text, Preset::Required("\"corp.example\""), "In whose name mails are sealed."),
    Key::new("arc.selector", Kind::Text, Preset::Required("\"arc1\""), "Where the public key stands in DNS: SELECTOR._domainkey.DOMAIN."),
    Key::new(
        "arc.key_file",
        Kind::File,
        Preset::Required("\"arc.pem\""),
        "An RSA key in PEM; `openssl genrsa -out arc.pem 2048` writes one.",
    ),
    Key::new(
        "audit.directory",
        Kind::Folder,
        Preset::Unset("\"/var/log/firstclick\""),
        "One JSON line a mail. No record, no exemption: mode = \"enforce\" needs it.",
    )
    .at_start(),
    Key::new(
        "audit.key_file",
        Kind::File,
        Preset::Unset("\"audit.key\""),
        "Keys of the chain (`firstclick keygen --out audit.key`), the newest on top. Without it the chain shows mistakes, and whoever can write the files can compute it anew.",
    ),
    Key::new(
        "audit.state",
        Kind::Folder,
        Preset::Unset("\"/var/lib/firstclick\""),
        "The folder of audit.head, which names the newest record, so that a cut-off end shows; best on another disk than `directory`. Without it, systemd's state directory (/var/lib/firstclick), where it is looked for outside of systemd, too; else `directory` itself.",
    )
    .at_start(),
    Key::new(
        "audit.keep",
        Kind::Time(Duration::from_hours(24), Duration::from_hours(36_500 * 24)),
        Preset::Unset("\"400d\""),
        "How long files are kept: the oldest goes once its day is so long ago, and a record says so. Without it, for ever.",
    )
    .at_start(),
    Key::new("audit.compress", Kind::Flag, Preset::Default("false"), "Whether files of days gone by are compressed (gzip).").at_start(),
    Key::new(
        "audit.recipients",
        Kind::Word(&["clear", "hashed"]),
        Preset::Default("\"clear\""),
        "How records and the log name readers. clear: by their addresses. hashed: by pseudonyms, as in h:8a1f03b2c4d5e697@corp.example (docs/privacy.md).",
    ),
    Key::new(
        "audit.recipients_key_file",
        Kind::File,
        Preset::Unset("\"recipients.key\""),
        "Keys of the pseudonyms (`firstclick keygen --out recipients.key`), the newest on top, in a file of their own. Whoever has them finds a reader by his address; destroying them is the erasure.",
    ),
];

/// Keys of earlier versions that set nothing any more, each with why. Where one is written `check` warns of it, and nothing else.
pub const GONE: &[(&str, &str)] = &[(
    "smtp.temporary_directory",
    "large mails are passed on while they come in and wait nowhere, so that this key sets nothing: take it out",
)];
