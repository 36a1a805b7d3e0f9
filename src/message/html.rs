//! The links and words of an HTML part, with the places where they stand.
//!
//! `lol_html` serves as the tokenizer; nothing is rewritten here. What a mail program may show and a tokenizer skips is
//! read again: Outlook's conditional comments and `<noscript>`. What could act by itself is a flaw.

use std::{cell::RefCell, ops::Range, rc::Rc};

use lol_html::{HtmlRewriter, MemorySettings, Settings, doc_comments, doc_text, element, end_tag, html_content::TextType};

use super::{
    flaw::{Flaw, Flaws},
    words::{Space, Tail},
};
use crate::limits;

/// An address found in HTML.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// The address with its entities decoded.
    pub value: String,
    /// Where the attribute's value stands, in octets of the decoded part; none inside nested markup.
    pub place: Option<Range<usize>>,
    /// What the reader sees on it.
    pub label: String,
    /// The words in front of it: the end of the text before it.
    pub before: String,
    /// What kind of thing holds it.
    pub holder: Holder,
}

/// What holds an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holder {
    /// Something that a reader presses.
    Anchor,
    /// Something that a program loads by itself, but for images: style sheets and the like.
    Resource,
}

/// What an HTML part holds.
#[derive(Debug, Default)]
pub struct Html {
    /// Every address that leads somewhere, in document order.
    pub addresses: Vec<Address>,
    /// All text, shown or hidden, entities decoded.
    pub text: String,
    /// What is odd about it.
    pub flaws: Flaws,
}

/// Reads an HTML part. Total: what cannot be read is a flaw.
#[must_use]
pub fn read(html: &str) -> Html {
    let state = Rc::new(RefCell::new(Html::default()));
    walk(html, &state, Depth(0));
    Rc::try_unwrap(state).map_or_else(|_| Html { flaws: flawed(), ..Html::default() }, RefCell::into_inner)
}

fn flawed() -> Flaws {
    let mut flaws = Flaws::default();
    flaws.add(Flaw::HtmlAmbiguous);
    flaws
}

#[derive(Clone, Copy)]
struct Depth(usize);

/// The anchor that is open, its text so far, and raw text that is read again.
#[derive(Default)]
struct Open {
    anchor: Option<usize>,
    /// Where the text begins that no anchor before it holds.
    since: usize,
    run: String,
    again: String,
}

fn walk(html: &str, state: &Rc<RefCell<Html>>, depth: Depth) {
    let open = Rc::new(RefCell::new(Open::default()));
    let mut nested: Vec<String> = Vec::new();
    let pending = Rc::new(RefCell::new(Vec::<String>::new()));
    let on_element = {
        let (state, open) = (Rc::clone(state), Rc::clone(&open));
        element!("*", move |tag| {
            let mut html = state.borrow_mut();
            let mut open = open.borrow_mut();
            let name = tag.tag_name();
            if is_block(&name) {
                html.text.part();
            }
            look_at(&name, tag.attributes(), &mut html, &mut open, depth);
            if name == "a" {
                // An anchor ends at its end tag; one that stays open goes on to the next anchor, as in browsers.
                let anchors = html.addresses.len();
                let has_address = tag.has_attribute("href");
                open.anchor = (has_address && anchors > 0).then(|| anchors - 1);
            }
            Ok(())
        })
    };
    let on_end = {
        let (state, open) = (Rc::clone(state), Rc::clone(&open));
        element!("a", move |tag| {
            let (state, open) = (Rc::clone(&state), Rc::clone(&open));
            if tag.can_have_content() {
                tag.on_end_tag(end_tag!(move |_| {
                    let mut open = open.borrow_mut();
                    open.anchor = None;
                    open.since = state.borrow().text.len();
                    Ok(())
                }))?;
            }
            Ok(())
        })
    };
    let on_text = {
        let (state, open, pending) = (Rc::clone(state), Rc::clone(&open), Rc::clone(&pending));
        doc_text!(move |chunk| {
            let mut open = open.borrow_mut();
            match chunk.text_type() {
                TextType::Data | TextType::RCData | TextType::PlainText => {
                    open.run.push_str(chunk.as_str());
                    if chunk.last_in_text_node() {
                        let run = std::mem::take(&mut open.run);
                        let text = htmlize::unescape(run.as_str());
                        let mut html = state.borrow_mut();
                        html.text.push_bounded(&text, limits::WORDS);
                        if let Some(address) = open.anchor.and_then(|at| html.addresses.get_mut(at)) {
                            address.label.push_bounded(&text, limits::LINK);
                        }
                    }
                }
                _ => {
                    open.again.push_str(chunk.as_str());
                    if chunk.last_in_text_node() {
                        pending.borrow_mut().push(std::mem::take(&mut open.again));
                    }
                }
            }
            Ok(())
        })
    };
    let on_comment = {
        let pending = Rc::clone(&pending);
        doc_comments!(move |comment| {
            let text = comment.text();
            if text.trim_start().starts_with("[if")
                && let Some((_, inside)) = text.split_once(']').and_then(|(head, rest)| Some((head, rest.strip_prefix('>')?)))
            {
                pending.borrow_mut().push(inside.to_owned());
            }
            Ok(())
        })
    };
    let settings = Settings::new()
        .append_element_content_handler(on_element)
        .append_element_content_handler(on_end)
        .append_document_content_handler(on_text)
        .append_document_content_handler(on_comment)
        .with_memory_settings(MemorySettings::new().with_max_allowed_memory_usage(limits::HTML_MEMORY));
    let mut rewriter = HtmlRewriter::new(settings, |_: &[u8]| {});
    let outcome = rewriter.write(html.as_bytes()).and_then(|()| rewriter.end());
    if outcome.is_err() {
        state.borrow_mut().flaws.add(Flaw::HtmlAmbiguous);
    }
    nested.append(&mut pending.borrow_mut());
    for inside in nested.iter().filter(|inside| !inside.trim().is_empty()) {
        if inside.contains('<') {
            if depth.0 >= limits::NESTING {
                state.borrow_mut().flaws.add(Flaw::HtmlAmbiguous);
                return;
            }
            walk(inside, state, Depth(depth.0 + 1));
        }
        style_addresses(inside, &mut state.borrow_mut());
    }
}

/// Notes every address that an element's attributes hold.
fn look_at(name: &str, attributes: &[lol_html::html_content::Attribute<'_>], html: &mut Html, open: &mut Open, depth: Depth) {
    let mut seen_address = false;
    for attribute in attributes {
        let key = attribute.name();
        // Programs cut an attribute at sizes of their own. Pictures may stand in `src` whole.
        if key != "src" && attribute.value().len() > limits::ATTRIBUTE {
            html.flaws.add(Flaw::HtmlAmbiguous);
        }
        let value = || htmlize::unescape_attribute(attribute.value().as_str()).into_owned();
        match key.as_str() {
            "href" | "xlink:href" => {
                if name == "base" {
                    html.flaws.add(Flaw::HtmlActive);
                }
                if key == "href" && std::mem::replace(&mut seen_address, true) {
                    html.flaws.add(Flaw::HtmlAmbiguous);
                }
                let holder = if name == "link" { Holder::Resource } else { Holder::Anchor };
                let place = attribute.value_source_location().filter(|_| depth.0 == 0).map(|place| place.bytes());
                let before = html.text.get(open.since..).unwrap_or_default().tail(BEFORE).to_owned();
                html.addresses.push(Address { value: value(), place, label: String::new(), before, holder });
                open.anchor = None;
            }
            "action" | "formaction" | "ping" | "srcdoc" => html.flaws.add(Flaw::HtmlActive),
            "src" | "data" if matches!(name, "iframe" | "frame" | "embed" | "object" | "script") => html.flaws.add(Flaw::HtmlActive),
            "http-equiv" if name == "meta" && attribute.value().eq_ignore_ascii_case("refresh") => html.flaws.add(Flaw::HtmlActive),
            "style" => style_addresses(&value(), html),
            _ if key.starts_with("on") && key.len() > 4 => html.flaws.add(Flaw::HtmlActive),
            _ => {}
        }
    }
    if matches!(name, "form" | "iframe" | "frame" | "object" | "embed" | "script" | "applet") {
        html.flaws.add(Flaw::HtmlActive);
    }
}

/// Notes what a style sheet would load.
fn style_addresses(css: &str, html: &mut Html) {
    for piece in css.split("url(").skip(1) {
        let value = piece.split(')').next().unwrap_or_default().trim_matches([' ', '"', '\'', '\t', '\r', '\n']);
        if value.contains("//") {
            let before = String::new();
            html.addresses.push(Address { value: value.to_owned(), place: None, label: String::new(), before, holder: Holder::Resource });
        }
    }
    for piece in css.split("@import").skip(1) {
        let value = piece.split(['"', '\'']).nth(1).unwrap_or_default();
        if value.contains("//") {
            let before = String::new();
            html.addresses.push(Address { value: value.to_owned(), place: None, label: String::new(), before, holder: Holder::Resource });
        }
    }
}

fn is_block(name: &str) -> bool {
    matches!(
        name,
        "p" | "div"
            | "br"
            | "tr"
            | "td"
            | "th"
            | "table"
            | "li"
            | "ul"
            | "ol"
            | "h1"
            | "h2"
            | "h3"
            | "h4"
            | "h5"
            | "h6"
            | "hr"
            | "body"
            | "title"
            | "center"
            | "blockquote"
            | "section"
            | "article"
            | "header"
            | "footer"
            | "pre"
    )
}

/// Octets of text kept from in front of an address.
const BEFORE: usize = 240;

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(html: &str) -> Vec<String> {
        read(html).addresses.into_iter().map(|address| address.value).collect()
    }

    #[test]
    fn links_with_label_and_place() {
        let html = "<p>Hello &amp; welcome</p><a href=\"https://a.test/?x=1&amp;y=2\"><b>Reset</b> it</a> later";
        let found = read(html);
        assert_eq!(found.addresses.len(), 1);
        let address = &found.addresses[0];
        assert_eq!(address.value, "https://a.test/?x=1&y=2");
        assert_eq!(address.label.trim(), "Reset it");
        assert!(address.before.contains("Hello & welcome"), "{:?}", address.before);
        assert_eq!(html.get(address.place.clone().unwrap()).unwrap(), "https://a.test/?x=1&amp;y=2");
        assert!(found.flaws.is_empty());
    }

    #[test]
    fn no_hiding_place() {
        for html in [
            "<!--[if mso]><v:roundrect href=\"https://attack.test/\"></v:roundrect><![endif]-->",
            "<!--[if mso]><a href='https://attack.test/'>x</a><![endif]-->",
            "<![if !mso]><a href='https://attack.test/'>x</a><![endif]>",
            "<!--[if !mso]><!--><a href='https://attack.test/'>x</a><!--<![endif]-->",
            "<noscript><a href='https://attack.test/'>x</a></noscript>",
            "<map><area href='https://attack.test/'></map>",
            "<svg><a xlink:href='https://attack.test/'>x</a></svg>",
            "<svg><a href='https://attack.test/'>x</a></svg>",
            "<a style='display:none' href='https://attack.test/'></a>",
            "<a/href=https://attack.test/>x</a>",
            "<A HREF=https://attack.test/>x",
            "<link rel=prefetch href='https://attack.test/'>",
            "<style>a{background:url(https://attack.test/)}</style>",
            "<p style='background:url(&quot;https://attack.test/&quot;)'>",
            "<template><a href='https://attack.test/'>x</a></template>",
            "<textarea><a href='https://attack.test/'>x</a></textarea><a href='https://attack.test/'>",
        ] {
            assert!(addresses(html).contains(&"https://attack.test/".to_owned()), "{html}: {:?}", read(html));
        }
        for html in [
            "<form action='https://attack.test/'>",
            "<base href='https://attack.test/'>",
            "<iframe src='https://attack.test/'>",
            "<meta http-equiv=Refresh content='0;url=https://attack.test/'>",
            "<button formaction='https://attack.test/'>",
            "<a ping='https://attack.test/' href='#'>",
            "<script>x</script>",
            "<object data='https://attack.test/'>",
            "<p onclick='x()'>",
        ] {
            assert!(read(html).flaws.has(Flaw::HtmlActive), "{html}");
        }
        assert!(read("<a href='https://a.test/' href='https://attack.test/'>").flaws.has(Flaw::HtmlAmbiguous));
        let deep = "<noscript><xmp>".repeat(20);
        let _ = read(&deep);
        let deep = format!("{}<a href='https://attack.test/'>x</a>{}", "<!--[if mso]>".repeat(40), "<![endif]-->".repeat(40));
        let _ = read(&deep);
    }
}
