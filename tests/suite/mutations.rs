//! Ten thousand mails that were exempted, each changed at random: fields moved, doubled and folded, parts and encodings
//! changed, links and authors added. The sender counts as proven for all of them, as if the attacker had the vendor's key,
//! so that only the reading of the mail stands between a stranger's link and an exemption.
//!
//! A change that brings in `attack.test`, in whatever way, must not be exempted. Some changes that bring in nothing must be,
//! or the test could not fail.

use std::collections::BTreeMap;

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use firstclick::{
    allowlist::{
        Allowlist, Mode, Verdict,
        judge::{self, BodyFacts, HeaderFacts},
    },
    clock::Timestamp,
    identity::proof::{AuthResult, Coverage, Identity, Signature, Source},
    message::Message,
    recognition::Recogniser,
    settings::{Problems, allow},
};

use crate::hop::faulty::Dice;

const ENTRY: &str = r#"
from = ["bank.test"]
other_links = ["www.bank.test"]
owner = "it@corp.example"
action = "tag"
[links]
password_reset = ["login.bank.test/reset/{token}"]
"#;

/// A mail as its pieces, so that changes can be put together.
#[derive(Clone)]
struct Mail {
    fields: Vec<String>,
    boundary: String,
    preamble: String,
    parts: Vec<Part>,
    epilogue: String,
}

#[derive(Clone)]
struct Part {
    kind: String,
    body: String,
    encoding: Encoding,
    more: String,
}

#[derive(Clone, Copy, PartialEq)]
enum Encoding {
    Plain,
    QuotedPrintable,
    Base64,
    /// Base64 with something in it that decoders treat in their own ways.
    OddBase64,
}

fn genuine() -> Mail {
    let link = "https://login.bank.test/reset/6d0f6b2f9c1e4a7f8b3d5c2a1e9f7b604d3c2b1a";
    let part = |kind: &str, body: String| Part { kind: kind.into(), body, encoding: Encoding::Plain, more: String::new() };
    Mail {
        fields: [
            "From: Bank <support@bank.test>",
            "To: bob@corp.example",
            "Subject: Reset your password",
            "Date: Tue, 24 Nov 2026 10:00:00 +0000",
            "Message-ID: <1@bank.test>",
            "MIME-Version: 1.0",
        ]
        .map(str::to_owned)
        .to_vec(),
        boundary: "b1".into(),
        preamble: String::new(),
        parts: vec![
            part(
                "text/plain; charset=utf-8",
                format!("You asked to reset your password. Open this link to choose a new one:\r\n{link}\r\n"),
            ),
            part(
                "text/html; charset=utf-8",
                format!(
                    "<html><body><p>You asked to reset your password.</p><a href=\"{link}\">Reset your password</a> <a href=\"https://www.bank.test/\">Bank</a></body></html>\r\n"
                ),
            ),
        ],
        epilogue: String::new(),
    }
}

impl Part {
    fn written(&self) -> String {
        let (name, body) = match self.encoding {
            Encoding::Plain => ("8bit", self.body.clone()),
            Encoding::QuotedPrintable => (
                "quoted-printable",
                self.body
                    .replace('=', "=3D")
                    .split("\r\n")
                    .map(|line| {
                        line.as_bytes()
                            .chunks(70)
                            .map(|piece| String::from_utf8_lossy(piece).into_owned())
                            .collect::<Vec<_>>()
                            .join("=\r\n")
                    })
                    .collect::<Vec<_>>()
                    .join("\r\n"),
            ),
            Encoding::Base64 => ("base64", wrapped(&BASE64.encode(&self.body))),
            Encoding::OddBase64 => {
                let mut text = BASE64.encode(&self.body);
                text.insert(text.len() / 2, '.');
                ("base64", wrapped(&text))
            }
        };
        format!("Content-Type: {}\r\n{}Content-Transfer-Encoding: {name}\r\n\r\n{body}", self.kind, self.more)
    }
}

fn wrapped(text: &str) -> String {
    text.as_bytes().chunks(76).map(|line| format!("{}\r\n", std::str::from_utf8(line).unwrap())).collect()
}

impl Mail {
    fn written(&self) -> String {
        let mut out: String = self.fields.iter().map(|field| format!("{field}\r\n")).collect();
        out.push_str(&format!("Content-Type: multipart/alternative; boundary=\"{}\"\r\n\r\n{}", self.boundary, self.preamble));
        for part in &self.parts {
            out.push_str(&format!("--{}\r\n{}\r\n", self.boundary, part.written()));
        }
        out.push_str(&format!("--{}--\r\n{}", self.boundary, self.epilogue));
        out
    }
}

/// Whether a change brings in the stranger.
#[derive(Clone, Copy, PartialEq)]
enum Brings {
    Nothing,
    Stranger,
}

fn pick<'t, T>(dice: &Dice, from: &'t [T]) -> &'t T {
    &from[usize::try_from(dice.throw(from.len() as u64)).unwrap()]
}

fn below(dice: &Dice, most: usize) -> usize {
    usize::try_from(dice.throw(most as u64)).unwrap()
}

/// One change at random.
fn change(mail: &mut Mail, dice: &Dice) -> Brings {
    let anchors = [
        "<a href=\"https://attack.test/\">x</a>",
        "<a style=\"display:none\" href='https://attack.test/x'></a>",
        "<A HREF=https://attack.test/>x",
        "<a href=\"https://www.bank.test@attack.test/\">x</a>",
        "<a href=\"https://www.bank.test.attack.test/\">x</a>",
        "<!--[if mso]><a href=\"https://attack.test/\">x</a><![endif]-->",
        "<noscript><a href=\"https://attack.test/\">x</a></noscript>",
        "<area href=\"https://attack.test/\">",
        "<form action=\"https://attack.test/\"><input type=submit></form>",
        "<base href=\"https://attack.test/\">",
        "<a href=\"&#104;ttps://attack.test/\">x</a>",
        "<a href=\"https://login.bank.test/reset/../r?u=https://attack.test/\">x</a>",
        "<meta http-equiv=refresh content=\"0;url=https://attack.test/\">",
        "https://attack.test/reset",
        "www.attack.test/reset",
        "<a href=\"https:\\\\attack.test\">x</a>",
        "<a href=\"//attack.test/\">x</a>",
        "<svg><a xlink:href=\"https://attack.test/\"><text>x</text></a></svg>",
    ];
    let stranger = |dice: &Dice, encoding| Part {
        kind: "text/html; charset=utf-8".into(),
        body: format!("<p>{}</p>\r\n", pick(dice, &anchors)),
        encoding,
        more: String::new(),
    };
    match dice.throw(24) {
        0 => mail.fields.rotate_left(1),
        1 => {
            let at = below(dice, mail.fields.len());
            let field = mail.fields.remove(at);
            let to = below(dice, mail.fields.len() + 1);
            mail.fields.insert(to, field);
        }
        2 => {
            let at = below(dice, mail.fields.len());
            let copy = mail.fields[at].clone();
            mail.fields.push(copy);
        }
        3 => {
            let at = below(dice, mail.fields.len());
            mail.fields[at] = mail.fields[at].replacen(": ", ":\r\n ", 1);
        }
        4 => {
            let at = below(dice, mail.fields.len());
            let (name, rest) = mail.fields[at].split_once(':').unwrap_or(("X", " x"));
            mail.fields[at] = format!("{}:{rest}", name.to_uppercase());
        }
        5 => mail.fields.push(format!("X-Odd-{}: {}", dice.throw(1_000), "x".repeat(below(dice, 100)))),
        6 => mail.boundary = format!("=_{:x}", dice.throw(1 << 40)),
        7 => {
            let at = below(dice, mail.parts.len());
            mail.parts[at].encoding = *pick(dice, &[Encoding::Plain, Encoding::QuotedPrintable, Encoding::Base64]);
        }
        8 => mail.parts.reverse(),
        9 => mail.preamble = "This is a multi-part message in MIME format.\r\n".into(),
        10 => {
            let at = below(dice, mail.parts.len());
            mail.parts[at].body.push_str("<p>Thank you.</p>\r\n");
        }
        11 => {
            let at = below(dice, mail.parts.len());
            mail.parts[at].more = String::from(*pick(
                dice,
                &["X-Part: 1\r\n", "Content-Language: en\r\n", "Content-Transfer-Encoding: base64\r\n", "Content-Type: text/plain\r\n"],
            ));
        }
        // From here on the stranger comes along.
        12 | 13 => {
            let at = below(dice, mail.parts.len());
            let anchor = *pick(dice, &anchors);
            let body = &mut mail.parts[at].body;
            let place = body.find("</body>").unwrap_or(body.len());
            body.insert_str(place, &format!(" {anchor} "));
            return Brings::Stranger;
        }
        14 => {
            let at = below(dice, mail.parts.len());
            mail.parts[at].body = mail.parts[at].body.replacen(
                "login.bank.test",
                pick::<&str>(dice, &["login.attack.test", "login.bank.test.attack.test", "login.bank.test@attack.test"]),
                1,
            );
            return Brings::Stranger;
        }
        15 => {
            let encoding = *pick(dice, &[Encoding::Plain, Encoding::QuotedPrintable, Encoding::Base64, Encoding::OddBase64]);
            let place = below(dice, mail.parts.len() + 1);
            mail.parts.insert(place, stranger(dice, encoding));
            return Brings::Stranger;
        }
        16 => {
            let mut part = stranger(dice, Encoding::Plain);
            part.kind = String::from(*pick(
                dice,
                &[
                    "message/rfc822",
                    "text/x-amp-html",
                    "image/svg+xml",
                    "application/octet-stream; name=x.html",
                    "text/html; charset=utf-7",
                    "text/html; charset=utf-16",
                    "text/plain",
                ],
            ));
            if part.kind == "message/rfc822" {
                part.body = format!("Subject: x\r\nContent-Type: text/html\r\n\r\n{}", part.body);
            }
            mail.parts.push(part);
            return Brings::Stranger;
        }
        17 => {
            mail.preamble = format!("{}\r\n", pick(dice, &anchors));
            return Brings::Stranger;
        }
        18 => {
            mail.epilogue = format!("{}\r\n", pick(dice, &anchors));
            return Brings::Stranger;
        }
        19 => {
            let from = *pick(dice, &["From: x@attack.test", "From : x@attack.test", "FROM: Bank <x@attack.test>"]);
            let place = below(dice, mail.fields.len() + 1);
            mail.fields.insert(place, from.into());
            return Brings::Stranger;
        }
        20 => {
            let from = *pick(
                dice,
                &[
                    "From: Bank <x@attack.test>",
                    "From: support@bank.test, x@attack.test",
                    "From: <x@attack.test>support@bank.test",
                    "From: \"support@bank.test\" <x@attack.test>",
                    "From: <@attack.test:support@bank.test>",
                ],
            );
            let at = mail.fields.iter().position(|field| field.to_lowercase().starts_with("from:")).unwrap_or(0);
            mail.fields[at] = from.into();
            return Brings::Stranger;
        }
        21 => {
            // A part inside that starts another multipart whose boundary begins like ours.
            let inner = &mail.boundary[..1];
            mail.parts.push(Part {
                kind: format!("multipart/mixed; boundary=\"{inner}\""),
                body: format!("--{inner}\r\n{}\r\n--{inner}--\r\n", stranger(dice, Encoding::Plain).written()),
                encoding: Encoding::Plain,
                more: String::new(),
            });
            return Brings::Stranger;
        }
        22 => {
            // Behind the closing delimiter, for readers that go on.
            mail.epilogue = format!("--{}\r\n{}\r\n", mail.boundary, stranger(dice, Encoding::Base64).written());
            return Brings::Stranger;
        }
        _ => {
            let at = below(dice, mail.parts.len());
            mail.parts[at].body.insert_str(0, &format!("{}\r\n", pick(dice, &anchors)));
            return Brings::Stranger;
        }
    }
    Brings::Nothing
}

#[test]
fn no_stranger_is_exempted_whatever_is_changed() {
    let mut problems = Problems::default();
    let entry =
        allow::compile("bank.toml", "bank", ENTRY, Mode::Enforce, &mut Vec::new(), &mut problems).unwrap_or_else(|| panic!("{problems}"));
    let allowlist = Allowlist::new(vec![entry]);
    let recogniser = Recogniser::built_in().unwrap();
    let domain = firstclick::message::Domain::parse("bank.test").unwrap();
    let signature = Signature {
        domain: Some(domain),
        selector: "s1".into(),
        result: AuthResult::Pass,
        weakness: None,
        coverage: Coverage::Whole,
        signed_at: Some(0),
        aligned: true,
        id: [1; 32],
    };
    let identity = Identity { source: Source::Here, dmarc: AuthResult::Pass, dkim: vec![signature], ..Identity::default() };
    let dice = Dice::new(42);
    let mut outcomes: BTreeMap<String, usize> = BTreeMap::new();
    for _ in 0..10_000 {
        let mut mail = genuine();
        let mut brings = Brings::Nothing;
        for _ in 0..=dice.throw(4) {
            if change(&mut mail, &dice) == Brings::Stranger {
                brings = Brings::Stranger;
            }
        }
        let raw = mail.written();
        let message = Message::read(raw.as_bytes());
        let author = message.author();
        let content = message.content();
        let recognition = recogniser.recognise(&content, author.as_ref().ok().map(|author| &author.domain));
        let facts = HeaderFacts { author: &author, headers: message.headers(), recipients: &[], now: Timestamp::UNIX_EPOCH };
        let candidates = judge::candidates(&allowlist, &facts, &identity);
        let decision = judge::decide(candidates, &facts, &BodyFacts { content: &content, recognition: &recognition, identity: &identity });
        let exempted = matches!(decision.verdict, Verdict::Act(_));
        let shown = raw.replace("=\r\n", "").contains("attack.test") || mail.parts.iter().any(|part| part.body.contains("attack.test"));
        // A later change may have taken the stranger out again; what counts is what is in the mail.
        let who = if brings == Brings::Stranger && shown { "stranger:" } else { "no stranger:" };
        assert!(!exempted || who == "no stranger:", "exempted:\n{raw}");
        let why = decision.stopped_by().map_or("exempted", |finding| finding.reason.code());
        *outcomes.entry(format!("{who} {why}")).or_default() += 1;
    }
    for (outcome, count) in &outcomes {
        println!("{outcome:32} {count:6}");
    }
    assert!(outcomes.get("no stranger: exempted").is_some_and(|count| *count > 1_000), "the test could not fail: {outcomes:?}");
}
