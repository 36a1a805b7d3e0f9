//! The links and words of an HTML part, with the places where they stand.
//!
//! `lol_html` serves as the tokenizer; nothing is rewritten here. What a mail program may show and a tokenizer skips is
//! read as markup in its place: Outlook's conditional comments, `<noscript>` and the like. What could act by itself is a flaw.

use std::{cell::RefCell, ops::Range, rc::Rc};

use lol_html::{
    HtmlRewriter, MemorySettings, Settings, doc_comments, doc_text, element, end_tag,
    html_content::{Comment, TextChunk, TextType},
};

use super::{
    html_elements::{self, is_block, is_edge},
    tables::Tables,
    words::{Space, Tail},
};
use crate::limits;
use crate::mail::{Flaw, Flaws};

/// An address that a reader can press, found in HTML.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// The address with its entities decoded.
    pub value: String,
    /// Where the attribute's value stands, in octets of the decoded part; none for a button of JSON-LD.
    pub place: Option<Range<usize>>,
    /// What the reader sees on it.
    pub label: String,
    /// The words in front of it: the end of the text before it.
    pub before: String,
}

/// The value of an attribute and its place.
pub(super) struct Pressed {
    pub(super) value: String,
    pub(super) place: Option<Range<usize>>,
}

/// One text between two tags.
#[derive(Clone, Debug)]
pub struct Run {
    /// Its octets in [`Html::text`].
    pub text: Range<usize>,
    /// The anchor that holds it, as an index into [`Html::addresses`].
    pub anchor: Option<usize>,
    /// Whether a reader sees an edge in front of it.
    pub edge: Edge,
    /// Where its octets stand in the part: an offset in [`Html::text`] and one in the part, from which on both go in step.
    steps: Vec<(usize, usize)>,
    /// The offset of its end in the part.
    end: usize,
}

/// The edge between two texts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Edge {
    /// A block, an anchor, a picture: two texts for a reader.
    Seen,
    /// Formatting: one text for a reader, two for some programs.
    Unseen,
}

/// A text in an attribute: a tool tip, what stands for a picture.
#[derive(Clone, Debug)]
pub struct Tip {
    /// The text, entities decoded.
    pub text: String,
    /// Where it stands in the part, if it stands there as it reads.
    pub place: Option<Range<usize>>,
}

/// The contents of an HTML part.
#[derive(Debug, Default)]
pub struct Html {
    /// Every address that a press leads to, in document order. What a program loads by itself is left out.
    pub addresses: Vec<Address>,
    /// All text, shown or hidden, entities decoded.
    pub text: String,
    /// The text's runs, in order.
    pub runs: Vec<Run>,
    /// The texts in attributes, in document order.
    pub tips: Vec<Tip>,
    /// The flaws of the part.
    pub flaws: Flaws,
    edge: bool,
}

impl Html {
    /// Where octets of the text stand in the part, if they stand there without a tag between them.
    #[must_use]
    pub fn place(&self, text: &Range<usize>) -> Option<Range<usize>> {
        let at = self.runs.partition_point(|run| run.text.start <= text.start).checked_sub(1)?;
        let run = self.runs.get(at).filter(|run| text.end <= run.text.end)?;
        let source = |offset: usize| {
            let step = run.steps.partition_point(|(start, _)| *start <= offset).checked_sub(1)?;
            run.steps.get(step).map(|(start, source)| source + (offset - start))
        };
        let end = if text.end == run.text.end { run.end } else { source(text.end)? };
        Some(source(text.start)?..end)
    }

    fn break_line(&mut self) {
        self.edge = true;
        self.text.part();
    }

    /// Adds a text that stands at `at` in the part.
    fn push_text(&mut self, raw: &str, at: usize, entities: Entities, anchor: Option<usize>) {
        let start = self.text.len();
        let mut steps = vec![(start, at)];
        let mut next = at;
        let mut rest = raw;
        while let Some(amp) = memchr::memchr(b'&', rest.as_bytes()).filter(|_| entities == Entities::Decoded) {
            let (plain, entity) = rest.split_at_checked(amp).unwrap_or((rest, ""));
            let after = memchr::memchr(b'&', entity.as_bytes().get(1..).unwrap_or_default()).map_or(entity.len(), |next| next + 1);
            let (entity, more) = entity.split_at_checked(after).unwrap_or((entity, ""));
            self.text.push_str(plain);
            next += plain.len();
            let decoded = htmlize::unescape(entity);
            if *decoded == *entity {
                self.text.push_str(entity);
            } else {
                // What follows the entity stands there as it reads.
                let same = entity.bytes().rev().zip(decoded.bytes().rev()).take_while(|(left, right)| left == right).count();
                let same = (0..=same).rev().find(|same| decoded.is_char_boundary(decoded.len() - same)).unwrap_or(0);
                steps.push((self.text.len(), next));
                self.text.push_str(&decoded);
                steps.push((self.text.len() - same, next + entity.len() - same));
            }
            next += entity.len();
            rest = more;
        }
        self.text.push_str(rest);
        let edge = if std::mem::take(&mut self.edge) { Edge::Seen } else { Edge::Unseen };
        self.runs.push(Run { text: start..self.text.len(), anchor, edge, steps, end: at + raw.len() });
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Entities {
    Decoded,
    Kept,
}

/// Whether the text of nested markup is text that a reader may see.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Words {
    Read,
    Skipped,
}

/// Reads an HTML part. Total: what cannot be read is a flaw.
#[must_use]
pub fn read(html: &str) -> Html {
    let state = Rc::new(RefCell::new(Html::default()));
    let walk = Walk { source: html, state: Rc::clone(&state), base: 0, depth: 0, words: Words::Read };
    walk.run();
    drop(walk);
    Rc::try_unwrap(state).map_or_else(|_| Html { flaws: flawed(), ..Html::default() }, RefCell::into_inner)
}

fn flawed() -> Flaws {
    let mut flaws = Flaws::default();
    flaws.add(Flaw::HtmlAmbiguous);
    flaws
}

/// One look through markup: the part itself, or what stands inside a conditional comment or a raw-text element.
#[derive(Clone)]
struct Walk<'h> {
    source: &'h str,
    state: Rc<RefCell<Html>>,
    /// Where the source starts in the part.
    base: usize,
    depth: usize,
    words: Words,
}

/// The anchor that is open, its text so far, and text that has not ended.
#[derive(Default)]
struct Open {
    anchor: Option<usize>,
    /// Where the text begins that no anchor before it holds.
    since: usize,
    run: String,
    run_at: usize,
    /// The raw-text element that is open.
    raw: Raw,
    tables: Tables,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Raw {
    /// Its text is read as markup.
    #[default]
    Markup,
    Style,
    Script,
    Json,
}

impl Walk<'_> {
    fn run(&self) {
        let tables = if self.depth > 0 { Tables::around() } else { Tables::default() };
        let open = Rc::new(RefCell::new(Open { tables, ..Open::default() }));
        let on_element = {
            let (walk, open) = (self.clone(), Rc::clone(&open));
            element!("*", move |tag| {
                let name = tag.tag_name();
                let seen = html_elements::look_at(&name, tag.attributes());
                let divides = walk.element(&name, tag, seen, &mut open.borrow_mut());
                if tag.can_have_content() && (divides || name.starts_with("v:")) {
                    let (walk, open) = (walk.state.clone(), Rc::clone(&open));
                    tag.on_end_tag(end_tag!(move |end| {
                        let mut html = walk.borrow_mut();
                        let mut open = open.borrow_mut();
                        let name = end.name();
                        html.edge = true;
                        if is_block(&name) || html_elements::is_table_piece(&name) {
                            html.text.part();
                        }
                        if name == "a" || name.starts_with("v:") {
                            open.anchor = None;
                            open.since = html.text.len();
                        }
                        Ok(())
                    }))?;
                }
                Ok(())
            })
        };
        let on_text = {
            let (walk, open) = (self.clone(), Rc::clone(&open));
            doc_text!(move |chunk| {
                walk.text(chunk, &open);
                Ok(())
            })
        };
        let on_comment = {
            let (walk, open) = (self.clone(), Rc::clone(&open));
            doc_comments!(move |comment| {
                open.borrow_mut().tables.reach(walk.source, comment.source_location().bytes());
                walk.comment(comment);
                Ok(())
            })
        };
        let settings = Settings::new()
            .append_element_content_handler(on_element)
            .append_document_content_handler(on_text)
            .append_document_content_handler(on_comment)
            .with_memory_settings(MemorySettings::new().with_max_allowed_memory_usage(limits::HTML_MEMORY));
        let mut rewriter = HtmlRewriter::new(settings, |_: &[u8]| {});
        let outcome = rewriter.write(self.source.as_bytes()).and_then(|()| rewriter.end());
        if outcome.is_err() {
            self.state.borrow_mut().flaws.add(Flaw::HtmlAmbiguous);
        }
    }

    /// Takes a start tag in; returns whether a reader sees an edge there.
    fn element(&self, name: &str, tag: &lol_html::html_content::Element<'_, '_>, seen: html_elements::Tag, open: &mut Open) -> bool {
        let mut html = self.state.borrow_mut();
        open.tables.reach(self.source, tag.source_location().bytes());
        if !open.tables.start(name) {
            html.flaws.add(Flaw::HtmlAmbiguous);
        }
        let piece = html_elements::is_table_piece(name) && open.tables.is_open();
        let hidden = name == "input" && tag.get_attribute("type").is_some_and(|kind| kind.trim().eq_ignore_ascii_case("hidden"));
        let divides = piece || is_edge(name) && !hidden;
        if piece || is_block(name) {
            html.break_line();
        } else if divides {
            html.edge = true;
        }
        html.flaws.join(seen.flaws);
        let shift = |place: Option<Range<usize>>| place.map(|place| self.base + place.start..self.base + place.end);
        let leads = !seen.pressed.is_empty();
        for pressed in seen.pressed {
            let before = html.text.get(open.since..).unwrap_or_default().tail(BEFORE).to_owned();
            html.addresses.push(Address { value: pressed.value, place: shift(pressed.place), label: String::new(), before });
        }
        html.tips.extend(seen.texts.into_iter().map(|tip| Tip { text: tip.value, place: shift(tip.place) }));
        // An anchor ends at its end tag; one that stays open goes on to the next anchor, as in browsers.
        if name == "a" || leads && name.starts_with("v:") {
            open.anchor = html.addresses.len().checked_sub(1).filter(|_| leads);
        } else if leads {
            open.anchor = None;
        }
        open.raw = match name {
            "style" => Raw::Style,
            "script" => {
                let is_json = tag.get_attribute("type").is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/ld+json"));
                if is_json && !tag.has_attribute("src") {
                    Raw::Json
                } else {
                    html.flaws.add(Flaw::HtmlActive);
                    Raw::Script
                }
            }
            _ => Raw::Markup,
        };
        divides
    }

    fn text(&self, chunk: &TextChunk<'_>, open: &Rc<RefCell<Open>>) {
        let (raw, at, kind, anchor, outside) = {
            let mut open = open.borrow_mut();
            open.tables.reach(self.source, chunk.source_location().bytes());
            if open.run.is_empty() {
                open.run_at = chunk.source_location().bytes().start;
            }
            open.run.push_str(chunk.as_str());
            if !chunk.last_in_text_node() {
                return;
            }
            (std::mem::take(&mut open.run), open.run_at, open.raw, open.anchor, open.tables.is_outside_of_cells())
        };
        let markup = || raw.as_bytes().windows(2).any(|pair| matches!(pair, [b'<', next] if next.is_ascii_alphabetic() || *next == b'!'));
        match chunk.text_type() {
            TextType::Data | TextType::RCData | TextType::PlainText | TextType::CDataSection => {
                let entities = if chunk.text_type().allows_html_entities() { Entities::Decoded } else { Entities::Kept };
                if self.words == Words::Read && !raw.is_empty() {
                    let mut html = self.state.borrow_mut();
                    // Browsers put such a text in front of the table, next to another one.
                    if outside && !raw.trim().is_empty() {
                        html.flaws.add(Flaw::HtmlAmbiguous);
                    }
                    let start = html.text.len();
                    html.push_text(&raw, self.base + at, entities, anchor);
                    let Html { text, addresses, .. } = &mut *html;
                    if let Some(address) = anchor.and_then(|anchor| addresses.get_mut(anchor)) {
                        address.label.push_bounded(text.get(start..).unwrap_or_default(), limits::LINK);
                    }
                }
                // Programs that take unknown elements out show what is in them.
                if chunk.text_type() != TextType::Data && markup() {
                    self.again(&raw, at, Words::Skipped);
                }
            }
            TextType::ScriptData if kind == Raw::Json => match html_elements::json_buttons(&raw) {
                Ok(buttons) => {
                    let button = |value| Address { value, place: None, label: String::new(), before: String::new() };
                    self.state.borrow_mut().addresses.extend(buttons.into_iter().map(button));
                }
                Err(flaw) => self.state.borrow_mut().flaws.add(flaw),
            },
            _ if kind == Raw::Style => {
                if markup() {
                    self.again(&raw, at, Words::Skipped);
                }
            }
            _ => self.again(&raw, at, Words::Read),
        }
    }

    /// Reads what a tokenizer takes for one piece as markup.
    fn again(&self, inside: &str, at: usize, words: Words) {
        if inside.trim().is_empty() {
            return;
        }
        if self.depth >= limits::MARKUP {
            self.state.borrow_mut().flaws.add(Flaw::HtmlAmbiguous);
            return;
        }
        let words = if self.words == Words::Skipped { Words::Skipped } else { words };
        self.state.borrow_mut().break_line();
        Walk { source: inside, state: Rc::clone(&self.state), base: self.base + at, depth: self.depth + 1, words }.run();
        self.state.borrow_mut().break_line();
    }

    fn comment(&self, comment: &Comment<'_>) {
        let place = comment.source_location().bytes();
        let written = self.source.get(place.clone()).unwrap_or_default();
        let Some(text) = written.strip_prefix("<!--") else { return };
        // Older programs end a comment elsewhere, or not at all.
        let ends = written.ends_with("-->") || self.depth > 0 && place.end == self.source.len();
        if written.ends_with("--!>") || !ends && text.contains('<') {
            self.state.borrow_mut().flaws.add(Flaw::HtmlAmbiguous);
        }
        let text = text.strip_suffix("-->").unwrap_or(text);
        let Some(rest) = condition(text) else { return };
        let inside = rest.find(']').and_then(|close| rest.get(close + 1..)).and_then(|rest| rest.trim_start().strip_prefix('>'));
        match inside {
            Some(inside) => self.again(inside, place.start + 4 + text.len() - inside.len(), Words::Read),
            None if rest.contains('<') => self.state.borrow_mut().flaws.add(Flaw::HtmlAmbiguous),
            None => {}
        }
    }
}

/// What follows the `if` of a conditional comment, in any case and spacing.
fn condition(comment: &str) -> Option<&str> {
    let rest = comment.trim_start().strip_prefix('[')?.trim_start();
    let (word, rest) = rest.split_at_checked(2)?;
    (word.eq_ignore_ascii_case("if") && !rest.starts_with(char::is_alphanumeric)).then_some(rest)
}

/// Octets of text kept from in front of an address.
const BEFORE: usize = 240;

#[cfg(test)]
#[path = "html_tests.rs"]
mod tests;
