//! `SpamAssassin`'s files: a directive a line.

use jiff::Timestamp;

use super::{Export, Facts, Findings, Outcome, Verdict, compare, decoded};
use crate::{printable::printable, setup::blank::Blank};

/// The rules of the recipe.
const TOKEN: &str = "__FIRSTCLICK_TOKEN";
const HOP: &str = "__FIRSTCLICK_HOP";
const TAG: &str = "FIRSTCLICK_TAG";
/// Its score; a lower one covers what else is found.
const SCORE: f64 = -5.0;
/// Plugins ask the network from this priority on.
const NETWORK: i64 = -100;

const CONF: &str = "https://spamassassin.apache.org/full/4.0.x/doc/Mail_SpamAssassin_Conf.html";
const SHORT: &str = "https://spamassassin.apache.org/full/4.0.x/doc/Mail_SpamAssassin_Plugin_Shortcircuit.html";

/// A directive that matters here.
struct Line {
    at: String,
    directive: String,
    rest: String,
    is_conditional: bool,
}

impl Line {
    /// The first word behind the directive: in many, the rule's name.
    fn name(&self) -> &str {
        self.rest.split_whitespace().next().unwrap_or_default()
    }

    /// What stands behind the name.
    fn value(&self) -> &str {
        self.rest.get(self.name().len()..).unwrap_or_default().trim()
    }
}

/// What this configuration's rules would have.
struct Wanted {
    header: String,
    tokens: Vec<String>,
    hops: Vec<String>,
}

pub(super) fn judge(exports: &[Export], facts: &Facts, _: Timestamp, findings: &mut Findings) {
    let header = findings.wanted_one(facts, Blank::Header, "header");
    let tokens = findings.wanted(facts, Blank::Tokens, "header");
    let hops = findings.wanted(facts, Blank::Hops, "header");
    let Some(((header, tokens), hops)) = header.zip(tokens).zip(hops) else { return };
    let wanted = Wanted { header, tokens, hops };
    let mut lines = Vec::new();
    for export in exports {
        let name = printable(&export.name);
        let is_read = [".cf", ".pre"].iter().any(|end| export.name.to_ascii_lowercase().ends_with(end));
        match decoded::text(&export.bytes) {
            _ if !is_read => findings.add(Verdict::Note, &name, "", "SpamAssassin reads files in .cf and .pre only", CONF),
            Ok(text) => read(&name, &text, &wanted, &mut lines),
            Err(why) => findings.add(Verdict::CannotJudge, &name, "", why, CONF),
        }
    }
    for line in lines.iter().filter(|line| line.is_conditional || line.directive == "include" || line.directive == "clear_trusted_networks")
    {
        let why = if line.is_conditional { "it stands under a condition" } else { "what it brings or takes away is not seen" };
        findings.add(Verdict::CannotJudge, &line.at, &printable(&line.directive), why, CONF);
    }
    judge_others(&lines, &wanted, findings);
    judge_ours(&lines, &wanted, findings);
}

/// Takes from a file the lines that matter.
fn read(file: &str, text: &str, wanted: &Wanted, lines: &mut Vec<Line>) {
    let mut depth = 0_usize;
    for (at, line) in text.lines().enumerate() {
        let line = uncommented(line).trim();
        // What is for one language only is read as if it were for all.
        let behind = line.strip_prefix("lang").filter(|rest| rest.starts_with(char::is_whitespace)).map(str::trim_start);
        let line = behind.and_then(|rest| rest.split_once(char::is_whitespace)).map_or(line, |(_, rest)| rest.trim_start());
        let (directive, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        // Hyphens are underscores to SpamAssassin.
        let directive = directive.to_ascii_lowercase().replace('-', "_");
        match directive.as_str() {
            "if" | "ifplugin" => depth += 1,
            "endif" => depth = depth.saturating_sub(1),
            _ => {}
        }
        let is_general = ["include", "shortcircuit", "trusted_networks", "clear_trusted_networks"].contains(&directive.as_str())
            || directive == "loadplugin" && rest.trim() == "Mail::SpamAssassin::Plugin::Shortcircuit"
            || directive.contains("welcomelist_from")
            || directive.contains("whitelist_from");
        let is_ours = line.contains("FIRSTCLICK") || looks_at(rest, &wanted.header);
        if is_general || is_ours {
            lines.push(Line { at: format!("{file}:{}", at + 1), directive, rest: rest.trim().to_owned(), is_conditional: depth > 0 });
        }
    }
}

/// A line without its comment: a `#` that is not escaped begins one, in patterns too.
fn uncommented(line: &str) -> &str {
    let end = line.match_indices('#').find(|(at, _)| !line.get(..*at).is_some_and(|before| before.ends_with('\\')));
    end.map_or(line, |(at, _)| line.get(..at).unwrap_or_default())
}

/// Whether a header is named: as in `X-A:raw` or `exists:X-A`, or in a pattern over all headers.
fn looks_at(rest: &str, header: &str) -> bool {
    rest.replace('\\', "").to_ascii_lowercase().contains(&header.to_ascii_lowercase())
}

/// The one line of this directive for this rule.
fn the_one<'a>(lines: &'a [Line], directive: &str, name: &str) -> Result<Option<&'a Line>, String> {
    let mut found = lines.iter().filter(|line| line.directive == directive && line.name() == name);
    match (found.next(), found.next()) {
        (line, None) => Ok(line),
        (_, Some(second)) => Err(format!("it stands there twice, in {} too: the last that is read counts", second.at)),
    }
}

fn judge_ours(lines: &[Line], wanted: &Wanted, findings: &mut Findings) {
    let known =
        [("header", TOKEN), ("header", HOP), ("meta", TAG), ("describe", TAG), ("score", TAG), ("priority", TAG), ("shortcircuit", TAG)];
    let ours = lines.iter().filter(|line| line.rest.contains("FIRSTCLICK"));
    for line in ours.filter(|line| !known.contains(&(line.directive.as_str(), line.name()))) {
        let field = printable(&format!("{} {}", line.directive, line.name()));
        findings.judged(&line.at, &field, CONF, Err("what this does to the recipe's rules is not known here".into()));
    }
    let mut judged = |directive: &str, name: &str, source: &'static str, judge: &dyn Fn(Option<&str>) -> Outcome| {
        let (at, outcome) = match the_one(lines, directive, name) {
            Ok(line) => (line.map_or("the files", |line| &line.at), judge(line.map(Line::value))),
            Err(why) => ("the files", Err(why)),
        };
        findings.judged(at, &format!("{directive} {name}"), source, outcome);
    };
    judged("header", TOKEN, CONF, &|value| token(value, wanted));
    judged("header", HOP, CONF, &|value| hop(value, wanted));
    judged("meta", TAG, CONF, &meta);
    judged("score", TAG, CONF, &score);
    judged("priority", TAG, CONF, &|value| {
        let priority = value.map_or(Ok(0), |value| value.parse::<i64>().map_err(|_| "it is no number".to_owned()))?;
        let late = (Verdict::WrongOrder, format!("at {priority} it comes after plugins have asked the network, which begins at {NETWORK}"));
        Ok(if priority < NETWORK { Vec::new() } else { vec![late] })
    });
    judged("shortcircuit", TAG, SHORT, &|value| {
        Ok(match value {
            Some("on") => Vec::new(),
            Some("ham") => vec![(Verdict::TooWide, "`ham` scores the mail by -100, whatever else is found".into())],
            _ => vec![(Verdict::Missing, "it is not `on`: plugins ask for the links of tagged mails".into())],
        })
    });
    let loads = lines.iter().any(|line| line.directive == "loadplugin");
    let missing = (Verdict::Missing, "Mail::SpamAssassin::Plugin::Shortcircuit is not loaded in these files".to_owned());
    findings.judged("the files", "loadplugin", SHORT, Ok(if loads { Vec::new() } else { vec![missing] }));
    findings.judged("the files", "trusted_networks", CONF, trusted(lines, &wanted.hops));
}

/// `HEADER =~ /^(?:TOKEN)$/`, and nothing behind it.
fn token(value: Option<&str>, wanted: &Wanted) -> Outcome {
    let Some(value) = value else { return Ok(vec![(Verdict::Missing, "there is no such rule: the recipe has it".into())]) };
    let (name, rest) = value.split_once(char::is_whitespace).ok_or("it is no comparison with a pattern")?;
    if !name.eq_ignore_ascii_case(&wanted.header) {
        return Ok(vec![(Verdict::TooWide, format!("it looks at another header than {}, which the hop does not remove", wanted.header))]);
    }
    let pattern =
        rest.trim().strip_prefix("=~").map(str::trim).and_then(|rest| rest.strip_prefix('/')).and_then(|rest| rest.strip_suffix('/'));
    compare::token_pattern(pattern.ok_or("it is no comparison with a pattern, or one that ends with letters")?, &wanted.tokens)
}

/// `X-Spam-Relays-Trusted =~ /^\[ ip=(?:ADDRESS) /`: the last host before this one.
fn hop(value: Option<&str>, wanted: &Wanted) -> Outcome {
    let Some(value) = value else { return Ok(vec![(Verdict::Missing, "there is no such rule: the recipe has it".into())]) };
    let value = value.split_whitespace().collect::<Vec<_>>().join(" ");
    let addresses = value.strip_prefix("X-Spam-Relays-Trusted =~ /^\\[ ip=(?:").and_then(|rest| rest.strip_suffix(") /"));
    let addresses = addresses.ok_or("it is not what setup prints, and is not understood")?;
    let addresses: Vec<String> =
        addresses.split('|').map(|address| address.replace("\\.", "\u{0}").replace('.', "?").replace('\u{0}', ".")).collect();
    compare::sources(&addresses, &wanted.hops)
}

fn meta(value: Option<&str>) -> Outcome {
    let Some(value) = value else { return Ok(vec![(Verdict::Missing, "there is no such rule: the recipe has it".into())]) };
    let bare: String = value.chars().filter(|letter| !letter.is_whitespace()).collect();
    let bare = bare.strip_prefix('(').and_then(|rest| rest.strip_suffix(')')).unwrap_or(&bare);
    if bare == format!("{TOKEN}&&{HOP}") || bare == format!("{HOP}&&{TOKEN}") {
        return Ok(Vec::new());
    }
    if !(bare.contains(TOKEN) && bare.contains(HOP)) || bare.contains("||") {
        return Ok(vec![(Verdict::TooWide, format!("it does not ask for {TOKEN} and {HOP} both"))]);
    }
    Err("it is not what setup prints, and is not understood".into())
}

fn score(value: Option<&str>) -> Outcome {
    let Some(value) = value else { return Ok(vec![(Verdict::Missing, "it has no score: 1 is what it gets, and counts as spam".into())]) };
    let score: f64 = value.parse().map_err(|_| "it is no single number".to_owned())?;
    Ok(if score < SCORE {
        vec![(Verdict::TooWide, format!("{score} covers more than the recipe's {SCORE} does"))]
    } else if score > SCORE {
        vec![(Verdict::Missing, format!("{score} is not the recipe's {SCORE}: other tests may weigh more"))]
    } else if score.is_nan() {
        return Err("it is no number".into());
    } else {
        Vec::new()
    })
}

fn trusted(lines: &[Line], hops: &[String]) -> Outcome {
    let words = lines.iter().filter(|line| line.directive == "trusted_networks").flat_map(|line| line.rest.split_whitespace());
    let nets = words.map(|word| compare::network(word).ok_or_else(|| format!("{:?} is no network that is understood", printable(word))));
    let nets = nets.collect::<Result<Vec<_>, String>>()?;
    let wide =
        nets.iter().filter(|net| net.prefix_len() < 8).map(|net| (Verdict::TooWide, format!("{net} is trusted: nearly everybody is")));
    let hops = hops.iter().filter_map(|hop| compare::network(hop));
    let missing = hops.filter(|hop| !nets.iter().any(|net| net.contains(hop)));
    let missing =
        missing.map(|hop| (Verdict::Missing, format!("the hop's address {} is not among them: its mails are not known", hop.addr())));
    Ok(wide.chain(missing).collect())
}

/// Whether a pattern of addresses names no domain of somebody's: `*`, `*@*.com`.
fn is_nearly_everybody(pattern: &str) -> bool {
    let domain = pattern.rsplit('@').next().unwrap_or_default();
    domain.split('.').filter(|label| !label.is_empty() && !label.contains(['*', '?'])).count() < 2
}

/// Other lines: none may exempt, or look at our header.
fn judge_others(lines: &[Line], wanted: &Wanted, findings: &mut Findings) {
    for line in lines {
        let is_ours = [TOKEN, HOP, TAG].contains(&line.name());
        let what = match line.directive.as_str() {
            "shortcircuit" if !is_ours && ["on", "ham"].contains(&line.value()) => {
                "this rule, too, ends all other tests, and is none of the recipe's"
            }
            directive if directive.ends_with("list_from") && line.rest.split_whitespace().any(is_nearly_everybody) => {
                "every sender is welcome, or nearly"
            }
            directive if !is_ours && directive != "trusted_networks" && looks_at(&line.rest, &wanted.header) => {
                "another rule looks at our header"
            }
            _ => continue,
        };
        findings.add(Verdict::NotOurs, &line.at, &printable(&format!("{} {}", line.directive, line.name())), what, CONF);
    }
}
