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
    /// Addresses of the text that is read for the second time, with their places: both readings find them.
    known: HashSet<(Range<usize>, String)>,
}

impl Links {
    pub(super) fn new(author: Option<Domain>, flaws: Flaws) -> Self {
        Self { found: Vec::new(), flaws, author, looked: 0, known: HashSet::new() }
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
        // Where an address starts, too: what is joined in one place may stand whole in another.
        let mut known: HashSet<(usize, String)> = HashSet::new();
        for found in self.addresses(text) {
            let start = found.place.start;
            self.add_text(part.part, text, found.place, &found.address, Holder::Text);
            known.insert((start, found.address));
        }
        let mut joined = flowed::in_brackets(text, limits::LINK);
        if part.flow == Flow::DelSp {
            joined.push(flowed::unflow(text));
        }
        for joined in joined {
            for found in self.addresses(&joined.text) {
                let place = joined.place(&found.place);
                if !known.contains(&(place.start, found.address.clone())) {
                    let start = place.start;
                    self.add_text(part.part, text, place, &found.address, Holder::Text);
                    known.insert((start, found.address));
                }
            }
        }
    }

    fn add_text(&mut self, part: usize, text: &str, place: Range<usize>, address: &str, holder: Holder) {
        let (before, label) = in_front(text, place.start);
        let after = behind(text, place.end);
        self.add(address, |link| FoundLink { link, wrapped: None, holder, label, before, after, part, place: Some(place), shown_on: None });
    }

    /// Links of a plain text in a program that shows it as HTML, but for those that [`Self::in_plain`] found in their places.
    pub(super) fn in_shown_as_html(&mut self, part: &parts::Text, html: &Html) {
        let of_part = self.found.iter().rev().take_while(|found| found.part == part.part);
        self.known = of_part.filter_map(|found| Some((found.place.clone()?, found.link.expose().to_owned()))).collect();
        self.in_html(part, html);
        self.known.clear();
    }

    /// Links in HTML: what a reader presses, and addresses in its texts.
    pub(super) fn in_html(&mut self, part: &parts::Text, html: &Html) {
        self.flaws.join(html.flaws);
        let number = part.part;
        // Where the text of each anchor ends.
        let mut ends = vec![None; html.addresses.len()];
        for run in &html.runs {
            if let Some(end) = run.anchor.and_then(|anchor| ends.get_mut(anchor)) {
                *end = Some(run.text.end);
            }
        }
        let mut anchors = Vec::with_capacity(html.addresses.len());
        for (address, end) in html.addresses.iter().zip(ends) {
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
                after: end.map(|end| behind(&html.text, end)).unwrap_or_default(),
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
                let after = behind(&tip.text, found.place.end);
                let holder = Holder::HtmlText;
                self.add(&found.address, |link| FoundLink {
                    link,
                    wrapped: None,
                    holder,
                    label,
                    before,
                    after,
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
            let after = behind(&html.text, place.end);
            let shown_on = anchor.and_then(|anchor| anchors.get(anchor).copied().flatten());
            let (place, holder) = (html.place(&place), Holder::HtmlText);
            if place.as_ref().is_some_and(|place| self.known.contains(&(place.clone(), found.address.clone()))) {
                continue;
            }
            self.add(&found.address, |link| FoundLink { link, wrapped: None, holder, label, before, after, part, place, shown_on });
        }
    }
}

/// The end of the text in front of a place, and the start of its line.
fn in_front(text: &str, at: usize) -> (String, String) {
    let before = text.get(..at).unwrap_or_default().tail(BEFORE).to_owned();
    let line = before.rsplit('\n').next().unwrap_or_default().trim().to_owned();
    (before, line)
}

/// The start of the text behind a place, up to the end of its line or of its sentence.
fn behind(text: &str, at: usize) -> String {
    let rest = text.get(at..).unwrap_or_default().trim_start_matches([' ', '\t']);
    let end =
        rest.char_indices().take(BEHIND).take_while(|(_, letter)| !"\r\n.!?;:\u{3002}\u{ff01}\u{ff1f}\u{964}".contains(*letter)).last();
    rest.get(..end.map_or(0, |(at, letter)| at + letter.len_utf8())).unwrap_or_default().to_owned()
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
/// Characters of text kept from behind a link.
const BEHIND: usize = 80;
/// Addresses in text that are looked at for each link that a mail may have: texts show where their anchors lead.
const TEXTS_PER_LINK: usize = 3;
