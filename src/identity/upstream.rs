//! The identity of a mail by a trusted upstream's Authentication-Results (RFC 8601).
//!
//! The upstream reports which signature verified, and neither what it covers nor when it was made: that is read from the
//! signature's own field. Of all fields that fit the report, the one that covers least counts, because anybody can put a better
//! one beside the one that was verified.

use super::{
    claims::Claims,
    dkim,
    proof::{AuthResult, Coverage, Identity, Signature, Source, Spf, Trouble, Weakness},
    received,
    results::{self, Method, Results},
    tags,
};
use crate::{
    limits,
    message::{Domain, header::Headers},
};

/// The word among authserv-ids that stands for Exchange Online's form, which has none.
pub const EXCHANGE_ONLINE: &str = "exchange-online";

/// Where the upstream writes Authentication-Results.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ResultsAt {
    /// Above its own Received, where nobody else can write. Exim, Exchange and most gateways do.
    #[default]
    AboveReceived,
    /// Right below it too, between the topmost Received and the next: milters behind Postfix and Sendmail. A sender's own
    /// fields stand there as well, so that this is safe only where the upstream removes those that bear its name
    /// (RFC 8601 section 5; `OpenDKIM` and rspamd do).
    BelowReceived,
}

/// What a trusted upstream put on top of a mail.
///
/// Only the topmost Authentication-Results field counts, and those of the same names beside it that speak of other methods
/// (`OpenDKIM` and `OpenDMARC` write one each). It must stand above the topmost Received, the upstream's own; with
/// [`ResultsAt::BelowReceived`] above the second one, and then no other field may bear one of the names, because the
/// upstream would have removed it. Exchange Online renames fields that come in, so that the only one without a name is its
/// own if every Received above was written by `*.outlook.com`.
///
/// # Errors
/// The trouble, where there is nothing that may be believed.
pub(super) fn believed(headers: &Headers<'_>, names: &[String], at: ResultsAt) -> Result<Vec<Method>, Trouble> {
    let mut received = 0_usize;
    let mut foreign_received = false;
    let mut own: Vec<(usize, Result<Results, results::Malformed>)> = Vec::new();
    let mut first = None;
    let exchange = names.iter().any(|name| name.eq_ignore_ascii_case(EXCHANGE_ONLINE));
    // One field without a name is Exchange's own; a second one came in.
    let mut nameless = 0_usize;
    for field in headers.fields() {
        if headers.is_named(field, "Received") {
            received += 1;
            let by = received::written_by(headers.value(field));
            foreign_received |= !by.is_some_and(|host| host.ends_with(".outlook.com"));
        } else if headers.is_named(field, results::FIELD) {
            let value = headers.unfolded(field);
            let text = std::str::from_utf8(&value).unwrap_or("\u{0}");
            if names.iter().any(|name| results::claims(&value, name)) {
                first.get_or_insert(Ok(received));
                own.push((received, Results::parse(text)));
            } else if exchange && Results::parse(text).is_err() {
                nameless += 1;
                if first.is_none() && !foreign_received {
                    own.push((0, Results::parse_nameless(text)));
                }
                first.get_or_insert(if foreign_received { Err(Trouble::NoResults) } else { Ok(0) });
            } else {
                first.get_or_insert(Err(Trouble::NoResults));
            }
        }
    }
    let reach = match at {
        ResultsAt::AboveReceived => 0,
        ResultsAt::BelowReceived => 1,
    };
    match first.unwrap_or(Err(Trouble::NoResults))? {
        place if place <= reach => {}
        1 => return Err(Trouble::ResultsBelow),
        _ => return Err(Trouble::NoResults),
    }
    let stray = at == ResultsAt::BelowReceived && own.iter().any(|(place, _)| *place > reach);
    if stray || nameless > 1 {
        return Err(Trouble::ResultsTwice);
    }
    let mut methods: Vec<Method> = Vec::new();
    for (_, results) in own.into_iter().filter(|(place, _)| *place <= reach) {
        let results = results.map_err(|_| Trouble::ResultsOdd)?;
        if results.methods.iter().any(|method| methods.iter().any(|known| known.name == method.name)) {
            return Err(Trouble::ResultsTwice);
        }
        methods.extend(results.methods);
    }
    Ok(methods)
}

/// The mail to which the results are applied.
#[derive(Clone, Copy, Debug)]
pub(super) struct Question<'q> {
    pub(super) headers: &'q Headers<'q>,
    pub(super) author: Option<&'q Domain>,
    pub(super) signers: &'q [Domain],
    /// The time now, in seconds since 1970.
    pub(super) now: i64,
    /// What the newest seal covers, where the results were sealed.
    pub(super) sealed: Option<&'q Coverage>,
}

/// A DKIM-Signature field of the mail.
struct Own {
    claims: Result<Claims, Weakness>,
    /// The field's graphic octets.
    text: String,
}

/// The identity that the results give to this mail.
pub(super) fn identity(methods: &[Method], question: &Question<'_>) -> Identity {
    let headers = question.headers;
    let own: Vec<Own> = headers
        .named(dkim::FIELD)
        .map(|field| {
            let value = headers.value(field);
            let text = value.iter().filter(|byte| byte.is_ascii_graphic()).map(|byte| char::from(*byte)).collect();
            Own { claims: Claims::dkim(value), text }
        })
        .collect();
    let dmarc = dmarc(methods, question.author);
    let found = methods.iter().filter(|method| method.name == "dkim").take(limits::SIGNATURES);
    let dkim = found.map(|method| signature(method, &own, question, dmarc)).collect();
    let arc = methods.iter().find(|method| method.name == "arc").map_or(AuthResult::None, |method| method.result);
    Identity { source: Source::Upstream, spf: Some(spf(methods)), dkim, dmarc, arc, client: None, trouble: None }
}

/// SPF of MAIL FROM as the upstream reports it, which leaves out the mechanism that matched.
fn spf(methods: &[Method]) -> Spf {
    let all = || methods.iter().filter(|method| method.name == "spf");
    let domain = |method: &Method, name: &str| {
        let value = method.property(name)?;
        Domain::parse(value.rsplit('@').next().unwrap_or(value)).ok()
    };
    // Cisco reports several identities; RFC 8601 section 2.7.2 has two.
    let told = ["smtp.mailfrom", "smtp.helo"]
        .iter()
        .find_map(|name| all().find(|method| method.property(name).is_some()).map(|method| (method, name)));
    match told {
        Some((method, name)) => Spf { result: method.result, domain: domain(method, name), by: None },
        None => Spf { result: all().next().map_or(AuthResult::None, |method| method.result), domain: None, by: None },
    }
}

/// DMARC is reported for one author; where that is another author, the report is of another mail.
fn dmarc(methods: &[Method], author: Option<&Domain>) -> AuthResult {
    let of_author = |method: &&Method| {
        let from = method.property("header.from").or_else(|| method.property("d"));
        let from = from.map(|from| from.rsplit('@').next().unwrap_or(from)).and_then(|from| Domain::parse(from).ok());
        author.is_some() && from.as_ref() == author
    };
    let mut all = methods.iter().filter(|method| method.name == "dmarc");
    match (all.next(), all.next()) {
        (Some(only), None) if of_author(&only) => only.result,
        _ => AuthResult::None,
    }
}

/// One signature as the upstream reports it, with the tags of its own field.
fn signature(method: &Method, own: &[Own], question: &Question<'_>, dmarc: AuthResult) -> Signature {
    let parse = |text: &str| Domain::parse(text).ok();
    let named = method.property("header.d").map(parse);
    let identity = method.property("header.i").map(|value| parse(value.rsplit('@').next().unwrap_or(value)));
    let selector = method.property("header.s");
    let prefix = method.property("header.b").map(tags::squeezed).filter(|prefix| !prefix.is_empty());
    let mut signature = Signature {
        domain: named.clone().flatten(),
        selector: dkim::cleaned(selector.unwrap_or_default()),
        result: method.result,
        weakness: None,
        coverage: Coverage::nothing(),
        signed_at: None,
        aligned: false,
        id: [0; 32],
    };
    let weak = |mut signature: Signature, weakness: Weakness| {
        signature.weakness = Some(weakness);
        signature
    };
    // A name that cannot be read identifies nobody.
    if matches!(named, Some(None)) || matches!(identity, Some(None)) {
        return weak(signature, Weakness::Name);
    }
    let (named, identity) = (named.flatten(), identity.flatten());
    let Some(told) = named.as_ref().or(identity.as_ref()) else { return weak(signature, Weakness::NoField) };
    let fits = |claims: &Claims| {
        named.as_ref().is_none_or(|named| *named == claims.domain)
            // i= lies in or below d= (RFC 6376 section 3.5), so that it names the signer where d= is not reported.
            && identity.as_ref().is_none_or(|identity| identity.is_within(&claims.domain))
            && selector.is_none_or(|selector| selector.eq_ignore_ascii_case(&claims.selector))
            && prefix.as_ref().is_none_or(|prefix| claims.signature_text.starts_with(prefix.as_str()))
    };
    let organisation = told.registered().unwrap_or(told.as_str());
    // A field that cannot be read in one way may be the one that a more lenient upstream verified.
    let may_be = |own: &&Own| {
        own.claims.is_err()
            && own.text.to_ascii_lowercase().contains(organisation)
            && prefix.as_ref().is_none_or(|prefix| own.text.contains(prefix.as_str()))
    };
    let fitting: Vec<&Claims> = own.iter().filter_map(|own| own.claims.as_ref().ok()).filter(|claims| fits(claims)).collect();
    let Some((first, others)) = fitting.split_first() else {
        let unreadable = own.iter().find(may_be).and_then(|own| own.claims.as_ref().err().copied());
        return weak(signature, unreadable.unwrap_or(Weakness::NoField));
    };
    let least =
        others.iter().fold(Coverage::Fields(first.fields.clone()), |least, other| least.meet(&Coverage::Fields(other.fields.clone())));
    signature.domain.get_or_insert_with(|| first.domain.clone());
    signature.signed_at = fitting.iter().filter_map(|claims| claims.signed_at).min();
    if others.iter().all(|other| other.id() == first.id()) {
        signature.id = first.id();
    }
    if selector.is_none() {
        signature.selector = dkim::cleaned(&first.selector);
    }
    // The oldest counts; where one has no time at all, it cannot be compared.
    let timeless = fitting.iter().filter(|claims| claims.signed_at.is_none()).count();
    let unclear = own.iter().any(|own| may_be(&own)) || (timeless > 0 && timeless < fitting.len());
    signature.coverage = match question.sealed {
        Some(sealed) => least.meet(sealed),
        None => least,
    };
    let speaks = |claims: &&Claims| question.author.is_some_and(|author| dkim::speaks_for(&claims.domain, author, question.signers));
    signature.weakness = fitting.iter().find_map(|claims| claims.weakness(question.now));
    if signature.weakness.is_none() && unclear {
        signature.weakness = Some(Weakness::Unclear);
    }
    if signature.weakness.is_none() && !fitting.iter().all(speaks) {
        signature.weakness = Some(Weakness::NotTheAuthors);
    }
    // The upstream reports that DMARC passes and not by which signature: then by one of the author's own organisation.
    let kin = |claims: &&Claims| question.author.is_some_and(|author| claims.domain.is_kin_of(author));
    signature.aligned = dmarc == AuthResult::Pass && signature.is_proof() && fitting.iter().all(kin);
    signature
}
