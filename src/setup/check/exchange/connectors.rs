//! Inbound connectors: the lock, skip listing, and other ways into the tenant.

use super::{
    super::{Facts, Findings, Outcome, Verdict, compare},
    Object,
    object::is_empty,
};
use crate::{printable::printable, setup::blank::Blank};

/// The name that the recipe gives to the connector.
const NAME: &str = "Only through firstclick";

const CONNECTOR: &str = "https://learn.microsoft.com/powershell/module/exchangepowershell/set-inboundconnector";
const THIRD_PARTY: &str = "https://learn.microsoft.com/exchange/mail-flow-best-practices/manage-mail-flow-using-third-party-cloud";
const SKIPPED: &str =
    "https://learn.microsoft.com/exchange/mail-flow-best-practices/use-connectors-to-configure-mail-flow/enhanced-filtering-for-connectors";

pub(super) fn judge(connectors: &[&Object<'_>], facts: &Facts, findings: &mut Findings) {
    let Some(hops) = findings.wanted(facts, Blank::PublicIpv4, "SenderIPAddresses") else { return };
    let hostname = facts.get(Blank::Hostname).ok().and_then(|values| values.texts.first()).map(String::as_str);
    let (ours, others): (Vec<&&Object<'_>>, Vec<&&Object<'_>>) =
        connectors.iter().partition(|connector| connector.text("Name").is_ok_and(|name| name.as_deref() == Some(NAME)));
    for other in others {
        judge_other(other, &hops, findings);
    }
    if ours.is_empty() {
        findings.add(
            Verdict::Missing,
            "the inbound connectors",
            "Name",
            format!("none is named {NAME:?}: whoever goes round the hop and has a token is exempt; the recipe has the step that makes it"),
            THIRD_PARTY,
        );
    }
    for lock in ours {
        judge_lock(lock, &hops, hostname, findings);
        judge_skip_listing(lock, &hops, findings);
        judge_rest(lock, findings);
    }
}

fn judge_lock(lock: &Object<'_>, hops: &[String], hostname: Option<&str>, findings: &mut Findings) {
    let mut judged = |field: &str, source: &'static str, outcome: Outcome| findings.judged(&lock.at, field, source, outcome);
    judged("Enabled", CONNECTOR, must(lock, "Enabled", true, (Verdict::TooWide, "it is off: the tenant takes mail from everybody")));
    let kind = lock.text("ConnectorType").map(|kind| match kind.as_deref() {
        Some("Partner") => Vec::new(),
        _ => vec![(Verdict::TooWide, "it is not of type Partner: on others the restriction restricts nothing".into())],
    });
    judged("ConnectorType", CONNECTOR, kind);
    judged("SenderDomains", CONNECTOR, lock.texts("SenderDomains").map(|found| domains(&found)));
    let tls = must(lock, "RequireTls", true, (Verdict::TooWide, "it takes mails in the clear"));
    judged("RequireTls", CONNECTOR, tls);
    let (addresses, certificate) = (lock.flag("RestrictDomainsToIPAddresses"), lock.flag("RestrictDomainsToCertificate"));
    let named = lock.text("TlsSenderCertificateName");
    let by = match (addresses, certificate) {
        (Ok(true), Ok(false)) => Ok(Vec::new()),
        (Ok(false), Ok(true)) => named.and_then(|named| match (named, hostname) {
            (Some(named), Some(hostname)) if named.eq_ignore_ascii_case(hostname) => Ok(Vec::new()),
            (Some(_), Some(hostname)) => Ok(vec![(Verdict::TooWide, format!("it asks for another certificate than that of {hostname}"))]),
            (None, _) => Ok(vec![(Verdict::TooWide, "it asks for a certificate, and names none".into())]),
            (_, None) => Err("the configuration has no `smtp.hostname` to compare the certificate's name with".into()),
        }),
        (Ok(false), Ok(false)) => Ok(vec![(Verdict::TooWide, "it restricts nothing: neither to addresses nor to a certificate".into())]),
        (Ok(true), Ok(true)) => Err("it restricts to addresses and to a certificate: one of the two, not both".into()),
        (Err(why), _) | (_, Err(why)) => Err(why),
    };
    judged("RestrictDomainsToIPAddresses, RestrictDomainsToCertificate", CONNECTOR, by);
    let found = lock.texts("SenderIPAddresses").and_then(|found| match lock.flag("RestrictDomainsToCertificate") {
        Ok(true) if found.is_empty() => Ok(Vec::new()),
        _ => compare::sources(&found, hops),
    });
    judged("SenderIPAddresses", CONNECTOR, found);
    let inside = (Verdict::TooWide, "mails from outside are taken for mails of the company's own");
    judged("TreatMessagesAsInternal", CONNECTOR, must(lock, "TreatMessagesAsInternal", false, inside));
    let headers = (Verdict::TooWide, "Exchange's own headers are taken over from outside");
    judged("CloudServicesMailEnabled", CONNECTOR, must(lock, "CloudServicesMailEnabled", false, headers));
}

fn judge_skip_listing(lock: &Object<'_>, hops: &[String], findings: &mut Findings) {
    let mut judged = |field: &str, outcome: Outcome| findings.judged(&lock.at, field, SKIPPED, outcome);
    let last = (Verdict::Missing, "only while it is false do the addresses of EFSkipIPs count");
    judged("EFSkipLastIP", must(lock, "EFSkipLastIP", false, last));
    let skipped = lock.texts("EFSkipIPs").and_then(|found| {
        let off = "skip listing is off: the hop's address is taken for the sender's, and SPF fails";
        if found.is_empty() { Ok(vec![(Verdict::Missing, off.into())]) } else { compare::sources(&found, hops) }
    });
    judged("EFSkipIPs", skipped);
    let users = lock.texts("EFUsers").map(|found| match found.len() {
        0 => Vec::new(),
        count => vec![(Verdict::Missing, format!("skip listing is for testers only: {count}"))],
    });
    judged("EFUsers", users);
    judged("EFTestMode", must(lock, "EFTestMode", false, (Verdict::Missing, "skip listing is being tested only")));
    let gateway = lock.texts("EFSkipMailGateway").and_then(|found| {
        let unclear = "gateways are named to be skipped, and what that does is not documented";
        if found.is_empty() { Ok(Vec::new()) } else { Err(unclear.into()) }
    });
    judged("EFSkipMailGateway", gateway);
}

/// Properties that are judged by themselves, or say nothing about which mails the connector takes.
const KNOWN: &[&str] = &[
    "Name",
    "Enabled",
    "ConnectorType",
    "SenderDomains",
    "RequireTls",
    "RestrictDomainsToIPAddresses",
    "RestrictDomainsToCertificate",
    "TlsSenderCertificateName",
    "SenderIPAddresses",
    "TreatMessagesAsInternal",
    "CloudServicesMailEnabled",
    "EFSkipLastIP",
    "EFSkipIPs",
    "EFUsers",
    "EFTestMode",
    "EFSkipMailGateway",
    "AdminDisplayName",
    "Comment",
    "ConnectorSource",
    "DistinguishedName",
    "ExchangeObjectId",
    "ExchangeVersion",
    "Guid",
    "Id",
    "Identity",
    "IsValid",
    "ObjectCategory",
    "ObjectClass",
    "ObjectState",
    "OrganizationId",
    "OrganizationalUnitRoot",
    "OriginatingServer",
    "PSComputerName",
    "PSShowComputerName",
    "RunspaceId",
    "WhenChanged",
    "WhenChangedUTC",
    "WhenCreated",
    "WhenCreatedUTC",
];

/// What else is set on the lock: it may take mails out of it.
fn judge_rest(lock: &Object<'_>, findings: &mut Findings) {
    for (key, _) in lock.properties().filter(|(_, value)| !is_empty(value)) {
        if !KNOWN.iter().any(|known| known.eq_ignore_ascii_case(key)) {
            let outcome = if key.eq_ignore_ascii_case("AssociatedAcceptedDomains") {
                Ok(vec![(Verdict::TooWide, "it is for some of your domains: mails to the others come in from anywhere".to_owned())])
            } else {
                Err("this property is set, and what it does to the lock is not known here".to_owned())
            };
            findings.judged(&lock.at, &printable(key), CONNECTOR, outcome);
        }
    }
}

/// Another way into the tenant.
fn judge_other(connector: &Object<'_>, hops: &[String], findings: &mut Findings) {
    let read = (|| {
        let (is_on, kind) = (connector.flag("Enabled")?, connector.text("ConnectorType")?);
        let addresses = connector.texts("SenderIPAddresses")?;
        let certificate = connector.text("TlsSenderCertificateName")?;
        Ok((
            is_on,
            kind.as_deref() == Some("Partner"),
            addresses,
            certificate,
            connector.texts("SenderDomains")?,
            connector.flag("CloudServicesMailEnabled")?,
        ))
    })();
    let (is_on, is_partner, addresses, certificate, domains_of, takes_headers) = match read {
        Ok(read) => read,
        Err(why) => return findings.judged(&connector.at, "Enabled, ConnectorType, SenderIPAddresses, SenderDomains", CONNECTOR, Err(why)),
    };
    let is_hop = certificate.is_none()
        && compare::sources(&addresses, hops).is_ok_and(|found| found.iter().all(|(verdict, _)| *verdict == Verdict::Missing));
    let (verdict, what) = match (is_on, is_partner, is_hop) {
        (false, ..) => (Verdict::Note, "another connector; it is off"),
        (true, _, true) if !takes_headers => (Verdict::Right, "another connector, for the hop's own addresses"),
        (true, _, true) => (Verdict::NotOurs, "Exchange's own headers are taken over from the hop: one that is forged counts"),
        (true, true, false) if domains(&domains_of).is_empty() => {
            (Verdict::NotOurs, "another connector of type Partner for all domains: mails of its sources come in beside the hop")
        }
        (true, ..) => {
            (Verdict::Note, "another connector: mails of its sources come in beside the hop. The rule asks for the hop's address, too")
        }
    };
    findings.add(verdict, &connector.at, "ConnectorType, SenderDomains, SenderIPAddresses", what, CONNECTOR);
}

/// All domains: `*`, which comes back as `smtp:*;1`.
fn domains(found: &[String]) -> Vec<(Verdict, String)> {
    let is_all = |text: &String| {
        let text = text.strip_prefix("smtp:").unwrap_or(text);
        text.split_once(';').map_or(text, |(domain, _)| domain) == "*"
    };
    if found.iter().any(is_all) {
        return Vec::new();
    }
    vec![(Verdict::TooWide, "it is not for all domains (`*`): mails of the others come in from anywhere".into())]
}

fn must(connector: &Object<'_>, key: &str, wanted: bool, otherwise: (Verdict, &str)) -> Outcome {
    let is = connector.flag(key)?;
    Ok(if is == wanted { Vec::new() } else { vec![(otherwise.0, otherwise.1.to_owned())] })
}
