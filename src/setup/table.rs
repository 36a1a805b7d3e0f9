//! docs/scanners.md, written from the files of `config/scanners/`; a test holds the page to them, and `UPDATE=1` has it write it.

use super::template::{Claim, DOES, Sure, TOLD, Template};

const HEAD: &str = "\
# Scanners: what each can be told, and what it does with a link

This page is written from what the program knows. `firstclick setup` lists the same scanners, and `firstclick setup SCANNER`
prints the recipe for one, filled in from your configuration: what to do, how to see that it works, how to take it back.

How sure each answer is: **A** the vendor's current document or the program's source says so; **B** a document of the vendor's that is old or was read
in part, or several customers say the same; **C** one customer's or another vendor's word; **?** nobody has confirmed it. Nothing was tried against a live cloud; rspamd, SpamAssassin
and amavis run in tests. *not known* means that nobody was found who says so, and is no *no*.

*by header*: can it be told to leave alone the mails with our tag, and no others? *by address*: by the hop's address; that alone would spare all mail, and a
source address of their own for exempted mails is not built yet. *by URL*: by a list of hosts, which counts whoever sends the mail. Where *by header* is no
*yes*, `setup` prints the guard page's recipe.

All reports but one say that scanners press no button. The one is [next-auth 1840](https://github.com/nextauthjs/next-auth/issues/1840), where a page with a
button was not enough. [guard.md](guard.md#buttons) says what to do on that day.

";

/// The page.
#[must_use]
pub fn markdown(templates: &[Template]) -> String {
    let claims: Vec<(&str, &str)> = TOLD.iter().chain(&DOES).copied().collect();
    let heads: Vec<&str> = claims.iter().map(|(_, head)| *head).collect();
    let mut text = format!("{HEAD}| scanner | {} |\n|---{}|\n", heads.join(" | "), "|---".repeat(heads.len()));
    for template in templates {
        let cells = claims.iter().map(|(key, _)| template.claim(key).map_or_else(String::new, cell));
        text.push_str(&format!("| [{}](#{}) | {} |\n", escaped(&template.title), template.name, cells.collect::<Vec<_>>().join(" | ")));
    }
    text.push_str("\n# What is known of each, and from where\n");
    for template in templates {
        text.push_str(&format!("\n## {}\n\n{}: {}. ", template.name, escaped(&template.title), template.telling().says()));
        text.push_str(&format!("Its documents were read last on {}.\n\n", template.checked));
        for (key, head) in &claims {
            text.push_str(&template.claim(key).map_or_else(String::new, |claim| line(head, claim)));
        }
    }
    text
}

fn cell(claim: &Claim) -> String {
    format!("{}{}", claim.is.says(), claim.sure.map_or_else(String::new, |sure| format!(" {}", sure.letter())))
}

fn line(head: &str, claim: &Claim) -> String {
    let note = if claim.note.is_empty() { String::new() } else { format!(": {}", escaped(&claim.note)) };
    let source = |source: &String| if source.starts_with("https://") { format!("<{source}>") } else { escaped(source) };
    let sources = claim.sources.iter().map(source).collect::<Vec<_>>().join(", ");
    let from = if sources.is_empty() { sources } else { format!(": {sources}") };
    let known = claim.sure.map_or_else(String::new, |sure: Sure| format!(" ({}{from})", sure.letter()));
    format!("- {head}: {}{note}{known}\n", claim.is.says())
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('|', "\\|").replace('<', "&lt;").replace('*', "\\*").replace('_', "\\_").replace('$', "\\$")
}
