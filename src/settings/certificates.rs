//! Certificates beside the clock and beside the names that they are shown under.

use std::{path::Path, time::Duration};

use jiff::Timestamp;

use super::{Advice, Settings, Severity, SourceSpan};
use crate::tls::CertificateFacts;

/// How long before its end a certificate is warned of.
const SOON: Duration = Duration::from_hours(30 * 24);

/// What is wrong with the certificates of the sections.
pub(super) fn advice(settings: &Settings, now: Timestamp, advice: &mut Vec<Advice>) {
    if let Some(smtp) = &settings.smtp {
        if let Some(files) = &smtp.certificate {
            look("smtp.certificate", &files.certificate, Some(&smtp.hostname), now, advice);
        }
        if let Some(authorities) = &smtp.authorities {
            ended("smtp.next_hop_ca", authorities, now, advice);
        }
    }
    if let Some(guard) = &settings.guard
        && let Some(files) = &guard.certificate
    {
        // The URL's host, without its port.
        let host = guard.guard_links.url.split_once("://").map(|(_, rest)| rest);
        let host = host.map(|host| host.rsplit_once(':').filter(|(_, port)| port.parse::<u16>().is_ok()).map_or(host, |(host, _)| host));
        look("guard.certificate", &files.certificate, host.map(|host| host.trim_matches(['[', ']'])), now, advice);
    }
}

/// Authorities of which none counts any more. A bundle holds some that have ended, and they do no harm.
fn ended(key: &str, path: &Path, now: Timestamp, advice: &mut Vec<Advice>) {
    let last = CertificateFacts::read(path).ok().and_then(|all| all.into_iter().map(|one| one.until).max());
    if let Some(last) = last.filter(|last| now >= *last) {
        let what = format!("every authority in it has expired, the last on {}; no next hop can be verified", day(last));
        advice.push(Advice::new(Severity::Warning, SourceSpan::file(path.display().to_string()), key, what));
    }
}

fn day(time: Timestamp) -> String {
    time.strftime("%Y-%m-%d %H:%M UTC").to_string()
}

/// Looks at a file of certificates; the first of them is the one that is shown under a name.
fn look(key: &str, path: &Path, name: Option<&str>, now: Timestamp, advice: &mut Vec<Advice>) {
    // What cannot be read is a mistake, and told as such.
    let Ok(certificates) = CertificateFacts::read(path) else { return };
    let mut warn = |what: String| advice.push(Advice::new(Severity::Warning, SourceSpan::file(path.display().to_string()), key, what));
    for (at, one) in certificates.iter().enumerate() {
        let which = if at == 0 { "the certificate".to_owned() } else { format!("certificate {} of the file", at + 1) };
        if now >= one.until {
            warn(format!("{which} has expired on {}; renew it", day(one.until)));
        } else if one.until.duration_since(now).unsigned_abs() < SOON {
            warn(format!("{which} expires on {}; renew it", day(one.until)));
        } else if now < one.from {
            warn(format!("{which} counts only from {} on; look at the clock, or take the one before it", day(one.from)));
        }
    }
    if let (Some(name), Some(first)) = (name, certificates.first())
        && !first.is_for(name)
    {
        let names = if first.names.is_empty() { "names no host".to_owned() } else { format!("is for {}", first.names.join(", ")) };
        warn(format!("the certificate {names}; whoever verifies it for {name} refuses it: get one that names {name}"));
    }
}
