//! Whether a plain text could be shown as HTML.
//!
//! Some programs look into a text and not at its type (WHATWG MIME Sniffing section 7.1 for browsers), some webmails put it into
//! their page with its tags or with its entities. What such a program shows is read besides the plain text.

/// Whether a text holds what an HTML tokenizer takes for a tag, a declaration or a letter written as an entity. Looks at each
/// octet once, and at a bounded number behind each `<` and `&`.
pub(super) fn looks_like_html(text: &str) -> bool {
    let bytes = text.as_bytes();
    memchr::memchr_iter(b'<', bytes).any(|at| is_tag(bytes.get(at + 1..).unwrap_or_default()))
        || memchr::memchr_iter(b'&', bytes).any(|at| text.get(at..).is_some_and(is_letter))
}

/// Whether a tag or a declaration follows `<`. Addresses between brackets, which many plain texts have, are none: behind
/// `<https:` and `<ann` there stand a slash and a dot or an `@`.
fn is_tag(rest: &[u8]) -> bool {
    match rest {
        [b'!', next, ..] => next.is_ascii_alphabetic() || matches!(next, b'-' | b'['),
        [b'?', next, ..] => next.is_ascii_alphabetic(),
        [first, ..] if first.is_ascii_alphabetic() => {
            let name = rest.iter().take(LONGEST_NAME).take_while(|byte| byte.is_ascii_alphanumeric() || b"-_:".contains(byte)).count();
            let ends_in_colon = name.checked_sub(1).and_then(|last| rest.get(last)) == Some(&b':');
            !ends_in_colon && rest.get(name).is_some_and(|next| next.is_ascii_whitespace() || b"/>\"'=\0".contains(next))
        }
        _ => false,
    }
}

/// Whether an entity stands for what could be a part of an address. Mails made from HTML write the others into their texts.
fn is_letter(entity: &str) -> bool {
    let bytes = entity.as_bytes();
    let run = |more: &[u8]| {
        bytes.iter().skip(1).take(LONGEST_ENTITY).take_while(|byte| byte.is_ascii_alphanumeric() || more.contains(byte)).count() + 1
    };
    let end = run(b"#");
    let is_closed = bytes.get(end) == Some(&b';');
    // `&copy=2` and `&timestamp=3` are fields of a query, and a name with a `=` in it is none.
    if !is_closed && bytes.get(1) != Some(&b'#') && bytes.get(run(b"-_")) == Some(&b'=') {
        return false;
    }
    let written = entity.get(..end + usize::from(is_closed)).unwrap_or_default();
    let read = htmlize::unescape(written);
    *read != *written && !read.starts_with(['&', '<', '>', '"', '\'', '=', '`', ' ', '\u{a0}'])
}

/// Octets of an element's name that are looked at.
const LONGEST_NAME: usize = 32;
/// Octets of an entity's name that are looked at; the longest has 31.
const LONGEST_ENTITY: usize = 33;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_program_that_sniffs_shows() {
        for text in [
            "<!doctype html><p>x",
            "<!-- x -->",
            "<html>",
            "<HTML\n>",
            "<?xml version='1.0'?>",
            "see <v:rect href='https://a.com/'>",
            "<math><mi href=x>",
            "<svg/onload=x>",
            "<x-y z>",
            "<![CDATA[x]]>",
            "evil&#46;com",
            "evil&#x2e;com",
            "evil&#46com",
            "evil&period;com",
            "evil&shy;.com",
            "ev&shyil.com",
            "b&uuml;cher.de",
            "&#104;ttps://evil.com",
        ] {
            assert!(looks_like_html(text), "{text}");
        }
        for text in [
            "Reset it: <https://a.com/x?y=1&amp;z=2>",
            "<https://a.com/x>\r\n<http://a.com>",
            "Ann <ann@corp.example>, <ann.lee@corp.example>, <mailto:ann@corp.example>",
            "a < b, 1<2, <3, <-, <=>, x<",
            "Tom &amp; Jerry, &quot;x&quot; &#39;y&#39; &nbsp; &lt;b&gt; R&D AT&T x?a=1&copy=2z&b",
            "https://a.com/x?a=1&region=2&timestamp=3&currency_code=EUR",
            "<www.a.com/x>",
        ] {
            assert!(!looks_like_html(text), "{text}");
        }
    }

    #[test]
    fn long_texts_are_read_once() {
        for piece in ["<", "&", "<a", "&#4", "<a:", "&amp"] {
            let _ = looks_like_html(&piece.repeat(300_000));
        }
    }
}
