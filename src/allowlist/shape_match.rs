//! Links held against shapes. Bounded: what is looked at for one link has a limit, whatever the link and the shapes.

use std::{cell::Cell, fmt};

use percent_encoding::percent_decode_str;
use url::Url;

use super::{
    carried::{self, Carried},
    mismatch::Mismatch,
    placeholder::{Part, Placeholder},
    shape::{Atom, Field, FragmentShape, OtherLink, PathEnd, Piece, Reach, Shape},
};
use crate::{
    limits,
    message::{Link, Target},
    recognition::Kind,
};

/// The links of an entry, compiled: an entry with many shapes costs a link a binary search for its host.
#[derive(Clone, Debug, Default)]
pub struct LinkRules {
    shapes: Vec<(Kind, Shape)>,
    other: Vec<OtherLink>,
    tenants: Vec<String>,
    /// Indices into `shapes`, by host.
    shapes_by_host: Vec<u32>,
    /// Indices into `other`, by host.
    other_by_host: Vec<u32>,
}

/// Why a link may not stand in an exempted mail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stray {
    /// No pattern of `other_links` names it.
    Unlisted,
    /// It is, and carries an address that is not, or something that hides one: the host or the form, no secret.
    Carries(String),
}

/// How many addresses may stand in each other.
const DEEP: u32 = 3;

impl LinkRules {
    /// Compiles an entry's links. `tenants` are what `{tenant}` stands for.
    #[must_use]
    pub fn new(one_time: Vec<(Kind, Shape)>, other: Vec<OtherLink>, tenants: Vec<String>) -> Self {
        let by_host = |count: usize, host: &dyn Fn(u32) -> String| {
            let mut order: Vec<u32> = (0..u32::try_from(count).unwrap_or(u32::MAX)).collect();
            order.sort_by_cached_key(|at| host(*at));
            order
        };
        let shape = |at: u32| one_time.get(at as usize).map(|(_, shape)| shape.host().as_str().to_owned()).unwrap_or_default();
        let shapes_by_host = by_host(one_time.len(), &shape);
        let listed = |at: u32| other.get(at as usize).map(|link| link.host().as_str().to_owned()).unwrap_or_default();
        let other_by_host = by_host(other.len(), &listed);
        Self { shapes: one_time, other, tenants, shapes_by_host, other_by_host }
    }

    /// The kind of the shape that this link fits; of several, that of the first. One of `other_links` that carries such a link
    /// leads there, and has its kind, too. `readers` are the addresses that `{email}` may be.
    #[must_use]
    pub fn one_time(&self, link: &Link, readers: &[&str]) -> Option<Kind> {
        Trial::new(self, readers).leads(link, 0).ok().flatten()
    }

    /// Whether a link that is no one-time link may stand in the mail: listed in `other_links`, and every address in it, too.
    ///
    /// # Errors
    /// [`Stray::Unlisted`], or what it carries.
    pub fn other(&self, link: &Link, readers: &[&str]) -> Result<(), Stray> {
        Trial::new(self, readers).other(link, 0).map(|_| ())
    }

    /// Whether a link that no shape and none of `other_links` names carries nothing but what may stand in the mail.
    ///
    /// # Errors
    /// [`Stray::Carries`]: the host or the form that it carries.
    pub fn carries(&self, link: &Link, readers: &[&str]) -> Result<(), Stray> {
        Trial::new(self, readers).carried(link, link.url().path(), 0).map(|_| ())
    }

    /// The nearest shape and why the link does not fit it, for `explain`; in words, no secret. None where it fits, or where
    /// no shape is of the link's owner.
    #[must_use]
    pub fn why_not(&self, link: &Link, readers: &[&str]) -> Option<String> {
        let host = link.host()?;
        let mut nearest: Option<(usize, &Shape, Mismatch)> = None;
        let near = self.shapes.iter().filter(|(_, shape)| host.is_within(shape.host()) || host.is_kin_of(shape.host()));
        for (_, shape) in near {
            let trial = Trial::new(self, readers);
            let split = Split::read(link.url());
            let mismatch = match split {
                Ok(split) => trial.fits(shape, link, &split, 0).err()?,
                Err(mismatch) => mismatch,
            };
            if nearest.as_ref().is_none_or(|(rank, _, _)| mismatch.rank() > *rank) {
                nearest = Some((mismatch.rank(), shape, mismatch));
            }
        }
        nearest.map(|(_, shape, mismatch)| format!("the nearest shape is {:?}: {mismatch}", shape.to_string()))
    }

    /// Whether a link would fit this shape, were it the entry's: an address that it carries is held against the entry's links.
    #[must_use]
    pub fn would_take(&self, shape: &Shape, link: &Link, readers: &[&str]) -> bool {
        Split::read(link.url()).is_ok_and(|split| Trial::new(self, readers).fits(shape, link, &split, 0).is_ok())
    }

    /// The shapes, as they were given.
    #[must_use]
    pub fn shapes(&self) -> &[(Kind, Shape)] {
        &self.shapes
    }

    /// The other links, as they were given.
    #[must_use]
    pub fn other_links(&self) -> &[OtherLink] {
        &self.other
    }

    /// What `{tenant}` stands for.
    #[must_use]
    pub fn tenants(&self) -> &[String] {
        &self.tenants
    }

    /// The shapes whose host is, or ends in, one of these names; in the order in which they were given.
    fn shapes_for(&self, host: &str) -> Vec<&(Kind, Shape)> {
        let key = |at: u32| self.shapes.get(at as usize).map_or("", |(_, shape)| shape.host().as_str());
        named(&self.shapes_by_host, host, key).into_iter().filter_map(|at| self.shapes.get(at as usize)).collect()
    }

    fn other_for(&self, host: &str) -> Vec<&OtherLink> {
        let key = |at: u32| self.other.get(at as usize).map_or("", |link| link.host().as_str());
        named(&self.other_by_host, host, key).into_iter().filter_map(|at| self.other.get(at as usize)).collect()
    }
}

/// What is sorted by host under a host and its parents.
fn named<'k>(order: &[u32], host: &str, key: impl Fn(u32) -> &'k str) -> Vec<u32> {
    let mut found = Vec::new();
    let mut rest = Some(host);
    while let Some(name) = rest {
        let start = order.partition_point(|at| key(*at) < name);
        found.extend(order.get(start..).into_iter().flatten().take_while(|at| key(**at) == name));
        rest = name.split_once('.').map(|(_, parent)| parent);
    }
    found.sort_unstable();
    found
}

impl fmt::Display for Piece {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|atom| match atom {
            Atom::Literal(text) => f.write_str(text),
            Atom::Hole(placeholder) => write!(f, "{placeholder}"),
        })
    }
}

/// Whether a percent-encoded octet stands in a text.
pub(super) fn is_encoded(text: &str) -> bool {
    text.as_bytes().windows(3).any(|three| matches!(three, [b'%', high, low] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit()))
}

/// A field's value, decoded once.
pub(super) struct Value {
    pub(super) text: String,
    /// Whether it still holds `%XX`, as an address with a query of its own does.
    encoded: bool,
}

pub(super) type Fields = Vec<(String, Value)>;

/// A link in its pieces, each decoded once.
pub(super) struct Split<'u> {
    pub(super) path: Vec<String>,
    pub(super) query: Fields,
    pub(super) fragment: Option<&'u str>,
}

impl<'u> Split<'u> {
    pub(super) fn read(url: &'u Url) -> Result<Self, Mismatch> {
        let is_plain_host = url.host_str().is_some_and(|host| !host.ends_with('.'));
        if !is_plain_host || !url.username().is_empty() || url.password().is_some() {
            return Err(Mismatch::Ambiguous);
        }
        Ok(Self {
            path: split_path(url.path().strip_prefix('/').unwrap_or_else(|| url.path()))?,
            query: split_query(url.query().unwrap_or_default())?,
            fragment: url.fragment().filter(|fragment| !fragment.is_empty()),
        })
    }
}

fn decode(piece: &str) -> Result<String, Mismatch> {
    let text = percent_decode_str(piece).decode_utf8().map_err(|_| Mismatch::Ambiguous)?;
    if text.chars().any(|letter| letter.is_control() || letter == '\\') { Err(Mismatch::Ambiguous) } else { Ok(text.into_owned()) }
}

pub(super) fn split_path(path: &str) -> Result<Vec<String>, Mismatch> {
    let mut segments: Vec<String> = path.split('/').map(segment).collect::<Result<_, _>>()?;
    if segments.last().is_some_and(String::is_empty) {
        segments.pop();
    }
    Ok(segments)
}

fn segment(segment: &str) -> Result<String, Mismatch> {
    let text = decode(segment)?;
    // Some servers cut `;…` off before they climb: `/..;/`.
    let is_dots = text.split(';').next().is_some_and(|name| !name.is_empty() && name.bytes().all(|byte| byte == b'.'));
    if is_encoded(&text) || text.contains(['/', '?', '#']) || is_dots { Err(Mismatch::Ambiguous) } else { Ok(text) }
}

pub(super) fn split_query(query: &str) -> Result<Fields, Mismatch> {
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let (key, text) = (decode(key)?, decode(value)?);
            let encoded = is_encoded(&text);
            if is_encoded(&key) { Err(Mismatch::Ambiguous) } else { Ok((key, Value { text, encoded })) }
        })
        .collect()
}

/// A field's name, where it is one that a person gave.
fn shown(key: &str) -> String {
    if key.len() <= 40 && crate::message::link::is_word(key) { format!("{key:?}") } else { format!("of {} characters", key.len()) }
}

/// One link held against the rules.
struct Trial<'r> {
    rules: &'r LinkRules,
    readers: &'r [&'r str],
    /// Octets that may still be looked at.
    left: Cell<usize>,
}

impl<'r> Trial<'r> {
    const fn new(rules: &'r LinkRules, readers: &'r [&'r str]) -> Self {
        Self { rules, readers, left: Cell::new(limits::SHAPE_WORK) }
    }

    fn spend(&self, octets: usize) -> bool {
        let left = self.left.get().checked_sub(octets.max(1));
        self.left.set(left.unwrap_or(0));
        left.is_some()
    }

    fn one_time(&self, link: &Link, depth: u32) -> Option<Kind> {
        let split = Split::read(link.url()).ok()?;
        let shapes = self.rules.shapes_for(link.url().host_str()?);
        shapes.into_iter().find(|(_, shape)| self.fits(shape, link, &split, depth).is_ok()).map(|(kind, _)| *kind)
    }

    /// Whether one of `other_links` names a link, and the kind of a one-time link that it carries.
    fn other(&self, link: &Link, depth: u32) -> Result<Option<Kind>, Stray> {
        let host = link.url().host_str().unwrap_or_default();
        let rest = self.rules.other_for(host).into_iter().find_map(|other| self.listed(other, link)).ok_or(Stray::Unlisted)?;
        self.carried(link, &rest, depth)
    }

    /// Judges what a link carries in its query, its fragment and `path`; the kind of a one-time link among it.
    fn carried(&self, link: &Link, path: &str, depth: u32) -> Result<Option<Kind>, Stray> {
        let mut kind = None;
        if !self.spend(link.expose().len()) {
            return Err(Stray::Carries("more than is looked into".into()));
        }
        for carried in carried::search(path, link.url().query(), link.url().fragment(), self.readers) {
            match carried {
                Carried::Odd(what) => return Err(Stray::Carries(what)),
                // A page that follows its parameter leads to another page of the same host.
                Carried::Reference(path) => match link.url().join(&path).map(|url| Target::read(url.as_str())) {
                    Ok(Target::Web(inner)) if depth < DEEP => {
                        kind = kind.or(self.leads(&inner, depth + 1).map_err(|_| Stray::Carries("another page of its host".into()))?);
                    }
                    _ => return Err(Stray::Carries("another page of its host".into())),
                },
                Carried::Address(address) => match Target::read(&address) {
                    Target::Web(inner) => {
                        let leads = if depth < DEEP { self.leads(&inner, depth + 1).ok() } else { None };
                        let stray = || Stray::Carries(inner.url().host_str().unwrap_or("an address").to_owned());
                        kind = kind.or(leads.ok_or_else(stray)?);
                    }
                    Target::Harmless => {}
                    Target::Flawed(_) => return Err(Stray::Carries("an address that can be read in two ways".into())),
                },
            }
        }
        Ok(kind)
    }

    /// The kind of one-time link that a link is or leads to; none where it is another that may stand there.
    fn leads(&self, link: &Link, depth: u32) -> Result<Option<Kind>, Stray> {
        self.one_time(link, depth).map_or_else(|| self.other(link, depth), |kind| Ok(Some(kind)))
    }

    /// Where one of `other_links` names a link: what of the path it does not spell out.
    fn listed(&self, other: &OtherLink, link: &Link) -> Option<String> {
        let url = link.url();
        let host = url.host_str()?;
        let at_home = match other.reach {
            Reach::Itself => self.piece(&other.host.piece, host, Part::Host),
            Reach::Below => link.host()?.is_below(&other.host.key) && other.host.is_literal(),
        };
        let default = if url.scheme() == "https" { 443 } else { 80 };
        if !at_home || !matches!(url.scheme(), "http" | "https") || url.port_or_known_default() != Some(other.port.unwrap_or(default)) {
            return None;
        }
        let Some(path) = &other.path else { return Some(url.path().to_owned()) };
        // Behind `#` programs in the browser tell their pages apart: `/#ticket/zoom/1` is another page than `/`.
        if url.fragment().is_some_and(|fragment| fragment.contains('/')) {
            return None;
        }
        let raw: Vec<&str> = url.path().strip_prefix('/')?.split('/').collect();
        let (start, rest) = raw.split_at_checked(path.segments.len())?;
        let ends = match path.end {
            PathEnd::Here => matches!(rest, [] | [""]),
            PathEnd::Open => !rest.is_empty(),
        };
        let fits = |(piece, text): (&Piece, &&str)| segment(text).is_ok_and(|text| self.piece(piece, &text, Part::Segment));
        (ends && path.segments.iter().zip(start).all(fits)).then(|| rest.join("/"))
    }

    fn fits(&self, shape: &Shape, link: &Link, split: &Split<'_>, depth: u32) -> Result<(), Mismatch> {
        let url = link.url();
        if !self.piece(&shape.host.piece, url.host_str().unwrap_or_default(), Part::Host) {
            return Err(Mismatch::Host);
        }
        if url.scheme() != shape.scheme.name() {
            return Err(Mismatch::Scheme(shape.scheme.name()));
        }
        if url.port() != shape.port {
            return Err(Mismatch::Port);
        }
        self.path(&shape.path, &split.path)?;
        let mut addresses = Vec::new();
        self.query(&shape.query, &split.query, &mut addresses)?;
        let inner;
        match (&shape.fragment, split.fragment) {
            (None, None) => {}
            (Some(FragmentShape::Query(fields)), Some(fragment)) => {
                inner = split_query(fragment)?;
                self.query(fields, &inner, &mut addresses)?;
            }
            (Some(FragmentShape::Path(pieces, fields)), Some(fragment)) => {
                let (path, query) = fragment.split_once('?').unwrap_or((fragment, ""));
                inner = split_query(query)?;
                self.path(pieces, &split_path(path)?).map_err(|_| Mismatch::Fragment)?;
                self.query(fields, &inner, &mut addresses)?;
            }
            _ => return Err(Mismatch::Fragment),
        }
        // Last, because each may be held against all shapes again.
        for (key, address) in addresses {
            if !self.address(link, address, depth) {
                return Err(Mismatch::Value(shown(key), Placeholder::Url.to_string()));
            }
        }
        if self.left.get() == 0 { Err(Mismatch::Bound) } else { Ok(()) }
    }

    fn path(&self, wanted: &[Piece], found: &[String]) -> Result<(), Mismatch> {
        // Literals first: they cost least and exclude most.
        for literal in [true, false] {
            for (at, (piece, text)) in wanted.iter().zip(found).enumerate().filter(|(_, (piece, _))| piece.literal().is_some() == literal) {
                if !self.piece(piece, text, Part::Segment) {
                    return Err(Mismatch::Segment(at, piece.to_string()));
                }
            }
            if wanted.len() != found.len() {
                return Err(Mismatch::Length(found.len(), wanted.len()));
            }
        }
        Ok(())
    }

    fn query<'v>(&self, wanted: &'v [Field], found: &'v Fields, addresses: &mut Vec<(&'v str, &'v str)>) -> Result<(), Mismatch> {
        // A link of 8 KiB has thousands of fields at most, but none with more than the declared ones and some `utm_` fits.
        if found.len() > wanted.len() + UTM {
            return Err(Mismatch::Undeclared("among so many".into()));
        }
        for (at, (key, value)) in found.iter().enumerate() {
            if found.iter().take(at).any(|(other, _)| other == key) {
                return Err(Mismatch::Twice(shown(key)));
            }
            let Some(field) = wanted.iter().find(|field| *field.key == **key) else {
                let of_campaign = key.strip_prefix("utm_").is_some_and(is_word) && is_word(&value.text);
                if of_campaign {
                    continue;
                }
                return Err(Mismatch::Undeclared(shown(key)));
            };
            if matches!(field.value.0.as_slice(), [Atom::Hole(Placeholder::Url)]) {
                addresses.push((key, &value.text));
            } else if value.encoded {
                return Err(Mismatch::Ambiguous);
            } else if !self.value(&field.value, &value.text) {
                return Err(Mismatch::Value(shown(key), field.value.to_string()));
            }
        }
        let missing = wanted.iter().find(|field| field.is_needed() && !found.iter().any(|(key, _)| **key == *field.key));
        missing.map_or(Ok(()), |field| Err(Mismatch::Missing(format!("{:?}", field.key))))
    }

    /// A field that is not filled in, as in `lang=`, counts as absent.
    fn value(&self, piece: &Piece, text: &str) -> bool {
        let is_empty_word = text.is_empty() && matches!(piece.0.as_slice(), [Atom::Hole(Placeholder::Word | Placeholder::Text)]);
        is_empty_word || self.piece(piece, text, Part::Value)
    }

    /// Whether a piece fits a text as a whole. Every place that an atom can end at is followed, each once, so the work grows
    /// with the atoms and not with their combinations.
    fn piece(&self, piece: &Piece, text: &str, part: Part) -> bool {
        if let Some(literal) = piece.literal() {
            return literal == text;
        }
        let mut places = vec![0_usize];
        for (at, atom) in piece.0.iter().enumerate() {
            let mut ends: Vec<usize> = Vec::new();
            for start in places {
                let Some(rest) = text.get(start..) else { continue };
                match atom {
                    Atom::Literal(literal) => ends.extend(rest.starts_with(&**literal).then(|| start + literal.len())),
                    Atom::Hole(placeholder) => match (piece.0.get(at + 1), piece.0.get(at + 2)) {
                        (None, _) => ends.extend(self.hole(*placeholder, rest, part).then_some(text.len())),
                        (Some(Atom::Literal(next)), None) => {
                            let fits = rest.strip_suffix(&**next).is_some_and(|inside| self.hole(*placeholder, inside, part));
                            ends.extend(fits.then(|| text.len() - next.len()));
                        }
                        (Some(Atom::Literal(next)), Some(_)) => {
                            self.ends(*placeholder, rest, next, part, |length| ends.push(start + length));
                        }
                        (Some(Atom::Hole(_)), _) => return false,
                    },
                }
            }
            ends.sort_unstable();
            ends.dedup();
            places = ends;
        }
        places.contains(&text.len())
    }

    /// Every length at which a placeholder may end before the literal that follows it.
    fn ends(&self, placeholder: Placeholder, rest: &str, next: &str, part: Part, mut end: impl FnMut(usize)) {
        for (at, letter) in rest.char_indices() {
            if rest.get(at..).is_some_and(|behind| behind.starts_with(next)) {
                let inside = rest.get(..at).unwrap_or_default();
                if self.left.get() == 0 {
                    return;
                }
                if self.hole(placeholder, inside, part) {
                    end(at);
                }
            }
            if !placeholder.takes(letter, part) {
                return;
            }
        }
    }

    fn hole(&self, placeholder: Placeholder, text: &str, part: Part) -> bool {
        if text.is_empty() || !self.spend(text.len()) {
            return false;
        }
        match placeholder {
            Placeholder::Email => self.readers.iter().any(|reader| carried::is_same_mailbox(reader, text)),
            Placeholder::Tenant if part == Part::Host => self.rules.tenants.iter().any(|tenant| tenant.eq_ignore_ascii_case(text)),
            Placeholder::Tenant => self.rules.tenants.iter().any(|tenant| tenant == text),
            Placeholder::Url => false,
            _ => placeholder.fits(text, part),
        }
    }

    /// `{url}`: an address, or a reference on the same host, that itself fits.
    fn address(&self, link: &Link, text: &str, depth: u32) -> bool {
        if depth >= DEEP || !self.spend(text.len()) {
            return false;
        }
        if let Target::Web(inner) = Target::read(text) {
            return self.leads(&inner, depth + 1).is_ok();
        }
        // A reference: nothing in front of its first delimiter that could be a scheme, and no second slash.
        // Sites join texts: one that starts with anything but a single slash could become a part of the host.
        let is_odd = |letter: char| letter.is_whitespace() || matches!(letter, '\\' | '@');
        if !text.starts_with('/') || text.starts_with("//") || text.contains("..") || text.contains(is_odd) {
            return false;
        }
        let Ok(url) = link.url().join(text) else { return false };
        let stays = url.scheme() == link.url().scheme() && url.host() == link.url().host() && url.port() == link.url().port();
        match Target::read(url.as_str()) {
            Target::Web(inner) => stays && self.leads(&inner, depth + 1).is_ok(),
            Target::Harmless | Target::Flawed(_) => false,
        }
    }
}

/// Fields of a campaign that may stand in a query undeclared. There are five, and some invent more.
const UTM: usize = 10;

fn is_word(text: &str) -> bool {
    Placeholder::Word.fits(text, Part::Value)
}
