//! Every bound that is not in the configuration, with its reason.
//!
//! A bound that an admin may want to move is a key of the configuration and has its default in
//! `settings`; what stands here would only be moved together with the code that relies on it.

use std::time::Duration;

/// Octets of one command line, its CRLF included. RFC 5321 section 4.5.3.1.4 asks for 512 and
/// extensions add to it; 2,048 holds every registered parameter with the longest path.
pub const COMMAND_LINE: usize = 2_048;

/// Octets after which a command line is taken to have no end, and the session is closed.
pub const ENDLESS_LINE: usize = 64 * 1024;

/// Time for a refused peer to stop sending, so that it receives its reply.
pub const LINGER: Duration = Duration::from_secs(2);

/// Octets that such a peer may still send.
pub const LINGER_OCTETS: usize = 1 << 20;

/// Refused connections that get their reply at one time; more are closed at once.
pub const REFUSALS: usize = 200;

/// Time for the PROXY header, which names the client. It is the first thing that a proxy sends.
pub const PROXY_HEADER: Duration = Duration::from_secs(5);

/// Octets of the header block of a mail. Real ones stay under 64 KiB; a block over 1 MiB is an
/// attack on whoever parses it.
pub const HEADER_BLOCK: usize = 1 << 20;

/// Time for the reading of one mail's body once it has a permit. A mail of 1 MiB takes some 50 ms; all scans are linear.
pub const READING: Duration = Duration::from_millis(500);

/// Time that a proven mail waits for a permit to be read, so that a burst of a thousand is read one after another.
pub const READING_WAIT: Duration = Duration::from_secs(10);

/// Mails that may wait for a permit to be read: some seconds' worth. They are in memory anyway.
pub const READINGS_WAITING: usize = 1_000;

/// Entries by which one mail may be exempted, should quota or replay memory refuse the first. Nearly always there is one.
pub const GRANTS: usize = 16;

/// Readers whose exemptions by one entry are counted in one hour: some 5 MiB.
pub const QUOTA_READERS: usize = 50_000;

/// Signatures of one entry that replay memory keeps while they are fresh: some 10 MiB.
pub const REPLAYS: usize = 50_000;

/// Octets of the largest mail that is inspected, by default. Reset mails have 5 to 200 KiB.
pub const INSPECT: usize = 1 << 20;

/// Octets of the largest mail that is accepted, by default: what most scanners accept.
pub const SIZE: usize = 50 << 20;

/// Header fields of a mail that may still be exempted. Real mails have 10 to 80.
pub const HEADER_FIELDS: usize = 1_000;

/// Addresses in To and Cc of a mail that may still be exempted. A mail with a one-time link has one.
pub const ADDRESSEES: usize = 100;

/// Trace fields after which a mail is taken to loop. RFC 5321 section 6.3 asks for at least 100.
pub const RECEIVED_FIELDS: usize = 100;

/// Recipients of one transaction. RFC 5321 section 4.5.3.1.8 asks for at least 100; past it the
/// upstream gets 452 and sends the rest in another transaction.
pub const RECIPIENTS: usize = 1_000;

/// RCPTs that are sent on in one group at most, where they have come in one: the next hop may need the replies' room in its socket
/// before it reads on, and that many of 2 KiB fit.
pub const RECIPIENTS_AT_ONCE: usize = 100;

/// RCPTs of a session's first group. The upstream hears of none before the next hop has answered all, and waits five minutes for a
/// reply (RFC 5321 section 4.5.3.2.3): at half a minute each these are answered in time. Each group is twice the one before, or
/// half of it where that took longer than [`SLOW_GROUP`].
pub const RECIPIENTS_AT_FIRST: usize = 5;

/// Time for a group of RCPTs after which the next group is smaller.
pub const SLOW_GROUP: Duration = Duration::from_secs(1);

/// Commands that make no progress (errors, NOOP, RSET) before a session is closed.
pub const IDLE_COMMANDS: usize = 100;

/// Depth to which comments of the header and multiparts are followed; deeper is a flaw.
pub const NESTING: usize = 8;

/// Depth to which conditional comments and raw-text elements are read as markup; deeper is a flaw. Templates have a style
/// sheet in a conditional comment in `<noscript>`; each level reads the octets inside once more.
pub const MARKUP: usize = 4;

/// MIME parts of a mail that may still be exempted.
pub const PARTS: u32 = 100;

/// Links of a mail that may still be exempted. One-time mails have 1 to 40.
pub const LINKS: usize = 200;

/// Octets of one link. Browsers stop near 2,000 to 8,000; sign-in tokens reach 2,500.
pub const LINK: usize = 8_192;

/// Octets of one shape of an allowlist entry. The longest known has 300.
pub const SHAPE: usize = 2_048;

/// Placeholders in one piece of a shape; the most that is known is four.
pub const PLACEHOLDERS: usize = 8;

/// Octets that may be looked at while one link is held against an entry's shapes: each placeholder's text once for each
/// place where it may end. A genuine link takes some hundreds; past the bound the link fits none.
pub const SHAPE_WORK: usize = 512 * 1024;

/// Octets of a link that may be searched for addresses, what is undone from percent-encoding, base64 and hexadecimal
/// included: the longest link in every layer. Past the bound the link may not stand in an exempted mail.
pub const CARRIED: usize = 128 * 1024;

/// Characters of text that recognition reads from a mail; templates say what they are at once.
pub const WORDS: usize = 64 * 1024;

/// Octets of one HTML attribute of a mail that may still be exempted, but for pictures that stand in `src` whole.
pub const ATTRIBUTE: usize = 64 * 1024;

/// Memory that the HTML tokenizer may take for one part: it holds one tag at a time, and no honest tag has 256 KiB.
pub const HTML_MEMORY: usize = 256 * 1024;

/// DKIM signatures that are looked at, topmost first; the rest are ignored and the mail is
/// judged by these. Each costs a DNS query and a public-key operation.
pub const SIGNATURES: usize = 5;

/// Octets of a DKIM key's record. An RSA key of 4,096 bits has 740.
pub const KEY_RECORD: usize = 4_096;

/// Seals of an ARC chain: each costs a look-up, and a mail passes a handful of sealers (RFC 8617 section 4.2.1 allows 50).
pub const SEALS: usize = 5;

/// Records of one DNS answer that are looked at; SPF looks at ten, keys and policies have one.
pub const DNS_RECORDS: usize = 100;

/// Mails that are looked up at one time. Each needs a few to a few dozen names, most of them at once, and an answer takes 10 to
/// 100 ms: enough for some ten thousand candidates a second. One client network holds a tenth.
pub const ASKED: usize = 1_000;

/// DNS questions in flight: each holds a socket.
pub const LOOK_UPS: usize = 1_000;

/// Octets of an SPF record. RFC 7208 section 3.4 wants 512 octets in an answer; real ones reach 2,000.
pub const SPF_RECORD: usize = 4_096;

/// Octets of a DMARC record; real ones have 50 to 500.
pub const DMARC_RECORD: usize = 4_096;

/// Octets of one Received value that is still read for the client's address.
pub const RECEIVED_VALUE: usize = 4_096;

/// Octets of one `Authentication-Results` value that are still read.
pub const RESULTS: usize = 16 * 1024;

/// Replies of the next hop: octets of text of one line that are kept. RFC 5321 section 4.5.3.1.5 allows 512 for all of it;
/// 2 KiB is what Postfix keeps. The rest is read and dropped, because the code counts however long the line is.
pub const REPLY_LINE: usize = 2_048;

/// Replies of the next hop: octets of all lines that are kept; EHLO is the longest, with 20 lines of 20 octets.
pub const REPLY_TEXT: usize = 128 * 1024;

/// Replies of the next hop: lines of one reply after which it is taken to have no end. Real ones have 1 to 20.
pub const REPLY_LINES: usize = 1_000;

/// Replies of the next hop: octets of one reply after which it is taken to have no end. The deadline of the reply bounds
/// the time.
pub const REPLY_OCTETS: usize = 64 << 20;

/// Octets of a path in a reply or a log line, so that a hostile upstream cannot fill the disk.
pub const LOGGED_PATH: usize = 320;

/// Time for the next hop to accept a connection and greet, so that MAIL is answered well within
/// the 5 minutes that RFC 5321 section 4.5.3.2.2 gives it.
pub const CONNECT: Duration = Duration::from_secs(30);

/// Time for a reply of the next hop. RFC 5321 section 4.5.3.2 asks for 5 minutes.
pub const REPLY: Duration = Duration::from_mins(5);

/// Time for the reply after the final dot. RFC 5321 section 4.5.3.2.6 asks for 10 minutes; a
/// shorter wait is how mails are doubled.
pub const FINAL_REPLY: Duration = Duration::from_mins(10);

/// Time that an upstream may be silent between commands. RFC 5321 section 4.5.3.2.7.
pub const COMMAND: Duration = Duration::from_mins(5);

/// Time that an upstream may take between two reads of data. RFC 5321 section 4.5.3.2.5.
pub const DATA_BLOCK: Duration = Duration::from_mins(3);

/// Time that an upstream may take for the whole of a mail's data.
pub const DATA: Duration = Duration::from_hours(1);

/// Time that sessions get to finish after SIGTERM before they are cut.
pub const DRAIN: Duration = Duration::from_secs(30);

/// Time for sessions that are cut to end: a future is dropped where it stands, so only one that computes takes any.
pub const CUT: Duration = Duration::from_secs(5);

/// How often refusals are written to the audit, as one record for each reply code and client network.
pub const REFUSALS_SUMMARY: Duration = Duration::from_mins(1);

/// Octets of records that may wait for the audit disk before mails lose their exemption: some ten thousand ordinary mails.
pub const AUDIT_QUEUE: usize = 16 * 1024 * 1024;

/// Octets of one line of the audit. The longest record has 1,000 recipients of 320 octets, and the rest; a longer line is no record.
pub const AUDIT_LINE: u64 = 4 << 20;

/// Networks whose refusals are counted by themselves in one minute, so that the record of a flood is short.
pub const REFUSED_NETWORKS: usize = 200;

/// Time that a mail waits for its record to be on disk before it loses its exemption.
pub const AUDIT_WAIT: Duration = Duration::from_secs(5);

/// Names that the resolver's cache holds.
pub const DNS_CACHE: u64 = 10_000;

/// Octets of one configuration or allowlist file.
pub const SETTINGS_FILE: u64 = 1 << 20;

/// Octets of the compiled form of one subject pattern.
pub const PATTERN: usize = 1 << 20;

/// Sessions at once; more get 421. An idle one costs some 20 KiB, with TLS some 50 KiB, so that a machine with 1 GiB has memory
/// for all of them and for the mails.
pub const CONNECTIONS: usize = 2_500;

/// Sessions at once from one address. An upstream MTA opens 20 to 100; a flood from one host leaves the rest free.
pub const CONNECTIONS_PER_ADDRESS: usize = 500;

/// Octets of mails in memory at once, of all protocols. Of a mail over `inspect_limit` a block is in memory, so this is enough for some hundred
/// large ordinary mails or some four thousand usual ones. Of SMTP and milter each keeps a quarter that the other cannot take. One
/// client network (IPv4 /24, IPv6 /48; of the client that XFORWARD, XCLIENT, PROXY or the MTA names, else of the peer) takes a
/// tenth at most, or one mail of `inspect_limit` where that is more, so that ten networks are needed to fill it. Trusted
/// upstreams and loopback hand over many clients' mails and are not held to a tenth.
pub const MEMORY: usize = 128 << 20;

/// Octets by which a mail's share of that memory grows.
pub const MEMORY_STEP: usize = 32 * 1024;

/// Octets that one header field takes in memory besides its text, where a milter keeps it.
pub const FIELD_OVERHEAD: usize = 64;

/// Octets of a large mail that are read at once and go on to the next hop: with 64 KiB it takes 10 % more time, with 1 MiB 3 % less.
pub const BLOCK: usize = 256 * 1024;

/// Octets that a large mail holds while it goes on: its block, the beginning of a line that waits for its end, odd lines that are
/// written anew (32 KiB of them at once), and buffers of TLS.
pub const STREAMED: usize = BLOCK + 128 * 1024;

/// Sessions, in percent of the most, from which on an idle one is closed after [`CROWDED_PATIENCE`].
pub const CROWDED: usize = 75;

/// Time that an upstream may be silent between mails while the hop is crowded.
pub const CROWDED_PATIENCE: Duration = Duration::from_secs(10);

/// Silence after which a session gives its connection to the next hop back; the next mail opens another.
pub const IDLE_NEXT_HOP: Duration = Duration::from_secs(20);

/// Connections to next hops that wait for a session, at one time; more stay with their sessions. One costs some 5 KiB, with TLS 40.
pub const PARKED: usize = 200;

/// Of those, the most to one address. Postfix takes 50 connections of one client.
pub const PARKED_PER_HOP: usize = 50;

/// Time that one waits: shorter than any server's patience, a Postfix's under stress (10 s) included, and than that of what stands
/// in between. A session a second is enough to keep one open.
pub const PARKED_IDLE: Duration = Duration::from_secs(4);

/// Time after which one is not parked again, so that what has changed at the next hop, its name in DNS and its certificate is met
/// within minutes.
pub const PARKED_AGE: Duration = Duration::from_mins(5);

/// Without a greeting for so long, whoever opens a connection is taken to wait for those that are parked: a greeting takes a few
/// round trips.
pub const STARVED: Duration = Duration::from_millis(500);

/// Mails after which one is not parked again: fewer than any server is known to take (Exim 1,000), and 1 % of what each costs.
pub const PARKED_MAILS: usize = 100;

/// How often a silent session looks at the two above.
pub const LOOK: Duration = Duration::from_secs(2);

/// Time that a next hop which could not be reached is tried last, so that not every mail waits for it.
pub const DEAD_HOP: Duration = Duration::from_secs(30);

/// Next hops that may be named, each with as many addresses as its name has.
pub const NEXT_HOPS: usize = 16;

/// Time that a start waits for its addresses and the audit's lock: the service from before drains that long (`smtp.deadlines.drain`),
/// and a network is up. It fits into systemd's 90 seconds (`TimeoutStartSec`).
pub const START_WAIT: Duration = Duration::from_secs(30);

/// How often a start tries again meanwhile.
pub const START_RETRY: Duration = Duration::from_millis(500);

/// How often the files of the configuration are looked at for changes.
pub const RELOAD_LOOK: Duration = Duration::from_secs(2);

/// Octets of one milter frame. MTAs send bodies in pieces of 64 KiB and header fields as large as they take them.
pub const MILTER_FRAME: usize = 1 << 20;

/// For the MTA's next frame. Postfix keeps a connection as long as its client's session, Sendmail for an hour of silence.
pub const MILTER_PATIENCE: Duration = Duration::from_hours(1);

/// How often an MTA gets a reply that keeps it waiting; Postfix waits 30 seconds and more for each reply.
pub const MILTER_PROGRESS: Duration = Duration::from_secs(5);

/// Recipients of one mail that a milter keeps; MTAs have bounds of their own far below it. A mail to more is not inspected.
pub const MILTER_RECIPIENTS: usize = 50_000;

/// Milter connections at one time: a busy Postfix has a few hundred processes.
pub const MILTER_CONNECTIONS: usize = 1_000;

/// Connections of the admin page at one time: a collector, a load balancer, a person.
pub const ADMIN_CONNECTIONS: usize = 64;

/// Connections of the guard page at one time. A page is two requests of a reader.
pub const GUARD_CONNECTIONS: usize = 1_000;

/// Of those, the most of one client: an IPv4 address, or the /64 that an IPv6 host chooses its addresses from. A browser opens
/// 6; what stands behind one address is an office. Behind a trusted proxy it is the requests of the client that it names.
pub const GUARD_CONNECTIONS_PER_CLIENT: usize = 125;

/// Of those, the most of one trusted proxy: it has many clients, and leaves connections for clients without a proxy.
pub const GUARD_CONNECTIONS_PER_PROXY: usize = 900;

/// For a request's body, once its header is there: a form of two fields, which comes with it.
pub const GUARD_BODY: Duration = Duration::from_secs(5);

/// For one connection of the guard or the admin page from its start to its end, so that a slow one holds nothing for long.
pub const HTTP_CONNECTION: Duration = Duration::from_mins(1);

/// For a request's header, and for a handshake.
pub const GUARD_HEADER: Duration = Duration::from_secs(10);

/// Octets of a request's header, and of its body: a form of two fields. hyper takes no less than 8 KiB.
pub const GUARD_BUFFER: usize = 16 * 1024;

/// Requests for guard links from one address in a minute: an office behind one address opens a few.
pub const GUARD_REQUESTS: u32 = 300;

/// Addresses whose requests are counted at one time.
pub const GUARD_ADDRESSES: usize = 100_000;

/// How long a guard link opens. One-time links live for hours, invitations for days.
pub const GUARD_LIFETIME: Duration = Duration::from_hours(7 * 24);

/// Octets of the guard page's logo.
pub const LOGO: u64 = 256 * 1024;

/// Guard links that are kept in `guard.store`, those that have expired lately included: each takes a block of 4 KiB and an
/// inode, so some 4 GiB. That is 70,000 one-time links a day at the default lifetime.
pub const STORED_LINKS: usize = 1_000_000;

/// Days for which an expired guard link is kept, so that its reader learns that it has expired and not that it is unknown.
pub const STORED_LINKS_EXPIRED: i64 = 7;

/// Time for the store of guard links to write or read. A disk takes some 10 ms; a share that hangs takes minutes, and the
/// upstream does not wait so long.
pub const LINK_STORE: Duration = Duration::from_secs(5);

/// Mails that write their guard links at one time, and as many readers that ask for one: each holds a thread until the disk
/// answers, however long that takes.
pub const LINK_STORE_THREADS: usize = 16;

/// How often expired guard links are removed.
pub const LINK_STORE_SWEEP: Duration = Duration::from_hours(1);

/// Looks, one every [`RELOAD_LOOK`], for which a file of the allowlist that has a mistake and still changes is taken for half saved.
pub const UNSETTLED_LOOKS: u32 = 5;

/// Time for reading the configuration again before the log says that it hangs.
pub const RELOAD: Duration = Duration::from_secs(30);

/// Octets of the stack of every thread that reads mails: what nesting the bounds of `message` allow needs a small part of it, in debug
/// builds too (a test tries).
pub const STACK: usize = 2 * 1024 * 1024;

/// Octets of log lines that wait for whoever reads them, some three thousand lines: a reader that hangs for seconds loses none at a
/// hundred mails a second, and one that hangs for ever costs no more than this memory.
pub const LOG_LINES: usize = 1 << 20;

/// Time for the last lines to be written at the end: whoever reads them may have gone.
pub const LOG_END: Duration = Duration::from_secs(5);

/// Between two lines of the log about one thing that goes on failing: often enough for whoever looks, and no flood.
pub const FAILURES_LOGGED: Duration = Duration::from_mins(1);

/// Outages of one thing whose beginning is logged within [`FAILURES_LOGGED`]: each of a few is news; more are one thing that comes and goes.
pub const FAILURES_BEGUN: u32 = 5;

/// How often systemd is told what stands in the way: before a person has typed `systemctl status`.
pub const STATUS: Duration = Duration::from_secs(2);

/// How often it is looked whether a digest is due.
pub const DIGEST_LOOK: Duration = Duration::from_secs(10);

/// Time for one digest from the connection to the server's last reply; a relay answers in seconds, and nothing else waits.
pub const DIGEST_SEND: Duration = Duration::from_mins(2);

/// Before a digest that could not be sent is tried again; each time twice as long, up to the second.
pub const DIGEST_RETRY: (Duration, Duration) = (Duration::from_mins(1), Duration::from_hours(1));

/// Days of audit that are looked at for somebody who was never told.
pub const DIGEST_LOOKBACK: i64 = 7;

/// Days of audit that are looked at, whenever a digest was sent last.
pub const DIGEST_LOOKBACK_MOST: i64 = 31;

/// Octets of a file's end that are searched for its last record; the longest has less.
pub const DIGEST_TAIL: u64 = 4 << 20;

/// Things of one kind that a digest shows; of the rest it says how many there are.
pub const DIGEST_SHOWN: usize = 50;

/// Octets of the file in which is remembered what was sent: some 200 for each address.
pub const DIGEST_MEMORY: u64 = 64 << 20;

/// Octets of one saved mail that `explain` and `draft` read: more than servers take, and as much as may lie in memory.
pub const SAVED_MAIL: u64 = 64 << 20;
/// Between two looks at when certificates end: they end by the day.
pub const CERTIFICATES_LOOK: Duration = Duration::from_hours(1);

/// A certificate that ends within this time is told: time for somebody who is on holiday.
pub const CERTIFICATES_SOON: jiff::SignedDuration = jiff::SignedDuration::from_hours(30 * 24);

/// Between two lines of the log about the same certificates.
pub const CERTIFICATES_TOLD: Duration = Duration::from_hours(24);

/// Looks of `keygen` for the lock on its folder, and the pause between two: ten seconds, and each one that holds it takes milliseconds.
pub const KEYGEN_TRIES: usize = 500;
/// See [`KEYGEN_TRIES`].
pub const KEYGEN_PAUSE: Duration = Duration::from_millis(20);

/// Octets of one file that `setup --check` reads. A tenant may have 300 mail-flow rules, each of some 20 KiB as JSON.
pub const EXPORT: u64 = 32 << 20;

/// Files that `setup --check` reads: a folder of configuration has some dozens.
pub const EXPORTS: usize = 500;

/// How long `health` waits for each answer: less than the 30 seconds of Docker's and the interval of most monitors.
pub const HEALTH: Duration = Duration::from_secs(5);
/// Octets of a greeting that `health` reads: a reply line has 512 at most.
pub const GREETING: u64 = 512;

/// Findings that `setup --check` tells: past it an export is no export of rules, and what is left out is said to be.
pub const FINDINGS: usize = 5_000;
