//! Exports of Exchange Online: JSON by `ConvertTo-Json`, one file for all commands or one for each.

mod connectors;
mod object;
mod policies;
mod rules;

use jiff::Timestamp;
use serde_json::{Map, Value};

use self::object::{Object, list};
use super::{Export, Facts, Findings, Verdict, decoded, json};
use crate::{printable::printable, setup::blank::Blank};

/// What is exported, by the noun of its command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    TransportRule,
    InboundConnector,
    ArcConfig,
    SafeLinksPolicy,
    HostedConnectionFilterPolicy,
}

impl Kind {
    /// The nouns, and the properties by which an object without one is known.
    const ALL: [(Self, &'static str, &'static [&'static str]); 5] = [
        (Self::TransportRule, "TransportRule", &["SetHeaderName", "StopRuleProcessing"]),
        (Self::InboundConnector, "InboundConnector", &["ConnectorType", "SenderDomains"]),
        (Self::ArcConfig, "ArcConfig", &["ArcTrustedSealers"]),
        (Self::SafeLinksPolicy, "SafeLinksPolicy", &["DoNotRewriteUrls"]),
        (Self::HostedConnectionFilterPolicy, "HostedConnectionFilterPolicy", &["IPAllowList"]),
    ];
}

/// The exports, read.
#[derive(Debug, Default)]
struct Read<'a> {
    objects: Vec<(Kind, Object<'a>)>,
    /// The kinds that are there, if with no object.
    there: Vec<Kind>,
}

impl<'a> Read<'a> {
    fn of(&self, kind: Kind) -> Vec<&Object<'a>> {
        self.objects.iter().filter(|(found, _)| *found == kind).map(|(_, object)| object).collect()
    }

    fn add(&mut self, file: &str, value: &'a Value, findings: &mut Findings) {
        match value {
            Value::Array(items) if !items.is_empty() => items.iter().for_each(|item| self.add_one(file, item, findings)),
            Value::Object(map) => match nouns(map) {
                Some(kinds) => {
                    for (kind, value) in kinds {
                        self.there.push(kind);
                        // One object is written without its list.
                        let items = list(value).map_or_else(|| vec![value], |items| items.iter().collect());
                        for item in items.into_iter().filter(|item| !item.is_null()) {
                            self.add_as(kind, file, item, findings);
                        }
                    }
                }
                None => match list(value) {
                    Some(items) if !items.is_empty() => items.iter().for_each(|item| self.add_one(file, item, findings)),
                    Some(_) => cannot(findings, file, "it holds nothing, and does not say nothing of what"),
                    None => self.add_one(file, value, findings),
                },
            },
            _ => cannot(findings, file, "it holds nothing, and does not say nothing of what: export as the recipe says"),
        }
    }

    fn add_one(&mut self, file: &str, value: &'a Value, findings: &mut Findings) {
        let Some(map) = value.as_object() else { return cannot(findings, file, "it holds something that is no object") };
        let object = Object::new(file, map);
        match Kind::ALL.iter().find(|(_, _, keys)| keys.iter().all(|key| object.has(key))) {
            Some((kind, ..)) => {
                self.there.push(*kind);
                self.objects.push((*kind, object));
            }
            None => cannot(findings, &object.at, "it is no object that is known here, or a part of one"),
        }
    }

    fn add_as(&mut self, kind: Kind, file: &str, value: &'a Value, findings: &mut Findings) {
        match value.as_object() {
            Some(map) => self.objects.push((kind, Object::new(file, map))),
            None => cannot(findings, file, &format!("{kind:?} holds something that is no object: export with `-Depth 5`")),
        }
    }
}

/// The values of an export of several commands, by their nouns.
fn nouns(map: &Map<String, Value>) -> Option<Vec<(Kind, &Value)>> {
    let kind = |key: &String| Kind::ALL.iter().find(|(_, noun, _)| noun == key).map(|(kind, ..)| *kind);
    let found: Option<Vec<(Kind, &Value)>> = map.iter().map(|(key, value)| Some((kind(key)?, value))).collect();
    found.filter(|found| !found.is_empty())
}

const CONVERT: &str = "https://learn.microsoft.com/powershell/module/microsoft.powershell.utility/convertto-json";

fn cannot(findings: &mut Findings, at: &str, why: &str) {
    findings.add(Verdict::CannotJudge, at, "", why, CONVERT);
}

pub(super) fn judge(exports: &[Export], facts: &Facts, now: Timestamp, findings: &mut Findings) {
    let mut values: Vec<(String, Value)> = Vec::new();
    for export in exports {
        let name = printable(&export.name);
        let text = decoded::text(&export.bytes);
        let value = text.and_then(|text| json::parse(&text));
        match value {
            Ok(value) => values.push((name, value)),
            Err(why) => cannot(findings, &name, &why),
        }
    }
    let mut read = Read::default();
    for (name, value) in &values {
        read.add(name, value, findings);
    }
    for (kind, noun, _) in Kind::ALL {
        // Nobody's links are replaced where nobody vouches for it.
        let is_needed = kind != Kind::ArcConfig || facts.get(Blank::ArcDomain).is_ok();
        if is_needed && !read.there.contains(&kind) {
            cannot(findings, "the exports", &format!("none of them holds what `Get-{noun}` says: the recipe has the export that does"));
        }
    }
    if read.there.contains(&Kind::TransportRule) {
        rules::judge(&read.of(Kind::TransportRule), facts, now, findings);
    }
    if read.there.contains(&Kind::InboundConnector) {
        connectors::judge(&read.of(Kind::InboundConnector), facts, findings);
    }
    policies::judge(&read, facts, findings);
}
