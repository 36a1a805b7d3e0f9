//! Shapes: which links are an entry's one-time links, and which others may stand beside them (design section 3).
//!
//! `[scheme://]host[:port]/path[?query][#fragment]`, https where no scheme stands. Literals and placeholders mix in a piece
//! of host, path, query value and fragment. How a link is held against a shape stands in [`super::shape_match`].

use std::fmt;

use super::{
    placeholder::Placeholder,
    shape_read::{ShapeError, checked, read_authority, read_fragment, read_path, read_query, scheme},
};
use crate::message::Domain;

/// What a one-time link looks like: `login.acme.example/reset/{token}?lang={word}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shape {
    pub(super) text: Box<str>,
    pub(super) scheme: Scheme,
    pub(super) host: HostShape,
    pub(super) port: Option<u16>,
    pub(super) path: Vec<Piece>,
    pub(super) query: Vec<Field>,
    pub(super) fragment: Option<FragmentShape>,
}

/// Where a link that is no one-time link may lead: `host`, `*.host`, `host/path`, `host/path/*`; http or https, any query.
/// A bare host means any path. Path and host take placeholders as a [`Shape`]'s do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OtherLink {
    pub(super) text: Box<str>,
    pub(super) host: HostShape,
    pub(super) reach: Reach,
    pub(super) port: Option<u16>,
    /// The path; none: any path.
    pub(super) path: Option<PathShape>,
}

/// What of a host an [`OtherLink`] means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    /// The host itself.
    Itself,
    /// The hosts below it, at any depth, and not the host itself.
    Below,
}

/// The path of an [`OtherLink`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PathShape {
    pub(super) segments: Vec<Piece>,
    pub(super) end: PathEnd,
}

/// What may follow the last segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PathEnd {
    /// Nothing: the path ends here.
    Here,
    /// Any further segments.
    Open,
}

/// The scheme of a shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scheme {
    Https,
    Http,
}

impl Scheme {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Https => "https",
            Self::Http => "http",
        }
    }
}

/// A host with its placeholders.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct HostShape {
    pub(super) piece: Piece,
    /// The whole host where it has no placeholder, else the labels behind the last one that has one: the key of the index.
    pub(super) key: Domain,
}

impl HostShape {
    pub(super) fn is_literal(&self) -> bool {
        self.piece.literal().is_some()
    }
}

/// A field of a query: its name and its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Field {
    pub(super) key: Box<str>,
    pub(super) value: Piece,
}

impl Field {
    /// Whether a link must have it: where its value has a token, a code or an address, or is a literal.
    pub(super) fn is_needed(&self) -> bool {
        self.value.literal().is_some()
            || self.value.placeholders().any(|placeholder| matches!(placeholder, Placeholder::Token | Placeholder::Code | Placeholder::Url))
    }
}

/// A fragment, which is read as the shape's is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum FragmentShape {
    /// `#/verify/{token}?lang={word}`: a path and a query.
    Path(Vec<Piece>, Vec<Field>),
    /// `#token={token}&lang={word}`: a query alone.
    Query(Vec<Field>),
}

impl FragmentShape {
    fn parts(&self) -> (&[Piece], &[Field]) {
        match self {
            Self::Path(path, query) => (path, query),
            Self::Query(query) => (&[], query),
        }
    }
}

/// Literals and placeholders in a row, no two placeholders side by side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Piece(pub(super) Vec<Atom>);

/// A literal or a placeholder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Atom {
    Literal(Box<str>),
    Hole(Placeholder),
}

impl Piece {
    /// The text, where there is no placeholder.
    pub(super) fn literal(&self) -> Option<&str> {
        match self.0.as_slice() {
            [] => Some(""),
            [Atom::Literal(text)] => Some(text),
            _ => None,
        }
    }

    pub(super) fn placeholders(&self) -> impl Iterator<Item = Placeholder> + '_ {
        self.0.iter().filter_map(|atom| match atom {
            Atom::Hole(placeholder) => Some(*placeholder),
            Atom::Literal(_) => None,
        })
    }

    /// Whether the piece identifies a page by itself: a literal, or three letters and digits of one beside a placeholder.
    fn says(&self) -> bool {
        let said = |atom: &Atom| match atom {
            Atom::Literal(text) => text.bytes().filter(u8::is_ascii_alphanumeric).count(),
            Atom::Hole(_) => 0,
        };
        self.literal().map_or_else(|| self.0.iter().map(said).sum::<usize>() >= 3, |text| !text.is_empty())
    }
}

impl Shape {
    /// Reads a shape of at most [`limits::SHAPE`](crate::limits::SHAPE) octets.
    ///
    /// # Errors
    /// [`ShapeError`]: what is wrong and what to write instead, in one sentence.
    pub fn parse(text: &str) -> Result<Self, ShapeError> {
        let (scheme, rest) = scheme(checked(text)?)?;
        let (rest, fragment) = rest.split_once('#').map_or((rest, ""), |(rest, fragment)| (rest, fragment));
        let (rest, query) = rest.split_once('?').map_or((rest, ""), |(rest, query)| (rest, query));
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        if authority.contains('*') {
            return Err(ShapeError::Wildcard);
        }
        if [path, query, fragment].iter().any(|part| part.contains('*')) {
            return Err(ShapeError::Star);
        }
        let (host, port) = read_authority(authority)?;
        let shape = Self {
            text: text.into(),
            scheme,
            host,
            port: port.filter(|port| *port != if scheme == Scheme::Https { 443 } else { 80 }),
            path: read_path(path)?,
            query: read_query(query)?,
            fragment: read_fragment(fragment)?,
        };
        if !shape.placeholders().any(Placeholder::is_secret) {
            return Err(ShapeError::NoSecret);
        }
        if !shape.says() {
            return Err(ShapeError::NoLiteral);
        }
        Ok(shape)
    }

    /// Every placeholder outside of the host, in order.
    fn placeholders(&self) -> impl Iterator<Item = Placeholder> + '_ {
        let (path, query) = self.fragment.as_ref().map_or((&[][..], &[][..]), FragmentShape::parts);
        let pieces = self.path.iter().chain(path);
        let values = self.query.iter().chain(query).map(|field| &field.value);
        pieces.chain(values).flat_map(Piece::placeholders)
    }

    fn says(&self) -> bool {
        let (path, query) = self.fragment.as_ref().map_or((&[][..], &[][..]), FragmentShape::parts);
        self.path.iter().chain(path).any(Piece::says) || self.query.iter().chain(query).any(|field| !field.key.is_empty())
    }

    /// Whether a placeholder stands in it, host included.
    #[must_use]
    pub fn has(&self, placeholder: Placeholder) -> bool {
        self.host.piece.placeholders().chain(self.placeholders()).any(|other| other == placeholder)
    }

    /// The host, or what of it stands behind the last label with a placeholder.
    #[must_use]
    pub const fn host(&self) -> &Domain {
        &self.host.key
    }

    /// Whether the host holds a placeholder.
    #[must_use]
    pub fn has_many_hosts(&self) -> bool {
        !self.host.is_literal()
    }
}

impl OtherLink {
    /// Reads one of `other_links`.
    ///
    /// # Errors
    /// [`ShapeError`]: what is wrong and what to write instead, in one sentence.
    pub fn parse(text: &str) -> Result<Self, ShapeError> {
        // Either scheme is meant, whichever is written.
        let (_, rest) = scheme(checked(text)?)?;
        if rest.contains(['?', '#']) {
            return Err(ShapeError::OtherQuery);
        }
        let (authority, path) = rest.split_once('/').map_or((rest, None), |(authority, path)| (authority, Some(path)));
        let (reach, authority) = authority.strip_prefix("*.").map_or((Reach::Itself, authority), |rest| (Reach::Below, rest));
        let path = path.map(|path| {
            let (path, end) = match path.strip_suffix('*') {
                Some("") => return Ok(PathShape { segments: Vec::new(), end: PathEnd::Open }),
                Some(path) if path.ends_with('/') => (path, PathEnd::Open),
                Some(_) => return Err(ShapeError::OtherStar),
                None => (path, PathEnd::Here),
            };
            if path.contains('*') {
                return Err(ShapeError::OtherStar);
            }
            Ok(PathShape { segments: read_path(path)?, end })
        });
        if authority.contains('*') {
            return Err(ShapeError::OtherStar);
        }
        let (host, port) = read_authority(authority)?;
        if reach == Reach::Below && !host.is_literal() {
            return Err(ShapeError::OtherStar);
        }
        Ok(Self { text: text.into(), host, reach, port, path: path.transpose()? })
    }

    /// The host, or what of it stands behind the last label with a placeholder, or behind `*.`.
    #[must_use]
    pub const fn host(&self) -> &Domain {
        &self.host.key
    }

    /// Whether hosts below [`OtherLink::host`] are meant, by `*.`.
    #[must_use]
    pub fn is_below(&self) -> bool {
        self.reach == Reach::Below
    }

    /// Whether the host holds a placeholder.
    #[must_use]
    pub fn has_many_hosts(&self) -> bool {
        !self.host.is_literal()
    }

    /// Whether it takes any path of its host.
    #[must_use]
    pub fn is_whole_host(&self) -> bool {
        self.path.as_ref().is_none_or(|path| path.segments.is_empty() && path.end == PathEnd::Open)
    }

    /// Whether a placeholder stands in it, host included.
    #[must_use]
    pub fn has(&self, placeholder: Placeholder) -> bool {
        let path = self.path.iter().flat_map(|path| &path.segments).flat_map(Piece::placeholders);
        self.host.piece.placeholders().chain(path).any(|other| other == placeholder)
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Display for OtherLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits;

    #[test]
    fn what_a_shape_needs() {
        for text in [
            "login.acme.example/reset/{token}",
            "https://login.acme.example:8443/reset/{token}/",
            "http://old.acme.example/?c={token}",
            "us{id}web.zoom.us/activate?code={token}&fr=signup",
            "{tenant}.firebaseapp.com/__/auth/action?mode={word}&oobCode={token}",
            "app.slack.com/t/{tenant}/login/z-app-{token}",
            "{tenant}.slack.com/z-app-{token}",
            "claude.ai/magic-link#{token}",
            "vault.acme.example/#/finish-signup/?email={email}&token={token}",
            "www.facebook.com/n/?confirmemail.php&e={email}&c={code}&cuid={id}",
            "x.acme.example/nav_to.do?uri=%24pwd_new.do%3Fsysparm_id%3D{token}",
            "bücher.example/reset/{token}",
        ] {
            let shape = Shape::parse(text);
            assert!(shape.is_ok(), "{text}: {shape:?}");
            assert_eq!(shape.unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_is_no_shape() {
        for (text, error) in [
            ("login.acme.example/reset/{tokn}", ShapeError::Placeholder("tokn".into(), "token")),
            ("login.acme.example/reset/{Token}", ShapeError::Placeholder("Token".into(), "token")),
            ("login.acme.example/reset/{uuid}", ShapeError::Placeholder("uuid".into(), "id")),
            ("login.acme.example/reset/{e-mail}/{token}", ShapeError::Placeholder("e-mail".into(), "email")),
            ("login.acme.example/reset/{token", ShapeError::Brace),
            ("login.acme.example/reset/token}", ShapeError::Brace),
            ("login.acme.example/reset/{word}{token}", ShapeError::Adjacent("word", "token")),
            ("login.acme.example/reset/*", ShapeError::Star),
            ("*.acme.example/reset/{token}", ShapeError::Wildcard),
            ("co.uk/reset/{token}", ShapeError::PublicSuffix),
            ("github.io/reset/{token}", ShapeError::PublicSuffix),
            ("localhost/reset/{token}", ShapeError::PublicSuffix),
            ("{tenant}.com/reset/{token}", ShapeError::PublicSuffix),
            ("us{id}.firebaseapp.com/reset/{token}", ShapeError::PublicSuffix),
            ("{tenant}/reset/{token}", ShapeError::PublicSuffix),
            ("{word}.acme.example/reset/{token}", ShapeError::InHost("word")),
            ("ftp://acme.example/reset/{token}", ShapeError::Scheme),
            ("bob@acme.example/reset/{token}", ShapeError::Userinfo),
            ("acme.example./reset/{token}", ShapeError::Host),
            ("192.0.2.1/reset/{token}", ShapeError::Host),
            ("acme.example:0/reset/{token}", ShapeError::Port),
            ("acme.example:+80/reset/{token}", ShapeError::Port),
            ("acme.example/reset/{token}?lang={word}&lang={word}", ShapeError::Twice("lang".into())),
            ("acme.example/reset?{word}={token}", ShapeError::Key),
            ("acme.example/reset/{token}/{url}", ShapeError::Url),
            ("acme.example/reset/{token}?next=x{url}", ShapeError::Url),
            ("acme.example/reset/{id}", ShapeError::NoSecret),
            ("acme.example/reset", ShapeError::NoSecret),
            ("acme.example/{token}", ShapeError::NoLiteral),
            ("acme.example/a-{token}", ShapeError::NoLiteral),
            ("acme.example/../reset/{token}", ShapeError::Dots),
            ("acme.example/re set/{token}", ShapeError::Character),
            ("acme.example\\reset/{token}", ShapeError::Character),
            ("acme.example/re%2520set/{token}", ShapeError::Encoding),
            ("acme.example/re%ffset/{token}", ShapeError::Encoding),
        ] {
            assert_eq!(Shape::parse(text), Err(error), "{text}");
        }
        assert_eq!(Shape::parse(&format!("acme.example/{}/{{token}}", "a".repeat(limits::SHAPE))), Err(ShapeError::Long));
        let error = Shape::parse("acme.example/reset/{tokn}").unwrap_err().to_string();
        assert!(error.starts_with("{tokn} is no placeholder; did you mean {token}?"), "{error}");
    }

    #[test]
    fn other_links() {
        for text in [
            "acme.example",
            "*.acme.example",
            "acme.example/help",
            "acme.example/help/*",
            "http://acme.example/{word}/help/*",
            "acme.example/*",
        ] {
            assert!(OtherLink::parse(text).is_ok(), "{text}: {:?}", OtherLink::parse(text));
        }
        for (text, error) in [
            ("*", ShapeError::OtherStar),
            ("a*.acme.example", ShapeError::OtherStar),
            ("acme.example/he*", ShapeError::OtherStar),
            ("acme.example/*/help", ShapeError::OtherStar),
            ("acme.example/help?x=1", ShapeError::OtherQuery),
            ("com", ShapeError::PublicSuffix),
            ("*.co.uk", ShapeError::PublicSuffix),
            ("", ShapeError::Host),
        ] {
            assert_eq!(OtherLink::parse(text), Err(error), "{text}");
        }
        assert!(OtherLink::parse("acme.example/*").unwrap().is_whole_host());
        assert!(!OtherLink::parse("acme.example/").unwrap().is_whole_host());
    }
}
