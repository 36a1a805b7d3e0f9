//! Mails made of the forms that templates, mail programs and MTAs give one-time links. The same number gives the same mail.

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};

/// A mail and the values of its one-time links.
pub(crate) struct Made {
    pub(crate) raw: Vec<u8>,
    pub(crate) tokens: Vec<String>,
}

/// Numbers without a pattern (`SplitMix64`).
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, most: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(most).unwrap()).unwrap()
    }

    fn of<'i, T>(&mut self, items: &'i [T]) -> &'i T {
        &items[self.below(items.len())]
    }

    fn letters(&mut self, alphabet: &str, count: usize) -> String {
        let letters: Vec<char> = alphabet.chars().collect();
        (0..count).map(|_| *self.of(&letters)).collect()
    }
}

const HEX: &str = "0123456789abcdef";
const BASE64_URL: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

pub(crate) fn mail(number: usize) -> Made {
    let mut dice = Dice(u64::try_from(number).unwrap() * 7_919);
    let token = match dice.below(4) {
        0 => dice.letters(HEX, 40),
        1 => format!("{}Z9", dice.letters(BASE64_URL, 30)),
        2 => [8, 4, 4, 4, 12].map(|count| dice.letters(HEX, count)).join("-"),
        _ => format!("eyJhbGciOiJIUzI1NiJ9.{}.{}", dice.letters(BASE64_URL, 120), dice.letters(BASE64_URL, 43)),
    };
    let base = match dice.below(5) {
        0 => format!("https://login.acme.example/reset/{token}"),
        1 => format!("https://login.acme.example/wp-login.php?action=rp&key={token}&login=bob"),
        2 => format!("https://app.acme.example/#/verify?token={token}&lang=de"),
        3 => format!("https://id.acme.example/c/{token}/"),
        _ => format!("https://id.acme.example/r?u=bob%40corp.example&t={token}&next=%2Fhome"),
    };
    let join = if base.contains('?') { '&' } else { '?' };
    let links = match dice.below(4) {
        0 => vec![base],
        1 => vec![format!("{base}{join}answer=yes"), format!("{base}{join}answer=no")],
        2 => vec![base.clone(), format!("{base}{join}utm_source=tx&utm_medium=email")],
        _ => vec![base.replacen("https", "http", 1), base.clone(), base.replace("acme.example", "ACME.example")],
    };
    let charset = *dice.of(&["utf-8", "utf-8", "utf-8", "iso-8859-1", "iso-2022-jp", "us-ascii"]);
    let words = match charset {
        "us-ascii" => "Reset your password: the link expires in 1 hour.",
        "iso-2022-jp" => "パスワードを再設定してください。",
        "iso-8859-1" => "Réinitialisez votre mot de passe, s'il vous plaît.",
        _ => "Сбросьте пароль — réinitialisez ✓",
    };
    let plain = plain(&mut dice, &links, words);
    let html = html(&mut dice, &links, words);
    let mut part = |kind: &str, text: &str| part(&mut dice, kind, charset, text);
    let body = match number % 4 {
        0 => part("plain", &plain),
        1 => part("html", &html),
        shape => {
            let (one, other) = (part("plain", &plain), part("html", &html));
            let mut body = b"Content-Type: multipart/alternative; boundary=\"=_b1\"\r\n\r\n".to_vec();
            for part in [one, other] {
                body.extend_from_slice(b"--=_b1\r\n");
                body.extend_from_slice(&part);
                body.extend_from_slice(b"\r\n");
            }
            body.extend_from_slice(b"--=_b1--\r\n");
            if shape == 3 {
                let mut outer = b"Content-Type: multipart/mixed; boundary=b0\r\n\r\n--b0\r\n".to_vec();
                outer.extend_from_slice(&body);
                outer.extend_from_slice(b"\r\n--b0--\r\n");
                body = outer;
            }
            body
        }
    };
    let mut raw = format!(
        "From: Acme <noreply@acme.example>\r\nTo: bob@corp.example\r\nSubject: Reset your password\r\nDate: Wed, 25 Nov 2026 14:00:00 +0000\r\nMessage-ID: <{number}@acme.example>\r\nMIME-Version: 1.0\r\n"
    )
    .into_bytes();
    raw.extend_from_slice(&body);
    Made { raw, tokens: vec![token] }
}

fn tracker(dice: &mut Dice) -> String {
    match dice.below(3) {
        0 => format!("https://u123.ct.sendgrid.net/ls/click?upn=u001.{}", dice.letters(BASE64_URL, 60)),
        1 => format!("https://click.acme.example/CL0/https:%2F%2Fwww.acme.example%2Fhelp/1/{}", dice.letters(HEX, 24)),
        _ => "https://www.acme.example/help?utm_source=tx&utm_medium=email".to_owned(),
    }
}

fn plain(dice: &mut Dice, links: &[String], words: &str) -> String {
    let mut text = format!("{words}\r\n\r\n");
    for link in links {
        let around = dice.of(&[("", ""), ("<", ">"), ("Link: ", ""), ("(", ")"), ("Go to ", " now"), ("\"", "\""), ("> ", "")]);
        text.push_str(&format!("{}{link}{}\r\n\r\n", around.0, around.1));
    }
    text.push_str(&format!("Help: {}\r\n", tracker(dice)));
    text
}

/// A link as a template engine may spell it in HTML.
fn spelled(dice: &mut Dice, link: &str) -> String {
    let style = dice.below(6);
    let mut out = String::new();
    for letter in link.chars() {
        let pick = |dice: &mut Dice, forms: &[&str]| (*dice.of(forms)).to_owned();
        let piece = match (style, letter) {
            (1, '&') => "&#038;".to_owned(),
            (2, '/') => "&#x2F;".to_owned(),
            (2, '=') => "&#x3D;".to_owned(),
            (0 | 2 | 5, '&') => "&amp;".to_owned(),
            (3, '&') => pick(dice, &["&amp;", "&#38;", "&#x26;", "&#X26;", "&AMP;", "&#0038;"]),
            (3, '/') => pick(dice, &["/", "&sol;", "&#47;", "&#x2f;", "&#x2F;", "&#X002f;"]),
            (3, '=') => pick(dice, &["=", "&equals;", "&#61;", "&#x3d;"]),
            (3, '.') => pick(dice, &[".", "&period;", "&#46;"]),
            (3, ':') => pick(dice, &[":", "&colon;", "&#x3A;"]),
            (3, '?') => pick(dice, &["?", "&quest;", "&#63;"]),
            (3, '%') => pick(dice, &["%", "&percnt;", "&#37;"]),
            (5, letter) if dice.below(12) == 0 => format!("&#{};", u32::from(letter)),
            _ => letter.to_string(),
        };
        out.push_str(&piece);
    }
    out
}

fn html(dice: &mut Dice, links: &[String], words: &str) -> String {
    let mut text = format!("<!DOCTYPE html>\r\n<html><head><title>x</title></head><body><p>{words}</p>\r\n");
    for link in links {
        let one = spelled(dice, link);
        let other = spelled(dice, link);
        text.push_str(&match dice.below(8) {
            0 => format!("<p><a href=\"{one}\">Reset</a></p>"),
            1 => format!("<p><a class='b' href='{one}' target=_blank>Yes &amp; go</a><br>{other}</p>"),
            2 => format!("<a href=\"{one}\">{other}</a>"),
            3 => format!("<p>Copy: {other} </p><a\r\n href = \"{one}\">Go</a>"),
            4 => format!(
                "<!--[if mso]><v:roundrect xmlns:v=\"urn:schemas-microsoft-com:vml\" href=\"{one}\" arcsize=\"8%\"><center>Go</center></v:roundrect><![endif]--><!--[if !mso]><!--><a href=\"{other}\">Go</a><!--<![endif]-->"
            ),
            5 => format!("<div><a href={} >Go</a></div>", if one.contains(['"', '\'']) { other } else { one }),
            6 => format!("<table><tr><td><a href=\"{one}\"><b>Reset</b></a></td><td><a href=\"{other}\">Or here</a></td></tr></table>"),
            _ => format!("<a href=\"{one}\" title=\"{other}\">Go</a>"),
        });
        text.push_str("\r\n");
    }
    let counted = tracker(dice).replace('&', "&amp;");
    text.push_str(&format!(
        "<a href=\"{counted}\">Help</a><img src=\"https://t.acme.example/o/1.gif\" width=1 height=1></body></html>\r\n"
    ));
    text
}

/// A part with its header, in one of the transfer encodings.
fn part(dice: &mut Dice, kind: &str, charset: &str, text: &str) -> Vec<u8> {
    let octets: Vec<u8> = match charset {
        "iso-2022-jp" => encoding_rs::ISO_2022_JP.encode(text).0.into_owned(),
        "iso-8859-1" => text.chars().map(|letter| u8::try_from(u32::from(letter)).unwrap()).collect(),
        _ => text.as_bytes().to_vec(),
    };
    let long = octets.split(|octet| *octet == b'\n').any(|line| line.len() > 990);
    let (encoding, body) = match dice.below(4) {
        0 if octets.is_ascii() && !long => ("7bit", octets),
        1 if !long => ("8bit", octets),
        2 => {
            let encoded = BASE64.encode(&octets);
            let lines: Vec<&str> = encoded.as_bytes().chunks(76).map(|line| std::str::from_utf8(line).unwrap()).collect();
            ("base64", lines.join("\r\n").into_bytes())
        }
        _ => ("quoted-printable", quoted_printable(dice, &octets)),
    };
    let mut part = format!("Content-Type: text/{kind}; charset={charset}\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n").into_bytes();
    part.extend_from_slice(&body);
    part
}

/// Quoted-printable with soft line breaks wherever an encoder may set them.
fn quoted_printable(dice: &mut Dice, text: &[u8]) -> Vec<u8> {
    let width = 40 + dice.below(36);
    let shy = dice.below(3) == 0;
    let (mut out, mut column) = (Vec::new(), 0);
    let mut rest = text;
    while let Some((octet, behind)) = rest.split_first() {
        if rest.starts_with(b"\r\n") {
            out.extend_from_slice(b"\r\n");
            column = 0;
            rest = &rest[2..];
            continue;
        }
        let at_end = behind.is_empty() || behind.starts_with(b"\r\n");
        let plain = matches!(octet, b'!'..=b'<' | b'>'..=b'~') || (*octet == b' ' && !at_end);
        let piece = match plain {
            true if shy && dice.below(20) == 0 => format!("={octet:02X}").into_bytes(),
            true => vec![*octet],
            false => format!("={octet:02X}").into_bytes(),
        };
        if column + piece.len() > width {
            out.extend_from_slice(b"=\r\n");
            column = 0;
        }
        column += piece.len();
        out.extend_from_slice(&piece);
        rest = behind;
    }
    out
}
