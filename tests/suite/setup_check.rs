//! `setup SCANNER --check`: what an admin exported is right only where it is what the recipe makes; whatever else it holds is said. Exchange Online's here;
//! those of filters on one's own machines in `filters`.

mod filters;

use std::{fs, net::IpAddr, sync::LazyLock};

use firstclick::{
    settings::{Problems, Settings},
    setup::{
        Facts, Recipe, Secrets, Shown,
        check::{
            Conclusion, Export, Report,
            Verdict::{self, CannotJudge, Expiring, Missing, NotOurs, TooWide, WrongOrder},
            report,
        },
        find, template,
    },
};
use proptest::prelude::*;
use serde_json::{Map, Value, json};

use crate::{
    hop::process::Folder,
    setup::{CURRENT, OLDER, STAGED, rich, small},
};

const HOP: &str = "192.0.2.25";
const NOW: &str = "2026-11-26T00:00:00Z";

fn facts(folder: &Folder) -> Facts {
    let settings = Settings::load(&folder.path("firstclick.toml")).unwrap();
    Facts::of(&settings, &[HOP.parse::<IpAddr>().unwrap()], Secrets::Shown, NOW.parse().unwrap())
}

static TEMPLATES: LazyLock<Vec<template::Template>> = LazyLock::new(|| template::all(&mut Problems::default()));

fn judged_files(scanner: &str, facts: &Facts, files: &[(&str, &[u8])]) -> Report {
    let exports: Vec<Export> = files.iter().map(|(name, bytes)| Export { name: (*name).into(), bytes: bytes.to_vec() }).collect();
    let template = TEMPLATES.iter().find(|template| template.name == scanner).unwrap();
    let report = report(template, &exports, facts, NOW.parse().unwrap()).unwrap();
    // No token is ever repeated, and whatever is judged names its document.
    let shown = serde_json::to_string(&report).unwrap();
    assert!([CURRENT, OLDER, STAGED].iter().all(|token| !shown.contains(token)), "{shown}");
    assert!(report.findings.iter().all(|finding| finding.source.starts_with("https://") || finding.source.starts_with("docs/")));
    report
}

fn judged(facts: &Facts, value: &Value) -> Report {
    judged_files("defender", facts, &[("export.json", value.to_string().as_bytes())])
}

fn says(report: &Report, verdict: Verdict, words: &str) -> bool {
    report
        .findings
        .iter()
        .any(|finding| finding.verdict == verdict && format!("{} {} {}", finding.at, finding.field, finding.what).contains(words))
}

/// A rule as `Get-TransportRule` of Exchange Online gives it: the names and forms are those of a live tenant's record (names of
/// classes for conditions and actions, texts for `State` and `Mode`, null for what is not set), with the parameters of
/// New-TransportRule's page as properties.
fn rule(name: &str, priority: u32) -> Map<String, Value> {
    let mut rule = json!({
        "Priority": priority, "DlpPolicy": null, "DlpPolicyId": "00000000-0000-0000-0000-000000000000", "Comments": "firstclick on hop.test",
        "CreatedBy": "Admin", "LastModifiedBy": "Admin", "ManuallyModified": false, "ActivationDate": null, "ExpiryDate": null,
        "Description": "If the message:\r\n\tIs received from ...", "RuleVersion": "14.0.0.0", "Size": 532,
        "Conditions": [], "Exceptions": null, "Actions": [], "State": "Enabled", "Mode": "Enforce", "RuleErrorAction": "Ignore",
        "RuleSubType": "None", "SenderAddressLocation": "Header", "UseLegacyRegex": false, "StopRuleProcessing": false,
        "SetAuditSeverity": "Low", "Identity": name, "Guid": "0ab1e768-08b0-4768-81e2-64d6f990c552", "Name": name, "IsValid": true,
        "WhenChanged": "2026-11-20T21:51:45.0000000+00:00", "ExchangeVersion": "0.1 (8.0.535.0)", "ObjectState": "Unchanged",
        "OrganizationId": "x", "DistinguishedName": "x", "ImmutableId": "0ab1e768-08b0-4768-81e2-64d6f990c552"
    });
    for key in [
        "From",
        "FromMemberOf",
        "FromScope",
        "SentTo",
        "SentToMemberOf",
        "SentToScope",
        "BetweenMemberOf1",
        "BetweenMemberOf2",
        "SubjectContainsWords",
        "SubjectMatchesPatterns",
        "SubjectOrBodyContainsWords",
        "HeaderContainsMessageHeader",
        "HeaderContainsWords",
        "HeaderMatchesMessageHeader",
        "HeaderMatchesPatterns",
        "SenderIpRanges",
        "SenderDomainIs",
        "RecipientDomainIs",
        "AttachmentSizeOver",
        "MessageTypeMatches",
        "SCLOver",
        "WithImportance",
        "ExceptIfFrom",
        "ExceptIfSenderIpRanges",
        "ExceptIfHeaderContainsMessageHeader",
        "ExceptIfHeaderContainsWords",
        "PrependSubject",
        "ApplyClassification",
        "SetHeaderName",
        "SetHeaderValue",
        "RemoveHeader",
        "SetSCL",
        "AddToRecipients",
        "CopyTo",
        "BlindCopyTo",
        "RedirectMessageTo",
        "RejectMessageReasonText",
        "RouteMessageOutboundConnector",
        "GenerateNotification",
    ] {
        rule[key] = Value::Null;
    }
    for key in ["DeleteMessage", "Quarantine", "Disconnect", "ApplyOME", "RemoveOME", "HasNoClassification", "AttachmentIsUnsupported"] {
        rule[key] = json!(false);
    }
    rule.as_object().unwrap().clone()
}

fn with(mut object: Map<String, Value>, changes: &Value) -> Value {
    object.extend(changes.as_object().unwrap().clone());
    Value::Object(object)
}

const OURS: &str = "firstclick: leave one-time links to their readers";
const SKIP: &str = "X-MS-Exchange-Organization-SkipSafeLinksProcessing";

/// What the recipe makes, once it is in force, as `Get-` shows it; connectors in the form of a live tenant's records
/// (`smtp:*;1` for all domains).
fn right() -> Value {
    let ours = json!({
        "SenderIpRanges": [HOP], "HeaderContainsMessageHeader": "X-Firstclick", "HeaderContainsWords": [CURRENT, OLDER, STAGED],
        "SetHeaderName": SKIP, "SetHeaderValue": "1", "ExpiryDate": "2027-06-30T00:00:00.0000000+02:00",
        "Conditions": ["Microsoft.Exchange.MessagingPolicies.Rules.Tasks.SenderIpRangesPredicate", "Microsoft.Exchange.MessagingPolicies.Rules.Tasks.HeaderContainsPredicate"],
        "Actions": ["Microsoft.Exchange.MessagingPolicies.Rules.Tasks.SetHeaderAction", "Microsoft.Exchange.MessagingPolicies.Rules.Tasks.SetAuditSeverityAction"],
    });
    let external = json!({
        "FromScope": "NotInOrganization", "PrependSubject": "EXTERNAL: ", "Conditions": ["Microsoft.Exchange.MessagingPolicies.Rules.Tasks.FromScopePredicate"],
    });
    json!({
        "TransportRule": [with(rule(OURS, 0), &ours), with(rule("External", 1), &external)],
        "InboundConnector": [{
            "Enabled": true, "ConnectorType": "Partner", "ConnectorSource": "Default", "Comment": null, "SenderIPAddresses": [HOP],
            "SenderDomains": ["smtp:*;1"], "TrustedOrganizations": [], "ClientHostNames": [], "AssociatedAcceptedDomains": [], "RequireTls": true,
            "RestrictDomainsToIPAddresses": true, "RestrictDomainsToCertificate": false, "CloudServicesMailEnabled": false,
            "TreatMessagesAsInternal": false, "TlsSenderCertificateName": null, "EFTestMode": false, "ScanAndDropRecipients": [],
            "EFSkipLastIP": false, "EFSkipIPs": [HOP], "EFSkipMailGateway": [], "EFUsers": [], "AdminDisplayName": "",
            "Name": "Only through firstclick", "Identity": "Only through firstclick", "IsValid": true
        }],
        "ArcConfig": [{ "Identity": "Default", "ArcTrustedSealers": "corp.example, other.example" }],
        "SafeLinksPolicy": [{ "Name": "Standard", "Identity": "Standard", "DoNotRewriteUrls": ["www.other.example"], "EnableSafeLinksForEmail": true }],
        "HostedConnectionFilterPolicy": [{ "Name": "Default", "Identity": "Default", "IPAllowList": ["198.51.100.0/24"], "EnableSafeList": false }]
    })
}

/// The value at a path, changed.
fn changed(path: &str, value: Value) -> Value {
    let mut export = right();
    *export.pointer_mut(path).unwrap() = value;
    export
}

#[test]
fn what_the_recipe_makes_is_right_in_every_form_that_powershell_writes() {
    let facts = facts(&rich());
    let whole = right();
    let report = judged(&facts, &whole);
    assert_eq!(report.answer, Conclusion::Right, "{:#?}", report.findings);
    // As Windows PowerShell writes it: UTF-16 with its mark, dates of its own, one of a list as itself.
    let mut old = changed("/TransportRule/0/ExpiryDate", json!("/Date(1814313600000)/"));
    *old.pointer_mut("/TransportRule/0/SenderIpRanges").unwrap() = json!(HOP);
    *old.pointer_mut("/InboundConnector").unwrap() = old["InboundConnector"][0].clone();
    *old.pointer_mut("/TransportRule/0/HeaderContainsWords").unwrap() = json!({"value": [CURRENT, OLDER, STAGED], "Count": 3});
    let wide: Vec<u8> = format!("\u{feff}{old}").encode_utf16().flat_map(u16::to_le_bytes).collect();
    assert_eq!(judged_files("defender", &facts, &[("export.json", &wide)]).answer, Conclusion::Right);
    // A file for each command.
    let files: Vec<(String, Vec<u8>)> =
        whole.as_object().unwrap().iter().map(|(noun, value)| (format!("{noun}.json"), value.to_string().into_bytes())).collect();
    let files: Vec<(&str, &[u8])> = files.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())).collect();
    assert_eq!(judged_files("defender", &facts, &files).answer, Conclusion::Right);
    for missing in 0..files.len() {
        let mut fewer = files.clone();
        fewer.remove(missing);
        assert_eq!(judged_files("defender", &facts, &fewer).answer, Conclusion::CannotJudge, "without {}", files[missing].0);
    }
    // The recipe names the rule and the connector as they are looked for here, and the export as it is read.
    let recipe = serde_json::to_string(&Recipe::new(&find("defender").unwrap(), &facts, Shown::Recipe)).unwrap();
    for words in [OURS, "Only through firstclick", "ConvertTo-Json", "TransportRule = @(Get-TransportRule"] {
        assert!(recipe.contains(words), "{words}");
    }
}

#[test]
fn what_is_wrong_with_an_export_is_said() {
    let facts = facts(&rich());
    let rule = |key: &str, value: Value| changed(&format!("/TransportRule/0/{key}"), value);
    let lock = |key: &str, value: Value| changed(&format!("/InboundConnector/0/{key}"), value);
    let many = |count: usize| json!((0..count).map(|at| format!("t{at}@corp.example")).collect::<Vec<_>>());
    for (export, verdict, words) in [
        (rule("SenderIpRanges", json!([])), TooWide, "takes mails from everywhere"),
        (rule("SenderIpRanges", Value::Null), TooWide, "takes mails from everywhere"),
        (rule("SenderIpRanges", json!(["192.0.2.0/24"])), TooWide, "more than the hop"),
        (rule("SenderIpRanges", json!([HOP, "198.51.100.7"])), TooWide, "no address of the hop"),
        (rule("SenderIpRanges", json!(["198.51.100.7"])), Missing, "192.0.2.25 is not among them"),
        (rule("SenderIpRanges", json!(["192.0.2.1-192.0.2.99"])), CannotJudge, "no address that is understood"),
        (rule("SenderIpRanges", json!("System.Object[]")), CannotJudge, "-Depth 5"),
        (rule("HeaderContainsMessageHeader", json!("Subject")), TooWide, "the hop does not remove"),
        (rule("HeaderContainsMessageHeader", Value::Null), TooWide, "no header"),
        (rule("HeaderContainsWords", Value::Null), TooWide, "no token"),
        (rule("HeaderContainsWords", json!([CURRENT, OLDER, STAGED, "yes"])), TooWide, "number 4 of them"),
        (rule("HeaderContainsWords", json!([OLDER, STAGED])), Missing, "token 1 of 3"),
        (rule("HeaderContainsWords", json!(format!("{CURRENT} {OLDER}"))), CannotJudge, "cut off"),
        (rule("State", json!("Disabled")), Missing, "it does nothing"),
        (rule("Mode", json!("Audit")), Missing, "is logged"),
        (rule("Mode", json!(2)), CannotJudge, "a number"),
        (rule("SetHeaderValue", json!("0")), Missing, "SetHeaderValue"),
        (rule("SetSCL", json!(-1)), TooWide, "SCL -1"),
        (rule("StopRuleProcessing", json!(true)), TooWide, "never look at"),
        (rule("ActivationDate", json!("2027-01-01T00:00:00Z")), Missing, "begins on 2027-01-01"),
        (rule("ExpiryDate", Value::Null), TooWide, "has no end"),
        (rule("ExpiryDate", json!("2028-06-30T00:00:00Z")), TooWide, "after the first entry"),
        (rule("ExpiryDate", json!("2026-11-01T00:00:00Z")), Missing, "ended on 2026-11-01"),
        (rule("ExpiryDate", json!("2027-03-01T00:00:00Z")), Missing, "before the first entry"),
        (rule("ExpiryDate", json!("06/30/2027 00:00:00")), CannotJudge, "no date"),
        (rule("Conditions", json!(["a"])), TooWide, "conditions are 1"),
        (rule("Conditions", json!(["a", "b", "c"])), CannotJudge, "conditions are 3"),
        (rule("Exceptions", json!(["a"])), Missing, "exceptions"),
        (rule("ExceptIfFrom", json!(["bob@corp.example"])), Missing, "exception"),
        (rule("HeaderMatchesPatterns", json!(["."])), CannotJudge, "HeaderMatchesPatterns"),
        (rule("RedirectMessageTo", json!(["bob@corp.example"])), CannotJudge, "RedirectMessageTo"),
        (changed("/TransportRule/1/SetSCL", json!("-1")), NotOurs, "SCL -1"),
        (changed("/TransportRule/1/SetHeaderName", json!(SKIP.to_lowercase())), NotOurs, "none of this configuration's"),
        (changed("/TransportRule/1/SetHeaderName", json!("x-firstclick")), NotOurs, "writes our header"),
        (changed("/TransportRule/1/RemoveHeader", json!("X-Firstclick")), NotOurs, "removes"),
        (changed("/TransportRule/1", json!({"Name": "Part", "State": "Enabled"})), CannotJudge, "does not hold it"),
        (changed("/TransportRule", json!([])), Missing, "no rule sets"),
        (changed("/TransportRule", json!(["System.Object"])), CannotJudge, "no object"),
        (lock("Enabled", json!(false)), TooWide, "it is off"),
        (lock("ConnectorType", json!("OnPremises")), TooWide, "not of type Partner"),
        (lock("SenderDomains", json!(["smtp:vendor.example;1"])), TooWide, "not for all domains"),
        (lock("RequireTls", json!(false)), TooWide, "in the clear"),
        (lock("RestrictDomainsToIPAddresses", json!(false)), TooWide, "restricts nothing"),
        (lock("RestrictDomainsToCertificate", json!(true)), CannotJudge, "not both"),
        (lock("SenderIPAddresses", json!(["192.0.2.0/24"])), TooWide, "more than the hop"),
        (lock("TreatMessagesAsInternal", json!(true)), TooWide, "of the company's own"),
        (lock("CloudServicesMailEnabled", json!(true)), TooWide, "taken over"),
        (lock("EFSkipLastIP", json!(true)), Missing, "EFSkipIPs count"),
        (lock("EFSkipIPs", json!([])), Missing, "skip listing is off"),
        (lock("EFSkipIPs", json!([HOP, "198.51.100.7"])), TooWide, "no address of the hop"),
        (lock("EFUsers", many(2)), Missing, "testers only: 2"),
        (lock("Name", json!("Another")), Missing, "none is named"),
        (lock("EFSkipMailGateway", json!(["x"])), CannotJudge, "gateways"),
        (lock("AssociatedAcceptedDomains", json!(["other.example"])), TooWide, "some of your domains"),
        (lock("ScanAndDropRecipients", json!(["x"])), CannotJudge, "ScanAndDropRecipients"),
        (
            changed("/TransportRule/1/SetHeaderName", json!("x-ms-exchange-organization-skipsafeattachmentprocessing")),
            NotOurs,
            "leaves mails alone",
        ),
        (changed("/TransportRule/1/SetHeaderName", json!(format!("{SKIP}\u{200b}"))), NotOurs, "leaves mails alone"),
        (changed("/TransportRule/1/SetHeaderName", json!(format!(" {SKIP}"))), CannotJudge, "no header's name"),
        (changed("/ArcConfig/0/ArcTrustedSealers", json!("other.example")), Missing, "corp.example is not among them"),
        (changed("/SafeLinksPolicy/0/DoNotRewriteUrls", json!(["*.vendor.example/*"])), TooWide, "login.vendor.example"),
        (changed("/HostedConnectionFilterPolicy/0/IPAllowList", json!(["192.0.2.0/24"])), TooWide, "no mail that comes through it"),
        (json!([]), CannotJudge, "nothing of what"),
        (json!({"Rules": right()}), CannotJudge, "no object that is known"),
        (json!([1, "x", null]), CannotJudge, "no object"),
        (json!("x"), CannotJudge, "holds nothing"),
    ] {
        let report = judged(&facts, &export);
        assert!(says(&report, verdict, words), "{verdict:?} {words}: {:#?}", report.findings);
        let wanted =
            if report.findings.iter().any(|finding| finding.verdict == CannotJudge) { Conclusion::CannotJudge } else { Conclusion::Wrong };
        assert_eq!(report.answer, wanted, "{words}");
    }
    // Of a key that stands twice one value is hidden.
    let text = right().to_string();
    let twice = [text.replace("\"SetSCL\":null", "\"SetSCL\":-1,\"SetSCL\":null"), text.replacen('{', "{\"TransportRule\":[],", 1)];
    for text in twice {
        let report = judged_files("defender", &facts, &[("export.json", text.as_bytes())]);
        assert!(says(&report, CannotJudge, "stands twice"), "{:#?}", report.findings);
    }
    // What is said has an end, and says so.
    let many = judged_files("defender", &facts, &[("export.json", format!("[{}0]", "0,".repeat(20_000)).as_bytes())]);
    assert!(many.findings.len() == 5_001 && says(&many, CannotJudge, "nothing more is told"), "{}", many.findings.len());
    // One that ends the rules before ours; and it does not matter behind it.
    for (ours, answer) in [(1, Conclusion::Wrong), (0, Conclusion::Right)] {
        let mut export = changed("/TransportRule/1/StopRuleProcessing", json!(true));
        *export.pointer_mut("/TransportRule/0/Priority").unwrap() = json!(ours);
        *export.pointer_mut("/TransportRule/1/Priority").unwrap() = json!(1 - ours);
        let report = judged(&facts, &export);
        assert_eq!((report.answer, says(&report, WrongOrder, "ends the rules before")), (answer, ours == 1));
    }
    // Ours is about to end.
    let exports = [Export { name: "export.json".into(), bytes: right().to_string().into_bytes() }];
    let late = report(&find("defender").unwrap(), &exports, &facts, "2027-06-10T00:00:00Z".parse().unwrap()).unwrap();
    assert!(late.answer == Conclusion::Wrong && says(&late, Expiring, "2027-06-29"), "{:#?}", late.findings);
}

/// Whatever single property of rule and connector is taken away, emptied or becomes another: it is no longer right, but for those
/// that say nothing about which mails are taken.
#[test]
fn no_single_change_stays_right() {
    let facts = facts(&rich());
    let (mut tried, mut kept) = (0, Vec::new());
    for place in ["/TransportRule/0", "/InboundConnector/0", "/ArcConfig/0", "/SafeLinksPolicy/0", "/HostedConnectionFilterPolicy/0"] {
        let object = right().pointer(place).unwrap().as_object().unwrap().clone();
        for key in object.keys() {
            for new in [None, Some(json!("0.0.0.0/0")), Some(json!(["x", "y"])), Some(json!(true)), Some(json!(7)), Some(json!({"a": 1}))] {
                if new.as_ref() == object.get(key) {
                    continue;
                }
                let mut export = right();
                let map = export.pointer_mut(place).unwrap().as_object_mut().unwrap();
                match &new {
                    Some(value) => drop(map.insert(key.clone(), value.clone())),
                    None => drop(map.remove(key)),
                }
                tried += 1;
                // A list of URLs of the admin's own is told, and nothing is wrong with it.
                if judged(&facts, &export).answer == Conclusion::Right {
                    kept.push(format!("{place}/{key} {}", new.map_or("gone".into(), |new| new.to_string())));
                }
            }
        }
    }
    assert!(tried > 500, "{tried}");
    let neutral: Vec<&str> = kept.iter().map(|line| line.split(' ').next().unwrap()).collect();
    let mut neutral: Vec<&str> = neutral.into_iter().map(|path| path.rsplit('/').next().unwrap()).collect();
    neutral.sort_unstable();
    neutral.dedup();
    // What of the rule may be gone: what was not set. What of it may be anything: words about it.
    let set = |key: &str| kept.iter().any(|line| line.starts_with(&format!("/TransportRule/0/{key} ")) && !line.ends_with("gone"));
    let free: Vec<&&str> = neutral.iter().filter(|key| set(key)).collect();
    let words = [
        "Actions",
        "Comments",
        // By their number: their names are those of classes, which no document lists.
        "Conditions",
        "CreatedBy",
        "Description",
        "DistinguishedName",
        "DlpPolicyId",
        "ExchangeVersion",
        "Guid",
        "Identity",
        "ImmutableId",
        "IsValid",
        "LastModifiedBy",
        "ManuallyModified",
        // It is known by its header, too.
        "Name",
        "ObjectState",
        "OrganizationId",
        "Priority",
        "RuleErrorAction",
        "RuleSubType",
        "RuleVersion",
        "SenderAddressLocation",
        "SetAuditSeverity",
        "Size",
        "UseLegacyRegex",
        "WhenChanged",
    ];
    assert_eq!(free.into_iter().copied().collect::<Vec<_>>(), words);
}

/// The configuration file that a recipe prints, and one that stands beside it.
pub(crate) fn printed(scanner: &str, facts: &Facts, file: &str) -> String {
    let recipe = Recipe::new(&find(scanner).unwrap(), facts, Shown::Recipe);
    let steps = recipe.chapters.iter().filter(|chapter| chapter.part == "do").flat_map(|chapter| &chapter.steps);
    let blocks = steps.filter_map(|step| step.code.as_ref()).filter(|block| block.file.as_deref().is_some_and(|name| name.ends_with(file)));
    blocks.map(|block| block.text.clone()).collect::<Vec<_>>().join("\n")
}

#[test]
fn at_the_command_line() {
    let folder = rich();
    let run =
        |scanner: &str, file: &str, more: &[&str]| folder.command(&[&["setup", scanner, "--hop", HOP, "--check", file], more].concat());
    let path = folder.path("export.json");
    let name = path.to_str().unwrap().to_owned();
    fs::write(&path, right().to_string()).unwrap();
    let (said, complained, code) = run("defender", &name, &[]);
    assert_eq!(code, Some(0), "{said}{complained}");
    assert!(said.contains("right: ") && said.contains("https://learn.microsoft.com/"), "{said}");
    for (format, words) in [("json", "\"answer\": \"right\""), ("md", "<https://learn.microsoft.com/"), ("html", "<p>right: <code>")] {
        let (said, _, code) = run("defender", &name, &["--format", format]);
        assert!(code == Some(0) && said.contains(words), "{said}");
    }
    fs::write(&path, changed("/TransportRule/1/SetSCL", json!(-1)).to_string()).unwrap();
    let (said, _, code) = run("defender", &name, &[]);
    assert!(code == Some(1) && said.contains("NOT OURS: export.json".trim_end_matches("export.json")) && said.contains("SCL -1"), "{said}");
    fs::write(&path, "[{").unwrap();
    let (said, _, code) = run("defender", &name, &[]);
    assert!(code == Some(2) && said.contains("no whole JSON"), "{said}");
    let (_, complained, code) = run("defender", folder.path("none").to_str().unwrap(), &[]);
    assert!(code == Some(2) && complained.contains("none"), "{complained}");
    // Whole folders, and without an address nothing to compare with.
    let local = folder.path("local.d");
    fs::create_dir(&local).unwrap();
    for file in ["settings.conf", "arc.conf"] {
        fs::write(local.join(file), printed("rspamd", &facts(&folder), file)).unwrap();
    }
    assert_eq!(run("rspamd", local.to_str().unwrap(), &[]).2, Some(0));
    assert_eq!(folder.command(&["setup", "rspamd", "--check", local.to_str().unwrap()]).2, Some(2));
    // What has no export says so.
    for template in template::all(&mut Problems::default()) {
        if !["defender", "rspamd", "spamassassin", "amavis"].contains(&template.name.as_str()) {
            let (_, complained, code) = run(&template.name, &name, &[]);
            assert!(code == Some(2) && (complained.contains("no export") || complained.contains("cannot be told")), "{complained}");
        }
    }
}

/// What the property below starts from, made once.
static PRINTED: LazyLock<(Facts, Vec<Vec<u8>>)> = LazyLock::new(|| {
    let facts = facts(&small());
    let texts = vec![
        right().to_string().into_bytes(),
        printed("spamassassin", &facts, "firstclick.cf").into_bytes(),
        printed("rspamd", &facts, "settings.conf").into_bytes(),
    ];
    (facts, texts)
});

proptest! {
    /// No octets make it panic, and none that are no export are right.
    #[test]
    fn whatever_an_export_holds(bytes in prop::collection::vec(any::<u8>(), 0..400), cut in any::<prop::sample::Index>()) {
        let (facts, texts) = &*PRINTED;
        for scanner in ["defender", "rspamd", "spamassassin", "amavis"] {
            prop_assert_ne!(judged_files(scanner, facts, &[("settings.conf", &bytes)]).answer, Conclusion::Right);
            for text in texts {
                let at = cut.index(text.len());
                let mut with = text.clone();
                with.splice(at..at, bytes.iter().copied());
                judged_files(scanner, facts, &[("settings.conf", &with), ("x.cf", &text[..at])]);
            }
        }
    }
}
