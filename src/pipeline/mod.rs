//! One transaction in, one record out: read, identify, judge, edit, record.
//!
//! [`Pipeline::process`] decides and changes nothing; [`Decided::commit`] puts an exemption on record and is the only way to its
//! edits; [`Ready::finish`] records the outcome. Whatever fails while deciding, the mail leaves as an ordinary mail, and a
//! [`Reason`] says why. A mail whose author no entry names costs a header scan and a hash look-up.

mod analysis;
mod decided;
mod edits;
pub mod fault;
mod quota;
mod reading;
mod record;
mod refusals;
mod replay;

use std::{
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use futures_util::FutureExt as _;
use jiff::Timestamp;

use self::{analysis::Thoroughness, decided::Exemption, fault::FaultPoint, quota::Quota, reading::ReadingPool, replay::Replay};
pub use self::{
    analysis::{Analysis, Proving},
    decided::{Decided, Ready},
    record::{actions, identity_record, reasons},
    refusals::{Refusals, RefusedBy, Stage},
};
use crate::{
    allowlist::{Allowlist, Entry, Finding, Reason, Verdict},
    audit::{Audit, pseudonym::Pseudonyms},
    clock,
    edit::{
        Patch,
        guard_link::GuardLinkKeys,
        tag::{Key, Tagger},
    },
    failures::Needs,
    identity::{ArcSigner, Authenticator},
    limits,
    link_store::LinkStore,
    mail::{Flaw, Held, LineRepair, Protocol, Transaction, address, record::MailRecord},
    message::{Author, Message},
    metrics::Metrics,
    readiness::Readiness,
    recognition::Recogniser,
};

/// What one configuration sets for deciding.
pub struct PipelineConfig {
    /// The entries, and who the readers are.
    pub allowlist: Allowlist,
    /// Looks up the sender's identity.
    pub authenticator: Arc<Authenticator>,
    /// Writes and removes tags; without tag tokens it only removes.
    pub tagger: Tagger,
    /// Seals guard links; none where the configuration has no guard page.
    pub guard_links: Option<Arc<GuardLinkKeys>>,
    /// The store of guard links; none where each link holds what it needs.
    pub link_store: Option<Arc<LinkStore>>,
    /// Signs mails whose body was changed (RFC 8617); none where the configuration has no `[arc]`.
    pub arc_signer: Option<ArcSigner>,
    /// Octets of the largest mail that is inspected.
    pub inspect_limit: usize,
    /// The policy as records name it, by the first digits of its hash; empty where nothing of it is on record.
    pub policy: String,
    /// Hides readers in records, where the configuration wants it.
    pub pseudonyms: Pseudonyms,
}

impl PipelineConfig {
    /// The key by which records hash one-time links. With a guard page it is the page's key, which a page on another host has,
    /// too: a click's record has the same hash as the mail's.
    fn link_hashes(&self) -> Option<Key> {
        let of_page = self.guard_links.as_ref().and_then(|guard_links| guard_links.keys.first()).map(|key| key.link_hashes().clone());
        of_page.or_else(|| self.tagger.keys.first().map(|key| key.derive("audit-link")))
    }
}

/// The state that survives a reload: counts, quota, replay memory and the audit.
pub struct Shared {
    /// The audit; none where the configuration names no folder, and nothing is exempted then.
    pub audit: Option<Audit>,
    /// The metrics.
    pub metrics: Arc<Metrics>,
    /// What stands in the way of the service now, for `/readyz`.
    pub readiness: Arc<Readiness>,
    /// What mails need, and its failures.
    pub needs: Needs,
    /// The refusals before any data, for their summary records.
    pub refusals: Refusals,
    recogniser: Arc<Recogniser>,
    quota: Quota,
    replay: Replay,
    reading_pool: ReadingPool,
    fault: Option<FaultPoint>,
}

impl Shared {
    /// State with nothing counted in it.
    #[must_use]
    pub fn new(recogniser: Recogniser, audit: Option<Audit>) -> Self {
        let readiness = Arc::default();
        let needs = Needs::new(&readiness);
        if let Some(audit) = &audit {
            audit.report_to(Arc::clone(&needs.audit));
        }
        let meters = audit.as_ref().map(Audit::meters).cloned().unwrap_or_default();
        let metrics = Metrics::showing(&needs, |registry| meters.register(registry));
        Self {
            audit,
            metrics: Arc::new(metrics),
            readiness,
            needs,
            refusals: Refusals::default(),
            recogniser: Arc::new(recogniser),
            quota: Quota::default(),
            replay: Replay::default(),
            reading_pool: ReadingPool::default(),
            fault: None,
        }
    }

    /// Mails that wait to be read now.
    #[must_use]
    pub fn waiting_to_be_read(&self) -> usize {
        self.reading_pool.waiting()
    }

    /// The same state, with a panic at this point of every mail: for tests.
    #[must_use]
    pub fn with_fault(mut self, fault: Option<FaultPoint>) -> Self {
        self.fault = fault;
        self
    }
}

/// Decides about every mail, by either protocol.
pub struct Pipeline {
    /// What the configuration sets; a reload replaces it with the pipeline.
    pub config: PipelineConfig,
    /// The state that survives a reload.
    pub shared: Arc<Shared>,
    /// The key by which records hash one-time links.
    link_hashes: Option<Key>,
}

/// Why a mail is refused without a decision; nothing was reserved or recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It has more than [`limits::RECEIVED_FIELDS`] Received fields (RFC 5321 section 6.3).
    Looping,
    /// Its header block is larger than [`limits::HEADER_BLOCK`].
    HeaderTooLarge,
    /// Reading its header failed, so its forged fields are unknown. The mail can be sent again.
    Fault,
}

impl Refusal {
    /// The reply's code (RFC 5321 section 4.2).
    #[must_use]
    pub const fn code(self) -> u16 {
        match self {
            Self::Looping => 554,
            Self::HeaderTooLarge => 552,
            Self::Fault => 451,
        }
    }

    /// The reply's enhanced code (RFC 3463) and text.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::Looping => "5.4.6 the mail is looping: it has too many Received fields",
            Self::HeaderTooLarge => "5.3.4 the header is too large",
            Self::Fault => "4.3.0 the mail could not be read, send it again",
        }
    }
}

/// A way in which a mail may leave: by an entry that exempts it, or as an ordinary mail.
struct Way {
    analysis: Analysis,
    exemption: Option<Exemption>,
}

impl Way {
    const fn pass(analysis: Analysis) -> Self {
        Self { analysis, exemption: None }
    }
}

/// What the hop would do to a mail, and why, for `explain`.
#[derive(Debug)]
pub struct Preview {
    /// The analysis: decision, identity and content.
    pub analysis: Analysis,
    /// The entry whose checks are listed, where one names the sender.
    pub entry: Option<Arc<Entry>>,
    /// The record, without what only happens to a relayed mail: replay, quota, audit.
    pub record: MailRecord,
    /// The patches of the mail as it would leave, the ARC seal included.
    pub patches: Vec<Patch>,
}

impl Pipeline {
    /// A pipeline for this configuration. A reload builds another one on the same [`Shared`].
    #[must_use]
    pub fn build(config: PipelineConfig, shared: Arc<Shared>) -> Self {
        let link_hashes = config.link_hashes();
        Self { config, shared, link_hashes }
    }

    /// Whether an entry may act on the mail with this header, by its author alone. Linear in the header's octets.
    #[must_use]
    pub fn is_candidate(&self, head: &[u8]) -> bool {
        self.author(&Message::read(head)).is_ok_and(|author| self.config.allowlist.may_name(&author))
    }

    /// The author of a mail. The second opinion costs more than all else that is asked of most mails, so it is asked about authors
    /// whom an entry may name.
    fn author(&self, message: &Message<'_>) -> Result<Author, Flaw> {
        let author = Author::claimed(message.headers())?;
        if self.config.allowlist.may_name(&author) { message.author() } else { Ok(author) }
    }

    /// Whether the header holds a field that only the hop itself may write. Linear in the header's octets.
    #[must_use]
    pub fn is_forged(&self, head: &[u8]) -> bool {
        !self.config.tagger.removals(Message::read(head).headers()).is_empty()
    }

    /// Decides about a mail and prepares its edits; bounds are checked first. The result writes a record, whatever happens to it.
    /// Dropping this future is safe: the record is written with the outcome `unknown, cancelled`.
    ///
    /// # Errors
    /// [`Refusal`]: the mail is to be refused.
    pub async fn process(&self, transaction: &Transaction<'_>) -> Result<Decided, Refusal> {
        let now = clock::now();
        let (message, removals) = self.read(transaction)?;
        let found = self.author(&message);
        let author = found.as_ref().ok().map(|author| author.domain.clone());
        let record = record::begin(transaction, &message, author.as_ref(), &self.config.policy, now);
        let mask = self.config.pseudonyms.mask(transaction.envelope.recipients);
        let mut decided = Decided::begin(Arc::clone(&self.shared), record, removals, mask);
        if found.as_ref().is_ok_and(|author| self.config.allowlist.may_name(author)) {
            decided.may_be_exempted();
        }
        let deciding = async {
            let ways = self.decide(transaction, &message, found, now, Thoroughness::Candidates).await;
            let key = self.link_hashes.as_ref();
            let described = |way: Way| (record::Description::of(&way.analysis, author.as_ref(), key), way.exemption);
            ways.into_iter().map(described).collect()
        };
        match caught(deciding).await {
            Some(ways) => decided.decide(ways),
            None => decided.fail(&Finding::fails(Reason::Fault, "deciding failed; please report it with the mail")),
        }
        Ok(decided)
    }

    /// What the hop would do to a mail at this time, and why; nothing is reserved or recorded.
    ///
    /// # Errors
    /// [`Refusal`]: the hop would refuse the mail.
    pub async fn preview(&self, transaction: &Transaction<'_>, now: Timestamp, proving: Proving) -> Result<Preview, Refusal> {
        let (message, mut patches) = self.read(transaction)?;
        let found = message.author();
        let author = found.as_ref().ok().map(|author| author.domain.clone());
        let mut record = record::begin(transaction, &message, author.as_ref(), &self.config.policy, now);
        record.removed = patches.len();
        let ways = self.decide(transaction, &message, found, now, Thoroughness::Everything(proving)).await;
        let fault = || Way::pass(Analysis::nothing(Finding::fails(Reason::Fault, "nothing was decided; please report it with the mail")));
        let Way { analysis, exemption } = ways.into_iter().next().unwrap_or_else(fault);
        record::Description::of(&analysis, author.as_ref(), None).write(&mut record);
        patches.extend(exemption.into_iter().flat_map(|exemption| exemption.edits.patches));
        let name = analysis.decision.entry.as_deref();
        let entry = name.and_then(|name| self.config.allowlist.entries().iter().find(|entry| entry.name == name)).cloned();
        Ok(Preview { analysis, entry, record, patches })
    }

    /// Reads the header, within bounds, and the patches that remove its forged fields.
    fn read<'t>(&self, transaction: &Transaction<'t>) -> Result<(Message<'t>, Vec<Patch>), Refusal> {
        let (message, removals) = catch_unwind(AssertUnwindSafe(|| {
            self.strike(FaultPoint::Header);
            let message = Message::read(transaction.data);
            let removals = self.config.tagger.removals(message.headers());
            (message, removals)
        }))
        .map_err(|_| Refusal::Fault)?;
        // By milter, the MTA counts Received fields itself.
        let relays = transaction.protocol != Protocol::Milter;
        if relays && message.headers().named("Received").count() > limits::RECEIVED_FIELDS {
            return Err(Refusal::Looping);
        }
        if message.headers().body() > limits::HEADER_BLOCK {
            return Err(Refusal::HeaderTooLarge);
        }
        Ok((message, removals))
    }

    /// Analyses a mail, judges it, and prepares the edits of each exemption; those that cannot be made in full are none. There is
    /// one way at least, and only an exemption has others behind it.
    async fn decide(
        &self,
        transaction: &Transaction<'_>,
        message: &Message<'_>,
        author: Result<Author, Flaw>,
        now: Timestamp,
        how: Thoroughness,
    ) -> Vec<Way> {
        let recipients: Vec<String> = transaction.envelope.recipients.iter().map(|path| address(path)).collect();
        let nothing = |reason, says: String| vec![Way::pass(Analysis::nothing(Finding::fails(reason, says)))];
        if transaction.size > self.config.inspect_limit {
            return nothing(Reason::Size, "it has more octets than inspect_limit".to_owned());
        }
        if transaction.held == Held::Header {
            return nothing(
                Reason::Size,
                "more octets than inspect_limit came or are announced, or there is no memory for them".to_owned(),
            );
        }
        if recipients.is_empty() && transaction.protocol != Protocol::File {
            return nothing(Reason::Recipients, "there is no recipient".to_owned());
        }
        if transaction.repair == LineRepair::Done {
            return nothing(Reason::Reading, Flaw::BareLineEnding.says().to_owned());
        }
        let (mut exempting, mut passing) = (Vec::new(), Vec::new());
        for mut analysis in self.analyse(transaction, message, &author, (&recipients, now, how)).await {
            let Verdict::Act(entry) = &analysis.decision.verdict else {
                passing.push(Way::pass(analysis));
                continue;
            };
            let entry = Arc::clone(entry);
            match Box::pin(self.edits(transaction, message, &analysis, &entry, &recipients, now)).await {
                Ok(edits) => {
                    let exemption = Some(Exemption::new(entry, &analysis.decision, recipients.clone(), edits, now));
                    exempting.push(Way { analysis, exemption });
                }
                Err(why) => {
                    analysis.decision.revoke(Finding::fails(Reason::Edit, why));
                    passing.push(Way::pass(analysis));
                }
            }
        }
        if exempting.is_empty() {
            passing.truncate(1);
            return passing;
        }
        exempting
    }

    /// Panics where a test asked for this point.
    pub fn strike(&self, here: FaultPoint) {
        fault::strike(self.shared.fault, here);
    }
}

/// Runs a future to its end; none where it panics.
async fn caught<F: Future>(future: F) -> Option<F::Output> {
    AssertUnwindSafe(future).catch_unwind().await.ok()
}
