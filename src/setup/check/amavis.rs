//! amavis: the files of the `SpamAssassin` within it, and its own configuration, which is Perl. Of Perl, assignments of literals are
//! understood, and what else names a switch that matters is not.

use jiff::Timestamp;

use super::{Export, Facts, Findings, Verdict, decoded, spamassassin};
use crate::printable::printable;

const DOC: &str = "https://www.ijs.si/software/amavisd/amavisd-new-docs.html";

/// What decides whether a mail is checked for spam. Words, wherever they stand.
const SWITCHES: [&str; 6] =
    ["bypass_spam_checks", "policy_bank", "client_ipaddr_policy", "spam_lovers", "sa_local_tests_only", "spam_check_"];

/// What Debian's own file says, and the manual: look at these tables, which are empty.
const STOCK: &str = "@bypass_spam_checks_maps=(\\%bypass_spam_checks,\\@bypass_spam_checks_acl,\\$bypass_spam_checks_re)";

pub(super) fn judge(exports: &[Export], facts: &Facts, now: Timestamp, findings: &mut Findings) {
    let is_rules = |export: &&Export| [".cf", ".pre"].iter().any(|end| export.name.ends_with(end));
    let (rules, own): (Vec<&Export>, Vec<&Export>) = exports.iter().partition(is_rules);
    let rules: Vec<Export> = rules.into_iter().cloned().collect();
    spamassassin::judge(&rules, facts, now, findings);
    if own.is_empty() {
        findings.add(Verdict::CannotJudge, "the exports", "", "no file of amavis's own is among them: give its conf.d, too", DOC);
    }
    for export in own {
        let name = printable(&export.name);
        match decoded::text(&export.bytes) {
            Ok(text) => judge_perl(&name, &text, findings),
            Err(why) => findings.add(Verdict::CannotJudge, &name, "", why, DOC),
        }
    }
}

fn judge_perl(name: &str, text: &str, findings: &mut Findings) {
    let before = findings.0.len();
    let mut statement = String::new();
    for (at, line) in text.lines().enumerate() {
        let whole = line.trim();
        let line = uncommented(whole);
        if line.is_empty() {
            continue;
        }
        let comment = whole.get(line.len()..).unwrap_or_default();
        if let Some(word) = opaque(line).or_else(|| ends_a_text(comment)) {
            let what = "what this brings in, does or hides is not seen";
            findings.add(Verdict::CannotJudge, &format!("{name}:{}", at + 1), word, what, DOC);
        }
        statement.push_str(line);
        statement.push(' ');
        if line.ends_with(';') {
            judge_statement(&format!("{name}:{}", at + 1), &statement, findings);
            statement.clear();
        }
    }
    judge_statement(&format!("{name}: its end"), &statement, findings);
    if findings.0.len() == before {
        findings.add(Verdict::Right, name, "bypass_spam_checks_maps, policy_bank", "nothing in it leaves mails out of the check", DOC);
    }
}

/// What in a line is more than an assignment: it brings other files in, runs code, or names by an expression what it assigns to.
fn opaque(line: &str) -> Option<&'static str> {
    if DEBIAN.contains(&line) || line.starts_with('=') {
        return line.starts_with('=').then_some("=");
    }
    let mut words = line.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
    // A glob assigns to all variables of a name.
    let is_glob = |(at, _): (usize, &str)| {
        let (before, behind) = (line.get(..at).unwrap_or_default().trim_end(), line.as_bytes().get(at + 1));
        let begins_a_statement = before.is_empty() || before.ends_with([';', '{', '}']);
        begins_a_statement && behind.is_some_and(|letter| letter.is_ascii_alphabetic() || matches!(letter, b'_' | b'{'))
    };
    let word = words.find_map(|word| CODE.iter().find(|code| **code == word));
    let sign = SIGNS.iter().find(|sign| line.contains(**sign));
    word.or(sign).copied().filter(|_| line != "use strict;").or_else(|| line.match_indices('*').any(is_glob).then_some("*"))
}

/// A comment that may be none: the `#` stands in a text that ends behind it, and a statement follows.
fn ends_a_text(comment: &str) -> Option<&'static str> {
    let behind = comment.split_once(['"', '\'', '`']).map(|(_, behind)| behind)?;
    behind.contains(';').then_some("#")
}

/// Words of Perl that are no assignment.
const CODE: [&str; 21] = [
    "do",
    "eval",
    "evalbytes",
    "require",
    "use",
    "package",
    "sub",
    "BEGIN",
    "INIT",
    "END",
    "__END__",
    "__DATA__",
    "include_config_files",
    "read_hash",
    "open",
    "system",
    "exec",
    "tie",
    "push",
    "unshift",
    "splice",
];

/// Signs of it.
const SIGNS: [&str; 6] = ["`", "${", "@{", "%{", "<<", "=~"];

/// Lines of Debian's own files that are more than an assignment, and change no switch.
const DEBIAN: [&str; 4] = [
    "chomp($mydomain = `head -n 1 /etc/mailname`);",
    "chomp($myhostname = `hostname --fqdn`);",
    "sub {chdir('/opt/AVP') or die \"Can't chdir to AVP: $!\"},",
    "sub {chdir($TEMPBASE) or die \"Can't chdir back to $TEMPBASE $!\"},",
];

/// A line without the comment that is plainly one: behind what ends there, or as the whole line.
fn uncommented(line: &str) -> &str {
    let begins = |(at, _): &(usize, &str)| {
        let before = line.get(..*at).unwrap_or_default().trim_end();
        before.is_empty() || before.ends_with([';', ',', '{', '('])
    };
    line.match_indices('#').find(begins).map_or(line, |(at, _)| line.get(..at).unwrap_or_default().trim_end())
}

/// A bank of plain values, none of which is a switch.
fn is_plain_bank(bank: &str) -> bool {
    let inner = bank.strip_prefix("$policy_bank{'").and_then(|rest| rest.split_once("'}={")).and_then(|(_, rest)| rest.strip_suffix('}'));
    let is_plain = |letter: char| letter.is_ascii_alphanumeric() || "_-.'=>,:[]".contains(letter);
    inner.is_some_and(|inner| inner.chars().all(is_plain) && !SWITCHES.iter().any(|switch| inner.contains(switch)))
}

fn judge_statement(at: &str, statement: &str, findings: &mut Findings) {
    let Some(switch) = SWITCHES.iter().find(|switch| statement.contains(**switch)) else { return };
    let bare: String = statement.chars().filter(|letter| !letter.is_whitespace()).collect();
    let (verdict, what) = match bare.trim_end_matches(';') {
        STOCK | "$sa_local_tests_only=0" | "@bypass_spam_checks_maps=()" => return,
        "@bypass_spam_checks_maps=(1)" => (Verdict::NotOurs, "no mail is checked for spam at all"),
        "$sa_local_tests_only=1" => (Verdict::Note, "no test asks the network, for any mail"),
        bank if is_plain_bank(bank) => return,
        bank if bank.starts_with("$policy_bank{") && bank.contains("bypass_spam_checks_maps=>[1]") => {
            (Verdict::NotOurs, "mails that come by this bank are not checked for spam at all")
        }
        _ => (Verdict::CannotJudge, "it decides which mails are checked, by an expression that is not understood here"),
    };
    findings.add(verdict, at, switch, what, DOC);
}
