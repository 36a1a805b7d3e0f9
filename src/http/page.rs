//! The pages as HTML: no script, nothing from elsewhere, every word from outside escaped.

use super::words::{Words, direction};

/// The style sheet: readable at any size, light and dark, with a visible focus.
pub(super) const STYLE: &str = "\
:root{color-scheme:light dark;--ink:#1b1b1f;--paper:#fff;--soft:#55565c;--line:#c9cad1;--act:#0b57d0;--on:#fff}\
@media(prefers-color-scheme:dark){:root{--ink:#f1f1f4;--paper:#17181c;--soft:#b9bac2;--line:#4a4b52;--act:#a8c7fa;--on:#062e6f}}\
*{box-sizing:border-box}body{margin:0;background:var(--paper);color:var(--ink);font:1.125rem/1.5 system-ui,sans-serif}\
main{max-width:34rem;margin:0 auto;padding:2rem 1.25rem}img{max-width:12rem;max-height:4rem;margin-bottom:1.5rem}\
h1{font-size:1.6rem;line-height:1.25;margin:0 0 1rem}.who{overflow-wrap:anywhere}strong{overflow-wrap:anywhere}\
button{font:inherit;font-weight:600;width:100%;min-height:3.25rem;padding:.6rem 1rem;margin:.5rem 0;border:2px solid var(--act);border-radius:.5rem;background:var(--act);color:var(--on);cursor:pointer;overflow-wrap:anywhere}\
button.choice{background:var(--paper);color:var(--act)}button:focus-visible,a:focus-visible,textarea:focus-visible{outline:3px solid var(--ink);outline-offset:3px}\
.small{font-size:1rem;color:var(--soft)}hr{border:0;border-top:1px solid var(--line);margin:1.5rem 0}textarea{font:inherit;width:100%;min-height:8rem;color:inherit;background:inherit;border:1px solid var(--line);border-radius:.5rem;padding:.6rem}\
.error{border-inline-start:.3rem solid #b3261e;padding-inline-start:.8rem}";

/// What every page has of the configuration.
#[derive(Clone, Copy, Debug)]
pub(super) struct Layout<'a> {
    pub(super) language: &'a str,
    pub(super) words: &'a Words,
    /// Whether there is a logo.
    pub(super) logo: Logo,
    /// The admin's own sentence.
    pub(super) note: &'a str,
}

/// Whether a logo stands on the page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Logo {
    Shown,
    None,
}

/// How the reader shows that it is a person.
#[derive(Clone, Copy, Debug)]
pub(super) enum Ask<'a> {
    /// One button.
    Press,
    /// A button for each name; one is the sender's.
    Choose {
        /// The names, in the order in which they stand.
        names: &'a [String],
        /// Whether the last answer was wrong.
        after: After,
    },
}

/// What came before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum After {
    Nothing,
    WrongAnswer,
}

/// The page in front of the link. `host` is the host as a browser writes it, `nonce` goes back with the press.
pub(super) fn guard(layout: Layout<'_>, sender: &str, host: &str, nonce: &str, ask: Ask<'_>) -> String {
    let words = layout.words;
    let (sender_text, host_text) = (escape(sender), escape(host));
    let put = |text: &str, name: &str, value: &str, open: &str, close: &str| escape(text).replace(name, &format!("{open}{value}{close}"));
    let isolated = ("<bdi><strong>", "</strong></bdi>");
    let mut out = format!("<h1>{}</h1>", escape(&words.heading));
    // Where the reader is asked who sent the mail, the page does not say it.
    if matches!(ask, Ask::Press) {
        out.push_str(&format!("<p class=\"who\">{}</p>", put(&words.sent_by, "{sender}", &sender_text, isolated.0, isolated.1)));
    }
    out.push_str(&format!("<p class=\"who\">{}</p>", put(&words.leads_to, "{host}", &host_text, isolated.0, isolated.1)));
    out.push_str(&format!("<form method=\"post\"><input type=\"hidden\" name=\"nonce\" value=\"{}\">", escape(nonce)));
    match ask {
        Ask::Press => {
            let label = put(&words.button, "{host}", &host_text, "<bdi>", "</bdi>");
            out.push_str(&format!("<button type=\"submit\">{label}</button>"));
        }
        Ask::Choose { names, after } => {
            if after == After::WrongAnswer {
                out.push_str(&format!("<p class=\"error\" role=\"alert\">{}</p>", escape(&words.wrong)));
            }
            out.push_str(&format!("<p id=\"ask\">{}</p>", escape(&words.choose)));
            for (number, name) in names.iter().enumerate() {
                out.push_str(&format!(
                    "<button class=\"choice\" type=\"submit\" name=\"choice\" value=\"{number}\" aria-describedby=\"ask\"><bdi>{}</bdi></button>",
                    escape(name)
                ));
            }
        }
    }
    out.push_str("</form><hr>");
    out.push_str(&format!("<p class=\"small\">{}</p><p class=\"small\">{}</p>", escape(&words.why), escape(&words.caution)));
    whole(layout, &words.heading, &out)
}

/// A page that says that there is no link, and nothing else.
pub(super) fn gone(layout: Layout<'_>) -> String {
    message(layout, &layout.words.gone, &layout.words.gone_text)
}

/// A page for a link whose time is over.
pub(super) fn expired(layout: Layout<'_>) -> String {
    message(layout, &layout.words.expired, &layout.words.expired_text)
}

fn message(layout: Layout<'_>, heading: &str, text: &str) -> String {
    whole(layout, heading, &format!("<h1>{}</h1><p>{}</p>", escape(heading), escape(text)))
}

/// The help desk's page: a wrapped link in, what it hides out. `lines` are pairs of a name and a text.
pub(super) fn help_desk(layout: Layout<'_>, asked: &str, lines: &[(String, String)]) -> String {
    let mut out = format!(
        "<h1>Unwrap a link</h1><form method=\"post\"><label for=\"link\">A link as a scanner wrote it</label>\
         <textarea id=\"link\" name=\"link\" spellcheck=\"false\">{}</textarea><button type=\"submit\">Show what it hides</button></form>",
        escape(asked)
    );
    for (name, text) in lines {
        out.push_str(&format!("<p class=\"small\">{}</p><p class=\"who\"><bdi>{}</bdi></p>", escape(name), escape(text)));
    }
    out.push_str("<hr><p class=\"small\">Nothing is opened, and nothing is kept.</p>");
    whole(layout, "Unwrap a link", &out)
}

fn whole(layout: Layout<'_>, title: &str, body: &str) -> String {
    let logo = if layout.logo == Logo::Shown { "<img src=\"/logo\" alt=\"\">" } else { "" };
    let note = if layout.note.is_empty() { String::new() } else { format!("<p class=\"small\" dir=\"auto\">{}</p>", escape(layout.note)) };
    format!(
        "<!doctype html><html lang=\"{}\" dir=\"{}\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\
         <meta name=\"robots\" content=\"noindex\"><title>{}</title><link rel=\"stylesheet\" href=\"/style.css\"></head><body><main>{logo}{body}{note}</main></body></html>",
        layout.language,
        direction(layout.language),
        escape(title)
    )
}

/// Text as HTML shows it, in elements and in quoted attributes.
pub(super) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            // Marks that turn the direction of text around them, and control characters.
            '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200e}' | '\u{200f}' => {}
            letter if letter.is_control() && letter != '\n' => {}
            letter => out.push(letter),
        }
    }
    out
}
