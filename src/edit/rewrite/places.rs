//! Where in a part's text the links stand.

use std::{collections::BTreeSet, ops::Range};

use aho_corasick::{AhoCorasick, MatchKind};

use super::{Swap, layer::Layer};
use crate::message::{
    Content, FoundLink,
    parts::{Body, Format},
    unwrap,
};

/// Looks for the links of a mail. All are looked for, also those that stay, and the longest first, so that a link is not
/// found inside another one.
pub(super) struct Search<'w> {
    written: AhoCorasick,
    /// For each link what stands in its place afterwards, and the link; none where it stays.
    to: Vec<Option<(&'w Swap, &'w str)>>,
    swaps: &'w [Swap],
}

/// What was found in one part.
#[derive(Debug, Default)]
pub(super) struct Found<'w> {
    /// Octets of the part's text and what stands there afterwards; in order, none overlaps another.
    pub(super) places: Vec<(Range<usize>, &'w str)>,
    /// The links, by their number, that stand inside of another one that is replaced: a line's own reading of a link that
    /// goes on in the next line.
    pub(super) inside: BTreeSet<usize>,
}

impl<'w> Search<'w> {
    pub(super) fn of(content: &'w Content, swaps: &'w [Swap]) -> Option<Self> {
        let (mut written, mut to) = (Vec::new(), Vec::new());
        let mut known: BTreeSet<&str> = BTreeSet::new();
        for link in content.links.iter().map(FoundLink::written).chain(swaps.iter().map(|swap| swap.from.as_str())) {
            if known.insert(link) {
                written.push(link);
                to.push(swaps.iter().find(|swap| swap.from == link).map(|swap| (swap, link)));
            }
        }
        for swap in swaps {
            if let Some(original) = swap.one_time.as_ref().map(|one_time| one_time.link.as_str()).filter(|original| known.insert(original))
            {
                written.push(original);
                to.push(Some((swap, original)));
            }
        }
        let search = AhoCorasick::builder().match_kind(MatchKind::LeftmostLongest).build(written).ok()?;
        Some(Self { written: search, to, swaps })
    }

    /// Every place of a part where a link is replaced.
    pub(super) fn places(&self, content: &Content, body: &Body, text: &[u8]) -> Found<'w> {
        let mut places: Vec<(Range<usize>, Option<&'w str>)> = Vec::new();
        let mut by_number: Vec<(usize, Range<usize>)> = Vec::new();
        for (number, found) in content.links.iter().enumerate().filter(|(_, found)| found.part == body.part) {
            if let Some(place) = place(found, body, text) {
                let place = with_trailer(place, found.written(), text);
                by_number.push((number, place.clone()));
                let swap = self.swaps.iter().find(|swap| swap.from == found.written());
                places.push((place, swap.map(|swap| swap.to.as_str())));
            }
        }
        let references = Layer::entities(text);
        if body.format == Format::Plain {
            self.spelled(&Layer::plain(text), text, &mut places);
        }
        // Some programs show plain text that looks like HTML as HTML.
        self.spelled(&references, text, &mut places);
        // Of two that overlap the one that begins first stands, of those the longest, and of those the one that reading knows.
        places.sort_by_key(|(range, _)| (range.start, std::cmp::Reverse(range.end)));
        let mut chosen: Vec<(Range<usize>, Option<&'w str>)> = Vec::new();
        for (range, to) in places {
            if chosen.last().is_none_or(|(last, _)| last.end <= range.start) {
                chosen.push((range, to));
            }
        }
        let is_inside = |place: &Range<usize>| {
            let at = chosen.partition_point(|(range, _)| range.start <= place.start);
            let over = at.checked_sub(1).and_then(|at| chosen.get(at));
            over.is_some_and(|(range, to)| to.is_some() && range.end >= place.end && range.len() > place.len())
        };
        let inside = by_number.iter().filter(|(_, place)| is_inside(place)).map(|(number, _)| *number).collect();
        Found { places: chosen.into_iter().filter_map(|(range, to)| Some((range, to?))).collect(), inside }
    }

    /// The places where a link is spelled in full, behind one layer of spelling.
    fn spelled(&self, layer: &Layer<'_>, text: &[u8], places: &mut Vec<(Range<usize>, Option<&'w str>)>) {
        for found in self.written.find_iter(&*layer.text) {
            let Some(Some((swap, link))) = self.to.get(found.pattern().as_usize()) else { continue };
            let place = with_trailer(layer.stands(&found.range()), link, text);
            // A scanner's own end is an end.
            if place.end > layer.stands(&found.range()).end || ends(&layer.text, found.end()) {
                places.push((place, Some(swap.to.as_str())));
            }
        }
    }
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
