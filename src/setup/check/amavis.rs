//! amavis: the files of the `SpamAssassin` within it, and its own configuration, which is Perl. Of Perl, assignments of plain values
//! are understood ([`perl`]), and of those that name a switch that matters, few.

use jiff::Timestamp;

use super::{Export, Facts, Findings, Verdict, decoded, perl, spamassassin};
use crate::printable::printable;

const DOC: &str = "https://www.ijs.si/software/amavisd/amavisd-new-docs.html";

/// What decides whether a mail is checked for spam, and by which rules: parts of names, wherever they stand. amavis does not ask
/// `SpamAssassin` about senders that are listed, and takes all of this from a database, too, where it has one.
const SWITCHES: [&str; 17] = [
    "bypass_spam_checks",
    "policy_bank",
    "client_ipaddr_policy",
    "spam_lovers",
    "whitelist_sender",
    "blacklist_sender",
    "lookup_sql_dsn",
    "ldap",
    "spam_scanners",
    "sa_local_tests_only",
    "sa_configpath",
    "sa_siteconfigpath",
    "sa_userprefs_file",
    "sa_userconf_maps",
    "sa_username_maps",
    "additional_perl_modules",
    "@INC",
];

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
    for statement in perl::statements(text) {
        match statement {
            Ok(statement) => judge_statement(&format!("{name}:{}", statement.line), &statement.tokens, findings),
            Err(opaque) => {
                let what = "more than an assignment of plain values: what it brings in, does or hides is not seen";
                findings.add(Verdict::CannotJudge, &format!("{name}:{}", opaque.line), &printable(opaque.word), what, DOC);
            }
        }
    }
    if findings.0.len() == before {
        findings.add(Verdict::Right, name, "bypass_spam_checks_maps, policy_bank", "nothing in it leaves mails out of the check", DOC);
    }
}

/// A bank of plain values, none of which is a switch: nothing in it is put together from parts.
fn is_plain_bank(tokens: &[&str]) -> bool {
    let [bank, "=", "{", inner @ ..] = tokens else { return false };
    let is_plain =
        |token: &&str| *token != "." && !SWITCHES.iter().any(|switch| token.contains(switch)) && !token.contains(['\\', '$', '@', '%']);
    bank.starts_with("$policy_bank{") && inner.iter().all(is_plain)
}

fn judge_statement(at: &str, tokens: &[&str], findings: &mut Findings) {
    let bare = tokens.concat();
    let Some(switch) = SWITCHES.iter().find(|switch| bare.contains(**switch)) else { return };
    let (verdict, what) = match bare.as_str() {
        STOCK | "$sa_local_tests_only=0" | "@bypass_spam_checks_maps=()" => return,
        "@bypass_spam_checks_maps=(1)" => (Verdict::NotOurs, "no mail is checked for spam at all"),
        "$sa_local_tests_only=1" => (Verdict::Note, "no test asks the network, for any mail"),
        _ if is_plain_bank(tokens) => return,
        bank if bank.starts_with("$policy_bank{") && bank.contains("bypass_spam_checks_maps=>[1]") => {
            (Verdict::NotOurs, "mails that come by this bank are not checked for spam at all")
        }
        _ => (Verdict::CannotJudge, "it decides which mails are checked and by what, and is not understood here"),
    };
    findings.add(verdict, at, switch, what, DOC);
}
