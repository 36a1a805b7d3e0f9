//! The mails that are counted: an ordinary one, a reset mail, and what grows.

use std::fmt::Write as _;

/// An ordinary mail of so many octets, of an author whom no entry names.
pub(crate) fn ordinary(octets: usize) -> Vec<u8> {
    let mut mail = String::from(
        "Received: from smtp-out.partner.example (smtp-out.partner.example [192.0.2.10])\r\n\tby mx.corp.example with ESMTPS id 4XyZ; \
         Mon, 23 Nov 2026 10:00:00 +0000\r\nReturn-Path: <ann@partner.example>\r\nFrom: Ann <ann@partner.example>\r\n\
         To: bob@corp.example\r\nSubject: Minutes of the meeting\r\nDate: Mon, 23 Nov 2026 10:00:00 +0000\r\n\
         Message-ID: <1@partner.example>\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n",
    );
    for line in 0.. {
        if mail.len() >= octets {
            break;
        }
        write!(mail, "This is line {line:04} of an ordinary mail with nothing to match in it, see https://example.org/page/{line}\r\n")
            .unwrap();
    }
    mail.into_bytes()
}

/// The fields of a reset mail of vendor.test's, as its upstream hands it over, which says that the signature holds.
const HEAD: &str = "Authentication-Results: mx.corp.example; dkim=pass header.d=vendor.test header.s=s1;\r\n\tspf=pass \
    smtp.mailfrom=bounce@vendor.test; dmarc=pass header.from=vendor.test\r\n\
    Received: from smtp-out.vendor.test (smtp-out.vendor.test [192.0.2.10])\r\n\tby mx.corp.example with ESMTPS id 4XyZ; \
    Mon, 23 Nov 2026 10:00:00 +0000\r\nReturn-Path: <bounce@vendor.test>\r\n\
    DKIM-Signature: v=1; a=rsa-sha256; d=vendor.test; s=s1; t=1795428000;\r\n\
    \th=from:to:subject:date:message-id:mime-version:content-type; bh=YWJj; b=YWJj\r\n\
    From: Vendor <no-reply@vendor.test>\r\nTo: bob@corp.example\r\nSubject: Finish resetting your Vendor password\r\n\
    Date: Mon, 23 Nov 2026 10:00:00 +0000\r\nMessage-ID: <reset-1@vendor.test>\r\nMIME-Version: 1.0\r\n\
    Content-Type: multipart/alternative; boundary=\"b1\"\r\n\r\n";

/// The moment at which the mails came, in seconds.
pub(crate) const CAME: i64 = 1_795_428_060;

/// The entry for it.
pub(crate) const ENTRY: &str = r#"
from = ["no-reply@vendor.test"]
other_links = ["www.vendor.test/help/*"]
recipients = ["*@corp.example"]
owner = "it@corp.example"
action = ["guard", "tag"]
[links]
password_reset = ["login.vendor.test/secur/forgotpassword.jsp?c={token}&lang={word}"]
invite = ["login.vendor.test/join/{token}"]
"#;

/// The link of the reset mail.
const LINK: &str =
    "https://login.vendor.test/secur/forgotpassword.jsp?c=k3x9q2mzbn4vL7Qw8sYp1Hd5sQk3vTq9LxB1dYwKpZ8sLxTz8wKpYx1Hd5sQeR6t&lang=en_US";

/// A reset mail of 8 KB: a plain text and an HTML part, the link in both, wrapped by a scanner where that is asked.
pub(crate) fn reset(links: Links) -> Vec<u8> {
    let link = match links {
        Links::Plain => LINK.to_owned(),
        Links::Wrapped => {
            let inner: String = url::form_urlencoded::byte_serialize(LINK.as_bytes()).collect();
            format!("https://eur01.safelinks.protection.outlook.com/?url={inner}&data=05")
        }
    };
    let mut html = format!("<html><body><p>Hi Bob,</p><p><a href=\"{}\">Reset your password</a></p>\r\n", link.replace('&', "&amp;"));
    for line in 0..65 {
        write!(html, "<p style=\"color:#333;font-family:Arial\">Line {line:03} of ordinary marketing boilerplate text.</p>\r\n").unwrap();
    }
    html.push_str("<p><a href=\"https://www.vendor.test/help/articles\">Help</a></p></body></html>\r\n");
    let plain = format!(
        "Hi Bob,\r\n\r\nYou recently asked to reset your password. Open this link to finish:\r\n{link}\r\n\r\nIt expires in 24 hours.\r\n"
    );
    alternative(&plain, &html)
}

/// Whether a scanner wrapped a mail's links.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Links {
    Plain,
    Wrapped,
}

/// A mail of the vendor's with so many links in an HTML part of its own.
pub(crate) fn links(count: usize) -> Vec<u8> {
    let links: String = (0..count)
        .map(|at| format!("<p><a href=\"https://www.vendor.test/help/{at}?page=k3x9q2mz{at}\">Article {at}</a></p>\r\n"))
        .collect();
    alternative("See below.\r\n", &format!("<html><body>{links}</body></html>\r\n"))
}

fn alternative(plain: &str, html: &str) -> Vec<u8> {
    let part = |kind: &str, text: &str| {
        format!(
            "--b1\r\nContent-Type: text/{kind}; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n{}",
            quoted_printable(text)
        )
    };
    format!("{HEAD}{}{}--b1--\r\n", part("plain", plain), part("html", html)).into_bytes()
}

/// Quoted-printable as senders write it (RFC 2045 section 6.7).
fn quoted_printable(text: &str) -> String {
    let mut out = String::new();
    for line in text.replace('=', "=3D").split_inclusive("\r\n") {
        let mut rest = line;
        while rest.trim_end().len() > 76 {
            let cut = (73_usize..=75).rev().find(|at| !rest.get(at - 2..*at).unwrap().contains('=')).unwrap();
            let (head, tail) = rest.split_at(cut);
            out.push_str(head);
            out.push_str("=\r\n");
            rest = tail;
        }
        out.push_str(rest);
    }
    out
}

/// Hostile texts and markup: a name, what is repeated, and an end.
pub(crate) const TEXTS: &[(&str, &str, &str)] = &[
    ("names", "www.a.co ", ""),
    ("names without a blank", "www.a.co|", ""),
    ("names in another script", "a.co/é", ""),
    ("dots", ".", ""),
    ("labels", "a.", "com"),
    ("labels that end", "co.", "x"),
    ("ideographic dots", "字。", ""),
    ("underscores", "a_b.", "com"),
    ("soft hyphens", "a.co\u{ad}", ""),
    ("schemes", "http://", ""),
    ("colons", "x://", ""),
    ("slashes", "//", ""),
    ("backslashes", "\\\\a", ""),
    ("at signs", "a.co@", ""),
    ("mail addresses", "a@a.co ", ""),
    ("brackets", "https://a.co/(", ""),
    ("angle brackets", "<", ""),
    ("angle brackets over lines", "<a.co\r\n", ">"),
    ("lines", "begin 644\r\n", ""),
    ("one word", "a", ""),
    ("one link", "https://a.co/", ""),
];
pub(crate) const MARKUP: &[(&str, &str, &str)] = &[
    ("anchors", "<a href=https://a.co>https://a.co</a> ", ""),
    ("anchors that stay open", "<a href=x>", ""),
    ("starts of anchors", "<a", ""),
    ("starts of tags", "<", ""),
    ("attributes", "<a x=y href", ">"),
    ("many attributes", " a", ">"),
    ("an open quote", "<a href=\"", ""),
    ("conditional comments", "<!--[if mso]>", ""),
    ("comments", "<!-- x -->", ""),
    ("raw text", "<noscript><xmp>", ""),
    ("titles", "<title>", ""),
    ("entities", "&amp;", ""),
    ("entities without an end", "&", ""),
    ("numbers", "&#46;a", ""),
    ("formatting", "a<b>.co</b>", ""),
    ("blocks", "<p>a.co", ""),
    ("deep", "<div>", ""),
    ("foreign", "<svg><![CDATA[a.co]]>", ""),
    ("tips", "<p title='a.co b.co'>", ""),
];
/// Hostile structure: a name, a mail's fields with its blank line, what is repeated, and an end.
pub(crate) const STRUCTURE: &[(&str, &str, &str, &str)] = &[
    ("header fields", "", "a: b\r\n", "\r\nx\r\n"),
    ("folded lines", "X:", " b\r\n", "\r\nx\r\n"),
    ("base64", "Content-Type: text/plain\r\nContent-Transfer-Encoding: base64\r\n\r\n", "d3d3LmEuY28g\r\n", ""),
    ("parts", "Content-Type: multipart/mixed; boundary=b\r\n\r\n", "--b\r\n\r\nx\r\n", "--b--\r\n"),
    ("parts in parts", "Content-Type: multipart/mixed; boundary=b\r\n\r\n", "--b\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n", ""),
];

/// A mail of so many octets that repeats a pattern behind these fields.
pub(crate) fn hostile(fields: &str, pattern: &str, end: &str, octets: usize) -> Vec<u8> {
    format!("From: a@bank.test\r\nMIME-Version: 1.0\r\n{fields}{}{end}", pattern.repeat(octets / pattern.len())).into_bytes()
}
