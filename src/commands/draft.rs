//! `draft`: an entry for a mail's sender, ready to paste. It is tried on the mail before it is printed; what is dangerous is left
//! out, and what could not be told stands in comments.

use std::io::{self, Write as _};

use anyhow::{Context as _, bail};
use jiff::{Timestamp, ToSpan as _, tz::TimeZone};

use super::{
    Answer, Config,
    explained::{Paste, list, text},
    mails::{self, What},
    printable,
};
use crate::{
    allowlist::{
        Allowlist, Decision, Entry, LinkRules, Mode, OtherLink, Shape, Verdict,
        danger::{self, Tenancy},
        entry::AddressPattern,
        judge::{self, BodyFacts, HeaderFacts},
        suggestion::Missing,
    },
    cli, clock,
    identity::proof::Identity,
    mail::{Kind, Reason},
    message::{Author, Message},
    recognition::Recogniser,
    settings::{
        Problems, allow,
        catalogue::{self, Service},
    },
};

pub(super) fn draft(config: &Config, arguments: &cli::Draft) -> anyhow::Result<Answer> {
    let raw = one(&arguments.mail)?;
    let message = Message::read(&raw);
    let author = match message.author() {
        Ok(author) => author,
        Err(flaw) => bail!("no entry can name its author: {}", flaw.says()),
    };
    let trial = Trial { message: &message, author: &author, recogniser: Recogniser::built_in()?, now: clock::now() };
    let mut out = io::stdout().lock();
    let pattern = AddressPattern::parse_sender(&author.address);
    if let Some(why) = pattern.as_ref().ok().and_then(|pattern| danger::sender(pattern, Tenancy::Unnamed)) {
        writeln!(out, "# No entry is drafted for {}: {}", printable(&author.address), printable(&why))?;
        return Ok(Answer::No);
    }
    if let Some(allowlist) = in_force(config)
        && let Some(entry) = allowlist.naming(&author).next()
    {
        let decision = trial.judge(&allowlist);
        let entry = allowlist.entries().iter().find(|one| Some(&one.name) == decision.entry.as_ref()).unwrap_or(entry);
        show_named(&mut out, &author, entry, &decision)?;
        return Ok(Answer::No);
    }
    let name = arguments.name.clone().unwrap_or_else(|| name(&author));
    let tried = of_service(&trial)
        .unwrap_or_else(|| trial.complete(Facts { name: name.clone(), from: Some(author.address.clone()), ..Facts::default() }));
    write!(out, "{}", written(&tried, &author, trial.now))?;
    let mut err = io::stderr().lock();
    if tried.acts() {
        let name = &tried.facts.name;
        writeln!(err, "note: save the mail as samples/{name}.eml beside the entry, so that `check` tries it; fill in owner and reason")?;
        return Ok(Answer::Yes);
    }
    writeln!(err, "note: it does not take this mail as it is; what is missing stands in its comments")?;
    Ok(Answer::No)
}

/// The one mail of an input.
fn one(path: &std::path::Path) -> anyhow::Result<Vec<u8>> {
    let mut mail = None;
    mails::each(&[path.to_owned()], &mut |found| match found.what {
        What::Mail(_) if mail.is_some() => bail!("it holds several mails; save one of them by itself"),
        What::Mail(raw) => {
            mail = Some(raw);
            Ok(())
        }
        What::NoMail(why) => bail!("{} is no mail: {why}", found.name),
    })?;
    mail.context("there is no mail in it")
}

/// The allowlist in force; none where there is no configuration, or none that can be read, which hinders no draft.
fn in_force(config: &Config) -> Option<Allowlist> {
    if !config.is_there() {
        return None;
    }
    match config.load() {
        Ok(settings) => Some(settings.allowlist),
        Err(error) => {
            let _ = writeln!(io::stderr().lock(), "note: whether an entry names its sender already is not known: {error}");
            None
        }
    }
}

/// Says which entry names the sender already, and what it lacks for this mail: a second one for it is hardly what is wanted.
fn show_named(out: &mut impl io::Write, author: &Author, entry: &Entry, decision: &Decision) -> io::Result<()> {
    writeln!(out, "# No entry is drafted for {}: the entry {:?} names it already.", printable(&author.address), entry.name)?;
    if matches!(decision.verdict, Verdict::Act(_)) {
        return writeln!(out, "# It takes this mail, if the sender proves itself; `firstclick explain` looks at that, too.");
    }
    writeln!(out, "# What it lacks for this mail, if the sender proves itself:")?;
    failing(decision).try_for_each(|line| writeln!(out, "{line}"))?;
    let paste = Paste::of(&decision.missing, Some(&entry.links)).toml();
    if !paste.is_empty() {
        write!(out, "# If all of these are the sender's own, into that entry, in the place of the same keys:\n{paste}")?;
    }
    Ok(())
}

/// The checks that fail, and links that nothing may list, as comments.
fn failing(decision: &Decision) -> impl Iterator<Item = String> + '_ {
    let findings = decision.findings.iter().filter(|finding| !finding.ok);
    let findings = findings.map(|finding| format!("#   {}: {}", finding.reason.code(), printable(&finding.detail)));
    findings.chain(decision.missing.unlistable.iter().map(|link| format!("#   not to list: {}", printable(link))))
}

/// A name for an entry: that of the organisation in the author's domain.
fn name(author: &Author) -> String {
    let owner = author.domain.registered().unwrap_or(author.domain.as_str());
    owner.split('.').next().unwrap_or(owner).to_owned()
}

/// What an entry says.
#[derive(Clone, Debug, Default)]
struct Facts {
    name: String,
    /// `sender`, where the catalogue knows it.
    known: Vec<(&'static str, String)>,
    from: Option<String>,
    tenant: Tenant,
    /// Whether the catalogue has no evidence for it.
    is_draft: bool,
    /// `[links]` and `other_links`: of an entry from the catalogue those that it lacks.
    links: Vec<(Kind, String)>,
    other_links: Vec<String>,
}

/// The company's name at a service where strangers have names, too.
#[derive(Clone, Debug, Default)]
enum Tenant {
    /// The service has none.
    #[default]
    None,
    /// In the mail's address or links, which fit by it alone.
    Shown(String),
    /// Not in the mail, which fits by any: only the company knows it.
    NotShown,
}

impl Facts {
    /// The keys in front of `[links]`.
    fn keys(&self) -> String {
        let mut out = String::new();
        if self.known.is_empty() {
            out.push_str(&format!("name = {}\n", text(&self.name)));
        }
        for (key, value) in &self.known {
            out.push_str(&format!("{key} = {}\n", text(value)));
        }
        if let Some(from) = &self.from {
            out.push_str(&list("from", std::slice::from_ref(from)));
        }
        match &self.tenant {
            Tenant::Shown(tenant) => out.push_str(&list("tenant", std::slice::from_ref(tenant))),
            Tenant::NotShown => {
                out.push_str(
                    "#tenant = [\"...\"]              # your name at this service, which the mail does not show; strangers have others\n",
                );
            }
            Tenant::None => {}
        }
        if !self.other_links.is_empty() {
            out.push_str(&list("other_links", &self.other_links));
        }
        out
    }

    fn links(&self) -> String {
        let mut out = String::new();
        for kind in Kind::ALL {
            let shapes: Vec<String> = self.links.iter().filter(|(other, _)| other == kind).map(|(_, shape)| shape.clone()).collect();
            if !shapes.is_empty() {
                out.push_str(if out.is_empty() { "[links]\n" } else { "" });
                out.push_str(&list(kind.code(), &shapes));
            }
        }
        out
    }

    /// The entry, as the hop would read it; none where it has a mistake.
    fn entry(&self) -> Option<Entry> {
        let accepted = if self.is_draft { "accept_draft = true\n" } else { "" };
        let text = format!("{}owner = \"you@corp.example\"\n{accepted}action = \"tag\"\n{}", self.keys(), self.links());
        allow::compile("draft.toml", &self.name, &text, Mode::Enforce, &mut Vec::new(), &mut Problems::default())
    }

    /// An entry without links, of which everything is missing.
    fn bare(&self) -> Option<Entry> {
        let any = (Kind::PasswordReset, "login.firstclick.example/reset/{token}".to_owned());
        let entry = Self { links: vec![any], ..self.clone() }.entry()?;
        Some(Entry { links: LinkRules::default(), grants: Kind::ALL.to_vec(), ..entry })
    }
}

/// Facts, and what the entry of them makes of the mail.
struct Tried {
    facts: Facts,
    decision: Decision,
}

impl Tried {
    /// Whether the entry, as it is written, exempts the mail.
    const fn acts(&self) -> bool {
        matches!(self.decision.verdict, Verdict::Act(_)) && !matches!(self.facts.tenant, Tenant::NotShown)
    }
}

/// The mail on which entries are tried.
struct Trial<'m> {
    message: &'m Message<'m>,
    author: &'m Author,
    recogniser: Recogniser,
    now: Timestamp,
}

/// Rounds of adding what is missing: links that others carry show once those are listed.
const ROUNDS: usize = 3;

impl Trial<'_> {
    /// What an entry makes of the mail, were it proven.
    fn decide(&self, entry: Entry) -> Decision {
        self.judge(&Allowlist::new(vec![entry]))
    }

    /// What a list makes of it.
    fn judge(&self, allowlist: &Allowlist) -> Decision {
        let author = Ok(self.author.clone());
        let facts = HeaderFacts { author: &author, headers: self.message.headers(), recipients: &[], now: self.now };
        let identity = Identity::assumed(Some(&self.author.domain), None, self.now);
        let candidates = judge::candidates(allowlist, &facts, &identity);
        // Behind a scanner its links hide those of the sender.
        let content = self.message.content().unwrapped();
        let recognition = self.recogniser.recognise(&content, Some(&self.author.domain));
        judge::decide(candidates, &facts, &BodyFacts { content: &content, recognition: &recognition, identity: &identity })
    }

    /// Adds to facts what the mail's links need.
    fn complete(&self, mut facts: Facts) -> Tried {
        let mut entry = facts.entry().or_else(|| facts.bare());
        let mut decision = Decision::default();
        for _ in 0..ROUNDS {
            let Some(now) = entry else { break };
            let (known_links, known_other) = (now.links.shapes().to_vec(), now.links.other_links().to_vec());
            decision = self.decide(now);
            let Missing { shapes, other_links, .. } = &decision.missing;
            if shapes.is_empty() && other_links.is_empty() {
                break;
            }
            // A list of an entry takes the place of the catalogue's.
            for (kind, shape) in shapes {
                if !facts.links.iter().any(|(known, _)| known == kind) {
                    facts.links.extend(
                        known_links
                            .iter()
                            .filter(|(known, _)| known == kind)
                            .map(|(kind, shape): &(Kind, Shape)| (*kind, shape.to_string())),
                    );
                }
                facts.links.push((*kind, shape.clone()));
            }
            if !other_links.is_empty() {
                facts.other_links = known_other.iter().map(OtherLink::to_string).chain(other_links.iter().cloned()).collect();
            }
            entry = facts.entry();
        }
        Tried { facts, decision }
    }

    /// Words of the mail that may be the company's name at a service.
    fn tenants(&self) -> Vec<String> {
        let content = self.message.content().unwrapped();
        let links = content.links.iter().flat_map(|found| {
            let url = found.link.url();
            let host = url.host_str().unwrap_or_default().split('.').map(str::to_owned).collect::<Vec<_>>();
            host.into_iter().chain(url.path_segments().into_iter().flatten().map(str::to_owned)).collect::<Vec<_>>()
        });
        let own = self.author.address.split(['@', '.', '+']).map(str::to_owned);
        let mut words: Vec<String> = Vec::new();
        for word in own.chain(links) {
            let is_name = (1..=63).contains(&word.len()) && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
            if is_name && !words.contains(&word) && words.len() < TENANTS {
                words.push(word);
            }
        }
        words
    }
}

/// Words that are tried as a tenant.
const TENANTS: usize = 200;

/// A tenant's name that is in no mail.
const NOBODY: &str = "nobody-7f3a9c";

/// An entry of the catalogue, where a service of it sends from this address.
fn of_service(trial: &Trial<'_>) -> Option<Tried> {
    let address = &trial.author.address;
    for service in catalogue::all(&mut Problems::default()) {
        let matches = |tenant: &str| {
            let patterns =
                service.from().into_iter().filter_map(|text| AddressPattern::parse_sender(&text.replace("{tenant}", tenant)).ok());
            patterns.into_iter().any(|pattern| pattern.matches(address))
        };
        let facts = |service: &Service, tenant: Tenant| Facts {
            name: service.name.clone(),
            known: vec![("sender", service.name.clone())],
            tenant,
            is_draft: service.is_draft(),
            ..Facts::default()
        };
        if !service.needs_tenant() {
            if matches("") {
                return Some(trial.complete(facts(&service, Tenant::None)));
            }
            continue;
        }
        let fits = |facts: &Facts| facts.entry().is_some_and(|entry| !trial.decide(entry).one_time_links.is_empty());
        // A mail that fits by a name that is not in it fits by every name, and shows none.
        let nobody = facts(&service, Tenant::Shown(NOBODY.to_owned()));
        if matches(NOBODY) && fits(&nobody) {
            let tried = trial.complete(nobody);
            return Some(Tried { facts: Facts { tenant: Tenant::NotShown, ..tried.facts }, ..tried });
        }
        let mut named = trial.tenants().into_iter().filter(|tenant| matches(tenant));
        if let Some(facts) = named.find_map(|tenant| Some(facts(&service, Tenant::Shown(tenant))).filter(fits)) {
            return Some(trial.complete(facts));
        }
    }
    None
}

/// The file of an entry.
fn written(tried: &Tried, author: &Author, now: Timestamp) -> String {
    let Tried { facts, decision } = tried;
    let mut out = format!(
        "# Drafted from one mail of {}. Read every line: it lets mails with these links past the scanner.\n",
        printable(&author.address)
    );
    if !tried.acts() {
        out.push_str("# As it stands it would not exempt that mail:\n");
    }
    if matches!(facts.tenant, Tenant::NotShown) {
        out.push_str("#   tenant: must be written\n");
    }
    // What proves the sender was not looked at, and is not what fails.
    for finding in decision.findings.iter().filter(|finding| !finding.ok && finding.reason != Reason::OtherLinks) {
        out.push_str(&format!("#   {}: {}\n", finding.reason.code(), printable(&finding.detail)));
    }
    for link in &decision.missing.unlistable {
        out.push_str(&format!("#   not to list: {}\n", printable(link)));
    }
    out.push_str("mode = \"observe\"                # it only watches; once you have read all of it, take this line out\n");
    out.push_str(&facts.keys());
    if facts.is_draft {
        out.push_str("#accept_draft = true            # the catalogue has no evidence for this service; take the mark out once you have seen its mails\n");
    }
    out.push_str("#owner = \"you@corp.example\"     # who answers for this entry\n#reason = \"CHG-1077: ...\"        # why it is there\n");
    let year = now.to_zoned_datetime(TimeZone::system()).checked_add(1.year()).map(|then| then.date().to_string());
    if let Ok(day) = year {
        out.push_str(&format!("expires = {day}\n"));
    }
    out.push_str("action = \"tag\"\n");
    out.push_str(&facts.links());
    if tried.acts() {
        out.push_str(&format!("[[test]]\nmail = {}\nexpect = \"act\"\n", text(&format!("samples/{}.eml", facts.name))));
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::settings::{Advice, Severity};

    /// What `check` says of an entry above a note; none where it has a mistake.
    fn warned(facts: &Facts) -> Option<Vec<String>> {
        let (mut advice, mut problems): (Vec<Advice>, Problems) = Default::default();
        let text = format!("{}owner = \"you@corp.example\"\naction = \"tag\"\n{}", facts.keys(), facts.links());
        allow::compile("draft.toml", "acme", &text, Mode::Enforce, &mut advice, &mut problems)?;
        let severe = advice.into_iter().filter(|one| one.severity < Severity::Note);
        Some(severe.map(|one| one.problem.what).collect())
    }

    fn segment() -> impl Strategy<Value = String> {
        prop_oneof![
            Just("reset".to_owned()),
            Just("help".to_owned()),
            Just("*".to_owned()),
            Just("%2A".to_owned()),
            Just("{id}".to_owned()),
            "[0-9]{5}",
            "[a-z]{1,6}",
            "[0-9a-f]{40}",
            Just(String::new()),
        ]
    }

    fn link() -> impl Strategy<Value = String> {
        let host = prop_oneof![
            Just("login.acme.com"),
            Just("www.acme.com"),
            Just("bit.ly"),
            Just("u12.ct.sendgrid.net"),
            Just("docs.google.com"),
            Just("acme.com:8443"),
        ];
        let query =
            prop_oneof![Just(String::new()), Just("?t=6d0f6b2f9c1e4a7f8b3d5c2a1e9f7b604d3c2b1a".to_owned()), Just("?q=*".to_owned())];
        (host, proptest::collection::vec(segment(), 0..4), query)
            .prop_map(|(host, path, query)| format!("https://{host}/{}{query}", path.join("/")))
    }

    fn shape() -> impl Strategy<Value = String> {
        prop_oneof![
            Just("login.acme.com/reset/{token}".to_owned()),
            Just("login.acme.com/{token}".to_owned()),
            Just("login.acme.com/reset?t={token}".to_owned()),
            Just("www.acme.com/{id}/reset/{token}".to_owned()),
        ]
    }

    fn other() -> impl Strategy<Value = String> {
        prop_oneof![Just("www.acme.com/help/*"), Just("login.acme.com/*"), Just("www.acme.com"), Just("login.acme.com/{id}")]
            .prop_map(str::to_owned)
    }

    proptest! {
        // Each builds a recogniser.
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn what_is_offered_is_nothing_that_check_warns_of(
            links in proptest::collection::vec(link(), 1..5), shapes in proptest::collection::vec(shape(), 1..3), others in proptest::collection::vec(other(), 0..2),
        ) {
            let facts = Facts {
                name: "acme".into(),
                from: Some("no-reply@acme.com".into()),
                links: shapes.into_iter().map(|shape| (Kind::PasswordReset, shape)).collect(),
                other_links: others,
                ..Facts::default()
            };
            let anchors: String = links.iter().map(|link| format!("<a href=\"{link}\">Reset your password</a>\r\n")).collect();
            let raw = format!("From: no-reply@acme.com\r\nSubject: Reset your password\r\nMIME-Version: 1.0\r\nContent-Type: text/html\r\n\r\n{anchors}");
            let message = Message::read(raw.as_bytes());
            let author = message.author().unwrap();
            let trial = Trial { message: &message, author: &author, recogniser: Recogniser::built_in().unwrap(), now: Timestamp::UNIX_EPOCH };
            let Some(before) = warned(&facts) else { return Ok(()) };
            let missing = trial.decide(facts.entry().unwrap()).missing;
            let mut pasted = facts.clone();
            pasted.links.extend(missing.shapes.iter().cloned());
            pasted.other_links.extend(missing.other_links.iter().cloned());
            let after = warned(&pasted);
            prop_assert!(after.is_some(), "{links:?}: {missing:?}");
            for said in after.unwrap_or_default() {
                prop_assert!(before.contains(&said), "{links:?} {facts:?}: {missing:?}: {said}");
            }
            let drafted = trial.complete(Facts { links: Vec::new(), other_links: Vec::new(), ..facts }).facts;
            prop_assert!(drafted.links.is_empty() || warned(&drafted).is_some_and(|said| said.is_empty()), "{links:?}: {drafted:?}");
        }
    }
}
