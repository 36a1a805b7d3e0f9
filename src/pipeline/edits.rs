//! The edits of an exemption as patches: its actions in the order unwrap, guard, tag, and an ARC seal on top.
//!
//! An action that cannot be carried out in full is not begun: the mail then leaves as an ordinary one.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use jiff::Timestamp;

use super::{Analysis, Pipeline, caught, fault::FaultPoint};
use crate::{
    allowlist::{Action, Entry, Mode},
    edit::{
        self, Patch,
        guard_link::{GuardLink, StoredLink},
        rewrite::{self, Swap},
    },
    identity::Arrival,
    link_store::LinkStore,
    mail::{Transaction, address},
    message::Message,
};

/// The edits of an exemption.
#[derive(Debug, Default)]
pub(super) struct Edits {
    /// The patches of the mail's data.
    pub(super) patches: Vec<Patch>,
    /// The guard links in them that must be stored before the mail leaves.
    pub(super) links: Vec<StoredLink>,
    /// The store for these links; none where each holds what it needs.
    pub(super) store: Option<Arc<LinkStore>>,
}

impl Pipeline {
    /// The edits of an exemption, the ARC seal included; none are made where the entry only observes.
    ///
    /// # Errors
    /// Why an action cannot be carried out, for the record.
    pub(super) async fn edits(
        &self,
        transaction: &Transaction<'_>,
        message: &Message<'_>,
        analysis: &Analysis,
        entry: &Entry,
        recipients: &[String],
        now: Timestamp,
    ) -> Result<Edits, String> {
        if entry.mode == Mode::Observe {
            return Ok(Edits::default());
        }
        let mail = Guarded { id: transaction.id, message, analysis, entry, recipients, now };
        let made = catch_unwind(AssertUnwindSafe(|| {
            self.strike(FaultPoint::Edits);
            self.patches(&mail)
        }));
        let edits = made.map_err(|_| "editing failed; please report it with the mail")??;
        self.arc_sealed(transaction, message, edits, now).await
    }

    /// The patches of unwrap, guard and tag.
    fn patches(&self, mail: &Guarded<'_>) -> Result<Edits, String> {
        let Guarded { message, analysis, entry, now, .. } = *mail;
        let mut swaps: Vec<Swap> = Vec::new();
        let mut edits = Edits::default();
        for action in &entry.actions {
            match action {
                Action::Unwrap => swaps.extend(unwrapping(analysis)),
                Action::Guard => {
                    let (guarded, stored) = self.guarding(mail)?;
                    edits.links = stored;
                    edits.store.clone_from(&self.config.link_store);
                    swaps.retain(|swap| !guarded.iter().any(|other| other.from == swap.from));
                    swaps.extend(guarded);
                }
                // The seal's signature covers the body as it leaves.
                Action::Tag => {}
            }
        }
        if let Some(content) = analysis.content.as_ref().filter(|_| !swaps.is_empty()) {
            let read = |changed: &Message<'_>| changed.content_by(analysis.mime);
            edits.patches = rewrite::swap_as_read(message, content, &swaps, &read).map_err(|error| error.to_string())?;
        }
        if entry.actions.contains(&Action::Tag) {
            let changed = edit::apply(message.raw(), &edits.patches).map_err(|error| error.to_string())?;
            let tag = self.config.tagger.tag(&Message::read(&changed), &entry.name, now);
            edits.patches.push(tag.ok_or("there is no token or key to tag with")?);
        }
        Ok(edits)
    }

    /// The same edits, with an ARC seal on top where they change the body.
    async fn arc_sealed(
        &self,
        transaction: &Transaction<'_>,
        message: &Message<'_>,
        mut edits: Edits,
        now: Timestamp,
    ) -> Result<Edits, String> {
        let Some(arc_signer) = &self.config.arc_signer else { return Ok(edits) };
        if !edits.patches.iter().any(|patch| patch.at.end > message.headers().body()) {
            return Ok(edits);
        }
        let changed = edit::apply(message.raw(), &edits.patches).map_err(|error| error.to_string())?;
        let reverse_path = address(transaction.envelope.reverse_path);
        let arrival = Arrival { peer: transaction.client.peer, helo: transaction.client.helo, reverse_path: &reverse_path, at: now };
        let sealing = self.config.authenticator.arc_seal(arc_signer, message, &changed, arrival);
        let sealed = caught(sealing).await.ok_or("sealing failed; please report it with the mail")?;
        edits.patches.insert(0, Patch { at: 0..0, with: sealed.map_err(|error| error.to_string())? });
        Ok(edits)
    }

    /// A guard link for each one-time link, and those of them that are to be stored.
    fn guarding(&self, mail: &Guarded<'_>) -> Result<(Vec<Swap>, Vec<StoredLink>), String> {
        let Guarded { id, message, analysis, entry, recipients, now } = *mail;
        let guard_links = self
            .config
            .guard_links
            .as_ref()
            .ok_or("there is no guard page to lead to: [guard] is missing, or is in force from the next start on")?;
        let content = analysis.content.as_ref().ok_or("the mail was not read")?;
        let author = message.author().map(|author| author.domain.to_string()).unwrap_or_default();
        let until = now.checked_add(guard_links.lifetime).map_err(|error| error.to_string())?;
        let recipient = if let [only] = recipients { only.clone() } else { String::new() };
        let (mut swaps, mut links): (Vec<Swap>, Vec<StoredLink>) = (Vec::new(), Vec::new());
        for found in analysis.decision.one_time_links.iter().filter_map(|at| content.links.get(*at)) {
            if swaps.iter().any(|swap| swap.from == found.written()) {
                continue;
            }
            let sealed = GuardLink {
                link: found.link.expose().to_owned(),
                mail: id.to_owned(),
                entry: entry.name.clone(),
                author: author.clone(),
                recipient: recipient.clone(),
                at: now,
                until,
            };
            let to = if self.config.link_store.is_some() {
                guard_links.shorten(&sealed).map(|short| {
                    links.push(short.stored);
                    short.url
                })
            } else {
                guard_links.seal(&sealed)
            };
            let to = to.ok_or("the one-time link is too long to be sealed")?;
            swaps.push(Swap::one_time(found.written().to_owned(), to, found.link.expose()));
        }
        Ok((swaps, links))
    }
}

/// A mail whose exemption is prepared.
#[derive(Clone, Copy)]
struct Guarded<'m> {
    id: &'m str,
    message: &'m Message<'m>,
    analysis: &'m Analysis,
    entry: &'m Entry,
    recipients: &'m [String],
    now: Timestamp,
}

/// The original for each link that a scanner wrapped.
fn unwrapping(analysis: &Analysis) -> Vec<Swap> {
    let links = analysis.content.iter().flat_map(|content| &content.links);
    let wrapped = links.filter_map(|found| Some(Swap::back(found.wrapped.clone()?, found.link.expose().to_owned())));
    let mut swaps: Vec<Swap> = Vec::new();
    for swap in wrapped {
        if !swaps.contains(&swap) {
            swaps.push(swap);
        }
    }
    swaps
}
