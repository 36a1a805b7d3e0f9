//! Putting other links in place of some, wherever they stand and however they are spelled, and leaving every other octet alone.
//!
//! Each text part is decoded layer by layer (transfer encoding, charset, character references), and each layer knows the way
//! back to the octets of the mail. A link is replaced where its reading says that it stands; what reading keeps no place of
//! (a link that an attribute repeats, the text of a button) is found by its decoded spelling. Plain text is cut and spliced,
//! quoted-printable gets the new link between soft line breaks of its own, base64 is encoded anew as a whole.
//!
//! It is all or nothing. What comes out is read again: if any text but the links has changed, or a link that was to be
//! replaced, or the value that makes it work, still stands in an address anywhere, nothing is changed at all.

mod bare;
mod encode;
mod layer;
mod places;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

pub use self::bare::tokens;
use self::{bare::Bare, layer::Layer, places::Search};
use super::{Patch, apply};
use crate::message::{
    Content, Message,
    parts::{self, Body, Encoding},
};

/// A link, and what stands in its place afterwards.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Swap {
    /// The link as it stands in the mail, its spelling decoded.
    pub from: String,
    /// The new one: ASCII, no quote, no blank.
    pub to: String,
    /// What must be left nowhere; none where the old link may go on standing somewhere.
    pub one_time: Option<OneTime>,
}

/// A one-time link that is replaced.
#[derive(Clone, PartialEq, Eq)]
pub struct OneTime {
    /// The link itself: as it stands, or as a scanner's link hides it. A secret.
    pub link: String,
    /// The values that make it work, at least 8 octets each: no address of the mail may hold one afterwards, in any part.
    /// Secrets. [`tokens`] finds them where nobody knows better.
    pub tokens: Vec<String>,
}

impl fmt::Debug for OneTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OneTime(..)")
    }
}

impl Swap {
    /// A link that is put back: the old one is no secret.
    #[must_use]
    pub const fn back(from: String, to: String) -> Self {
        Self { from, to, one_time: None }
    }

    /// A one-time link that leads elsewhere afterwards, and is left nowhere. `link` is the one-time link itself, `from` how
    /// it stands in the mail: the same, or as a scanner wrapped it.
    #[must_use]
    pub fn one_time(from: String, to: String, link: &str) -> Self {
        Self { from, to, one_time: Some(OneTime { link: link.to_owned(), tokens: tokens(link) }) }
    }
}

/// Why links cannot be put in place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SwapError {
    /// A link stands somewhere in a form that is not found, or a part would read differently afterwards.
    #[error("the link stands in the mail in a form that cannot be replaced without changing anything else")]
    Form,
    /// A one-time link, or its value behind another address, would be left in the mail.
    #[error("the mail holds the one-time link, or its value, in an address that is not replaced")]
    Left,
    /// A line would be longer than RFC 5322 section 2.1.1 allows.
    #[error("a line of the mail would be longer than 998 octets")]
    Line,
}

/// The patches that put the new links in place.
///
/// # Errors
/// [`SwapError`]; the mail is then to be left as it came.
pub fn swap(message: &Message<'_>, content: &Content, swaps: &[Swap]) -> Result<Vec<Patch>, SwapError> {
    swap_as_read(message, content, swaps, &|changed| changed.content())
}

/// The same, where the mail was not read by [`Message::content`]: `read` reads the changed mail as `content` was read.
///
/// # Errors
/// [`SwapError`]; the mail is then to be left as it came.
pub fn swap_as_read(
    message: &Message<'_>,
    content: &Content,
    swaps: &[Swap],
    read: &dyn Fn(&Message<'_>) -> Content,
) -> Result<Vec<Patch>, SwapError> {
    let raw = message.raw();
    let search = Search::of(content, swaps).ok_or(SwapError::Form)?;
    let (mut patches, mut expected) = (Vec::new(), Vec::new());
    let mut sharing = BTreeMap::new();
    for body in parts::bodies(raw) {
        let octets = Octets::of(raw, &body).ok_or(SwapError::Form)?;
        let text = Layer::charset(&octets.layer.text, body.charset.as_deref());
        let found = search.places(content, &body, &text.text);
        sharing.extend(found.sharing);
        let as_text = |range, to: &str| Patch { at: range, with: to.as_bytes().to_vec() };
        let spliced: Vec<Patch> = found.places.iter().map(|(range, to)| as_text(range.clone(), to)).collect();
        expected.push(apply(&text.text, &spliced).map_err(|_| SwapError::Form)?);
        let decoded: Vec<Patch> = found.places.iter().map(|(range, to)| as_text(text.stands(range), to)).collect();
        patches.extend(octets.patches(raw, &body, &decoded)?);
    }
    let changed = apply(raw, &patches).map_err(|_| SwapError::Form)?;
    verify(&changed, content, swaps, &Expected { texts: expected, sharing }, read)?;
    Ok(patches)
}

/// A part's octets behind its transfer encoding.
struct Octets<'m> {
    layer: Layer<'m>,
    encoding: Encoding,
}

impl<'m> Octets<'m> {
    fn of(raw: &'m [u8], body: &Body) -> Option<Self> {
        let text = raw.get(body.range.clone())?;
        let layer = match body.encoding {
            Encoding::Identity => Layer::plain(text),
            Encoding::QuotedPrintable => Layer::quoted_printable(text),
            Encoding::Base64 => Layer::decoded(encode::base64_decoded(text)?),
        };
        Some(Self { layer, encoding: body.encoding })
    }

    /// Patches of these octets as patches of the mail.
    fn patches(&self, raw: &[u8], body: &Body, patches: &[Patch]) -> Result<Vec<Patch>, SwapError> {
        if patches.is_empty() {
            return Ok(Vec::new());
        }
        match self.encoding {
            Encoding::Identity => {
                encode::in_plain(raw, body, patches).or_else(|| encode::encoded_anew(raw, body, patches)).ok_or(SwapError::Line)
            }
            Encoding::QuotedPrintable => {
                let standing =
                    patches.iter().map(|patch| Patch { at: self.layer.stands(&patch.at), with: patch.with.clone() }).collect::<Vec<_>>();
                Ok(encode::in_quoted_printable(body, &standing))
            }
            Encoding::Base64 => encode::in_base64(raw, body, &self.layer.text, patches).map(|patch| vec![patch]).ok_or(SwapError::Form),
        }
    }
}

/// What the changed mail must read like.
struct Expected {
    /// The text of each part.
    texts: Vec<Vec<u8>>,
    /// The links, by their number, that share octets with one that was replaced, and how each may read.
    sharing: BTreeMap<usize, Option<String>>,
}

/// Reads the changed mail: the same parts and the same text but for the new links, and none of the old ones.
fn verify(
    changed: &[u8],
    before: &Content,
    swaps: &[Swap],
    expected: &Expected,
    read: &dyn Fn(&Message<'_>) -> Content,
) -> Result<(), SwapError> {
    let guarded = || swaps.iter().filter_map(|swap| Some((swap.from.as_str(), swap.one_time.as_ref()?)));
    let links = guarded().flat_map(|(from, one_time)| [from, one_time.link.as_str()]);
    let tokens = guarded().flat_map(|(_, one_time)| &one_time.tokens).map(String::as_str);
    let bare = Bare::of(links, tokens).ok_or(SwapError::Form)?;
    let bodies = parts::bodies(changed);
    if bodies.len() != expected.texts.len() {
        return Err(SwapError::Form);
    }
    for (body, wanted) in bodies.iter().zip(&expected.texts) {
        let octets = Octets::of(changed, body).ok_or(SwapError::Form)?;
        let text = Layer::charset(&octets.layer.text, body.charset.as_deref());
        if *text.text != **wanted {
            return Err(SwapError::Form);
        }
        // Some programs show plain text that looks like HTML as HTML.
        if bare.stands_in(&text.text) || bare.stands_in(&Layer::entities(&text.text).text) {
            return Err(SwapError::Left);
        }
    }
    let after = read(&Message::read(changed));
    let new = |link: &str| swaps.iter().find(|swap| swap.from == link).map_or_else(|| link.to_owned(), |swap| swap.to.clone());
    // As sets: of a link and its text one may be left out where both are the same.
    let (mut wanted, mut possible) = (BTreeSet::new(), BTreeSet::new());
    for (number, link) in before.links.iter().enumerate() {
        match expected.sharing.get(&number) {
            Some(afterwards) => possible.extend(afterwards.clone()),
            None => {
                wanted.insert(new(link.written()));
            }
        }
    }
    let found: BTreeSet<String> = after.links.iter().map(|found| found.link.expose().to_owned()).collect();
    if guarded().any(|(from, _)| found.contains(from)) {
        return Err(SwapError::Left);
    }
    // A text that shows the beginning of a link is listed once its anchor leads elsewhere.
    let is_shown = |link: &str| {
        swaps.iter().any(|swap| {
            [Some(swap.from.as_str()), swap.one_time.as_ref().map(|one| one.link.as_str())]
                .into_iter()
                .flatten()
                .any(|old| old.starts_with(link))
        })
    };
    let same = wanted.is_subset(&found)
        && found.difference(&wanted).all(|link| possible.contains(link) || is_shown(link))
        && after.flaws == before.flaws
        && after.attachments == before.attachments
        && after.subject == before.subject
        && swaps.iter().all(|swap| swap.from == swap.to || !found.contains(&swap.from));
    if same { Ok(()) } else { Err(SwapError::Form) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINK: &str = "https://login.vendor.com/reset?action=rp&key=Xk29LmQz81PwVt7RbYcD&login=bob";
    const NEW: &str = "https://links.test/c/AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

    fn mail(fields: &str, body: &str) -> Vec<u8> {
        format!("From: a@vendor.com\r\nMIME-Version: 1.0\r\n{fields}\r\n\r\n{body}\r\n").into_bytes()
    }

    /// Each link with this token is replaced by one of its own.
    fn guarded(raw: &[u8]) -> Result<Vec<u8>, SwapError> {
        let message = Message::read(raw);
        let content = message.content().unwrapped();
        let mut swaps: Vec<Swap> = Vec::new();
        for found in
            content.links.iter().filter(|found| found.link.url().path().contains("Xk29") || found.link.expose().contains("key=Xk29"))
        {
            if !swaps.iter().any(|swap| swap.from == found.written()) {
                swaps.push(Swap::one_time(found.written().to_owned(), format!("{NEW}{}", swaps.len()), found.link.expose()));
            }
        }
        assert!(!swaps.is_empty(), "no link was found");
        Ok(apply(raw, &swap(&message, &content, &swaps)?).unwrap())
    }

    fn unwrapped(raw: &[u8]) -> Result<Vec<u8>, SwapError> {
        let message = Message::read(raw);
        let content = message.content().unwrapped();
        let swaps: Vec<Swap> =
            content.links.iter().filter_map(|found| Some(Swap::back(found.wrapped.clone()?, found.link.expose().to_owned()))).collect();
        Ok(apply(raw, &swap(&message, &content, &swaps)?).unwrap())
    }

    /// However the link is spelled: the new one stands in its place, and what is around it stays.
    #[test]
    fn every_spelling_is_replaced() {
        let html = "Content-Type: text/html; charset=utf-8";
        for (fields, before, link, behind) in [
            ("Content-Type: text/plain", "Go to ", LINK, " now"),
            ("Content-Type: text/plain", "Go to <", LINK, ">."),
            ("Content-Type: text/plain", "Go to *", "https://login.vendor.com/reset?action=*&key=Xk29LmQz81PwVt7RbYcD", "* now"),
            ("Content-Type: text/plain", "Go to '", "https://login.vendor.com/reset?n=O'Neil&key=Xk29LmQz81PwVt7RbYcD", "'."),
            (html, "<a href=\"", LINK, "\">x</a>"),
            (html, "<a href=\"", "https://login.vendor.com/reset?action=rp&#038;key=Xk29LmQz81PwVt7RbYcD&#038;login=bob", "\">x</a>"),
            (
                html,
                "<a href='",
                "https:&#x2F;&#X2f;login.vendor.com&sol;reset&quest;action=rp&AMP;key&#x3D;Xk29LmQz81PwVt7RbYcD&amp;login=bob",
                "'>x</a>",
            ),
            (html, "<a href=", "https://login.vendor.com/reset?action=rp&amp;key=Xk29LmQz81PwVt7RbYcD&amp;login=bob", ">x</a>"),
            (html, "<p>", "https://login.vendor.com/reset?action=rp&amp;key=Xk29LmQz81PwVt7RbYcD&#38;login=bob", "</p>"),
            (html, "<p>Go to ", "https://login.vendor.com/reset?action=rp&amp;key=Xk29LmQz81PwVt7RbYcD&amp;login=bob", " now</p>"),
            (
                html,
                "<!--[if mso]><v:roundrect href=\"",
                "https://login.vendor.com/reset?action=rp&amp;key=Xk29LmQz81PwVt7RbYcD&amp;login=bob",
                "\"></v:roundrect><![endif]-->",
            ),
        ] {
            let raw = mail(fields, &format!("{before}{link}{behind}"));
            assert_eq!(
                guarded(&raw).map(|after| String::from_utf8(after).unwrap()),
                Ok(String::from_utf8(mail(fields, &format!("{before}{NEW}0{behind}"))).unwrap()),
                "{link}"
            );
            // The same in the two encodings.
            let text = format!("{before}{link}{behind}\r\n");
            for (encoding, body) in [("base64", encode::tests::base64(&text)), ("quoted-printable", encode::tests::quoted_printable(&text))]
            {
                let raw = mail(&format!("{fields}\r\nContent-Transfer-Encoding: {encoding}"), &body);
                let after = guarded(&raw).unwrap_or_else(|error| panic!("{encoding} {link}: {error}"));
                let body = parts::bodies(&after).remove(0);
                let octets = Octets::of(&after, &body).unwrap();
                let text = std::str::from_utf8(&octets.layer.text).unwrap().to_owned();
                assert_eq!(text.trim_end(), format!("{before}{NEW}0{behind}"), "{encoding}");
            }
        }
    }

    /// A link that stands in pieces in one place and whole in another is replaced in both.
    #[test]
    fn in_pieces_and_whole() {
        let (front, rest) = LINK.split_at(30);
        for (fields, body, after) in [
            (
                "Content-Type: text/plain; format=flowed; delsp=yes",
                format!("Go to <{front} \r\n{rest}> now\r\nor {LINK}"),
                format!("Go to <{NEW}0> now\r\nor {NEW}0"),
            ),
            ("Content-Type: text/plain", format!("<{front}\r\n{rest}>\r\nor {LINK}"), format!("<{NEW}0>\r\nor {NEW}0")),
        ] {
            let changed = guarded(&mail(fields, &body)).map(|after| String::from_utf8(after).unwrap());
            assert_eq!(changed, Ok(String::from_utf8(mail(fields, &after)).unwrap()), "{body}");
        }
    }

    /// What is shown beside a link, or told to programs, is the same link.
    #[test]
    fn every_form_is_replaced() {
        let html = "Content-Type: text/html; charset=utf-8";
        let link = "https://id.vendor.com/c/Xk29LmQz81PwVt7RbYcD";
        for shown in [
            "http://id.vendor.com/c/Xk29LmQz81PwVt7RbYcD",
            "id.vendor.com/c/Xk29LmQz81PwVt7RbYcD",
            "https://id.vendor.com/c/Xk29LmQz81PwVt7RbYcD/",
        ] {
            let raw = mail(html, &format!("<a href=\"{link}\" title=\"{shown}\">Go</a>"));
            let after = String::from_utf8(guarded(&raw).unwrap_or_else(|error| panic!("{shown}: {error}"))).unwrap();
            assert!(!after.contains("Xk29") && after.matches(NEW).count() == 2, "{after}");
        }
        for beside in [
            "<a data-x='{\"url\":\"https:\\/\\/id.vendor.com\\/c\\/Xk29LmQz81PwVt7RbYcD\"}' href=\"https://id.vendor.com/c/Xk29LmQz81PwVt7RbYcD\">x</a>",
            "<a href=\"https://eur01.safelinks.protection.outlook.com/?url=https%3A%2F%2Fid.vendor.com%2Fc%2FXk29LmQz81PwVt7RbYcD&amp;data=05\" originalsrc=\"https://id.vendor.com/c/Xk29LmQz81PwVt7RbYcD\">x</a>",
        ] {
            let after = String::from_utf8(guarded(&mail(html, beside)).unwrap_or_else(|error| panic!("{beside}: {error}"))).unwrap();
            assert!(!after.contains("Xk29") && after.matches(NEW).count() == 2, "{after}");
        }
        let shouted = mail(html, &format!("<a href=\"HTTPS://ID.vendor.com/c/Xk29LmQz81PwVt7RbYcD\" title=\"{link}\">Go</a>"));
        assert!(guarded(&shouted).is_ok());
    }

    /// A sentence's end, a bracket, another script: no program takes them for a part of the link, or only some do.
    #[test]
    fn what_follows_a_link_stays() {
        for behind in [".", ", then", ")", "!", "\u{3002}", "\u{201d}"] {
            let raw = mail("Content-Type: text/plain; charset=utf-8", &format!("See {LINK}{behind} x"));
            if Message::read(&raw).content().links.iter().any(|found| found.link.expose() == LINK) {
                let wanted = mail("Content-Type: text/plain; charset=utf-8", &format!("See {NEW}0{behind} x"));
                assert_eq!(guarded(&raw).as_deref(), Ok(wanted.as_slice()), "{behind}");
            }
        }
    }

    #[test]
    fn all_of_them_or_none() {
        let html = "Content-Type: text/html; charset=utf-8";
        let two = "<a href=\"https://id.vendor.com/confirm/Xk29LmQz81PwVt7RbYcD/yes\">Yes</a> <a href=\"https://id.vendor.com/confirm/Xk29LmQz81PwVt7RbYcD/no\">No</a>";
        let after = String::from_utf8(guarded(&mail(html, two)).unwrap()).unwrap();
        assert!(after.contains(&format!("{NEW}0\">Yes")) && after.contains(&format!("{NEW}1\">No")), "{after}");
        // A value behind another address, in any attribute or spelling, is left nowhere.
        let message = mail(html, two);
        let message = Message::read(&message);
        let content = message.content();
        let only = [Swap::one_time(content.links[0].written().to_owned(), NEW.to_owned(), content.links[0].link.expose())];
        assert_eq!(swap(&message, &content, &only), Err(SwapError::Left));
        for left in [
            "<p title=\"https://t.test/?u=https%3A%2F%2Fid.vendor.com%2Fconfirm%2FXk29LmQz81PwVt7RbYcD%2Fyes\">",
            "<p data-x=\"//id.vendor.com/c/Xk29Lm%51z81PwVt7RbYcD\">",
        ] {
            let raw = mail(html, &format!("<a href=\"https://id.vendor.com/confirm/Xk29LmQz81PwVt7RbYcD/yes\">Yes</a>{left}"));
            assert!(guarded(&raw).is_err(), "{left}");
        }
        // A code to type is no link.
        let raw =
            mail(html, "<a href=\"https://id.vendor.com/confirm/Xk29LmQz81PwVt7RbYcD/yes\">Yes</a><p>Or type Xk29LmQz81PwVt7RbYcD</p>");
        assert!(guarded(&raw).is_ok());
    }

    #[test]
    fn what_gateways_wrote_is_put_back() {
        let link = "https://login.vendor.com/reset/c1a9d03b7e5f2846a0b9c8d7e6f5a4b3c2d1e0f9";
        let proofpoint = format!("https://urldefense.com/v3/__{link}__;!!HXCxUKc!gS3R_a6o2YLKi40$");
        let safe = "https://eur01.safelinks.protection.outlook.com/?url=https%3A%2F%2Flogin.vendor.com%2Freset%2Fc1a9d03b7e5f2846a0b9c8d7e6f5a4b3c2d1e0f9&amp;data=05%7C02&amp;reserved=0";
        let plain = "Content-Type: text/plain";
        let html = "Content-Type: text/html; charset=utf-8";
        for (fields, wrapped, original) in [
            (plain, format!("Reset: \r\n{proofpoint}\r\nBye"), format!("Reset: \r\n{link}\r\nBye")),
            (plain, format!("Reset: \r\n{proofpoint} [login[.]vendor[.]com]\r\nBye"), format!("Reset: \r\n{link}\r\nBye")),
            (html, format!("<a href=\"{proofpoint}\">Reset</a>"), format!("<a href=\"{link}\">Reset</a>")),
            (html, format!("<a href=\"{safe}\">{link}</a>"), format!("<a href=\"{link}\">{link}</a>")),
            (html, format!("<a href=\"{safe}\">{safe}</a>"), format!("<a href=\"{link}\">{link}</a>")),
        ] {
            let after = unwrapped(&mail(fields, &wrapped)).unwrap_or_else(|error| panic!("{wrapped}: {error}"));
            assert_eq!(String::from_utf8(after).unwrap(), String::from_utf8(mail(fields, &original)).unwrap());
        }
    }
}
