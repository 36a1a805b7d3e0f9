//! Checks of the header that need nothing but an entry and a proof: expiry, lists, recipients, age, MIME fields.

use jiff::{SignedDuration, Timestamp};

use super::{
    entry::{Entry, Lists},
    evidence::Evidence,
    judge::HeaderFacts,
    verdict::Finding,
};
use crate::{
    identity::proof::{Seen, Signature},
    mail::{Reason, lasting},
    message::{Mailbox, header::Headers},
};

pub(super) fn expiry(entry: &Entry, now: Timestamp) -> Finding {
    match (entry.expires, entry.last_day()) {
        (Some(end), Some(day)) if now >= end => Finding::fails(Reason::Expiry, format!("entry {:?} expired on {day}", entry.name)),
        (Some(_), Some(day)) => Finding::holds(Reason::Expiry, format!("until {day}")),
        _ => Finding::holds(Reason::Expiry, "the entry has no end"),
    }
}

/// A mail that went through a list carries its members' words. It always fails, covered or not: a field outside of the proof may
/// make things worse.
pub(super) fn bulk(entry: &Entry, headers: &Headers<'_>) -> Finding {
    let there = |name: &str| headers.named(name).next().is_some();
    let precedence = |value: &[u8]| {
        let mut words = value.split(|octet| !octet.is_ascii_alphanumeric());
        words.any(|word| word.eq_ignore_ascii_case(b"list") || word.eq_ignore_ascii_case(b"junk"))
    };
    let found = ["List-Post", "List-Archive"]
        .into_iter()
        .find(|name| there(name))
        .or_else(|| headers.named("Precedence").any(|field| precedence(&headers.unfolded(field))).then_some("Precedence"));
    match found {
        None => Finding::holds(Reason::Lists, "it came through no list"),
        Some(name) if entry.lists == Lists::Allowed => Finding::holds(Reason::Lists, format!("{name}, and the entry allows lists")),
        Some(name) => Finding::fails(Reason::Lists, format!("it came through a list; lists = true accepts that ({name})")),
    }
}

pub(super) fn recipients_named(facts: &HeaderFacts<'_>, entry: &Entry) -> Finding {
    if let Some(odd) = facts.recipients.iter().find(|address| Mailbox::parse(address).is_none()) {
        return Finding::fails(Reason::Recipients, format!("{odd:?} is no address with a plain domain"));
    }
    if entry.recipients.is_empty() {
        return Finding::holds(Reason::Recipients, "the entry takes all");
    }
    if facts.recipients.is_empty() {
        return Finding::holds(Reason::Recipients, "no recipient was given, so none was held against the entry's");
    }
    match facts.recipients.iter().find(|address| !entry.recipients.iter().any(|pattern| pattern.matches(address))) {
        Some(stranger) => Finding::fails(
            Reason::Recipients,
            format!("{stranger:?} is not among the entry's recipients; \"*@{}\" would be", stranger.rsplit('@').next().unwrap_or_default()),
        ),
        None => Finding::holds(Reason::Recipients, format!("{} named by the entry", facts.recipients.len())),
    }
}

/// One of `t=` and a covered Date, at most [`AHEAD`] ahead and not older than the entry's `max_age`.
pub(super) fn fresh(signature: &Signature, evidence: &Evidence<'_>, entry: &Entry, now: Timestamp) -> Finding {
    let (field, made) = match (signature.signed_at, evidence.field("Date")) {
        (Some(signed_at), _) => ("DKIM-Signature", Timestamp::from_second(signed_at).ok()),
        (None, Seen::Covered(values)) => ("Date", values.first().and_then(|value| date(value))),
        (None, Seen::Absent | Seen::Bare(_)) => {
            return Finding::fails(
                Reason::Freshness,
                format!("{} has no t= and covers no Date: nobody knows how old it is", evidence.by()),
            );
        }
    };
    let Some(made) = made else { return Finding::fails(Reason::Freshness, format!("the time in {field} cannot be read")) };
    let age = now.duration_since(made);
    let most = SignedDuration::try_from(entry.max_age).unwrap_or(SignedDuration::MAX);
    let minutes = |time: SignedDuration| lasting((time.as_secs() / 60).unsigned_abs());
    if age > most {
        let (age, most) = (minutes(age), minutes(most));
        // Seconds apart, they read alike.
        let more = if age == most { "more than " } else { "" };
        return Finding::fails(Reason::Freshness, format!("signed {more}{age} ago, and max_age is {most}"));
    }
    if age < -AHEAD {
        return Finding::fails(Reason::Freshness, format!("signed {} in the future", minutes(age)));
    }
    let ago = minutes(age.max(SignedDuration::ZERO));
    Finding::holds(Reason::Freshness, format!("signed {ago} ago")).seen(field).covered(evidence)
}

fn date(value: &[u8]) -> Option<Timestamp> {
    let text = std::str::from_utf8(value).ok()?;
    jiff::fmt::rfc2822::DateTimeParser::new().relaxed_weekday(true).parse_timestamp(text.trim()).ok()
}

/// How far a signer's clock may run ahead of ours.
const AHEAD: SignedDuration = SignedDuration::from_mins(5);

/// RFC 2045: the fields that decide how a body is read.
const MIME_FIELDS: [&str; 3] = ["MIME-Version", "Content-Type", "Content-Transfer-Encoding"];
/// Fields that decide how programs show a part, or where its links lead; a genuine mail has them covered or not at all.
const MIME_OTHERS: [&str; 3] = ["Content-Disposition", "Content-Location", "Content-Base"];

/// Whether the fields that decide how the body is read are covered, or the signed body shows the same.
pub(super) fn mime(evidence: &Evidence<'_>, is_meant: bool) -> (Finding, bool) {
    let is_bare = |name: &&&str| matches!(evidence.field(name), Seen::Bare(_));
    if let Some(other) = MIME_OTHERS.iter().find(is_bare) {
        return (Finding::fails(Reason::Coverage, format!("{other} stands there and is not covered by {}", evidence.by())), false);
    }
    match MIME_FIELDS.iter().find(is_bare) {
        None => {
            (Finding::holds(Reason::Coverage, "the fields that decide how the body is read").seen("Content-Type").covered(evidence), false)
        }
        Some(field) if is_meant => {
            (Finding::holds(Reason::Coverage, format!("{field} is not covered; the signed body must tell the same")), true)
        }
        Some(field) => (
            Finding::fails(
                Reason::Coverage,
                format!("{field} is not covered by {}, and the mail is not known to be meant for its reader", evidence.by()),
            ),
            false,
        ),
    }
}
