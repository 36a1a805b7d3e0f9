//! The links of a mail, gathered part by part.

use std::{collections::HashSet, ops::Range};

use url::Url;

use super::{
    Domain, Flaw, Flaws, FoundLink, Holder, Link, Target, flowed,
    html::{Edge, Html},
    parts::{self, Flow},
    running_text, unwrap,
    words::Tail,
};
use crate::limits;

/// The links of a mail while it is read.
pub(super) struct Links {
    pub(super) found: Vec<FoundLink>,
    pub(super) flaws: Flaws,
    author: Option<Domain>,
    /// Addresses in text that were looked at, those that are no links of their own included.
    looked: usize,
}

impl Links {
    pub(super) fn new(author: Option<Domain>, flaws: Flaws) -> Self {
        Self { found: Vec::new(), flaws, author, looked: 0 }
    }

    /// Adds a link, and says where it stands among the others.
    fn add(&mut self, address: &str, make: impl FnOnce(Link) -> FoundLink) -> Option<usize> {
        match Target::read(address) {
            Target::Harmless => {}
            Target::Flawed(flaw) => self.flaws.add(flaw),
            Target::Web(_) if self.found.len() >= limits::LINKS => self.flaws.add(Flaw::LinkLimit),
            Target::Web(link) => {
                self.found.push(make(link));
                return Some(self.found.len() - 1);
            }
        }
        None
    }

    /// The addresses of a text; none once there were too many.
    fn addresses(&mut self, text: &str) -> Vec<running_text::Found> {
        if self.looked > TEXTS_PER_LINK * limits::LINKS || !running_text::may_hold(text) {
            return Vec::new();
        }
        let reading = running_text::read(text, self.author.as_ref());
        self.flaws.join(reading.flaws);
        self.looked += reading.found.len();
        if self.looked > TEXTS_PER_LINK * limits::LINKS {
            self.flaws.add(Flaw::LinkLimit);
        }
        reading.found
    }

    /// Links in plain text, as it stands and as programs join its lines.
    pub(super) fn in_plain(&mut self, part: &parts::Text) {
        let text = part.text.as_str();
        let mut known: HashSet<String> = HashSet::new();
        for found in self.addresses(text) {
            self.add_text(part.part, text, found.place, &found.address, Holder::Text);
            known.insert(found.address);
        }
        let mut joined = flowed::in_brackets(text, limits::LINK);
        if part.flow == Flow::DelSp {
            joined.push(flowed::unflow(text));
        }
        for joined in joined {
            for found in self.addresses(&joined.text) {
                if !known.contains(&found.address) {
                    self.add_text(part.part, text, joined.place(&found.place), &found.address, Holder::Text);
                    known.insert(found.address);
                }
            }
        }
    }

    fn add_text(&mut self, part: usize, text: &str, place: Range<usize>, address: &str, holder: Holder) {
        let (before, label) = in_front(text, place.start);
        self.add(address, |link| FoundLink { link, wrapped: None, holder, label, before, part, place: Some(place), shown_on: None });
    }

    /// Links in HTML: what a reader presses, and addresses in its texts.
    pub(super) fn in_html(&mut self, part: &parts::Text, html: &Html) {
        self.flaws.join(html.flaws);
        let number = part.part;
        let mut anchors = Vec::with_capacity(html.addresses.len());
        for address in &html.addresses {
            // Behind a base, what leads nowhere leads somewhere.
            if part.based && matches!(Target::read(&address.value), Target::Harmless) && !address.value.contains(':') {
                self.flaws.add(Flaw::LinkAmbiguous);
            }
            anchors.push(self.add(&address.value, |link| FoundLink {
                link,
                wrapped: None,
                holder: Holder::Anchor,
                label: address.label.trim().to_owned(),
                before: address.before.clone(),
                part: number,
                place: address.place.clone(),
                shown_on: None,
            }));
        }
        let mut at = 0;
        while let Some(first) = html.runs.get(at) {
            let rest = html.runs.get(at + 1..).unwrap_or_default();
            let more = rest.iter().take_while(|run| run.edge == Edge::Unseen && run.anchor == first.anchor).count();
            let runs = html.runs.get(at..=at + more).unwrap_or_default();
            at += more + 1;
            let whole = first.text.start..runs.last().map_or(first.text.end, |run| run.text.end);
            let mut known = HashSet::new();
            self.in_run(number, html, &whole, first.anchor, &anchors, &mut known);
            // Programs that look at each piece between two tags. No program makes links inside of an anchor.
            if more > 0 && first.anchor.is_none() {
                for run in runs {
                    self.in_run(number, html, &run.text, None, &anchors, &mut known);
                }
            }
        }
        for tip in &html.tips {
            for found in self.addresses(&tip.text) {
                let place = tip.place.as_ref().map(|tip| tip.start + found.place.start..tip.start + found.place.end);
                let (before, label) = in_front(&tip.text, found.place.start);
                let holder = Holder::HtmlText;
                self.add(&found.address, |link| FoundLink {
                    link,
                    wrapped: None,
                    holder,
                    label,
                    before,
                    part: number,
                    place,
                    shown_on: None,
                });
            }
        }
    }

    /// Addresses in a piece of an HTML part's text, but for those that its anchor leads to.
    fn in_run(
        &mut self,
        part: usize,
        html: &Html,
        run: &Range<usize>,
        anchor: Option<usize>,
        anchors: &[Option<usize>],
        known: &mut HashSet<(usize, String)>,
    ) {
        let text = html.text.get(run.clone()).unwrap_or_default();
        for found in self.addresses(text) {
            let href = anchor.and_then(|anchor| html.addresses.get(anchor));
            if href.is_some_and(|href| shows(&href.value, &found.address, text.get(found.place.end..).unwrap_or_default())) {
                continue;
            }
            let place = run.start + found.place.start..run.start + found.place.end;
            if !known.insert((place.start, found.address.clone())) {
                continue;
            }
            let (before, label) = in_front(&html.text, place.start);
            let shown_on = anchor.and_then(|anchor| anchors.get(anchor).copied().flatten());
            let (place, holder) = (html.place(&place), Holder::HtmlText);
            self.add(&found.address, |link| FoundLink { link, wrapped: None, holder, label, before, part, place, shown_on });
        }
    }
}

/// The end of the text in front of a place, and the start of its line.
fn in_front(text: &str, at: usize) -> (String, String) {
    let before = text.get(..at).unwrap_or_default().tail(BEFORE).to_owned();
    let line = before.rsplit('\n').next().unwrap_or_default().trim().to_owned();
    (before, line)
}

/// Whether an anchor leads where its text says: to the same page, to a scanner's form of it, or to what the text cuts short.
fn shows(href: &str, shown: &str, rest: &str) -> bool {
    let plain = |address: &str| {
        let url = Url::parse(address.trim()).ok()?;
        let host = url.host_str()?.to_owned();
        let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
        let path = url
            .as_str()
            .split_once("://")
            .and_then(|(_, rest)| rest.find(['/', '?', '#']).and_then(|at| rest.get(at..)))
            .unwrap_or_default();
        Some(format!("{host}{port}{}", path.trim_end_matches('/')))
    };
    let Some(shown) = plain(shown) else { return false };
    let leads = plain(href);
    let cut = rest.starts_with("...") || rest.starts_with('\u{2026}');
    leads.as_ref().is_some_and(|leads| *leads == shown || cut && shown.contains('/') && leads.starts_with(&shown))
        || matches!(unwrap::unwrap(href), unwrap::Unwrapped::Original { link, .. } if plain(&link).as_ref() == Some(&shown))
}

/// Octets of text kept from in front of a link.
const BEFORE: usize = 240;
/// Addresses in text that are looked at for each link that a mail may have: texts show where their anchors lead.
const TEXTS_PER_LINK: usize = 3;
