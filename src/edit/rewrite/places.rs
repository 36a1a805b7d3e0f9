//! The places in a part's text where links stand.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
};

use aho_corasick::{AhoCorasick, AhoCorasickKind, MatchKind};

use super::{Swap, layer::Layer};
use crate::message::{
    Content, FoundLink,
    parts::{Body, Format},
    unwrap,
};

/// Searches a mail for its links. All are searched for, also those that stay, and the longest first, so that a link is not found
/// inside another one.
pub(super) struct Search<'w> {
    written: AhoCorasick,
    /// For each form of a link: the form, and what stands in its place afterwards; none where it stays.
    forms: Vec<(String, Option<&'w str>)>,
    swaps: &'w [Swap],
}

/// The places in one part.
#[derive(Debug, Default)]
pub(super) struct Found<'w> {
    /// Octets of the part's text and what stands there afterwards; in order, none overlaps another.
    pub(super) places: Vec<(Range<usize>, &'w str)>,
    /// Links, by their number, that share octets with one that is replaced and are not it, because programs end an address at
    /// different places; and how each reads afterwards, if it is still there.
    pub(super) sharing: BTreeMap<usize, Option<String>>,
}

/// A place where a link may be replaced.
struct Candidate<'w> {
    range: Range<usize>,
    /// The link there, as it is replaced.
    from: &'w str,
    to: &'w str,
}

impl<'w> Search<'w> {
    pub(super) fn of(content: &Content, swaps: &'w [Swap]) -> Option<Self> {
        let swapped: BTreeMap<&str, &'w Swap> = swaps.iter().map(|swap| (swap.from.as_str(), swap)).collect();
        let all: BTreeSet<&str> = content.links.iter().map(FoundLink::written).chain(swapped.keys().copied()).collect();
        // Of a link and the same with a sentence's end behind it, the sentence's end is none of it.
        let is_longer_ending = |link: &str| {
            let shorter = link.trim_end_matches(|letter: char| !letter.is_ascii_alphanumeric() && !"/=-_&%#?".contains(letter));
            shorter.len() < link.len() && all.contains(shorter)
        };
        let mut forms: BTreeMap<String, Option<&'w str>> = BTreeMap::new();
        for link in all.iter().filter(|link| !is_longer_ending(link)) {
            forms.insert((*link).to_owned(), swapped.get(link).map(|swap| swap.to.as_str()));
        }
        for swap in swaps {
            for form in forms_of(swap) {
                forms.entry(form).or_insert(Some(&swap.to));
            }
        }
        let forms: Vec<(String, Option<&'w str>)> = forms.into_iter().collect();
        // The kind that is quickest to build: it is built for one mail.
        let mut builder = AhoCorasick::builder();
        builder.match_kind(MatchKind::LeftmostLongest).kind(Some(AhoCorasickKind::ContiguousNFA));
        let written = builder.build(forms.iter().map(|(form, _)| form)).ok()?;
        Some(Self { written, forms, swaps })
    }

    /// Every place of a part where a link is replaced.
    pub(super) fn places(&self, content: &Content, body: &Body, text: &[u8]) -> Found<'w> {
        let known: Vec<(usize, Range<usize>)> = content
            .links
            .iter()
            .enumerate()
            .filter(|(_, found)| found.part == body.part)
            .filter_map(|(number, found)| Some((number, with_trailer(place(found, body, text)?, found.written(), text))))
            .collect();
        let link = |number: usize| content.links.get(number).map_or("", FoundLink::written);
        let swap = |number: usize| self.swaps.iter().find(|swap| swap.from == link(number));
        let mut candidates: Vec<Candidate<'w>> = known
            .iter()
            .filter_map(|(number, range)| {
                let swap = swap(*number)?;
                Some(Candidate { range: range.clone(), from: &swap.from, to: &swap.to })
            })
            .collect();
        // Of two that share octets: the one that goes on over a line's end; then the one that begins first, and of those the
        // shortest, which is what every program takes for a link.
        let is_joined = |range: &Range<usize>| text.get(range.clone()).is_some_and(|text| text.iter().any(u8::is_ascii_whitespace));
        candidates.sort_by_key(|candidate| (!is_joined(&candidate.range), candidate.range.start, candidate.range.end));
        let stay: Vec<&Range<usize>> = known.iter().filter(|(number, _)| swap(*number).is_none()).map(|(_, range)| range).collect();
        let mut chosen: BTreeMap<usize, Candidate<'w>> = BTreeMap::new();
        let mut choose = |candidate: Candidate<'w>| {
            // Inside of a link that stays nothing is replaced.
            let inside = stay.iter().any(|other| other.start < candidate.range.start && candidate.range.start < other.end);
            if !inside && overlapping(&chosen, &candidate.range).is_none() {
                chosen.insert(candidate.range.start, candidate);
            }
        };
        candidates.into_iter().for_each(&mut choose);
        if body.format == Format::Plain {
            self.spelled(&Layer::plain(text), text).into_iter().for_each(&mut choose);
        }
        // Some programs show plain text that looks like HTML as HTML.
        self.spelled(&Layer::entities(text), text).into_iter().for_each(&mut choose);
        let mut sharing = BTreeMap::new();
        for (number, range) in &known {
            if let Some(over) = overlapping(&chosen, range).filter(|over| over.range != *range) {
                // Whoever reads on over a line's end would have a sealed link with more behind it, which opens nothing.
                let is_sealed = self.swaps.iter().any(|swap| swap.from == over.from && swap.one_time.is_some());
                let rest = link(*number).strip_prefix(over.from).filter(|_| !(is_sealed && is_joined(range)));
                sharing.insert(*number, rest.map(|rest| format!("{}{rest}", over.to)));
            }
        }
        Found { places: chosen.into_values().map(|candidate| (candidate.range, candidate.to)).collect(), sharing }
    }

    /// The places where a link is spelled in full, behind one layer of spelling.
    fn spelled(&self, layer: &Layer<'_>, text: &[u8]) -> Vec<Candidate<'w>> {
        let mut all = Vec::new();
        for found in self.written.find_iter(&*layer.text) {
            let Some((form, Some(to))) = self.forms.get(found.pattern().as_usize()) else { continue };
            let range = layer.stands(&found.range());
            let whole = with_trailer(range.clone(), form, text);
            // A scanner's own end is an end.
            let ends = whole.end > range.end || ends(&layer.text, found.end());
            let begins = form.contains("://") || begins(&layer.text, found.start());
            let from = self.swaps.iter().find(|swap| swap.to == *to).map_or("", |swap| swap.from.as_str());
            if ends && begins {
                all.push(Candidate { range: whole, from, to });
            }
        }
        all
    }
}

/// The spellings of a one-time link where it is shown, or given to programs, beside the place that leads there: as the link that
/// a scanner's link hides, with the other scheme or none, with or without a slash at its end, with its host in small letters, in
/// JSON.
fn forms_of(swap: &Swap) -> Vec<String> {
    let Some(one_time) = &swap.one_time else { return Vec::new() };
    let mut forms = Vec::new();
    for link in [&swap.from, &one_time.link] {
        let Some((_, rest)) = link.split_once("://") else { continue };
        // Whoever shows an address writes its host in small letters.
        let host = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let Some((host, behind)) = rest.split_at_checked(host) else { continue };
        let small = format!("{}{behind}", host.to_ascii_lowercase());
        let slash = rest.strip_suffix('/').map_or_else(|| format!("{rest}/"), str::to_owned);
        for rest in [rest, &slash, &small] {
            forms.extend([format!("https://{rest}"), format!("http://{rest}"), rest.to_owned()]);
        }
        forms.push(link.replace('/', "\\/"));
    }
    forms
}

/// The one that shares octets with a range, of some that share none with one another.
fn overlapping<'c, 'w>(chosen: &'c BTreeMap<usize, Candidate<'w>>, range: &Range<usize>) -> Option<&'c Candidate<'w>> {
    let last = chosen.range(..range.end.max(range.start + 1)).next_back();
    last.map(|(_, candidate)| candidate).filter(|candidate| candidate.range.end > range.start)
}

/// Where a link stands, if the place that its reading gives spells it: in full, without a scheme, or over line ends.
fn place(found: &FoundLink, body: &Body, text: &[u8]) -> Option<Range<usize>> {
    let place = found.place.clone()?;
    let written = text.get(place.clone())?;
    let start = place.start + (written.len() - written.trim_ascii_start().len());
    let written = written.trim_ascii();
    let link = found.written().as_bytes();
    let spells = |layer: Layer<'_>| {
        let joined: Vec<u8> = layer.text.iter().copied().filter(|octet| !octet.is_ascii_whitespace()).collect();
        joined == link || [&b"http://"[..], b"https://"].iter().any(|scheme| link.strip_prefix(*scheme) == Some(&joined))
    };
    let spells_it = match body.format {
        Format::Html => spells(Layer::entities_of_value(written)) || spells(Layer::entities(written)),
        Format::Plain => spells(Layer::plain(written)),
    };
    spells_it.then_some(start..start + written.len())
}

/// The same place with what the scanner wrote behind its link.
fn with_trailer(place: Range<usize>, link: &str, text: &[u8]) -> Range<usize> {
    let behind = text.get(place.end..).unwrap_or_default();
    place.start..place.end + unwrap::trailer(link, behind)
}

/// Whether a link ends at this place of a text: an address that goes on is another one.
fn ends(text: &[u8], at: usize) -> bool {
    let behind = text.get(at..).unwrap_or_default();
    match behind.first() {
        Some(octet) if octet.is_ascii_alphanumeric() || b"/?=%~_-@$+".contains(octet) => false,
        Some(b'.' | b':' | b'#' | b'&') => !behind.get(1).is_some_and(u8::is_ascii_alphanumeric),
        _ => true,
    }
}

/// Whether a name begins at this place of a text: one that goes on to the left is another one.
fn begins(text: &[u8], at: usize) -> bool {
    let before = text.get(..at).and_then(<[u8]>::last);
    before.is_none_or(|octet| octet.is_ascii() && !octet.is_ascii_alphanumeric() && !b"/.-_@%=:&\\".contains(octet))
}
