//! Values of an export against those of the recipe.

use std::net::IpAddr;

use ipnet::IpNet;

use super::{Outcome, Verdict};
use crate::printable::printable;

/// A network, or an address as the network of one.
pub(super) fn network(text: &str) -> Option<IpNet> {
    text.parse().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))
}

/// Sources of mail: none but the hop's.
pub(super) fn sources(found: &[String], hops: &[String]) -> Outcome {
    let read = |text: &String| network(text.trim()).ok_or_else(|| format!("{:?} is no address that is understood", printable(text)));
    let found = found.iter().map(read).collect::<Result<Vec<IpNet>, String>>()?;
    let hops = hops.iter().map(read).collect::<Result<Vec<IpNet>, String>>()?;
    if found.is_empty() {
        return Ok(vec![(Verdict::TooWide, "no address is named: it takes mails from everywhere".into())]);
    }
    let wide = found.iter().filter(|net| !hops.contains(&net.trunc())).map(|net| {
        let what = if hops.iter().any(|hop| net.contains(hop)) { "takes in more than the hop" } else { "is no address of the hop" };
        (Verdict::TooWide, format!("{net} {what}"))
    });
    let missing = hops.iter().filter(|hop| !found.iter().any(|net| net.contains(*hop)));
    let missing = missing.map(|hop| (Verdict::Missing, format!("the hop's address {} is not among them", hop.addr())));
    Ok(wide.chain(missing).collect())
}

/// Tokens: all of ours, and no other. They are compared as the scanner does, and none is repeated.
pub(super) fn tokens(found: &[String], ours: &[String], same: fn(&str, &str) -> bool) -> Vec<(Verdict, String)> {
    if found.is_empty() {
        return vec![(Verdict::TooWide, "no token is asked for".into())];
    }
    let wide = found.iter().enumerate().filter(|(_, one)| !ours.iter().any(|ours| same(one, ours))).map(|(at, _)| {
        let what = format!("number {} of them is no token of this configuration: a mail that carries it is exempt, too", at + 1);
        (Verdict::TooWide, what)
    });
    let missing = ours.iter().enumerate().filter(|(_, ours)| !found.iter().any(|one| same(one, ours)));
    let missing =
        missing.map(|(at, _)| (Verdict::Missing, format!("token {} of {} of `tag.token_file` is not among them", at + 1, ours.len())));
    wide.chain(missing).collect()
}

/// The alternatives of a pattern that matches some texts as a whole and nothing else: `^a$`, `^(?:a|b)$`.
///
/// # Errors
/// It may match more, or is not understood.
pub(super) fn alternatives(pattern: &str) -> Result<Vec<&str>, (Option<Verdict>, String)> {
    let Some(inner) = pattern.strip_prefix('^').and_then(|rest| rest.strip_suffix('$')) else {
        return Err((
            Some(Verdict::TooWide),
            "the pattern does not begin with `^` and end with `$`: it matches texts that hold a token".into(),
        ));
    };
    let inner = inner.strip_prefix("(?:").and_then(|rest| rest.strip_suffix(')')).ok_or(inner).or_else(|bare| {
        // A bare `a|b` is anchored on one side of each only.
        if bare.contains('|') {
            Err((Some(Verdict::TooWide), "`^` and `$` hold for one alternative each: `(?:...)` is missing".to_owned()))
        } else {
            Ok(bare)
        }
    })?;
    let parts: Vec<&str> = inner.split('|').collect();
    let is_plain = |part: &&str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
    if parts.iter().all(is_plain) {
        Ok(parts)
    } else {
        Err((None, "the pattern is not one that setup prints, and is not understood".into()))
    }
}

/// The tokens of a pattern, against ours.
pub(super) fn token_pattern(pattern: &str, ours: &[String]) -> Outcome {
    match alternatives(pattern) {
        Ok(found) => {
            let found: Vec<String> = found.into_iter().map(str::to_owned).collect();
            Ok(tokens(&found, ours, |left, right| left == right))
        }
        Err((Some(verdict), what)) => Ok(vec![(verdict, what)]),
        Err((None, why)) => Err(why),
    }
}
