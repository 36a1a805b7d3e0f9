//! What the elements and attributes of HTML do: which of them lead a reader somewhere.
//!
//! A closed list. What is not on it leads nowhere that is known, and is a flaw as soon as it holds an address.

use lol_html::html_content::Attribute;

use super::{
    flaw::{Flaw, Flaws},
    html::Pressed,
    schemes,
};
use crate::limits;

/// What an attribute is for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Use {
    /// Where a press leads.
    Leads,
    /// What a program loads by itself, or what only other programs read: no reader presses it.
    Loads,
    /// Text that a reader sees instead of something.
    Text,
    /// What acts by itself, or sends what was typed.
    Acts,
    /// Anything else.
    Unknown,
}

/// What one start tag holds.
#[derive(Default)]
pub(super) struct Tag {
    /// Where it leads, with the place of the value in the source that was read.
    pub(super) pressed: Vec<Pressed>,
    /// Texts in attributes, as they are shown, with their places.
    pub(super) texts: Vec<Pressed>,
    /// What is odd about it.
    pub(super) flaws: Flaws,
}

/// Looks at one start tag.
pub(super) fn look_at(name: &str, attributes: &[Attribute<'_>]) -> Tag {
    let mut tag = Tag::default();
    if is_active(name) {
        tag.flaws.add(Flaw::HtmlActive);
    }
    if name == "plaintext" {
        tag.flaws.add(Flaw::HtmlAmbiguous);
    }
    let item = attributes.iter().find(|attribute| attribute.name() == "itemprop").map(Attribute::value);
    let is_item = item.is_some();
    let item = item.unwrap_or_default();
    let mut seen: Vec<String> = Vec::new();
    for attribute in attributes {
        let key = attribute.name();
        let raw = attribute.value();
        // Programs cut an attribute at sizes of their own. Pictures may stand in `src` whole.
        if key != "src" && raw.len() > limits::ATTRIBUTE {
            tag.flaws.add(Flaw::HtmlAmbiguous);
        }
        if SINGLE.contains(&key.as_str()) {
            // Programs differ in which of two counts.
            if seen.contains(&key) {
                tag.flaws.add(Flaw::HtmlAmbiguous);
            } else {
                seen.push(key.clone());
            }
        }
        let place = || attribute.value_source_location().map(|place| place.bytes());
        let value = || htmlize::unescape_attribute(raw.as_str()).into_owned();
        let mut purpose = purpose(name, &key, is_item);
        // Mail programs make buttons of items, and differ in where they look for the address.
        if is_item && matches!(purpose, Use::Loads | Use::Unknown) && !is_item_frame(&key) {
            let address = value();
            if holds_address(&address) || schemes::is_ambiguous(&address) || name == "meta" && key == "content" && names_address(&item) {
                purpose = Use::Leads;
            }
        }
        match purpose {
            Use::Leads => tag.pressed.push(Pressed { value: value(), place: place() }),
            Use::Text => {
                let shown = value();
                let place = place().filter(|_| shown == raw);
                tag.texts.push(Pressed { value: shown, place });
            }
            // Word writes calls of functions that only its own saved pages have.
            Use::Acts if is_word_comment(&value()) => {}
            Use::Acts => tag.flaws.add(Flaw::HtmlActive),
            Use::Unknown if key == "http-equiv" => {
                let letters: String = value().chars().filter(char::is_ascii_alphabetic).collect();
                let letters = letters.to_ascii_lowercase();
                // Some programs take a field of the mail from here too.
                if ["refresh", "contentbase", "contentlocation"].iter().any(|field| letters.contains(field)) {
                    tag.flaws.add(Flaw::HtmlActive);
                }
            }
            Use::Unknown if holds_address(&value()) => tag.flaws.add(Flaw::HtmlAmbiguous),
            Use::Loads | Use::Unknown => {}
        }
    }
    tag
}

fn purpose(element: &str, key: &str, is_item: bool) -> Use {
    match key {
        // What only other programs read, but for the items that mail programs make buttons of.
        "href" if element == "link" => {
            if is_item {
                Use::Leads
            } else {
                Use::Loads
            }
        }
        "href" | "xlink:href" if element == "base" => Use::Acts,
        "href" | "xlink:href"
            if matches!(element, "image" | "use" | "feimage" | "filter" | "pattern" | "lineargradient" | "radialgradient") =>
        {
            Use::Loads
        }
        "href" | "xlink:href" | "longdesc" | "o:href" => Use::Leads,
        "action" | "formaction" | "ping" | "srcdoc" | "xml:base" => Use::Acts,
        "src" if element == "xml" => Use::Acts,
        // Where Word's users got a smart tag from; nothing there is pressed.
        "downloadurl" if element == "o:smarttagtype" => Use::Loads,
        "title" | "alt" => Use::Text,
        // What a program loads by itself.
        "src" | "srcset" | "imagesrcset" | "background" | "poster" | "lowsrc" | "dynsrc" | "data" | "style" | "o:src"
        // What leads nowhere, whatever it says. The last ones are what scanners and senders note beside a link.
        | "id" | "class" | "name" | "content" | "cite" | "usemap" | "profile" | "lang" | "target" | "rel" | "itemtype" | "itemid"
        | "itemprop" | "property" | "typeof" | "vocab" | "prefix" | "resource" | "about" | "value" | "xml:lang"
        | "version" | "originalsrc" | "shash" | "alias" | "summary" | "label" | "placeholder" => Use::Loads,
        _ if key.starts_with("data-") || key.starts_with("aria-") || key.starts_with("xmlns") => Use::Loads,
        _ if key.starts_with("on") && key.len() > 4 => Use::Acts,
        _ => Use::Unknown,
    }
}

fn is_active(element: &str) -> bool {
    matches!(
        element,
        "form"
            | "iframe"
            | "frame"
            | "object"
            | "embed"
            | "applet"
            | "portal"
            | "fencedframe"
            | "layer"
            | "ilayer"
            | "isindex"
            | "set"
            | "animate"
            | "animatetransform"
            | "animatemotion"
            | "animatecolor"
    )
}

/// Whether a tag stands between two texts for a reader: a block, an anchor, a picture.
pub(super) fn is_edge(element: &str) -> bool {
    is_block(element) || matches!(element, "a" | "img" | "input" | "button" | "select" | "textarea" | "video" | "svg" | "area")
}

/// Whether an element is a piece of a table. Browsers ignore its tags outside of one (WHATWG HTML section 13.2.6.4.7), and a
/// reader sees no edge then. The same goes for the second tags of `html`, `head` and `body` everywhere.
pub(super) fn is_table_piece(element: &str) -> bool {
    is_cell(element) || matches!(element, "tr" | "tbody" | "thead" | "tfoot" | "col" | "colgroup")
}

/// Whether an element of a table holds text.
pub(super) fn is_cell(element: &str) -> bool {
    matches!(element, "td" | "th" | "caption")
}

/// Whether an element starts on a line of its own.
pub(super) fn is_block(element: &str) -> bool {
    const BLOCKS: &[&str] = &[
        "p",
        "div",
        "br",
        "table",
        "li",
        "ul",
        "ol",
        "h1",
        "h2",
        "h3",
        "h4",
        "h5",
        "h6",
        "hr",
        "title",
        "center",
        "blockquote",
        "section",
        "article",
        "header",
        "footer",
        "pre",
        "dl",
        "dt",
        "dd",
        "main",
        "nav",
        "aside",
        "figure",
        "figcaption",
        "address",
        "fieldset",
        "legend",
        "details",
        "summary",
        "option",
        "xmp",
        "noscript",
        "noframes",
        "noembed",
        "listing",
        "v:roundrect",
        "v:rect",
        "v:shape",
        "v:textbox",
    ];
    BLOCKS.contains(&element)
}

/// Whether the value of an attribute that nobody knows holds an address.
fn holds_address(value: &str) -> bool {
    let start = value.trim_start();
    value.contains("://")
        || start.starts_with("//")
        || start.starts_with("\\\\")
        || ["www.", "javascript:", "data:"].iter().any(|mark| start.get(..mark.len()).is_some_and(|start| start.eq_ignore_ascii_case(mark)))
}

/// Whether an event's script is Word's call to show or hide a comment, and nothing more.
fn is_word_comment(script: &str) -> bool {
    let call = script.strip_prefix("msoCommentShow(").or_else(|| script.strip_prefix("msoCommentHide("));
    let names = call.and_then(|call| call.strip_suffix(')'));
    names.is_some_and(|names| names.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_', ".contains(&byte)))
}

/// Attributes of an item that say what it is or how it looks.
fn is_item_frame(key: &str) -> bool {
    matches!(key, "itemtype" | "itemprop" | "style" | "class" | "id" | "srcset" | "background") || key.starts_with("xmlns")
}

/// Whether a property of schema.org is an address by its name.
fn names_address(property: &str) -> bool {
    let property = property.trim().to_ascii_lowercase();
    property.ends_with("url") || matches!(property.as_str(), "target" | "urltemplate" | "@id" | "href")
}

/// The addresses that mail programs may make buttons of in a mail's JSON-LD: all of one that speaks of actions (schema.org's
/// `potentialAction`), and those of properties such as `trackingUrl`.
///
/// # Errors
/// Where it could hide markup, or is no JSON and may speak of such.
pub(super) fn json_buttons(json: &str) -> Result<Vec<String>, Flaw> {
    if json.contains('<') {
        return Err(Flaw::HtmlActive);
    }
    if serde_json::from_str::<serde::de::IgnoredAny>(json).is_err() {
        let lower = json.to_ascii_lowercase();
        let address = lower.match_indices("url").any(|(at, _)| lower.get(..at).is_some_and(|front| front.ends_with(char::is_alphabetic)));
        // Programs that forgive more than others read it all the same.
        let hidden = lower.contains("\\u") || lower.contains("\\x") || lower.contains("&#");
        return if address || hidden || lower.contains("action") { Err(Flaw::HtmlActive) } else { Ok(Vec::new()) };
    }
    // Of a key that stands twice, programs take the first or the last: each string counts.
    let strings = json_strings(json);
    let acts = strings.iter().any(|(_, text)| text.trim_end().to_ascii_lowercase().ends_with("action"));
    let mut key = "";
    let mut found = Vec::new();
    for (role, text) in &strings {
        match role {
            Role::Key => key = text,
            Role::Value if is_vocabulary(text) => {}
            Role::Value => {
                let named = names_address(key) && (acts || key.len() > "url".len());
                if named || acts && (holds_address(text) || schemes::is_ambiguous(text)) {
                    found.push(text.clone());
                }
            }
        }
    }
    Ok(found)
}

/// What a string of a JSON text is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    Key,
    Value,
}

/// Every string of a valid JSON text (RFC 8259), escapes undone, in order.
fn json_strings(json: &str) -> Vec<(Role, String)> {
    let bytes = json.as_bytes();
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(start) = bytes.get(at..).and_then(|rest| memchr::memchr(b'"', rest)).map(|quote| at + quote) {
        let mut end = start + 1;
        while let Some(byte) = bytes.get(end).filter(|byte| **byte != b'"') {
            end += if *byte == b'\\' { 2 } else { 1 };
        }
        at = end + 1;
        let text = json.get(start..at).and_then(|literal| serde_json::from_str(literal).ok()).unwrap_or_default();
        let next = bytes.get(at..).and_then(|rest| rest.iter().find(|byte| !byte.is_ascii_whitespace()));
        found.push((if next == Some(&b':') { Role::Key } else { Role::Value }, text));
    }
    found
}

/// Whether an address is a word of schema.org, which nobody opens.
fn is_vocabulary(text: &str) -> bool {
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    rest.map(|rest| rest.strip_prefix("www.").unwrap_or(rest))
        .and_then(|rest| rest.strip_prefix("schema.org"))
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Attributes of which programs take the first or the last, and where that changes where something leads.
const SINGLE: &[&str] =
    &["href", "xlink:href", "http-equiv", "content", "rel", "type", "src", "itemprop", "action", "formaction", "longdesc"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_words_own_call() {
        for script in ["msoCommentShow('_anchor_1','_com_1')", "msoCommentHide('_com_1')"] {
            assert!(is_word_comment(script), "{script}");
        }
        for script in ["msoCommentShow('x');location='//evil.com'", "msoCommentShow(alert(1))", "msoCommentShow(`x`)", "alert(1)", ""] {
            assert!(!is_word_comment(script), "{script}");
        }
    }
}
