//! ARC sealers, lists of URLs, and lists of addresses that no filter looks at.

use super::{
    super::{Facts, Findings, Verdict, compare},
    Kind, Object, Read,
};
use crate::{printable::printable, setup::blank::Blank};

const ARC: &str = "https://learn.microsoft.com/powershell/module/exchangepowershell/set-arcconfig";
const LINKS: &str = "https://learn.microsoft.com/powershell/module/exchangepowershell/set-safelinkspolicy";
const FILTER: &str = "https://learn.microsoft.com/powershell/module/exchangepowershell/set-hostedconnectionfilterpolicy";

pub(super) fn judge(read: &Read<'_>, facts: &Facts, findings: &mut Findings) {
    if let Ok(domain) = facts.get(Blank::ArcDomain)
        && let Some(domain) = domain.texts.first()
    {
        judge_arc(&read.of(Kind::ArcConfig), domain, findings);
    }
    let hosts = facts.get(Blank::LinkHosts).map(|values| values.texts.clone()).unwrap_or_default();
    for policy in read.of(Kind::SafeLinksPolicy) {
        judge_urls(policy, &hosts, findings);
    }
    for policy in read.of(Kind::HostedConnectionFilterPolicy) {
        let hops = facts.get(Blank::Hops).map(|values| values.texts.clone()).unwrap_or_default();
        let outcome = policy.texts("IPAllowList").and_then(|found| {
            let mut wide = Vec::new();
            for text in found {
                let net = compare::network(&text).ok_or_else(|| format!("{:?} is no address that is understood", printable(&text)))?;
                if hops.iter().filter_map(|hop| compare::network(hop)).any(|hop| net.contains(&hop)) {
                    wide.push((Verdict::TooWide, format!("{net} takes in the hop: no mail that comes through it is filtered for spam")));
                }
            }
            Ok(wide)
        });
        findings.judged(&policy.at, "IPAllowList", FILTER, outcome);
    }
}

fn judge_arc(configs: &[&Object<'_>], domain: &str, findings: &mut Findings) {
    for config in configs {
        // It comes as one text with commas, or as a list.
        let found = config.texts("ArcTrustedSealers").or_else(|why| {
            let text = config.text("ArcTrustedSealers").ok().flatten();
            text.filter(|text| text.contains(',')).map(|text| vec![text]).ok_or(why)
        });
        let outcome = found.map(|found| {
            let is_there = found.iter().flat_map(|text| text.split(',')).any(|sealer| sealer.trim().eq_ignore_ascii_case(domain));
            let what = format!("{domain} is not among them: mails whose links were replaced fail DMARC");
            if is_there { Vec::new() } else { vec![(Verdict::Missing, what)] }
        });
        findings.judged(&config.at, "ArcTrustedSealers", ARC, outcome);
    }
}

/// A list of URLs counts whoever sends the mail.
fn judge_urls(policy: &Object<'_>, hosts: &[String], findings: &mut Findings) {
    let found = match policy.texts("DoNotRewriteUrls") {
        Ok(found) => found,
        Err(why) => return findings.judged(&policy.at, "DoNotRewriteUrls", LINKS, Err(why)),
    };
    if found.is_empty() {
        return findings.add(Verdict::Right, &policy.at, "DoNotRewriteUrls", "no URL is left alone by a list", LINKS);
    }
    for entry in found {
        let bare = entry.split_once("://").map_or(entry.as_str(), |(_, rest)| rest);
        let host = bare.split_once('/').map_or(bare, |(host, _)| host);
        let shown = printable(&entry);
        let (verdict, what) = if hosts.iter().any(|ours| ours.eq_ignore_ascii_case(host)) {
            (Verdict::Note, format!("{shown} is left alone, whoever sends it: the weaker way of the recipe"))
        } else if let Some(ours) = hosts.iter().find(|ours| fits(host, ours)) {
            (Verdict::TooWide, format!("{shown} takes in {ours}, and more than that, whoever sends it"))
        } else {
            (Verdict::Note, format!("{shown} is left alone, and is none of this configuration's"))
        };
        findings.add(verdict, &policy.at, "DoNotRewriteUrls", what, LINKS);
    }
}

/// Whether a pattern with stars takes in a host.
fn fits(pattern: &str, host: &str) -> bool {
    let (pattern, host) = (pattern.to_ascii_lowercase(), host.to_ascii_lowercase());
    let mut pieces = pattern.split('*');
    let Some(mut rest) = pieces.next().and_then(|first| host.strip_prefix(first)) else { return false };
    let pieces: Vec<&str> = pieces.collect();
    let Some((last, middle)) = pieces.split_last() else { return rest.is_empty() };
    for piece in middle {
        match rest.split_once(piece) {
            Some((_, behind)) => rest = behind,
            None => return false,
        }
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::fits;

    #[test]
    fn stars() {
        for (pattern, host, is) in [
            ("*", "login.vendor.example", true),
            ("*.vendor.example", "login.vendor.example", true),
            ("*.vendor.example", "vendor.example", false),
            ("login.vendor.example", "login.vendor.example", true),
            ("l*.v*.example", "login.vendor.example", true),
            ("*.other.example", "login.vendor.example", false),
            ("*x", "x", true),
        ] {
            assert_eq!(fits(pattern, host), is, "{pattern}");
        }
    }
}
