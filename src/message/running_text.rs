//! Addresses in running text: what a mail program makes a link of when nobody marked it as one.
//!
//! Programs differ in this, and what only one of them links counts too. So a name counts wherever a public suffix ends it,
//! in any case and script, and where programs would end an address at different places, each of them is listed. Every
//! octet is looked at a fixed number of times: names are runs that do not overlap, and what stands behind a name is
//! followed for [`limits::LINK`] octets at most, for [`limits::LINKS`] names at most.

use std::{borrow::Cow, ops::Range};

use idna::AsciiDenyList;

use super::{
    Domain,
    host_letters::{NAME, is_address, is_break, is_direction, is_dot, is_dropped, is_ending, is_host, is_punctuation, with_ending},
    schemes,
};
use crate::limits;
use crate::mail::{Flaw, Flaws};

/// An address and the place where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The octets of the text that it stands in.
    pub place: Range<usize>,
    /// The address as a program would open it: with `http://` where no scheme stands there, and then with its host mapped
    /// as browsers do (UTS 46) where it is not ASCII.
    pub address: String,
}

/// The addresses in a text.
#[derive(Debug, Default)]
pub struct Reading {
    /// Each address, in the order in which they start. Two may overlap where programs differ.
    pub found: Vec<Found>,
    /// [`Flaw::LinkAmbiguous`] and [`Flaw::LinkLimit`].
    pub flaws: Flaws,
}

/// Reads a text. A name below the organisation of `author` counts whatever it ends in.
#[must_use]
pub fn read(text: &str, author: Option<&Domain>) -> Reading {
    let mut scan =
        Scan { text, organisation: author.and_then(Domain::registered), reading: Reading::default(), taken: 0, by: Taken::ByName };
    scan.run();
    if schemes::is_ambiguous(text) {
        scan.reading.flaws.add(Flaw::LinkAmbiguous);
    }
    scan.reading.found.sort_by_key(|found| (found.place.start, found.place.end));
    scan.reading.found.dedup();
    scan.reading
}

/// Whether a text can hold an address at all: a quick look. Sentences hold none.
#[must_use]
pub fn may_hold(text: &str) -> bool {
    let bytes = text.as_bytes();
    if !text.is_ascii() {
        return memchr::memchr3(b'/', b'\\', b':', bytes).is_some() || text.contains(is_dot);
    }
    let goes_on = |dot: usize| bytes.get(dot + 1).is_some_and(|next| !next.is_ascii_whitespace());
    if memchr::memchr3(b'/', b'\\', b':', bytes).is_some() || memchr::memchr_iter(b'.', bytes).any(goes_on) {
        return true;
    }
    // The one name without a dot that programs link; a query or a fragment makes an address of it.
    memchr::memchr(b'.', bytes).is_some() && memchr::memchr2(b'?', b'#', bytes).is_some()
}

/// The start of an address that the octets before [`Scan::taken`] belong to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Taken {
    /// A scheme: every program takes it whole.
    ByScheme,
    /// A bare name: a program that links only schemes sees those inside.
    ByName,
}

struct Scan<'t> {
    text: &'t str,
    organisation: Option<&'t str>,
    reading: Reading,
    taken: usize,
    by: Taken,
}

/// What stands behind the start of an address.
struct Tail {
    /// The octet behind the address.
    end: usize,
    /// Up to where it was looked at.
    seen: usize,
    /// Where it ends for a program that takes letters of other scripts in.
    beyond: Option<usize>,
}

impl<'t> Scan<'t> {
    fn run(&mut self) {
        let mut at = 0;
        while let Some(letter) = self.letter(at) {
            if self.reading.found.len() > limits::LINKS {
                self.reading.flaws.add(Flaw::LinkLimit);
                return;
            }
            if is_host(letter) {
                let end = self.run_end(at);
                self.names(at..end);
                at = end;
                continue;
            }
            match letter {
                ':' if self.rest(at).starts_with("://") => self.scheme(at),
                '/' if self.rest(at).starts_with("//[") && at >= self.taken => self.reading.flaws.add(Flaw::LinkAmbiguous),
                '\\' if self.rest(at).starts_with("\\\\") => self.network(at + 2),
                _ => {}
            }
            at += letter.len_utf8();
        }
    }

    fn rest(&self, at: usize) -> &'t str {
        self.text.get(at..).unwrap_or_default()
    }

    fn slice(&self, range: Range<usize>) -> &'t str {
        self.text.get(range).unwrap_or_default()
    }

    fn letter(&self, at: usize) -> Option<char> {
        self.rest(at).chars().next()
    }

    fn before(&self, at: usize) -> Option<char> {
        self.text.get(..at).and_then(|before| before.chars().next_back())
    }

    fn octet(&self, at: usize) -> Option<u8> {
        self.text.as_bytes().get(at).copied()
    }

    fn run_end(&self, start: usize) -> usize {
        let rest = self.rest(start);
        start + rest.find(|letter| !is_host(letter)).unwrap_or(rest.len())
    }

    fn push(&mut self, place: Range<usize>, address: String) {
        self.reading.found.push(Found { place, address });
    }

    /// An address with a scheme, whose colon stands at `colon`.
    fn scheme(&mut self, colon: usize) {
        let bytes = self.text.as_bytes();
        let name = |byte: &u8| byte.is_ascii_alphanumeric() || b"+-.".contains(byte);
        let word = bytes.get(colon.saturating_sub(SCHEME)..colon).unwrap_or_default().iter().rev().take_while(|byte| name(byte)).count();
        let word = self.slice(colon - word..colon).to_ascii_lowercase();
        let start = colon - if word.ends_with("https") { 5 } else { 4.min(word.len()) };
        let inside = start < self.taken && self.by == Taken::ByScheme;
        if inside && !self.before(start).is_some_and(is_break) {
            return;
        }
        if !word.ends_with("http") && !word.ends_with("https") {
            // Some program has this scheme, and nobody here knows where it leads.
            if self.letter(colon + 3).is_some_and(|next| !next.is_whitespace()) {
                self.reading.flaws.add(Flaw::LinkAmbiguous);
            }
            return;
        }
        if self.letter(colon + 3).is_none_or(char::is_whitespace) {
            // Words about addresses.
            return;
        }
        let tail = self.tail(colon + 3, start);
        if tail.end == colon + 3 && tail.beyond.is_none() {
            self.reading.flaws.add(Flaw::LinkAmbiguous);
            return;
        }
        if let Some(beyond) = tail.beyond {
            let authority = self.slice(colon + 3..beyond).split(['/', '?', '#', '\\']).next().unwrap_or_default();
            // Where the host itself goes on in another script, only an ending that exists leads anywhere.
            let ending = authority.rsplit(is_dot).next().and_then(|label| label.split(|letter| !is_host(letter)).next());
            if authority.is_ascii() || authority.contains('@') || ending.is_some_and(is_ending) {
                self.push(start..beyond, self.slice(start..beyond).to_owned());
            } else {
                // No ending, so no name; but numbers are an address in any script. Only a name in front of it stands alone.
                let plain = self.slice(colon + 3..tail.end);
                let digits = Self::mapped(authority).is_some_and(|host| {
                    host.rsplit('.').next().is_some_and(|label| label.starts_with(|letter: char| letter.is_ascii_digit()))
                });
                if digits || with_ending(plain) != Some(plain.len()) {
                    self.reading.flaws.add(Flaw::LinkAmbiguous);
                }
            }
        }
        if tail.end > colon + 3 {
            self.push(start..tail.end, self.slice(start..tail.end).to_owned());
            // Browsers take brackets and the like in a host, and so do some programs.
            let rest = self.rest(tail.end).as_bytes();
            let odd = rest.iter().take(SCHEME).take_while(|byte| byte.is_ascii_punctuation() && !b"/?#\\<>\".:".contains(byte)).count();
            let goes_on = match self.letter(tail.end + odd) {
                Some(letter) if letter.is_ascii() => letter.is_alphanumeric(),
                Some(letter) => {
                    is_host(letter) && self.rest(tail.end + odd).chars().take(NAME).take_while(|letter| is_host(*letter)).any(is_dot)
                }
                None => false,
            };
            let goes_on = odd > 0 && goes_on || self.goes_on_behind_marks(tail.end);
            if goes_on && !self.slice(colon + 3..tail.end).contains(['/', '?', '#']) {
                self.reading.flaws.add(Flaw::LinkAmbiguous);
            }
        }
        (self.taken, self.by) = (tail.seen.max(self.taken), Taken::ByScheme);
    }

    /// Whether punctuation of other scripts and then the rest of a name stands there: browsers take both for more of the host.
    fn goes_on_behind_marks(&self, at: usize) -> bool {
        let rest = self.rest(at);
        let marks: usize =
            rest.chars().take(SCHEME).take_while(|letter| !letter.is_ascii() && is_punctuation(*letter)).map(char::len_utf8).sum();
        let name = rest.get(marks..).unwrap_or_default().chars().take(NAME).take_while(|letter| is_host(*letter));
        marks > 0 && with_ending(&name.collect::<String>()).is_some()
    }

    /// What stands behind two backslashes: a share on a file server, which mail programs for Windows open.
    fn network(&mut self, start: usize) {
        if !self.letter(start).is_some_and(is_host) || start <= self.taken && self.by == Taken::ByScheme {
            return;
        }
        let end = start
            + self
                .rest(start)
                .bytes()
                .take(NAME)
                .take_while(|byte| !byte.is_ascii() || *byte == b'@' || is_host(char::from(*byte)))
                .count();
        if self.octet(end).is_some_and(|next| matches!(next, b'\\' | b'/'))
            || self.rest(start).as_bytes().get(..end - start).is_some_and(|name| name.contains(&b'.'))
        {
            self.reading.flaws.add(Flaw::LinkAmbiguous);
        }
    }

    /// The names in one run of host characters.
    fn names(&mut self, run: Range<usize>) {
        let mut run = run;
        let starts = self.before(run.start).is_some_and(is_break)
            || self.by == Taken::ByName && self.slice(0..run.start).ends_with("//")
            || self.rest(run.start).starts_with("..");
        if run.start < self.taken && !starts {
            if run.end <= self.taken {
                return;
            }
            // The tail ended at another script. Programs that took less of it see the whole run.
            let rest = self.taken;
            if self.by == Taken::ByName {
                self.pieces(&run, |_| false);
            }
            run.start = rest;
        }
        let text = self.slice(run.clone());
        if !text.contains(is_dot) {
            // The one name without a dot that programs link, if more stands behind it.
            if text.eq_ignore_ascii_case("localhost") && self.tail_starts(run.end) {
                self.add(run.clone(), &run);
            }
            return;
        }
        if self.is_in_mail_address(&run) {
            return;
        }
        self.pieces(&run, |_| false);
        if !text.is_ascii() {
            // For programs whose names are ASCII, next to scripts that have no spaces.
            self.pieces(&run, |letter| letter >= '\u{590}' || !letter.is_ascii() && !letter.is_alphabetic());
        }
        if text.contains(|letter: char| !letter.is_ascii() && is_dot(letter)) {
            self.pieces(&run, |letter| !letter.is_ascii() && is_dot(letter));
        }
        let is_sign = |letter: char| !letter.is_ascii() && !is_dot(letter) && (!letter.is_alphanumeric() || is_dropped(letter));
        if text.contains(is_sign) {
            self.pieces(&run, is_sign);
        }
        if text.contains(is_direction) {
            self.pieces(&run, is_direction);
        }
        if text.contains('_') && !text.is_ascii() {
            self.pieces(&run, |letter| letter == '_');
        }
        if text.contains('_') {
            self.pieces(&run, |letter| letter == '_' || !letter.is_ascii());
        }
    }

    /// Whether a run is one side of a mail address, which leads to no page. Only where every program sees one.
    fn is_in_mail_address(&self, run: &Range<usize>) -> bool {
        let is_local = |letter: char| letter.is_ascii_alphanumeric() || "_-+".contains(letter);
        let text = self.slice(run.clone());
        // Labels that no domain has end the name for programs that then link the rest.
        let is_plain = text.is_ascii() && !text.starts_with(['.', '-']) && !["-.", ".-", ".."].iter().any(|pair| text.contains(pair));
        if self.before(run.start) == Some('@') {
            let local = run.start.checked_sub(1).and_then(|at| self.before(at)).is_some_and(is_local);
            let goes_on = self.octet(run.end) == Some(b'/') || self.octet(run.end) == Some(b':') && self.tail_starts(run.end);
            return local && is_plain && !text.contains('_') && !goes_on;
        }
        if self.octet(run.end) == Some(b'@') && self.before(run.end).is_some_and(is_local) {
            let front = self.slice(0..run.start);
            let starts =
                front.ends_with("mailto:") || self.before(run.start).is_none_or(|letter| letter.is_whitespace() || "<(\"".contains(letter));
            let domain = self.rest(run.end + 1);
            let name = domain.bytes().take(NAME).take_while(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-')).count();
            let name = domain.get(..name).unwrap_or_default().trim_end_matches(['.', '-']);
            // A page or a port behind it: no mail address for some programs, which then link the front.
            let end = run.end + 1 + name.len();
            let goes_on = self.octet(end) == Some(b'/') || self.octet(end) == Some(b':') && self.tail_starts(end);
            return starts
                && is_plain
                && !goes_on
                && domain.starts_with(|letter: char| letter.is_ascii_alphanumeric())
                && with_ending(name) == Some(name.len());
        }
        false
    }

    /// Each name of a run, cut at what `is_edge` says and at empty labels.
    fn pieces(&mut self, run: &Range<usize>, is_edge: impl Fn(char) -> bool) {
        let text = self.slice(run.clone());
        let mut start = run.start;
        let mut last_dot = false;
        for (at, letter) in text.char_indices().chain([(text.len(), ' ')]) {
            let at = run.start + at;
            let dot = is_dot(letter);
            if self.reading.found.len() > limits::LINKS {
                return;
            }
            if at == run.end || is_edge(letter) || dot && last_dot {
                self.name(start..at, run);
                start = at + letter.len_utf8();
            }
            last_dot = dot || last_dot && is_dropped(letter);
        }
    }

    /// One name, if some program links it.
    fn name(&mut self, piece: Range<usize>, run: &Range<usize>) {
        if piece.start >= piece.end {
            return;
        }
        let text = self.slice(piece.clone());
        let edge = |letter: char| is_dot(letter) || letter == '-' || letter == '_' || is_dropped(letter);
        let front = text.len() - text.trim_start_matches(edge).len();
        let text = text.trim_matches(edge);
        let piece = piece.start + front..piece.start + front + text.len();
        if !text.contains(is_dot) {
            return;
        }
        let mapped = Self::mapped(text);
        let numbers = mapped.is_none() && text.chars().all(|letter| letter.is_numeric() || is_dot(letter) || is_dropped(letter));
        if numbers || mapped.as_deref().is_some_and(is_address) {
            let ends = self.slice(piece.end..run.end).chars().all(is_dropped);
            if ends && self.tail_starts(run.end) || self.slice(0..piece.start).ends_with("//") {
                self.add(piece, run);
            }
            return;
        }
        let lower = mapped.unwrap_or_default().to_ascii_lowercase();
        let own = self.organisation.is_some_and(|own| lower.strip_suffix(own).is_some_and(|rest| rest.is_empty() || rest.ends_with('.')));
        let www = lower.strip_prefix("www.").is_some_and(|rest| rest.contains('.'));
        let ending = with_ending(text);
        let end = piece.end;
        if let Some(end) = ending.filter(|end| *end == text.len() || !own) {
            self.add(piece.start..piece.start + end, run);
        }
        let front = self.text.as_bytes().get(piece.start.saturating_sub(6)..piece.start).unwrap_or_default().to_ascii_lowercase();
        let scheme = front.ends_with(b"//") || front.ends_with(b"http:") || front.ends_with(b"https:");
        if ending != Some(text.len()) && (own || www || scheme) {
            self.add(piece, run);
        }
        // Behind a number, as in a list, some programs see another name.
        let behind = text.trim_start_matches(|letter: char| letter.is_ascii_digit() || matches!(letter, '.' | '-'));
        let number = text.get(..text.len() - behind.len()).unwrap_or_default();
        if behind.contains(is_dot) && number.ends_with(['.', '-']) {
            self.name(end - behind.len()..end, run);
        }
    }

    /// Adds a name with what stands behind it, where the run ends with it.
    fn add(&mut self, name: Range<usize>, run: &Range<usize>) {
        let host = self.slice(name.clone());
        let Some(plain) = Self::mapped(host) else {
            // No browser opens it. Programs whose names are ASCII link its end, where that is a name.
            let rest = host.rsplit(|letter: char| !letter.is_ascii()).next().unwrap_or_default();
            if host.is_ascii() || !rest.trim_matches(['.', '-', '_']).contains('.') {
                self.reading.flaws.add(Flaw::LinkAmbiguous);
            }
            return;
        };
        // One program takes this sign for a letter.
        let front = self.before(name.start).filter(|_| name.start > self.taken);
        let sign = self.before(run.start) == Some('~') && self.slice(run.start..name.start).trim_start_matches(['-', '_', '.']).is_empty();
        // Labels that no domain has (RFC 1035 section 2.3.1), and which programs cut a name at.
        let odd =
            ["-.", ".-", "._", "_."].iter().any(|pair| host.contains(pair)) || self.slice(run.start..name.start).contains("\u{200b}-");
        // Programs that start in the middle of a path or behind a sign miss letters that are not ASCII.
        if odd || sign || matches!(front, Some('/' | '@' | '.')) && !host.is_ascii() {
            self.reading.flaws.add(Flaw::LinkAmbiguous);
        }
        let mut ends = [Some(name.end), None];
        if name.end == run.end && self.tail_starts(name.end) {
            let tail = self.tail(name.end, name.start);
            ends = [Some(tail.end), tail.beyond];
            // A program that knows no endings of other scripts sees the names behind this one.
            if tail.seen > self.taken && host.ends_with(|letter: char| letter.is_ascii()) {
                (self.taken, self.by) = (tail.seen, Taken::ByName);
            }
        }
        for end in ends.into_iter().flatten() {
            let address = format!("http://{plain}{}", self.slice(name.end..end));
            self.push(name.start..end, address);
        }
    }

    /// A host as browsers map it (UTS 46); none where they refuse it, or where it is longer than RFC 1035 section 2.3.4 allows.
    fn mapped(host: &str) -> Option<Cow<'_, str>> {
        if host.chars().filter(|letter| !is_dropped(*letter)).take(NAME + 1).count() > NAME {
            return None;
        }
        if host.is_ascii() {
            return Some(Cow::Borrowed(host));
        }
        idna::domain_to_ascii_cow(host.as_bytes(), AsciiDenyList::URL).ok()
    }

    /// Whether a port, path, query or fragment follows a host.
    fn tail_starts(&self, at: usize) -> bool {
        let next = self.octet(at + 1);
        match self.octet(at) {
            Some(b'/' | b'\\') => true,
            Some(b':') => next.is_some_and(|next| next.is_ascii_digit()),
            Some(b'?' | b'#') => next.is_some_and(|next| next.is_ascii_alphanumeric() || b"/!_-%&=".contains(&next)),
            _ => false,
        }
    }

    /// Follows an address that starts at `start` from `from` to its end.
    fn tail(&self, from: usize, start: usize) -> Tail {
        // What an address is wrapped in ends it.
        let wrapped = self.before(start).filter(|letter| "'*|`".contains(*letter)).and_then(|letter| u8::try_from(letter).ok());
        let tail = self.tail_in(from, start, wrapped);
        // Where the sign stands inside, programs that see none there go on.
        let inside = wrapped.is_some_and(|sign| b"'*".contains(&sign) && self.octet(tail.seen) == Some(sign));
        let goes_on = self.octet(tail.seen + 1).is_some_and(|next| next.is_ascii_alphanumeric() || b"&=/%".contains(&next));
        if !inside || !goes_on || !self.slice(from..tail.seen).contains(['/', '?', '#']) {
            return tail;
        }
        let whole = self.tail_in(from, start, None);
        // The last sign is the one that wraps.
        let end = start + self.slice(start..whole.end).trim_end_matches(['\'', '*']).len();
        Tail { end: tail.end, seen: tail.seen, beyond: Some(whole.beyond.unwrap_or(end)) }
    }

    /// The same, where this sign ends it.
    fn tail_in(&self, from: usize, start: usize, wrapped: Option<u8>) -> Tail {
        let bytes = self.text.as_bytes();
        let most = bytes.len().min(start + limits::LINK + 1);
        let mut open = [0_usize; 3];
        let mut seen = from;
        while let Some(byte) = bytes.get(seen).copied().filter(|_| seen < most) {
            let bracket = BRACKETS.iter().position(|pair| pair.contains(&byte));
            match bracket.and_then(|kind| Some((open.get_mut(kind)?, BRACKETS.get(kind)?))) {
                // An address in brackets behind another one: `https://a.test/[https://a.test/]`.
                Some((_, [opens, _]))
                    if byte == *opens && bytes.get(seen + 1..seen + 5).is_some_and(|next| next.eq_ignore_ascii_case(b"http")) =>
                {
                    break;
                }
                Some((count, [opens, _])) if byte == *opens => *count += 1,
                Some((0, _)) if byte != b']' || seen > from => break,
                Some((count, _)) => *count = count.saturating_sub(1),
                None => {}
            }
            if byte <= b' ' || byte >= 0x7f || matches!(byte, b'<' | b'>' | b'"') || Some(byte) == wrapped {
                break;
            }
            seen += 1;
        }
        let authority = from > start + 3 && !self.slice(from..seen).contains(['/', '?', '#']);
        let cut = |end: usize| {
            let body = bytes.get(from..end).unwrap_or_default();
            if authority {
                return from
                    + body.iter().rposition(|byte| byte.is_ascii_alphanumeric() || *byte >= 0x80 || *byte == b']').map_or(0, |at| at + 1);
            }
            from + body.iter().rposition(|byte| !b".,:;!?'([{|^`".contains(byte)).map_or(0, |at| at + 1)
        };
        let rest = self.rest(seen);
        let goes_on = |letter: &char| {
            !letter.is_whitespace()
                && !letter.is_control()
                && (is_host(*letter) || letter.is_ascii())
                && !"<>\"".contains(*letter)
                && (letter.is_ascii() || authority || !is_dot(*letter))
        };
        let mut beyond = None;
        if rest.chars().next().is_some_and(|letter| !letter.is_ascii() && goes_on(&letter)) {
            let more = rest.chars().take(limits::LINK).take_while(goes_on);
            let (length, visible) =
                more.fold((0, false), |(length, visible), letter| (length + letter.len_utf8(), visible || !is_dropped(letter)));
            beyond = visible.then(|| cut(seen + length)).filter(|end| *end > seen);
        }
        Tail { end: cut(seen), seen, beyond }
    }
}

const BRACKETS: [[u8; 2]; 3] = [*b"()", *b"[]", *b"{}"];
/// Octets in front of `://` that are looked at for a scheme.
const SCHEME: usize = 32;

#[cfg(test)]
#[path = "running_text_tests.rs"]
mod tests;
