//! Mail-flow rules: ours, and every other that exempts mails or stands in its way.

use jiff::{
    SignedDuration, Timestamp,
    civil::{Date, Time},
    tz::TimeZone,
};

use super::{
    super::{Facts, Findings, Outcome, Verdict, compare},
    Object,
    object::is_empty,
};
use crate::setup::blank::Blank;

/// The name that the recipe gives to the rule.
const NAME: &str = "firstclick: leave one-time links to their readers";
/// What Exchange writes into a mail that Safe Links shall leave alone.
const SKIP: &str = "X-MS-Exchange-Organization-SkipSafeLinksProcessing";
/// How such headers of others of its scanners begin.
const SKIPS: &str = "X-MS-Exchange-Organization-Skip";
/// Time in which somebody can still renew it.
const SOON: SignedDuration = SignedDuration::from_hours(30 * 24);
/// A day is written without an offset: what comes back may be the day before or after.
const ABOUT_A_DAY: SignedDuration = SignedDuration::from_hours(26);

const RULE: &str = "https://learn.microsoft.com/powershell/module/exchangepowershell/new-transportrule";
const CONDITIONS: &str = "https://learn.microsoft.com/exchange/security-and-compliance/mail-flow-rules/conditions-and-exceptions";
const ACTIONS: &str = "https://learn.microsoft.com/exchange/security-and-compliance/mail-flow-rules/mail-flow-rule-actions";
const SKIPPED: &str =
    "https://learn.microsoft.com/exchange/mail-flow-best-practices/use-connectors-to-configure-mail-flow/enhanced-filtering-for-connectors";
const ORCA: &str = "https://github.com/cammurray/orca/blob/master/Checks/check-ORCA189_2.ps1";

/// Properties that are judged by themselves.
const JUDGED: &[&str] = &[
    "Name",
    "State",
    "Mode",
    "Priority",
    "SenderIpRanges",
    "HeaderContainsMessageHeader",
    "HeaderContainsWords",
    "SetHeaderName",
    "SetHeaderValue",
    "SetSCL",
    "ActivationDate",
    "ExpiryDate",
    "StopRuleProcessing",
    "Conditions",
    "Exceptions",
];

/// Properties that say nothing about which mails a rule takes, nor what it does with them.
const NEUTRAL: &[&str] = &[
    "Comments",
    "CreatedBy",
    "Description",
    "DistinguishedName",
    "DlpPolicyId",
    "ExchangeObjectId",
    "ExchangeVersion",
    "Guid",
    "Id",
    "Identity",
    "ImmutableId",
    "IsRuleConfigurationSupported",
    "IsValid",
    "LastModifiedBy",
    "ManuallyModified",
    "ObjectState",
    "OrganizationId",
    "OrganizationalUnitRoot",
    "PSComputerName",
    "PSShowComputerName",
    "RecipientAddressType",
    "RuleErrorAction",
    "RuleSubType",
    "RuleVersion",
    "RunspaceId",
    "SenderAddressLocation",
    "SetAuditSeverity",
    "Size",
    "UseLegacyRegex",
    "WhenChanged",
    "WhenChangedUTC",
    "WhenCreated",
    "WhenCreatedUTC",
    // The actions, as names of classes: each has a property of its own.
    "Actions",
];

/// What this configuration's rule would have.
struct Wanted {
    header: String,
    words: Vec<String>,
    hops: Vec<String>,
    expires: Option<Date>,
}

pub(super) fn judge(rules: &[&Object<'_>], facts: &Facts, now: Timestamp, findings: &mut Findings) {
    let header = findings.wanted_one(facts, Blank::Header, "HeaderContainsMessageHeader");
    let words = findings.wanted(facts, Blank::Words, "HeaderContainsWords");
    let hops = findings.wanted(facts, Blank::PublicIpv4, "SenderIpRanges");
    let expires = facts.get(Blank::Expires).ok().and_then(|values| values.texts.first()?.parse().ok());
    let wanted = header.zip(words).zip(hops).map(|((header, words), hops)| Wanted { header, words, hops, expires });
    let header = wanted.as_ref().map(|wanted| wanted.header.as_str());
    let (ours, others): (Vec<&&Object<'_>>, Vec<&&Object<'_>>) = rules.iter().partition(|rule| is_ours(rule, header));
    for rule in &others {
        judge_other(rule, header, findings);
    }
    let Some(wanted) = wanted else { return };
    if ours.is_empty() {
        findings.add(
            Verdict::Missing,
            "the mail-flow rules",
            "Name",
            format!("no rule sets {SKIP} for our header: the recipe's first step makes one"),
            RULE,
        );
    }
    for rule in ours {
        judge_ours(rule, &wanted, now, findings);
        judge_order(rule, &others, findings);
    }
}

fn is_ours(rule: &Object<'_>, header: Option<&str>) -> bool {
    let is = |key: &str, wanted: &str| rule.text(key).ok().flatten().is_some_and(|text| text.eq_ignore_ascii_case(wanted));
    let by_header = header.is_some_and(|header| is("HeaderContainsMessageHeader", header)) && is("SetHeaderName", SKIP);
    by_header || rule.text("Name").is_ok_and(|name| name.as_deref() == Some(NAME))
}

/// Another rule: it must not exempt, nor write or remove our header.
fn judge_other(rule: &Object<'_>, header: Option<&str>, findings: &mut Findings) {
    let before = findings.0.len();
    let state = match rule.text("State").as_ref().map(Option::as_deref) {
        Ok(Some("Disabled")) => " (it is disabled now)",
        Ok(Some("Enabled")) => "",
        _ => return findings.judged(&rule.at, "State", RULE, Err("it is not said whether the rule is in force".into())),
    };
    match rule.text("SetHeaderName") {
        Err(why) => findings.judged(&rule.at, "SetHeaderName", RULE, Err(why)),
        Ok(Some(name)) if name.eq_ignore_ascii_case(SKIP) => {
            let what = format!("this rule, too, has Safe Links leave mails alone, and is none of this configuration's{state}");
            findings.add(Verdict::NotOurs, &rule.at, "SetHeaderName", what, ORCA);
        }
        Ok(Some(name)) if name.get(..SKIPS.len()).is_some_and(|start| start.eq_ignore_ascii_case(SKIPS)) => {
            let what = format!("this rule sets {name}, by which another of Microsoft's scanners leaves mails alone{state}");
            findings.add(Verdict::NotOurs, &rule.at, "SetHeaderName", what, ACTIONS);
        }
        Ok(Some(name)) if header.is_some_and(|header| name.eq_ignore_ascii_case(header)) => {
            let what = format!("this rule writes our header into mails, which none but the hop may{state}");
            findings.add(Verdict::NotOurs, &rule.at, "SetHeaderName", what, ACTIONS);
        }
        Ok(Some(name)) if !name.bytes().all(|byte| byte.is_ascii_graphic() && byte != b':') => {
            findings.judged(&rule.at, "SetHeaderName", ACTIONS, Err("it is no header's name".into()));
        }
        Ok(_) => {}
    }
    match rule.number("SetSCL") {
        Err(why) => findings.judged(&rule.at, "SetSCL", RULE, Err(why)),
        Ok(Some(-1)) => {
            let what =
                format!("this rule sets SCL -1: no spam filter looks at its mails, and with skip listing it must be disabled{state}");
            findings.add(Verdict::NotOurs, &rule.at, "SetSCL", what, SKIPPED);
        }
        Ok(_) => {}
    }
    match rule.text("RemoveHeader") {
        Err(why) => findings.judged(&rule.at, "RemoveHeader", RULE, Err(why)),
        Ok(Some(name)) if [header, Some(SKIP)].into_iter().flatten().any(|ours| name.eq_ignore_ascii_case(ours)) => {
            findings.add(Verdict::NotOurs, &rule.at, "RemoveHeader", format!("this rule removes {name}{state}"), ACTIONS);
        }
        Ok(_) => {}
    }
    if findings.0.len() == before {
        findings.add(Verdict::Right, &rule.at, "SetHeaderName, SetSCL, RemoveHeader", "it exempts no mail", RULE);
    }
}

/// No rule before ours may end the rules.
fn judge_order(ours: &Object<'_>, others: &[&&Object<'_>], findings: &mut Findings) {
    let place = match ours.number("Priority") {
        Ok(Some(place)) => place,
        Ok(None) => return findings.judged(&ours.at, "Priority", RULE, Err("the rule has no place".into())),
        Err(why) => return findings.judged(&ours.at, "Priority", RULE, Err(why)),
    };
    let mut found = Vec::new();
    for other in others {
        let is_off = other.text("State").is_ok_and(|state| state.as_deref() == Some("Disabled"));
        match (other.number("Priority"), other.flag("StopRuleProcessing")) {
            (_, Ok(false)) => {}
            _ if is_off => {}
            (Ok(Some(priority)), Ok(true)) if priority > place => {}
            (Ok(Some(priority)), Ok(true)) => {
                found.push((
                    Verdict::WrongOrder,
                    format!("the rule at {priority} ({}) ends the rules before this one at {place}: its mails never come here", other.at),
                ));
            }
            (Err(why), _) | (_, Err(why)) => return findings.judged(&other.at, "Priority, StopRuleProcessing", RULE, Err(why)),
            (Ok(None), _) => return findings.judged(&other.at, "Priority", RULE, Err("the rule has no place".into())),
        }
    }
    findings.judged(&ours.at, "Priority", RULE, Ok(found));
}

fn judge_ours(rule: &Object<'_>, wanted: &Wanted, now: Timestamp, findings: &mut Findings) {
    let mut judged = |field: &str, source: &'static str, outcome: Outcome| findings.judged(&rule.at, field, source, outcome);
    judged("State", RULE, is_word(rule, "State", "Enabled", "it does nothing"));
    judged("Mode", RULE, is_word(rule, "Mode", "Enforce", "what it would do is logged, and nothing is done"));
    judged("SenderIpRanges", RULE, rule.texts("SenderIpRanges").and_then(|found| compare::sources(&found, &wanted.hops)));
    judged("HeaderContainsMessageHeader", CONDITIONS, looks_at(rule, &wanted.header));
    let words = rule.texts("HeaderContainsWords");
    judged("HeaderContainsWords", CONDITIONS, words.map(|found| compare::tokens(&found, &wanted.words, str::eq_ignore_ascii_case)));
    judged("SetHeaderName", ACTIONS, is_word(rule, "SetHeaderName", SKIP, "Safe Links looks for that header"));
    judged("SetHeaderValue", ACTIONS, is_word(rule, "SetHeaderValue", "1", "Safe Links looks for that value"));
    let scl = rule.number("SetSCL").map(|scl| scl.map(|scl| (Verdict::TooWide, format!("it sets SCL {scl}, too"))).into_iter().collect());
    judged("SetSCL", SKIPPED, scl);
    judged("ActivationDate", RULE, begins(rule, now));
    judged("ExpiryDate", RULE, ends(rule, wanted, now));
    let stops = rule.flag("StopRuleProcessing").map(|stops| {
        if stops { vec![(Verdict::TooWide, "it ends the rules: those behind it never look at a tagged mail".into())] } else { Vec::new() }
    });
    judged("StopRuleProcessing", RULE, stops);
    let conditions = rule.count("Conditions").and_then(|count| match count {
        2 => Ok(Vec::new()),
        0 | 1 => Ok(vec![(Verdict::TooWide, format!("its conditions are {count}: address and token are two"))]),
        _ => Err(format!("its conditions are {count}, and two of them are understood")),
    });
    judged("Conditions", CONDITIONS, conditions);
    let exceptions = rule.count("Exceptions").map(|count| match count {
        0 => Vec::new(),
        _ => vec![(Verdict::Missing, format!("{count} exceptions take mails out of it"))],
    });
    judged("Exceptions", CONDITIONS, exceptions);
    for (key, value) in rule.properties() {
        let is = |known: &&str| known.eq_ignore_ascii_case(key);
        if !JUDGED.iter().chain(NEUTRAL).any(is) && !is_empty(value) {
            let outcome = if key.to_ascii_lowercase().starts_with("exceptif") {
                Ok(vec![(Verdict::Missing, "an exception takes mails out of it".to_owned())])
            } else {
                Err("this property is set, and what it does to the rule is not known here".to_owned())
            };
            findings.judged(&rule.at, &crate::printable::printable(key), CONDITIONS, outcome);
        }
    }
}

fn is_word(rule: &Object<'_>, key: &str, wanted: &str, otherwise: &str) -> Outcome {
    let found = rule.text(key)?;
    if found.as_deref().is_some_and(|found| found.eq_ignore_ascii_case(wanted)) {
        return Ok(Vec::new());
    }
    Ok(vec![(
        Verdict::Missing,
        format!("it is {:?}, and not {wanted:?}: {otherwise}", crate::printable::printable(&found.unwrap_or_default())),
    )])
}

fn looks_at(rule: &Object<'_>, header: &str) -> Outcome {
    Ok(match rule.text("HeaderContainsMessageHeader")? {
        None => vec![(Verdict::TooWide, "no header is looked at".into())],
        Some(found) if found.eq_ignore_ascii_case(header) => Vec::new(),
        Some(found) => vec![(
            Verdict::TooWide,
            format!(
                "it looks at {:?}, which the hop does not remove from mails that come in, and not at {header}",
                crate::printable::printable(&found)
            ),
        )],
    })
}

fn begins(rule: &Object<'_>, now: Timestamp) -> Outcome {
    let begins = rule.time("ActivationDate")?.filter(|begins| *begins > now);
    Ok(begins.map(|begins| (Verdict::Missing, format!("it begins on {}", day(begins)))).into_iter().collect())
}

fn ends(rule: &Object<'_>, wanted: &Wanted, now: Timestamp) -> Outcome {
    let midnight = |date: Date| TimeZone::UTC.to_timestamp(date.to_datetime(Time::midnight())).ok();
    let first = wanted.expires.and_then(midnight);
    let found = rule.time("ExpiryDate")?;
    let what = match (found, first) {
        (Some(end), _) if end <= now => (Verdict::Missing, format!("it ended on {}", day(end))),
        (Some(end), Some(first)) if end > first + ABOUT_A_DAY => {
            (Verdict::TooWide, format!("it ends on {}, after the first entry, which ends on {}", day(end), day(first)))
        }
        (Some(end), Some(first)) if end + ABOUT_A_DAY < first => {
            (Verdict::Missing, format!("it ends on {}, before the first entry, which ends on {}", day(end), day(first)))
        }
        (Some(end), _) if end - now < SOON => {
            (Verdict::Expiring, format!("it ends on {}: renew the entry, and print the recipe again", day(end)))
        }
        (Some(_), Some(_)) | (None, None) => return Ok(Vec::new()),
        (Some(end), None) => (Verdict::Missing, format!("it ends on {}, and no entry does", day(end))),
        (None, Some(first)) => (Verdict::TooWide, format!("it has no end, and the first entry ends on {}", day(first))),
    };
    Ok(vec![what])
}

fn day(time: Timestamp) -> String {
    time.strftime("%Y-%m-%d").to_string()
}
