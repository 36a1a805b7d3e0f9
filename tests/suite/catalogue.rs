//! Every service of the catalogue and every product that has evidence: a mail of the shape that is documented is exempted,
//! with the fields left out of the signature that its sender leaves out, and mails that carry what strangers write on the
//! same hosts are not.
//!
//! In process: the sender counts as proven, as if a stranger had made the service itself send the mail.

mod hostile;

use std::{collections::BTreeMap, fs, path::Path};

use firstclick::{
    allowlist::{
        Allowlist, Entry, Mode, OtherLink, Verdict,
        judge::{self, BodyFacts, HeaderFacts},
    },
    clock::Timestamp,
    identity::proof::{AuthResult, Client, Coverage, Identity, KnownBy, Mechanism, Signature, Source, Spf},
    message::{Domain, Message, MimeEvidence},
    recognition::{Kind, Recogniser},
    settings::{Problems, allow, catalogue, products},
};
use serde::Deserialize;

use self::hostile::hostile;

const NOW: i64 = 1_800_000_000;
const READER: &str = "bob@corp.example";
/// Where every product stands.
const HOST: &str = "app.corp.example";
/// What genuine mails have covered, but for what their sender leaves out.
const COVERED: [&str; 9] =
    ["from", "to", "cc", "subject", "date", "message-id", "mime-version", "content-type", "content-transfer-encoding"];

/// `tests/catalogue/strangers.toml`: pages on the services' own hosts that strangers write.
#[derive(Deserialize)]
struct Strangers {
    senders: BTreeMap<String, Vec<String>>,
    products: BTreeMap<String, Vec<String>>,
    /// Pages of strangers that an entry does let through.
    known: BTreeMap<String, Vec<String>>,
}

fn strangers() -> Strangers {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/catalogue/strangers.toml");
    toml::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

/// A service or a product as an admin uses it.
struct Subject {
    name: String,
    allowlist: Allowlist,
    /// Addresses that the mails come from.
    from: Vec<String>,
    never: Vec<String>,
    shapes: Vec<(Kind, String)>,
    other_links: Vec<String>,
    leaves_out: Vec<String>,
    /// Pages of strangers on its hosts.
    pages: Vec<String>,
}

fn compiled(name: &str, text: &str) -> Entry {
    let mut problems = Problems::default();
    allow::compile(&format!("{name}.toml"), name, text, Mode::Enforce, &mut Vec::new(), &mut problems)
        .unwrap_or_else(|| panic!("{name}: {problems}"))
}

fn grants(shapes: &[(Kind, String)]) -> &'static str {
    if shapes.iter().all(|(kind, _)| *kind == Kind::Action) { "grants = [\"action\"]\n" } else { "" }
}

fn services() -> Vec<Subject> {
    let mut strangers = strangers();
    let mut services = Vec::new();
    for service in catalogue::all(&mut Problems::default()).into_iter().filter(|service| !service.is_draft()) {
        let tenant = if service.needs_tenant() { "tenant = [\"corp\"]\n" } else { "" };
        let text =
            format!("sender = \"{}\"\n{tenant}owner = \"it@corp.example\"\naction = \"tag\"\n{}", service.name, grants(&service.links()));
        let entry = compiled(&service.name, &text);
        let address = |pattern: &String| pattern.replace("*@", "noreply@").replace("*.", "").replace("{tenant}", "corp");
        services.push(Subject {
            from: service.from().iter().map(address).collect(),
            never: service.never().iter().map(address).collect(),
            shapes: service.links(),
            other_links: service.other_links(),
            pages: strangers.senders.remove(&service.name).unwrap_or_default(),
            leaves_out: service.leaves_out.iter().map(|name| name.to_ascii_lowercase()).collect(),
            allowlist: Allowlist::new(vec![entry]),
            name: service.name,
        });
    }
    assert!(strangers.senders.is_empty(), "no such service, or a draft: {:?}", strangers.senders.keys());
    services
}

/// Products whose links lead to an application of the admin's choice, on another host: it is named besides.
const APPLICATION: &str = "my.corp.example";

fn software() -> Vec<Subject> {
    let mut strangers = strangers();
    let mut subjects = Vec::new();
    for product in products::all(&mut Problems::default()).into_iter().filter(|product| !product.is_draft()) {
        let placed = |text: &String| text.replace("{host}", HOST);
        let mut other_links: Vec<String> = product.other_links().iter().map(placed).collect();
        let own = if other_links.is_empty() {
            other_links.push(APPLICATION.into());
            format!("other_links = [\"{APPLICATION}\"]\n")
        } else {
            String::new()
        };
        let text = format!(
            "product = \"{}\"\nhost = \"{HOST}\"\nfrom = [\"sso@corp.example\"]\nowner = \"it@corp.example\"\naction = \"tag\"\n{own}{}",
            product.name,
            grants(&product.links())
        );
        let entry = compiled(&product.name, &text);
        subjects.push(Subject {
            from: vec!["sso@corp.example".into()],
            never: Vec::new(),
            shapes: product.links().iter().map(|(kind, text)| (*kind, placed(text))).collect(),
            other_links,
            pages: strangers.products.remove(&product.name).unwrap_or_default().iter().map(|path| format!("{HOST}{path}")).collect(),
            leaves_out: Vec::new(),
            allowlist: Allowlist::new(vec![entry]),
            name: product.name,
        });
    }
    assert!(strangers.products.is_empty(), "no such product, or a draft: {:?}", strangers.products.keys());
    subjects
}

const TOKENS: [&str; 6] = [
    "x7Kq2mZt9LbVw4RnYc5DpQ8sHj3E",
    "6d0f6b2f9c1e4a7f8b3d5c2a1e9f7b604d3c2b1a",
    "f30b33b6-ef3c-4ce9-a1a4-3afe444db4a0",
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiI0MiJ9.3vTq9LxB1dYwKpZ8sLxTz8wKpYx1Hd5sQ",
    "yVq3sLxTz8wKpYx1Hd5s",
    "q2xk7vw5bn3mz6tr4yp2sd7f",
];

/// The first of the listed links that is an address by itself.
fn listed(other: &str) -> String {
    format!("https://{}", fill(&other.strip_prefix("*.").unwrap_or(other).replace('*', "page"), "", "corp", 0))
}

fn encoded(text: &str) -> String {
    text.bytes()
        .map(|byte| if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) { char::from(byte).into() } else { format!("%{byte:02X}") })
        .collect()
}

/// A link of a shape. `url` is what `{url}` stands for; `turn` picks among the tokens.
fn fill(shape: &str, url: &str, tenant: &str, turn: usize) -> String {
    let mut out = String::new();
    let mut rest = shape;
    let (picked, mut turn) = (turn, turn);
    while let Some((before, behind)) = rest.split_once('{') {
        out.push_str(before);
        let (name, after) = behind.split_once('}').unwrap();
        let in_query = out.contains('?');
        let value = match name {
            "token" => {
                turn += 1;
                TOKENS[turn % TOKENS.len()].to_owned()
            }
            "code" => ["482913", "48291370", "K7Q2MZ"][picked % 3].into(),
            "id" if out.contains('/') => ["70415", "f30b33b6-ef3c-4ce9-a1a4-3afe444db4a0"][picked % 2].into(),
            "id" => "02".into(),
            "word" => "en".into(),
            "text" => "acme-co".into(),
            "email" if in_query => encoded(READER),
            "email" => READER.into(),
            "tenant" => tenant.into(),
            "url" => encoded(url),
            other => panic!("{other} in {shape}"),
        };
        out.push_str(&value);
        rest = after;
    }
    out.push_str(rest);
    // As TYPO3 writes its keys.
    out.replace('[', "%5B").replace(']', "%5D").replace('|', "%7C")
}

impl Subject {
    fn one_time(&self, shape: &str, tenant: &str, turn: usize) -> String {
        let url = self.other_links.first().map(|other| listed(other)).unwrap_or_default();
        format!("https://{}", fill(shape, &url, tenant, turn))
    }

    /// A shape that grants.
    fn granting(&self) -> &str {
        let named = self.shapes.iter().find(|(kind, _)| *kind != Kind::Action);
        &named.unwrap_or(&self.shapes[0]).1
    }

    fn others(&self) -> Vec<String> {
        self.other_links.iter().take(2).map(|other| listed(other)).collect()
    }

    /// Whether an admin's entry says of a host that any page on it may stand in a mail.
    fn trusts_whole(&self, host: &str) -> bool {
        self.other_links.iter().any(|other| OtherLink::parse(other).unwrap().is_whole_host() && listed(other) == format!("https://{host}"))
    }

    fn genuine(&self) -> Mail {
        Mail {
            from: self.from[0].clone(),
            fields: vec![("To".into(), READER.into()), ("Cc".into(), String::new())],
            said: "Somebody asked for this mail with your address.".into(),
            links: [vec![self.one_time(self.granting(), "corp", 0)], self.others()].concat(),
            plain: String::new(),
            html: String::new(),
        }
    }
}

/// A mail in pieces.
#[derive(Clone)]
struct Mail {
    from: String,
    fields: Vec<(String, String)>,
    said: String,
    links: Vec<String>,
    /// What stands in one part only.
    plain: String,
    html: String,
}

impl Mail {
    fn with(&self, change: impl Fn(&mut Self)) -> Self {
        let mut mail = self.clone();
        change(&mut mail);
        mail
    }

    fn set(&mut self, name: &str, value: &str) {
        self.fields.retain(|(known, _)| known != name);
        self.fields.push((name.into(), value.into()));
    }

    /// The one-time link first, as a button and as a line; the others in the footer. No line of the text says where it leads.
    fn written(&self) -> String {
        let mut out = format!("From: Service <{}>\r\n", self.from);
        for (name, value) in self.fields.iter().filter(|(_, value)| !value.is_empty()) {
            out.push_str(&format!("{name}: {value}\r\n"));
        }
        out.push_str(
            "Subject: Please finish\r\nDate: Fri, 15 Jan 2027 08:00:00 +0000\r\nMessage-ID: <1@mail.example>\r\nMIME-Version: 1.0\r\n",
        );
        out.push_str("Content-Type: multipart/alternative; boundary=\"b1\"\r\n\r\n--b1\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n");
        out.push_str(&format!("{}\r\n", self.said));
        for link in &self.links {
            out.push_str(&format!("\r\n{link}\r\n"));
        }
        out.push_str(&format!(
            "\r\n{}\r\n--b1\r\nContent-Type: text/html; charset=utf-8\r\n\r\n<html><body><p>{}</p>\r\n",
            self.plain, self.said
        ));
        for link in &self.links {
            out.push_str(&format!("<p><a href=\"{}\">Go on</a></p>\r\n", link.replace('&', "&amp;")));
        }
        out.push_str(&format!("<div>{}</div></body></html>\r\n\r\n--b1--\r\n", self.html));
        out
    }
}

/// What is known of the sender, besides that the mail is really from it.
#[derive(Clone, Copy, PartialEq)]
enum Sent {
    /// The service signed it, and its own host handed it over.
    Straight,
    /// The service signed it, and somebody else handed it over.
    Replayed,
    /// A customer's own sub-domain signed it.
    ByChild,
    /// The service signed it two days ago.
    Old,
    /// Nobody signed it; SPF passes.
    Unsigned,
}

struct Bench {
    recogniser: Recogniser,
}

impl Bench {
    fn new() -> Self {
        Self { recogniser: Recogniser::built_in().unwrap() }
    }

    /// None where the mail is exempted, else what stopped it.
    fn judge(&self, subject: &Subject, mail: &Mail, sent: Sent) -> Option<String> {
        let raw = mail.written();
        let message = Message::read(raw.as_bytes());
        let author = message.author();
        let domain = Domain::parse(mail.from.rsplit('@').next().unwrap()).unwrap();
        let covered = COVERED.iter().filter(|name| !subject.leaves_out.iter().any(|left| left == *name)).map(|name| (*name).to_owned());
        let age = if sent == Sent::Old { 2 * 86_400 } else { 60 };
        let signer = if sent == Sent::ByChild { Domain::parse(&format!("attacker.{}", domain.as_str())).unwrap() } else { domain.clone() };
        let signature = Signature {
            domain: Some(signer),
            selector: "s1".into(),
            result: if sent == Sent::Unsigned { AuthResult::Fail } else { AuthResult::Pass },
            weakness: None,
            coverage: Coverage::Fields(covered.collect()),
            signed_at: Some(NOW - age),
            aligned: sent != Sent::Unsigned,
            id: [1; 32],
        };
        let spf = if sent == Sent::Replayed {
            Spf { result: AuthResult::Pass, domain: Some(Domain::parse("attack.com").unwrap()), by: Some(Mechanism::Address) }
        } else {
            Spf { result: AuthResult::Pass, domain: Some(domain), by: Some(Mechanism::Address) }
        };
        let identity = Identity {
            source: Source::Here,
            spf: Some(spf),
            dmarc: AuthResult::Pass,
            dkim: vec![signature],
            client: Some(Client { address: "192.0.2.1".parse().unwrap(), known_by: KnownBy::Connection }),
            ..Identity::default()
        };
        let recipients = [READER.to_owned()];
        let now = Timestamp::from_second(NOW).unwrap();
        let facts = HeaderFacts { author: &author, headers: message.headers(), recipients: &recipients, now };
        let candidates = judge::candidates(&subject.allowlist, &facts, &identity);
        let mime = candidates.first().map_or(MimeEvidence::Fields, judge::Candidate::mime);
        let content = message.content_by(mime);
        let recognition = self.recogniser.recognise(&content, author.as_ref().ok().map(|author| &author.domain));
        let body = BodyFacts { content: &content, recognition: &recognition, identity: &identity };
        let decision = judge::decide(candidates, &facts, &body);
        if matches!(decision.verdict, Verdict::Act(_)) {
            return None;
        }
        Some(decision.stopped_by().map_or_else(String::new, |finding| format!("{}: {}", finding.reason.code(), finding.detail)))
    }
}

fn each_shape_is_exempted(subjects: &[Subject]) {
    let bench = Bench::new();
    let (mut mails, mut refused) = (0, Vec::new());
    for subject in subjects {
        let others = subject.others();
        for (at, (kind, shape)) in subject.shapes.iter().enumerate() {
            // A link of each alphabet, the next of which comes from the next address.
            let link = |turn: usize| subject.one_time(shape, "corp", turn);
            // An action goes along where another link grants; where all are actions, the admin has granted them.
            let granting = (*kind == Kind::Action).then(|| subject.one_time(subject.granting(), "corp", at));
            for (turn, from) in (0..TOKENS.len()).zip(subject.from.iter().cycle()) {
                let links = [granting.clone().into_iter().collect(), vec![link(turn)], others.clone()].concat();
                let mail = subject.genuine().with(|mail| {
                    mail.from.clone_from(from);
                    mail.links.clone_from(&links);
                });
                mails += 1;
                if let Some(why) = bench.judge(subject, &mail, Sent::Straight) {
                    refused.push(format!("{} from {from}, {}: {why}", subject.name, link(turn)));
                }
            }
        }
    }
    println!("{mails} mails of {} senders", subjects.len());
    assert!(refused.is_empty(), "{} of {mails}:\n{}", refused.len(), refused.join("\n"));
}

#[test]
fn mails_of_every_service_are_exempted() {
    let services = services();
    assert!(services.len() >= 40, "{}", services.len());
    each_shape_is_exempted(&services);
}

#[test]
fn mails_of_every_product_are_exempted() {
    let products = software();
    assert!(products.len() >= 60, "{}", products.len());
    each_shape_is_exempted(&products);
}

fn strangers_are_not_exempted(subjects: &[Subject]) {
    let bench = Bench::new();
    let (mut count, mut exempted) = (0, Vec::new());
    let mut reasons: BTreeMap<String, usize> = BTreeMap::new();
    for subject in subjects {
        // The twin: without what a stranger adds it is exempted, whatever words he chose.
        let twin = subject.genuine().with(|mail| mail.said = "Mallory mentioned you: your password was reset, please sign in.".into());
        let stopped = bench.judge(subject, &twin, Sent::Straight);
        assert_eq!(stopped, None, "{}: the twin", subject.name);
        let mails = hostile(subject);
        assert!(mails.len() >= 10, "{}: {}", subject.name, mails.len());
        count += mails.len();
        for (what, mail, sent) in mails {
            match bench.judge(subject, &mail, sent) {
                None => exempted.push(format!("{}: {what}\n", subject.name)),
                Some(why) => *reasons.entry(why.split(':').next().unwrap().to_owned()).or_default() += 1,
            }
        }
    }
    println!("{count} hostile mails of {} senders; what stopped them: {reasons:?}", subjects.len());
    assert!(exempted.is_empty(), "{} of {count} exempted:\n{}", exempted.len(), exempted.join(""));
}

#[test]
fn strangers_in_mails_of_services_are_not_exempted() {
    strangers_are_not_exempted(&services());
}

#[test]
fn strangers_in_mails_of_products_are_not_exempted() {
    strangers_are_not_exempted(&software());
}

/// What is known to come through: pages of strangers that are told apart from a listed page by query or fragment alone. A row
/// that is refused some day belongs to the others.
#[test]
fn what_the_products_let_through_is_known() {
    let bench = Bench::new();
    let known = strangers().known;
    for subject in software() {
        for path in known.get(&subject.name).into_iter().flatten() {
            let mail = subject.genuine().with(|mail| mail.links.push(format!("https://{HOST}{path}")));
            let stopped = bench.judge(&subject, &mail, Sent::Straight);
            assert_eq!(stopped, None, "{}: {path} is refused now: move it to [products]", subject.name);
        }
    }
}
