//! Reads a shape's text, and reports what is wrong with it.

use percent_encoding::percent_decode_str;

use super::{
    placeholder::Placeholder,
    shape::{Atom, Field, FragmentShape, HostShape, Piece, Scheme},
};
use crate::{
    limits,
    message::{Domain, suffix::suffix},
};

/// Why a text is no [`super::Shape`] or no [`super::OtherLink`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ShapeError {
    /// Longer than [`limits::SHAPE`].
    #[error("it is longer than {} characters", limits::SHAPE)]
    Long,
    /// A space, a control character or a backslash.
    #[error("it holds a space, a control character or a backslash; write them percent-encoded, as links do")]
    Character,
    /// Something still encoded after one decoding.
    #[error("it is percent-encoded twice, or what it encodes is no text; links are decoded once")]
    Encoding,
    /// The scheme is neither http nor https.
    #[error("the scheme must be https (the default) or http")]
    Scheme,
    /// There is no domain.
    #[error("the host is not a domain name, as in \"login.acme.example/reset/{{token}}\"")]
    Host,
    /// There is a user in front of the host.
    #[error("a name and \"@\" before the host: nobody would see where such a link leads")]
    Userinfo,
    /// There is a `*` in a shape's host.
    #[error(
        "the host of a one-time link is named, without \"*\"; {{tenant}} stands for your own of many, as in \"{{tenant}}.vendor.example\""
    )]
    Wildcard,
    /// The host is a public suffix.
    #[error("strangers can have hosts below this public suffix; name the service's own host")]
    PublicSuffix,
    /// Letters of other scripts beside a placeholder in a host.
    #[error("a host with a placeholder is written in ASCII, its labels as xn--")]
    HostNotAscii,
    /// A placeholder that cannot stand in a host.
    #[error("{{{0}}} cannot stand in a host; {{id}} and {{tenant}} can")]
    InHost(&'static str),
    /// The port is no number, or zero.
    #[error("the port is not a number from 1 to 65535")]
    Port,
    /// The placeholder is unknown.
    #[error(
        "{{{0}}} is no placeholder; did you mean {{{1}}}? There are {{token}}, {{code}}, {{id}}, {{word}}, {{text}}, {{email}}, {{tenant}} and {{url}}"
    )]
    Placeholder(String, &'static str),
    /// A brace has no other one.
    #[error("a brace stands alone; placeholders are written {{token}}")]
    Brace,
    /// Two placeholders stand side by side.
    #[error("{{{0}}}{{{1}}}: nobody can tell where the first ends; put what stands between them there")]
    Adjacent(&'static str, &'static str),
    /// A piece has more than [`limits::PLACEHOLDERS`] placeholders.
    #[error("more than {} placeholders in one piece", limits::PLACEHOLDERS)]
    Many,
    /// There is a `*` in a path or a query.
    #[error("\"*\" does not stand for anything in a shape; write {{token}}, {{id}}, {{word}} or another placeholder")]
    Star,
    /// There is a `*` elsewhere than at the end.
    #[error("\"*\" stands at the start of a host, as in \"*.acme.example\", or at the end of a path, as in \"acme.example/help/*\"")]
    OtherStar,
    /// There is a query or a fragment in `other_links`.
    #[error("other_links take any query; leave out what stands from \"?\" or \"#\" on")]
    OtherQuery,
    /// A segment is `.` or `..`.
    #[error("\".\" and \"..\" do not stand in a link that a browser opens; write the path that they lead to")]
    Dots,
    /// There is a placeholder in a query's key.
    #[error("a placeholder stands in the name of a query field; only values take them")]
    Key,
    /// A key of the query stands twice.
    #[error("the query field {0:?} is there twice")]
    Twice(String),
    /// `{url}` stands elsewhere than as a value.
    #[error("{{url}} is the whole value of a query field, as in \"next={{url}}\"")]
    Url,
    /// There is neither `{token}` nor `{code}`.
    #[error("without {{token}} or {{code}} it is no one-time link; other_links name other links")]
    NoSecret,
    /// There are only placeholders.
    #[error("it has neither a literal part of a path nor a query field, so every page of the host would fit")]
    NoLiteral,
}

pub(super) fn checked(text: &str) -> Result<&str, ShapeError> {
    if text.len() > limits::SHAPE {
        return Err(ShapeError::Long);
    }
    if text.chars().any(|letter| letter.is_whitespace() || letter.is_control() || letter == '\\') {
        return Err(ShapeError::Character);
    }
    Ok(text)
}

pub(super) fn scheme(text: &str) -> Result<(Scheme, &str), ShapeError> {
    let after = |scheme: &str| {
        let (start, rest) = text.split_at_checked(scheme.len())?;
        start.eq_ignore_ascii_case(scheme).then_some(rest)
    };
    if let Some(rest) = after("https://") {
        return Ok((Scheme::Https, rest));
    }
    if let Some(rest) = after("http://") {
        return Ok((Scheme::Http, rest));
    }
    let authority = text.split(['/', '?', '#']).next().unwrap_or_default();
    if authority.ends_with(':') { Err(ShapeError::Scheme) } else { Ok((Scheme::Https, text)) }
}

pub(super) fn read_authority(authority: &str) -> Result<(HostShape, Option<u16>), ShapeError> {
    if authority.contains('@') {
        return Err(ShapeError::Userinfo);
    }
    let (host, port) = authority.split_once(':').map_or((authority, None), |(host, port)| (host, Some(port)));
    let is_number = |port: &&str| !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    let port = match port {
        Some(port) => {
            Some(Some(port).filter(is_number).and_then(|port| port.parse().ok()).filter(|port| *port > 0).ok_or(ShapeError::Port)?)
        }
        None => None,
    };
    Ok((read_host(host)?, port))
}

fn read_host(host: &str) -> Result<HostShape, ShapeError> {
    let piece = atoms(host)?;
    if let Some(odd) = piece.placeholders().find(|placeholder| !matches!(placeholder, Placeholder::Id | Placeholder::Tenant)) {
        return Err(ShapeError::InHost(odd.name()));
    }
    if piece.literal().is_some() {
        let key = Domain::parse(host).map_err(|_| ShapeError::Host)?;
        if key.registered().is_none() {
            return Err(ShapeError::PublicSuffix);
        }
        return Ok(HostShape { piece: Piece(vec![Atom::Literal(key.as_str().into())]), key });
    }
    if !host.is_ascii() {
        return Err(ShapeError::HostNotAscii);
    }
    let piece = Piece(
        piece
            .0
            .into_iter()
            .map(|atom| match atom {
                Atom::Literal(text) => Atom::Literal(text.to_ascii_lowercase().into()),
                Atom::Hole(_) => atom,
            })
            .collect(),
    );
    let filled: String = piece
        .0
        .iter()
        .map(|atom| match atom {
            Atom::Literal(text) => text,
            Atom::Hole(_) => "1",
        })
        .collect();
    let Some(Atom::Literal(tail)) = piece.0.last() else { return Err(ShapeError::PublicSuffix) };
    let filled = Domain::parse(&filled).map_err(|_| ShapeError::Host)?;
    let key = tail.split_once('.').and_then(|(_, key)| Domain::parse(key).ok()).ok_or(ShapeError::PublicSuffix)?;
    // A tenant is named by the admin, so it may be what its owner registered below a suffix that a service opened
    // (`{tenant}.firebaseapp.com`); a number may be anybody's.
    let is_service = suffix(key.as_str()).is_some_and(|suffix| suffix.typ() == Some(psl::Type::Private));
    let by_tenant =
        is_service && piece.placeholders().all(|placeholder| placeholder == Placeholder::Tenant) && filled.registered().is_some();
    if key.registered().is_none() && !by_tenant {
        return Err(ShapeError::PublicSuffix);
    }
    Ok(HostShape { piece, key })
}

/// Path segments; an empty last one is none.
pub(super) fn read_path(path: &str) -> Result<Vec<Piece>, ShapeError> {
    let mut segments: Vec<&str> = path.split('/').collect();
    if segments.last().is_some_and(|last| last.is_empty()) {
        segments.pop();
    }
    if segments.iter().any(|segment| matches!(*segment, "." | "..")) {
        return Err(ShapeError::Dots);
    }
    segments.into_iter().map(|segment| without_url(piece(segment)?)).collect()
}

pub(super) fn read_query(query: &str) -> Result<Vec<Field>, ShapeError> {
    let mut fields: Vec<Field> = Vec::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        let key = piece(key)?;
        let key = key.literal().ok_or(ShapeError::Key)?;
        if fields.iter().any(|field| *field.key == *key) {
            return Err(ShapeError::Twice(key.to_owned()));
        }
        let value = piece(value)?;
        let value = if matches!(value.0.as_slice(), [Atom::Hole(Placeholder::Url)]) { value } else { without_url(value)? };
        fields.push(Field { key: key.into(), value });
    }
    Ok(fields)
}

/// A fragment is a query alone where its first piece is a field: a literal key, `=`, and no `/` or `?` before.
pub(super) fn read_fragment(fragment: &str) -> Result<Option<FragmentShape>, ShapeError> {
    if fragment.is_empty() {
        return Ok(None);
    }
    let first = fragment.split('&').next().unwrap_or_default();
    if first.split_once('=').is_some_and(|(key, _)| !key.is_empty() && !key.contains(['/', '?', '{'])) {
        return Ok(Some(FragmentShape::Query(read_query(fragment)?)));
    }
    let (path, query) = fragment.split_once('?').unwrap_or((fragment, ""));
    Ok(Some(FragmentShape::Path(read_path(path)?, read_query(query)?)))
}

fn without_url(piece: Piece) -> Result<Piece, ShapeError> {
    if piece.placeholders().any(|placeholder| placeholder == Placeholder::Url) { Err(ShapeError::Url) } else { Ok(piece) }
}

/// A piece whose literals are decoded once, as a link's pieces are.
fn piece(text: &str) -> Result<Piece, ShapeError> {
    let mut piece = atoms(text)?;
    for atom in &mut piece.0 {
        if let Atom::Literal(text) = atom {
            let decoded = percent_decode_str(text).decode_utf8().map_err(|_| ShapeError::Encoding)?;
            if super::shape_match::is_encoded(&decoded) || decoded.chars().any(|letter| letter.is_control() || letter == '\\') {
                return Err(ShapeError::Encoding);
            }
            *text = decoded.into();
        }
    }
    Ok(piece)
}

fn atoms(text: &str) -> Result<Piece, ShapeError> {
    let mut atoms: Vec<Atom> = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let (literal, behind) = rest.split_once('{').map_or((rest, None), |(literal, behind)| (literal, Some(behind)));
        if literal.contains('}') {
            return Err(ShapeError::Brace);
        }
        if !literal.is_empty() {
            atoms.push(Atom::Literal(literal.into()));
        }
        let Some(behind) = behind else { break };
        let (name, behind) = behind.split_once('}').ok_or(ShapeError::Brace)?;
        let placeholder = Placeholder::ALL.into_iter().find(|placeholder| placeholder.name() == name);
        let placeholder = placeholder.ok_or_else(|| ShapeError::Placeholder(name.to_owned(), nearest(name)))?;
        if let Some(Atom::Hole(before)) = atoms.last() {
            return Err(ShapeError::Adjacent(before.name(), placeholder.name()));
        }
        atoms.push(Atom::Hole(placeholder));
        rest = behind;
    }
    if atoms.iter().filter(|atom| matches!(atom, Atom::Hole(_))).count() > limits::PLACEHOLDERS {
        return Err(ShapeError::Many);
    }
    Ok(Piece(atoms))
}

/// Other names that admins use for placeholders.
const OTHER_NAMES: [(&str, &str); 20] = [
    ("hash", "token"),
    ("hex", "token"),
    ("jwt", "token"),
    ("key", "token"),
    ("secret", "token"),
    ("signature", "token"),
    ("otp", "code"),
    ("pin", "code"),
    ("digits", "id"),
    ("number", "id"),
    ("uuid", "id"),
    ("guid", "id"),
    ("lang", "word"),
    ("slug", "word"),
    ("name", "text"),
    ("mail", "email"),
    ("address", "email"),
    ("workspace", "tenant"),
    ("link", "url"),
    ("host", "tenant"),
];

fn nearest(name: &str) -> &'static str {
    let lower = name.to_lowercase();
    let own = Placeholder::ALL.into_iter().map(|placeholder| (placeholder.name(), placeholder.name()));
    own.chain(OTHER_NAMES)
        .max_by(|left, right| strsim::jaro_winkler(&lower, left.0).total_cmp(&strsim::jaro_winkler(&lower, right.0)))
        .map_or("token", |(_, name)| name)
}
