//! `digest --dry-run`, and the task of `run` that sends digests. What is said, to whom and when is decided by [`crate::digest`].

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    io::{self, Write as _},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use anyhow::bail;
use arc_swap::ArcSwap;
use jiff::{Span, Timestamp, civil::Date, tz::TimeZone};
use tokio::{runtime::Handle, time::sleep};

use super::{Answer, Config};
use crate::{
    cli,
    clock::{self, Stopwatch},
    digest::{
        self, Facts,
        facts::{CertificateFact, Condition, EntryFact, Losses, Reader, Told, Whose},
        key,
        letter::{Letter, Writer, letter},
        memory::{self, All, Memory, MemoryError, Sent},
        near_misses::{self, Asked, Found, NearMisses},
        post::{self, Delivery},
        schedule::{self, Last},
    },
    limits,
    pipeline::Shared,
    readiness::Topic,
    settings::Settings,
    tls,
};

/// What digests need of a configuration.
#[derive(Debug)]
pub(super) struct Plan {
    mail: Option<digest::Config>,
    hop: String,
    /// The entries and the operator.
    known: Facts,
    /// Everybody who may have to be told something.
    readers: Vec<Reader>,
    /// The files of certificates, with their keys in firstclick.toml.
    certificates: Vec<(&'static str, PathBuf)>,
    audit: Option<PathBuf>,
}

impl Plan {
    pub(super) fn of(settings: &Settings) -> Self {
        let smtp = settings.smtp.as_ref().and_then(|smtp| smtp.certificate.as_ref());
        let guard = settings.guard.as_ref().and_then(|guard| guard.certificate.as_ref());
        let certificates = [("smtp.certificate", smtp), ("guard.certificate", guard)];
        let entry = |entry: &Arc<crate::allowlist::Entry>| EntryFact {
            name: entry.name.clone(),
            owner: entry.owner.clone(),
            end: entry.expires.zip(entry.last_day()),
        };
        let from = settings.mail.as_ref().map(|mail| mail.from.domain());
        let known = Facts {
            entries: settings.allowlist.entries().iter().map(entry).collect(),
            operators: settings.mail.as_ref().map(|mail| mail.to.clone()).unwrap_or_default(),
            ..Facts::default()
        };
        Self {
            hop: settings.hostname().or(from).unwrap_or("localhost").to_owned(),
            mail: settings.mail.clone(),
            readers: known.readers(),
            known,
            certificates: certificates.into_iter().filter_map(|(key, files)| Some((key, files?.certificate.clone()))).collect(),
            audit: settings.audit.clone(),
        }
    }

    /// The certificates, each with its key in firstclick.toml, and when they end. Those that cannot be read are left out. Reads
    /// files.
    pub(super) fn certificates(&self) -> Vec<(&'static str, Timestamp)> {
        self.certificates.iter().filter_map(|(key, file)| Some((*key, tls::ends(file).ok()?))).collect()
    }

    /// What is known without the running service.
    fn facts(&self) -> Facts {
        let certificate = |(key, file): &(&'static str, PathBuf)| CertificateFact {
            key: (*key).to_owned(),
            end: tls::ends(file).map_err(|error| error.to_string()),
        };
        Facts { certificates: self.certificates.iter().map(certificate).collect(), ..self.known.clone() }
    }

    /// The audit's name in what is remembered: of machines that share a folder each has its own.
    fn audit_name(&self) -> Option<String> {
        let machine = rustix::system::uname();
        self.audit.as_ref().map(|folder| format!("{}:{}", machine.nodename().to_string_lossy(), folder.display()))
    }

    /// The near misses of which these readers have not been told; what is in the way of reading them becomes a condition.
    fn near_misses(&self, readers: &[Reader], facts: &mut Facts, sent: &All, now: Timestamp) -> Found {
        let none = || Found { of: vec![NearMisses::default(); readers.len()], through: 0 };
        let (Some(folder), Some(audit)) = (&self.audit, self.audit_name()) else { return none() };
        let days = |days: i64| now.checked_sub(Span::new().hours(days * 24)).unwrap_or(Timestamp::MIN);
        let mut since = now;
        let mut asked = Vec::new();
        for reader in readers {
            let known = sent.get(&key(&reader.address)).cloned().unwrap_or_default();
            // A day more: records of a file are of its day, or follow it by minutes.
            let last = known.taken().map_or_else(|| days(limits::DIGEST_LOOKBACK), |taken| taken.min(days(1)));
            since = since.min(last.max(days(limits::DIGEST_LOOKBACK_MOST)));
            asked.push(Asked { entries: facts.names(reader), told: known.told(&audit) });
        }
        match near_misses::read(folder, &asked, since) {
            Ok(found) => found,
            Err(error) if error.kind() == io::ErrorKind::NotFound => none(),
            Err(error) => {
                tracing::warn!(%error, folder = %folder.display(), "near misses cannot be told: the audit cannot be read");
                let sentence = format!("{} cannot be read: {error}; near misses are not told", folder.display());
                facts.conditions.push(Condition { word: "audit".into(), since: None, sentence, whose: Whose::Own });
                none()
            }
        }
    }
}

/// `firstclick digest --dry-run`.
pub(super) fn dry_run(config: &Config, arguments: &cli::Digest) -> anyhow::Result<Answer> {
    let plan = Plan::of(&config.load()?);
    let Some(mail) = &plan.mail else {
        bail!("{}: there is no [mail]: no digest is sent; write it with server, from and to", config.path().display());
    };
    let (now, zone) = (clock::now(), TimeZone::system());
    let sent = memory::read(&mail.state)?;
    let (mut facts, readers) = (plan.facts(), &plan.readers);
    let found = plan.near_misses(readers, &mut facts, &sent, now);
    let mut out = io::stdout().lock();
    let (mut shown, mut later) = (0, 0);
    for (reader, missed) in readers.iter().zip(&found.of) {
        let known = sent.get(&key(&reader.address)).cloned().unwrap_or_default();
        let told = Told { last: known.taken(), losses: Losses::default() };
        let Some(digest) = facts.digest(reader, missed, told, now, &zone) else { continue };
        let Letter { subject, text, .. } = letter(&digest, Writer { from: &mail.from, hop: &plan.hop }, now, &zone)?;
        let last = Last { tried: known.tried(), ..Last::default() };
        let is_due = schedule::is_due(now, &zone, mail.at, last);
        if is_due {
            shown += 1;
        } else {
            later += 1;
        }
        if arguments.json {
            let object = serde_json::json!({"to": reader.address.to_string(), "subject": subject, "text": text, "due": is_due});
            writeln!(out, "{object}")?;
            continue;
        }
        let when = if is_due { "now".to_owned() } else { when(&known, mail.at, now, &zone) };
        writeln!(out, "{when}, by {}:{}:", mail.server.host, mail.server.port)?;
        writeln!(out, "From: firstclick <{}>\nTo: {}\nSubject: {subject}\n", mail.from, reader.address)?;
        writeln!(out, "{}\n", text.replace("\r\n", "\n").trim_end())?;
    }
    if !arguments.json {
        let without = readers.len() - shown - later;
        writeln!(out, "{shown} to send now, {later} later, {without} with no news")?;
    }
    Ok(Answer::Yes)
}

/// When one is sent that is not sent now.
fn when(known: &Sent, at: jiff::civil::Time, now: Timestamp, zone: &TimeZone) -> String {
    let local = |time: Timestamp| time.to_zoned_datetime(zone.clone());
    let at = at.strftime("%H:%M");
    match known.tried() {
        Some(tried) if local(tried).date() == local(now).date() => {
            format!("not before tomorrow {at}, as today's was sent at {}", local(tried).strftime("%H:%M"))
        }
        _ => format!("from {at} on"),
    }
}

/// Sends digests while the service runs. It looks every [`limits::DIGEST_LOOK`], on a thread that serves no mails.
pub(super) async fn keep(plan: Arc<ArcSwap<Plan>>, shared: Arc<Shared>) {
    let mut keeper = Keeper::default();
    loop {
        let (plan, shared) = (plan.load_full(), Arc::clone(&shared));
        let looking = tokio::task::spawn_blocking(move || {
            keeper.look(&plan, &shared);
            keeper
        });
        match looking.await {
            Ok(back) => keeper = back,
            Err(error) if error.is_cancelled() => return,
            Err(error) => {
                tracing::error!(%error, "sending digests failed; restart the service to have them sent again, and report this");
                return;
            }
        }
        sleep(limits::DIGEST_LOOK).await;
    }
}

/// What is remembered between two looks.
#[derive(Default)]
struct Keeper {
    memory: Option<Memory>,
    /// Why there is no memory, which the log has said.
    said: Option<String>,
    /// Since when something stands in the way.
    since: BTreeMap<&'static str, Timestamp>,
    /// When each reader's was sent by this program, and the losses that it told.
    sent: HashMap<String, (Stopwatch, Losses)>,
    /// Since when the clock is behind the time at which a reader's was sent.
    behind: HashMap<String, Stopwatch>,
    /// Readers for whom there was no news on this day.
    quiet: (Option<Date>, HashSet<String>),
    /// Digests that could not be sent; the empty one is for the server.
    retries: HashMap<String, Retry>,
}

/// A digest that could not be sent.
struct Retry {
    since: Stopwatch,
    wait: Duration,
}

impl Keeper {
    fn look(&mut self, plan: &Plan, shared: &Shared) {
        let (now, zone) = (clock::now(), TimeZone::system());
        let conditions = self.conditions(shared, now);
        let Some(mail) = plan.mail.as_ref().filter(|mail| self.remembers(mail)) else { return };
        if self.is_waiting("") {
            return;
        }
        let today = now.to_zoned_datetime(zone.clone()).date();
        if self.quiet.0 != Some(today) {
            self.quiet = (Some(today), HashSet::new());
        }
        let due = |reader: &&Reader| self.is_due(mail, &key(&reader.address), now, &zone);
        let readers: Vec<Reader> = plan.readers.iter().filter(due).cloned().collect();
        if readers.is_empty() {
            return;
        }
        let withheld = shared.metrics.exemptions_unrecorded();
        let records = shared.audit.as_ref().map(|audit| audit.meters().records_lost()).unwrap_or_default();
        let mut facts = Facts { conditions, losses: Losses { withheld, records }, ..plan.facts() };
        let sent = self.memory.as_ref().map(|memory| memory.sent().clone()).unwrap_or_default();
        let found = plan.near_misses(&readers, &mut facts, &sent, now);
        let audit = plan.audit_name().map(|name| (name, found.through));
        for (reader, missed) in readers.iter().zip(&found.of) {
            let name = key(&reader.address);
            let last = sent.get(&name).and_then(Sent::taken);
            let told = Told { last, losses: self.sent.get(&name).map(|(_, losses)| *losses).unwrap_or_default() };
            let Some(digest) = facts.digest(reader, missed, told, now, &zone) else {
                self.quiet.1.insert(name);
                continue;
            };
            match letter(&digest, Writer { from: &mail.from, hop: &plan.hop }, now, &zone) {
                Err(error) => {
                    tracing::error!(%error, to = name, "a digest cannot be written; report this");
                    self.quiet.1.insert(name);
                }
                Ok(letter) => {
                    let delivery = self.send(mail, &plan.hop, &name, &letter, audit.as_ref());
                    self.note(&name, &letter, delivery, facts.losses, shared);
                    if self.is_waiting("") {
                        return;
                    }
                }
            }
        }
    }

    /// What stands in the way now, and since when.
    fn conditions(&mut self, shared: &Shared, now: Timestamp) -> Vec<Condition> {
        let said = shared.readiness.sentences();
        self.since.retain(|word, _| said.iter().any(|(topic, _)| topic.code() == *word));
        let mut conditions = Vec::new();
        for (topic, sentence) in said {
            let since = *self.since.entry(topic.code()).or_insert(now);
            let whose = match topic {
                // The digest reads the files itself.
                Topic::Certificates => continue,
                Topic::Reload | Topic::Restart | Topic::AllowFiles | Topic::NoEntries => Whose::Own,
                _ => Whose::Strangers,
            };
            conditions.push(Condition { word: topic.code().to_owned(), since: Some(since), sentence, whose });
        }
        conditions
    }

    /// Whether what was sent is known, and this program is the one that sends.
    fn remembers(&mut self, mail: &digest::Config) -> bool {
        if self.memory.as_ref().is_some_and(|memory| memory.folder() == mail.state) {
            return true;
        }
        self.memory = None;
        match Memory::open(&mail.state) {
            Ok(memory) => {
                self.memory = Some(memory);
                self.said = None;
                true
            }
            Err(error) => {
                let text = error.to_string();
                if self.said.as_ref() != Some(&text) {
                    match error {
                        MemoryError::Taken(_) => tracing::info!("{text}; this one does once it has ended"),
                        MemoryError::Folder(..) => tracing::warn!("{text}"),
                    }
                    self.said = Some(text);
                }
                false
            }
        }
    }

    fn is_waiting(&self, reader: &str) -> bool {
        self.retries.get(reader).is_some_and(|retry| retry.since.elapsed() < retry.wait)
    }

    fn is_due(&mut self, mail: &digest::Config, reader: &str, now: Timestamp, zone: &TimeZone) -> bool {
        let tried = self.memory.as_ref().and_then(|memory| memory.sent().get(reader)).and_then(Sent::tried);
        let behind = if tried.is_some_and(|tried| tried > now) {
            self.behind.entry(reader.to_owned()).or_insert_with(Stopwatch::start).elapsed()
        } else {
            self.behind.remove(reader);
            Duration::ZERO
        };
        let ago = self.sent.get(reader).map(|(sent, _)| sent.elapsed());
        schedule::is_due(now, zone, mail.at, Last { tried, ago, behind }) && !self.is_waiting(reader) && !self.quiet.1.contains(reader)
    }

    /// Sends one, and remembers what became of it.
    fn send(&mut self, mail: &digest::Config, hop: &str, reader: &str, letter: &Letter, audit: Option<&(String, u64)>) -> Delivery {
        let Some(memory) = &mut self.memory else { return Delivery::Unreachable("nothing is remembered".into()) };
        let before = match memory.begin(reader, clock::now()) {
            Ok(before) => before,
            Err(error) => return Delivery::Unreachable(error.to_string()),
        };
        let delivery = Handle::current().block_on(post::send(&mail.server, hop, letter));
        let remembered = match &delivery {
            Delivery::Taken => memory.taken(reader, clock::now(), audit.map(|(name, through)| (name.as_str(), *through))),
            Delivery::Unknown(_) => Ok(()),
            Delivery::Refused(_) | Delivery::Unreachable(_) => memory.not_sent(reader, before),
        };
        if let Err(error) = remembered {
            tracing::warn!("{error}");
        }
        delivery
    }

    /// Counts and logs what became of one, and when it is tried again.
    fn note(&mut self, reader: &str, letter: &Letter, delivery: Delivery, losses: Losses, shared: &Shared) {
        let (waits, error) = match delivery {
            Delivery::Taken => {
                shared.metrics.digest_taken();
                self.retries.remove(reader);
                self.retries.remove("");
                self.sent.insert(reader.to_owned(), (Stopwatch::start(), losses));
                tracing::info!(to = reader, subject = letter.subject, "digest sent");
                return;
            }
            Delivery::Unknown(error) => {
                shared.metrics.digest_failed();
                self.sent.insert(reader.to_owned(), (Stopwatch::start(), Losses::default()));
                tracing::warn!(
                    to = reader,
                    error,
                    "the mail server did not say whether it has a digest; the next one, tomorrow, says the same again"
                );
                return;
            }
            Delivery::Refused(error) => (reader, error),
            Delivery::Unreachable(error) => ("", error),
        };
        shared.metrics.digest_failed();
        let (first, most) = limits::DIGEST_RETRY;
        let wait = self.retries.get(waits).map_or(first, |retry| (retry.wait * 2).min(most));
        self.retries.insert(waits.to_owned(), Retry { since: Stopwatch::start(), wait });
        tracing::warn!(to = reader, error, again_s = wait.as_secs(), "a digest could not be sent; mails are not concerned");
    }
}
