//! rspamd's configuration: `rspamadm configdump`, as UCL or JSON, or the files of `local.d`.

use jiff::Timestamp;
use serde_json::{Map, Value};

use super::{Export, Facts, Findings, Outcome, Verdict, compare, decoded, json, ucl};
use crate::{printable::printable, setup::blank::Blank};

/// The name that the recipe gives to its settings.
const NAME: &str = "firstclick";
/// The one check that opens links.
const OPENS: &str = "URL_REDIRECTOR_CHECK";
/// The highest priority that has a name.
const HIGH: i64 = 3;

const SETTINGS: &str = "https://docs.rspamd.com/configuration/settings/";
const SOURCE: &str = "https://github.com/rspamd/rspamd/blob/master/src/plugins/lua/settings.lua";
const ARC: &str = "https://docs.rspamd.com/modules/arc/";
const DUMP: &str = "https://docs.rspamd.com/getting-started/first-setup/";

/// What this configuration's settings would have.
struct Wanted {
    header: String,
    tokens: Vec<String>,
    hops: Vec<String>,
}

pub(super) fn judge(exports: &[Export], facts: &Facts, _: Timestamp, findings: &mut Findings) {
    let (mut settings, mut arc) = (Vec::new(), Vec::new());
    for export in exports {
        let name = printable(&export.name);
        let read = decoded::text(&export.bytes).and_then(|text| {
            // A key that stands twice is refused as JSON, and is a list of both as UCL.
            let json = json::parse(&text).ok().and_then(|value| value.as_object().cloned());
            json.map_or_else(|| ucl::parse(&text), Ok)
        });
        match read {
            Err(why) => findings.add(Verdict::CannotJudge, &name, "", why, DUMP),
            Ok(map) => sort_out(name, map, &mut settings, &mut arc, findings),
        }
    }
    if let Ok(domain) = facts.get(Blank::ArcDomain)
        && let Some(domain) = domain.texts.first()
    {
        judge_arc(&arc, domain, findings);
    }
    let header = findings.wanted_one(facts, Blank::Header, "header");
    let tokens = findings.wanted(facts, Blank::Tokens, "header");
    let hops = findings.wanted(facts, Blank::Hops, "ip");
    let Some(((header, tokens), hops)) = header.zip(tokens).zip(hops) else { return };
    let wanted = Wanted { header, tokens, hops };
    match settings.as_slice() {
        [] => findings.add(
            Verdict::CannotJudge,
            "the exports",
            "settings",
            "none of them holds the settings: use `rspamadm configdump -j`",
            DUMP,
        ),
        [(name, map)] => judge_settings(name, map, &wanted, findings),
        [..] => findings.add(
            Verdict::CannotJudge,
            "the exports",
            "settings",
            "several of them hold settings: which one counts is not known",
            SOURCE,
        ),
    }
}

type Named = (String, Map<String, Value>);

/// Which sections a file holds: all of them, or one of them by its name in `local.d`.
fn sort_out(name: String, mut map: Map<String, Value>, settings: &mut Vec<Named>, arc: &mut Vec<Named>, findings: &mut Findings) {
    let is = |file: &str| name == file || name.ends_with(&format!("/{file}"));
    let what = "this file alone: what `override.d` and others say to it is not seen; `rspamadm configdump -j` shows all";
    if is("settings.conf") && !map.contains_key("settings") {
        findings.add(Verdict::Note, &name, "", what, DUMP);
        settings.push((name, map));
    } else if is("arc.conf") && !map.contains_key("arc") {
        findings.add(Verdict::Note, &name, "", what, DUMP);
        arc.push((name, map));
    } else if map.contains_key("settings") || map.contains_key("options") {
        if map.contains_key("settings_redis") {
            findings.add(Verdict::CannotJudge, &name, "settings_redis", "settings come from Redis, too", SETTINGS);
        }
        match map.remove("settings").unwrap_or_else(|| Value::Object(Map::new())) {
            Value::Object(section) => settings.push((name.clone(), section)),
            Value::Array(items) if items.is_empty() => settings.push((name.clone(), Map::new())),
            _ => findings.add(Verdict::CannotJudge, &name, "settings", "they come from a map elsewhere, or stand there twice", SETTINGS),
        }
        match map.remove("arc") {
            Some(Value::Object(section)) => arc.push((name, section)),
            None => {}
            Some(_) => findings.add(Verdict::CannotJudge, &name, "arc", "the section stands there twice", ARC),
        }
    } else {
        findings.add(Verdict::CannotJudge, &name, "", "it is neither a dump nor settings.conf or arc.conf", DUMP);
    }
}

fn judge_settings(name: &str, map: &Map<String, Value>, wanted: &Wanted, findings: &mut Findings) {
    let mut is_there = false;
    for (rule, value) in map {
        let at = format!("{name}: {}", printable(rule));
        let Some(section) = value.as_object() else {
            findings.add(Verdict::CannotJudge, &at, "", "it is no section, or stands there twice", SETTINGS);
            continue;
        };
        let is_ours = rule == NAME || section.get("header").is_some_and(|header| names_header(header, &wanted.header));
        if is_ours {
            is_there = true;
            judge_ours(&at, section, wanted, findings);
        } else {
            judge_other(&at, rule, section, findings);
        }
    }
    if !is_there {
        let what = format!("there are no settings {NAME:?}: links of tagged mails may be asked for; the recipe has them");
        findings.add(Verdict::Missing, name, "settings", what, SETTINGS);
    }
}

fn names_header(value: &Value, header: &str) -> bool {
    value.as_object().is_some_and(|map| map.keys().any(|key| key.eq_ignore_ascii_case(header)))
}

fn judge_ours(at: &str, section: &Map<String, Value>, wanted: &Wanted, findings: &mut Findings) {
    let ip = texts(section.get("ip")).and_then(|found| compare::sources(&found, &wanted.hops));
    findings.judged(at, "ip", SETTINGS, ip);
    findings.judged(at, "header", SETTINGS, header(section.get("header"), wanted));
    let priority = match priority(section) {
        Some(priority) if priority >= HIGH => Ok(Vec::new()),
        Some(_) => Ok(vec![(Verdict::WrongOrder, "it is not `high`: one rule counts for a mail, and others come first".into())]),
        None => Err("it is no priority that is understood".into()),
    };
    findings.judged(at, "priority", SETTINGS, priority);
    findings.judged(at, "apply", SETTINGS, applied(section.get("apply")));
    for key in section.keys().filter(|key| !["ip", "header", "priority", "apply", "id"].contains(&key.as_str())) {
        let outcome = match key.as_str() {
            "whitelist" | "want_spam" => Ok(vec![(Verdict::TooWide, "no check at all looks at its mails".to_owned())]),
            _ => Err("what this does to the rule is not known here".to_owned()),
        };
        findings.judged(at, &printable(key), SOURCE, outcome);
    }
}

fn header(value: Option<&Value>, wanted: &Wanted) -> Outcome {
    let Some(value) = value else { return Ok(vec![(Verdict::TooWide, "no token is asked for: it takes all of the hop's mails".into())]) };
    let map = value.as_object().ok_or("it is no section, or stands there twice")?;
    let mut found = Vec::new();
    for (key, value) in map {
        if !key.eq_ignore_ascii_case(&wanted.header) {
            found.push((Verdict::Missing, format!("{} is asked for, too, which mails from the hop need not have", printable(key))));
            continue;
        }
        match value {
            Value::String(pattern) => found.extend(compare::token_pattern(pattern, &wanted.tokens)?),
            Value::Bool(true) => found.push((Verdict::TooWide, "any value of the header will do".into())),
            _ => return Err("the header is compared with something that is no pattern".into()),
        }
    }
    if !names_header(value, &wanted.header) {
        found.push((Verdict::TooWide, format!("{} is not asked for", wanted.header)));
    }
    Ok(found)
}

fn applied(value: Option<&Value>) -> Outcome {
    let section = value.and_then(Value::as_object).ok_or("it is no section, or not there")?;
    let mut found = Vec::new();
    let disabled = texts(section.get("symbols_disabled"))?;
    if !disabled.iter().any(|symbol| symbol == OPENS) {
        found.push((Verdict::Missing, format!("{OPENS} is not switched off: it opens links")));
    }
    let more = disabled.iter().filter(|symbol| *symbol != OPENS);
    found.extend(more.map(|symbol| (Verdict::TooWide, format!("{} is switched off, too", printable(symbol)))));
    let others = section.keys().filter(|key| *key != "symbols_disabled");
    found.extend(others.map(|key| (Verdict::TooWide, format!("{} is more than the recipe applies", printable(key)))));
    Ok(found)
}

/// Other settings: they must not exempt, and not come first.
fn judge_other(at: &str, rule: &str, section: &Map<String, Value>, findings: &mut Findings) {
    let apply = section.get("apply").and_then(Value::as_object);
    let wide = ["whitelist", "want_spam"].into_iter().find(|key| section.contains_key(*key));
    let narrowed = apply.and_then(|apply| {
        ["symbols_enabled", "groups_enabled", "groups_disabled", "whitelist", "flags", "plugins_disabled"]
            .into_iter()
            .find(|key| apply.contains_key(*key))
    });
    let disabled = match texts(apply.and_then(|apply| apply.get("symbols_disabled"))) {
        Ok(found) => found,
        Err(why) => return findings.judged(at, "symbols_disabled", SETTINGS, Err(why)),
    };
    let opens = disabled.iter().any(|symbol| symbol.starts_with("URL_REDIRECTOR")).then_some("symbols_disabled");
    if section.contains_key("apply") && apply.is_none() {
        return findings.judged(at, "apply", SETTINGS, Err("it is no section, or stands there twice".into()));
    }
    if let Some(key) = wide.or(narrowed).or(opens) {
        let what = "these settings, too, have checks leave mails alone, and are none of this configuration's".to_owned();
        findings.add(Verdict::NotOurs, at, key, what, SETTINGS);
    }
    match priority(section) {
        None => findings.judged(at, "priority", SOURCE, Err("it is no priority that is understood".into())),
        // At one priority, names decide.
        Some(priority) if apply.is_some() && (priority > HIGH || priority == HIGH && rule < NAME) => {
            let what =
                format!("one rule counts for a mail, and this one comes before {NAME:?}: tagged mails that it takes are not left alone");
            findings.add(Verdict::WrongOrder, at, "priority", what, SOURCE);
        }
        Some(_) => {}
    }
}

fn priority(section: &Map<String, Value>) -> Option<i64> {
    match section.get("priority") {
        None => Some(1),
        Some(Value::String(word)) => {
            [("low", 1), ("medium", 2), ("high", HIGH)].into_iter().find_map(|(known, number)| (word == known).then_some(number))
        }
        Some(value) => value.as_i64(),
    }
}

fn texts(value: Option<&Value>) -> Result<Vec<String>, String> {
    let one = |value: &Value| value.as_str().map(str::to_owned).ok_or_else(|| "it holds something that is no text".to_owned());
    match value {
        None => Ok(Vec::new()),
        Some(Value::Array(items)) => items.iter().map(one).collect(),
        Some(value) => Ok(vec![one(value)?]),
    }
}

fn judge_arc(sections: &[Named], domain: &str, findings: &mut Findings) {
    let [(name, section)] = sections else {
        return findings.add(
            Verdict::CannotJudge,
            "the exports",
            "arc",
            "they hold the section arc not once: use `rspamadm configdump -j`",
            ARC,
        );
    };
    let outcome = texts(section.get("whitelisted_signers_map")).and_then(|found| {
        if found.iter().any(|text| text.eq_ignore_ascii_case(domain)) {
            return Ok(Vec::new());
        }
        if found.iter().any(|text| text.contains(['/', ':'])) {
            return Err("the list is in a file, or elsewhere".into());
        }
        Ok(vec![(Verdict::Missing, format!("{domain} is not among them: mails whose links were replaced fail DMARC"))])
    });
    findings.judged(name, "whitelisted_signers_map", ARC, outcome);
}
