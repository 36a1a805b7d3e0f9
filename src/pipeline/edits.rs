//! What an exemption does to a mail: its actions as patches, in the order unwrap, guard, tag, and a seal on top.
//!
//! Whatever cannot be carried out in full is not begun: the mail then goes on as an ordinary one.

use jiff::Timestamp;

use super::{Analysis, Pipeline, caught};
use crate::{
    allowlist::{Action, Entry},
    edit::{
        self, Patch,
        guard_link::{GuardLink, StoredLink},
        rewrite::{self, Swap},
    },
    identity::Arrival,
    message::Message,
};

/// What an exemption does.
#[derive(Debug, Default)]
pub(super) struct Edits {
    /// To the mail.
    pub(super) patches: Vec<Patch>,
    /// The guard links in it that must be stored before it leaves.
    pub(super) links: Vec<StoredLink>,
}

impl Pipeline {
    /// The edits of an exemption.
    ///
    /// # Errors
    /// Why an action cannot be carried out, in words.
    pub(super) fn edits(
        &self,
        id: &str,
        message: &Message<'_>,
        analysis: &Analysis,
        sender: &Entry,
        recipients: &[String],
        now: Timestamp,
    ) -> Result<Edits, String> {
        let mut swaps: Vec<Swap> = Vec::new();
        let Edits { mut patches, mut links } = Edits::default();
        for action in &sender.actions {
            match action {
                Action::Unwrap => swaps.extend(unwrapping(analysis)),
                Action::Guard => {
                    let (guarded, stored) = self.guarding(id, message, analysis, sender, recipients, now)?;
                    links = stored;
                    swaps.retain(|swap| !guarded.iter().any(|other| other.from == swap.from));
                    swaps.extend(guarded);
                }
                // Its signature covers the body as it leaves.
                Action::Tag => {}
            }
        }
        if let Some(content) = analysis.content.as_ref().filter(|_| !swaps.is_empty()) {
            let read = |changed: &Message<'_>| changed.content_by(analysis.mime);
            patches = rewrite::swap_as_read(message, content, &swaps, &read).map_err(|error| error.to_string())?;
        }
        if sender.actions.contains(&Action::Tag) {
            let changed = edit::apply(message.raw(), &patches).map_err(|error| error.to_string())?;
            let tag = self.tagger.tag(&Message::read(&changed), &sender.name, now);
            patches.push(tag.ok_or("there is no token or key to tag with")?);
        }
        Ok(Edits { patches, links })
    }

    /// The same edits, with a seal on top where they change the body.
    pub(super) async fn arc_signed(&self, message: &Message<'_>, mut edits: Edits, arrival: Arrival<'_>) -> Result<Edits, String> {
        let Some(arc_signer) = &self.arc_signer else { return Ok(edits) };
        if !edits.patches.iter().any(|patch| patch.at.end > message.headers().body()) {
            return Ok(edits);
        }
        let changed = edit::apply(message.raw(), &edits.patches).map_err(|error| error.to_string())?;
        let vouching = self.authenticator.arc_seal(arc_signer, message, &changed, arrival);
        let sealed = caught(vouching).await.ok_or("sealing failed; please report it with the mail")?;
        edits.patches.insert(0, Patch { at: 0..0, with: sealed.map_err(|error| error.to_string())? });
        Ok(edits)
    }

    /// A guard link for each one-time link, and those of them that are to be stored.
    fn guarding(
        &self,
        id: &str,
        message: &Message<'_>,
        analysis: &Analysis,
        sender: &Entry,
        recipients: &[String],
        now: Timestamp,
    ) -> Result<(Vec<Swap>, Vec<StoredLink>), String> {
        let guard_links = self.guard_links.as_ref().ok_or("there is no [guard] to lead to")?;
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
                entry: sender.name.clone(),
                author: author.clone(),
                recipient: recipient.clone(),
                at: now,
                until,
            };
            let to = if self.links.is_some() {
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
