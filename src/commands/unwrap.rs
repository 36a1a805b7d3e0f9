//! `unwrap`: prints the original of a scanner's link. Nothing is opened.

use std::io::{self, BufRead as _, Write as _};

use serde::Serialize;

use super::{Answer, printable};
use crate::{
    cli::Unwrap,
    limits,
    message::unwrap::{Unwrapped, unwrap},
};

#[derive(Serialize)]
struct View<'a> {
    wrapped: &'a str,
    result: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    original: Option<&'a str>,
    by: &'a [&'static str],
    /// The host of the original, where the link holds no more than that.
    #[serde(skip_serializing_if = "Option::is_none")]
    host: Option<&'a str>,
}

pub(super) fn run(arguments: &Unwrap) -> anyhow::Result<Answer> {
    let mut out = io::stdout().lock();
    let mut answer = Answer::Yes;
    let given = arguments.links.iter().map(|link| Ok(link.clone()));
    let from_input = arguments.links.is_empty().then(|| io::stdin().lock().lines()).into_iter().flatten();
    for link in given.chain(from_input) {
        let link: String = link?;
        let link: String = link.trim().chars().take(limits::LINK).collect();
        if link.is_empty() {
            continue;
        }
        let found = unwrap(&link);
        let (result, original, by) = match &found {
            Unwrapped::NotWrapped => ("not_wrapped", None, &[][..]),
            Unwrapped::Original { link, by } => ("original", Some(link.as_str()), by.as_slice()),
            Unwrapped::Opaque { by, .. } => ("opaque", None, by.as_slice()),
            Unwrapped::Broken { by } => ("broken", None, by.as_slice()),
        };
        let host = match &found {
            Unwrapped::Opaque { host, .. } => host.as_deref(),
            _ => None,
        };
        if original.is_none() {
            answer = Answer::No;
        }
        if arguments.json {
            writeln!(out, "{}", serde_json::to_string(&View { wrapped: &link, result, original, by, host })?)?;
            continue;
        }
        match (result, original) {
            (_, Some(original)) => writeln!(out, "{}", printable(original))?,
            ("not_wrapped", _) => writeln!(out, "not wrapped by a scanner that is known here")?,
            ("opaque", _) => {
                let host = host.map(|host| format!("; its host, as the link says: {}", printable(host))).unwrap_or_default();
                writeln!(out, "{}: only the vendor knows the original{host}", by.join(", then "))?;
            }
            _ => writeln!(out, "{}: the link is cut or changed", by.join(", then "))?,
        }
    }
    Ok(answer)
}
