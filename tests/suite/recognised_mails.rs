//! Mails made by hand and reduced from reports: which of them are recognised, and by which of their links.

use std::{collections::BTreeMap, fs, path::Path};

use firstclick::{
    message::Message,
    recognition::{Kind, Recogniser},
};

/// Mails that were reported, by the number of the report: from `tests/fixtures/reports`, and the kind that each is.
#[test]
fn reported_mails_are_recognised() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/reports");
    let recogniser = Recogniser::built_in().expect("built-in words");
    for (name, kinds, host) in [
        ("A20", &[Kind::MagicLink][..], "app.acme.test"),
        ("A21", &[Kind::MagicLink], "app.acme.test"),
        ("A25", &[Kind::PasswordReset], "sso.acme.test"),
        ("A31", &[Kind::PasswordReset], "rmm.acme.test"),
        ("A48", &[Kind::Invite], "forum.acme.test"),
        ("A62", &[Kind::PasswordReset], "login.acme.test"),
        ("A63", &[Kind::PasswordReset], "login.acme.test"),
    ] {
        let raw = fs::read(root.join(format!("{name}.eml"))).expect(name);
        let message = Message::read(&raw);
        let content = message.content();
        let found = recogniser.recognise(&content, message.author().ok().map(|author| author.domain).as_ref());
        assert!(found.kind.is_some_and(|kind| kinds.contains(&kind)), "{name}: {found:?}");
        let hosts: Vec<String> =
            found.one_time_links.iter().filter_map(|at| content.links[*at].link.host()).map(|host| host.as_str().to_owned()).collect();
        assert!(!hosts.is_empty() && hosts.iter().all(|known| known == host), "{name}: {hosts:?}");
    }
}

/// A mail of two parts from the author's own address, in which a counter counts or not.
fn both(subject: &str, plain: &str, html: &str) -> String {
    format!(
        "From: Acme <noreply@acme.test>\r\nTo: bob@corp.example\r\nSubject: {subject}\r\nMIME-Version: 1.0\r\nContent-Type: multipart/alternative; boundary=b\r\n\r\n--b\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n{plain}\r\n--b\r\nContent-Type: text/html; charset=utf-8\r\n\r\n<html><body>{html}</body></html>\r\n--b--\r\n"
    )
}

fn kind_and_links(raw: &str) -> (Option<Kind>, Vec<String>) {
    let message = Message::read(raw.as_bytes());
    let content = message.content();
    let found =
        Recogniser::built_in().expect("built-in words").recognise(&content, message.author().ok().map(|author| author.domain).as_ref());
    (found.kind, found.one_time_links.iter().map(|at| content.links[*at].link.expose().to_owned()).collect())
}

/// "Use this link to confirm your address": what stands behind a link that only points says what it is for, in its own
/// sentence alone.
#[test]
fn words_behind_a_link_that_points() {
    let token = "https://app.acme.test/a/c1a9d03b7e5f2846a0b9c8d7e6f5a4b3";
    for (words, wanted) in [
        ("Use LINK to confirm your email address.", Some(Kind::EmailVerify)),
        ("Klicken Sie auf LINK um Ihre E-Mail-Adresse zu bestätigen.", Some(Kind::EmailVerify)),
        ("Your file is ready: LINK . You can reset your password in your profile.", None),
        ("Your file is ready: LINK\r\nConfirm your email address in your profile.", None),
    ] {
        let html = words.replace("LINK", &format!("<a href=\"{token}\">this link</a>")).replace("\r\n", "<br>");
        let (kind, links) = kind_and_links(&both("Welcome", &words.replace("LINK", token), &html));
        assert_eq!(kind, wanted, "{words}");
        assert_eq!(links.is_empty(), wanted.is_none(), "{words}");
    }
}

const RESET: &str = "https://app.acme.test/reset/c1a9d03b7e5f2846a0b9c8d7e6f5a4b3";

#[test]
fn a_link_is_one_in_every_spelling() {
    let encoded = "https:%2F%2Fapp.acme.test%2Freset%2Fc1a9d03b7e5f2846a0b9c8d7e6f5a4b3";
    let ses = format!("https://x.r.eu-west-1.awstrack.me/L0/{encoded}/1/0102017f/abc=7");
    let opaque = "https://u7.ct.sendgrid.net/ls/click?upn=u001.Zp3kQ9vLx2RtYw8NbGm5HdJ1sCfXaVuE0oIiPqTzKlM";
    let own = "https://links.acme.test/e/c/Zp3kQ9vLx2RtYw8NbGm5HdJ1sCfXaVuE0oIiPqTzKlM";
    let tracked = format!("{RESET}?utm_source=mail&utm_medium=email");
    let footer = "<p><a href=\"https://www.acme.test/unsubscribe/a7e5f2846a0b9c8d7e6f5a4b3c1a9d03\">Unsubscribe</a></p>";
    let known = format!("{RESET}?lang=en");
    for href in [RESET, &ses, opaque, own, &tracked, &known] {
        // The button, with the address in the plain part.
        let plain = format!("Somebody asked to reset your password. The link works for one hour:\r\n\r\n{RESET}\r\n");
        let html = format!(
            "<p>Somebody asked to reset your password. The link works for one hour:</p><a href=\"{href}\">Reset password</a>{footer}"
        );
        let (kind, links) = kind_and_links(&both("Reset your password", &plain, &html));
        assert_eq!(kind, Some(Kind::PasswordReset), "{href}");
        assert_eq!(links, [RESET, href], "{href}");
        // The address is what the reader sees on the link.
        let html =
            format!("<p>Somebody asked to reset your password. The link works for one hour:</p><a href=\"{href}\">{RESET}</a>{footer}");
        let (kind, links) = kind_and_links(&both("Reset your password", "See the other part.", &html));
        assert_eq!(kind, Some(Kind::PasswordReset), "{href}");
        assert!(links.iter().any(|link| link == href) && links.iter().all(|link| link == href || link == RESET), "{href}: {links:?}");
    }
    // The same token for another page is another link.
    let html = "<p>Ana invited you to join the Nordwind team.</p><a href=\"https://app.acme.test/i?a=accept&t=c1a9d03b7e5f2846a0b9\">Accept the invitation</a> <a href=\"https://app.acme.test/i?a=decline&t=c1a9d03b7e5f2846a0b9\">Decline</a>";
    let (kind, links) = kind_and_links(&both("Ana invited you to Nordwind", "See the other part.", html));
    assert_eq!(kind, Some(Kind::Invite));
    assert_eq!(links, ["https://app.acme.test/i?a=accept&t=c1a9d03b7e5f2846a0b9"]);
}

/// A counter that does not say where it leads is known by the words at it, and costs nothing for its host.
#[test]
fn the_words_at_an_opaque_counter_decide() {
    let opaque = "https://mandrillapp.com/track/click/30012345/app.acme.test?p=Zp3kQ9vLx2RtYw8NbGm5HdJ1sCfXaVuE0oIiPqTzKlM";
    let mail = |label: &str| {
        both(
            "Reset your password",
            "See the other part.",
            &format!(
                "<p>Somebody asked to reset your password.</p><p>Dear Bob, Acme is the place for your team's files, plans and calendars, wherever you are, on every device, and in every language.</p><a href=\"{opaque}\">{label}</a>"
            ),
        )
    };
    assert_eq!(kind_and_links(&mail("Reset password")), (Some(Kind::PasswordReset), vec![opaque.to_owned()]));
    assert_eq!(kind_and_links(&mail("Our terms and prices")).0, None);
}

/// What a mail quotes or forwards is another mail.
#[test]
fn quoted_mails_say_nothing() {
    let words = "Somebody asked to reset your password. The link works for one hour:";
    for plain in [
        format!(
            "Is this real? Ana\r\n\r\n-----Original Message-----\r\nFrom: Acme\r\nSubject: Reset your password\r\n\r\n{words}\r\n{RESET}\r\n"
        ),
        format!(
            "Is this real? Ana\r\n\r\nBegin forwarded message:\r\n\r\nFrom: Acme\r\nSubject: Reset your password\r\n\r\n{words}\r\n{RESET}\r\n"
        ),
        format!("Is this real? Ana\r\n\r\n> {words}\r\n> {RESET}\r\n"),
        format!("See below. Ana\r\n\r\nOn Tue, 24 Nov 2026 at 10:12, Acme <noreply@acme.test> wrote:\r\n{words}\r\n{RESET}\r\n"),
        format!("Siehe unten. Ana\r\n\r\nAm 24.11.2026 um 10:12 schrieb Acme <noreply@acme.test>:\r\n\r\n> {words}\r\n> {RESET}\r\n"),
    ] {
        let raw = format!(
            "From: ana@acme.test\r\nTo: bob@corp.example\r\nSubject: Reset your password\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n{plain}"
        );
        assert_eq!(kind_and_links(&raw).0, None, "{plain}");
    }
    let raw = both(
        "Reset your password",
        "See the other part.",
        &format!(
            "<p>Is this real? Ana</p><div class=\"gmail_quote\"><div>On Tue, 24 Nov 2026 at 10:12, Acme &lt;noreply@acme.test&gt; wrote:</div><blockquote><p>{words}</p><a href=\"{RESET}\">Reset password</a></blockquote></div>"
        ),
    );
    assert_eq!(kind_and_links(&raw).0, None);
}

/// Mails in the shape in which services send theirs: tables, VML buttons, preheaders, pixels, click counters.
#[test]
fn services_templates_are_recognised() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/templates");
    let table = fs::read_to_string(root.join("labels.tsv")).unwrap();
    let recogniser = Recogniser::built_in().expect("built-in words");
    let mut wrong = Vec::new();
    for row in table.lines() {
        let cells: Vec<&str> = row.split('\t').collect();
        let [name, kind, link] = cells[..] else { panic!("{row}") };
        let raw = fs::read(root.join(format!("{name}.eml"))).expect(name);
        let message = Message::read(&raw);
        let content = message.content();
        let found = recogniser.recognise(&content, message.author().ok().map(|author| author.domain).as_ref());
        let code = found.kind.map_or("none", Kind::code);
        println!("{name:20} {kind:15} {code:15} {}", found.confidence);
        let places = content.links.iter().filter(|found| found.link.expose() == link).count();
        let right = found.one_time_links.len() == places && found.one_time_links.iter().all(|at| content.links[*at].link.expose() == link);
        // Some say two things in one: "welcome, verify your account and choose a password".
        if !kind.split('|').any(|kind| kind == code) || !right || !content.flaws.is_empty() {
            wrong.push(format!("{name}: {code}, link right: {right}, {:?}\n    {}", content.flaws, found.signals.join("\n    ")));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(table.lines().count() >= 16);
}

#[derive(serde::Deserialize)]
struct MadeUp {
    group: String,
    subject: String,
    text: String,
    label: String,
    after: String,
}

fn token(seed: usize, length: usize) -> String {
    const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    let mut state = (seed as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        char::from(LETTERS[usize::try_from(state % LETTERS.len() as u64).unwrap()])
    };
    (0..length).map(|_| next()).collect()
}

impl MadeUp {
    /// The mail as one of several senders would send it, and its link.
    fn in_coat(&self, number: usize, coat: usize) -> (String, String) {
        let mail = self;
        let seed = number * 10 + coat;
        let (org, own) = [("Acme", "acme.test"), ("Nordwind", "nordwind.test"), ("Kite", "kite.test")][coat % 3];
        let (long, short) = (token(seed, 43), token(seed + 7_919, 20));
        let link = match coat {
            0 | 5 => format!("https://app.{own}/d/{long}"),
            1 | 6 => format!("https://click.{own}/ls/click?upn={long}{short}"),
            2 | 7 => format!("https://www.{own}/?utm_source=mail&cid={short}"),
            3 => format!("https://t.mailer.test/c/{long}"),
            4 => format!("https://{own}/n/{short}/{long}"),
            8 => format!("https://app.{own}/view/{long}"),
            _ => format!("https://app.{own}/items/48213#c-{short}"),
        };
        let subject = mail.subject.replace("{org}", org);
        let footer = format!("https://www.{own}/unsubscribe?u={short}");
        let (kind, body) = if coat.is_multiple_of(2) {
            let html = format!(
                "<html><body><p>{}</p><p><a href=\"{link}\">{}</a></p><p>{}</p><p><a href=\"{footer}\">Unsubscribe</a> <a href=\"https://www.{own}/privacy\">Privacy</a></p><img src=\"https://www.{own}/o/{short}.gif\"></body></html>",
                mail.text, mail.label, mail.after
            );
            ("html", html)
        } else {
            ("plain", format!("{}\r\n\r\n{}: {link}\r\n\r\n{}\r\n\r\n--\r\nUnsubscribe: {footer}\r\n", mail.text, mail.label, mail.after))
        };
        let raw = format!(
            "From: {org} <news@{own}>\r\nTo: bob@corp.example\r\nSubject: {subject}\r\nMIME-Version: 1.0\r\nContent-Type: text/{kind}; charset=utf-8\r\n\r\n{body}"
        );
        (raw, link)
    }
}

#[derive(serde::Deserialize)]
struct Table {
    mail: Vec<MadeUp>,
}

/// What mails in other words than the corpus has ask for, behind links that say nothing themselves.
#[test]
fn other_wordings_are_recognised() {
    let table: Table = toml::from_str(include_str!("../wordings.toml")).unwrap();
    let recogniser = Recogniser::built_in().expect("built-in words");
    let mut wrong = Vec::new();
    for (number, mail) in table.mail.iter().enumerate() {
        let wanted = mail.group.split(' ').nth(1).unwrap();
        // Coats with a token in the link and the sender's own name on it.
        for coat in [0, 1, 4, 5, 6] {
            let (raw, link) = mail.in_coat(number, coat);
            let message = Message::read(raw.as_bytes());
            let content = message.content();
            let found = recogniser.recognise(&content, message.author().ok().map(|author| author.domain).as_ref());
            let right = !found.one_time_links.is_empty() && found.one_time_links.iter().all(|at| content.links[*at].link.expose() == link);
            if found.kind.map_or("none", Kind::code) != wanted || !right {
                wrong.push(format!(
                    "{} {:?} in coat {coat}: {:?}\n    {}",
                    mail.group,
                    mail.subject,
                    found.kind,
                    found.signals.join("\n    ")
                ));
            }
        }
    }
    println!("{} wordings, {} wrong", table.mail.len(), wrong.len());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(table.mail.len() > 30);
}

/// Newsletters, receipts, tickets, notices and shared things, more than 500: each text in ten coats, with unique links, counted
/// links and the links in every footer.
#[test]
fn made_up_mails_are_not_taken() {
    let table: Table = toml::from_str(include_str!("../negatives.toml")).unwrap();
    let recogniser = Recogniser::built_in().expect("built-in words");
    let (mut groups, mut wrong) = (BTreeMap::<String, usize>::new(), Vec::new());
    for (number, mail) in table.mail.iter().enumerate() {
        for coat in 0..10 {
            let (raw, _) = mail.in_coat(number, coat);
            let message = Message::read(raw.as_bytes());
            let found = recogniser.recognise(&message.content(), message.author().ok().map(|author| author.domain).as_ref());
            *groups.entry(mail.group.clone()).or_default() += 1;
            if found.kind.is_some() {
                wrong.push(format!("{:?} in coat {coat}: {:?}\n    {}", mail.subject, found.kind, found.signals.join("\n    ")));
            }
        }
    }
    println!("{groups:?}, {} taken", wrong.len());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(groups.values().sum::<usize>() >= 500);
}

/// Shapes of links that genuine products send, each with the words that stand around it.
#[test]
fn shapes_of_links_are_recognised() {
    let token = "c1a9d03b7e5f2846a0b9c8d7e6f5a4b3";
    for (kind, subject, text, link) in [
        (
            Kind::EmailVerify,
            "Verify Email Address",
            "Please verify your email address.",
            format!("https://app.acme.test/email/verify/17/{token}?expires=1795600000&signature={token}{token}"),
        ),
        (
            Kind::EmailVerify,
            "Acme Learning: account confirmation",
            "To confirm your new account, please go to this web address:",
            "https://learn.acme.test/login/confirm.php?data=Zp3kQ9vLx2RtYw8/bob".into(),
        ),
        (
            Kind::EmailVerify,
            "Verify your candidate account",
            "Please use the following link to verify your account.",
            "https://acme.wd3.acme.test/careers/activate/k3j9x2ab/?redirect=%2Fjob%2F1".into(),
        ),
        (
            Kind::EmailVerify,
            "Acme Wiki email address confirmation",
            "To confirm that this account really does belong to you, open this link:",
            format!("https://wiki.acme.test/wiki/Special:ConfirmEmail/{token}"),
        ),
        (
            Kind::PasswordReset,
            "Reset your password",
            "Follow this link to reset your password.",
            format!("https://acme.test/__/auth/action?mode=resetPassword&oobCode={token}&lang=en"),
        ),
        (
            Kind::PasswordReset,
            "Reset your password",
            "Follow this link to reset your password.",
            format!("https://support.acme.test/#password_reset_verify/{token}"),
        ),
        (
            Kind::PasswordReset,
            "Reset your password",
            "Follow this link to reset your password.",
            format!("https://corp.acme.test/nav_to.do?uri=%24pwd_new.do%3Fsysparm_id%3D7%26sysparm_token%3D{token}"),
        ),
        (
            Kind::Invite,
            "Join Nordwind",
            "You have been invited to join the Nordwind organization.",
            format!("https://vault.acme.test/#/accept-organization/?organizationName=Nordwind&token={token}"),
        ),
        (
            Kind::Invite,
            "Invitation to join Acme Analytics",
            "Ana has invited you to join Acme Analytics.",
            format!("https://stats.acme.test/index.php?module=Login&action=acceptInvitation&token={token}"),
        ),
        (
            Kind::Invite,
            "You've been invited to join Acme Net",
            "Ana invites you to join Acme Net.",
            "https://net.acme.test/user/registration?token=pZ3_kQ9vLx2R".into(),
        ),
        (
            Kind::Invite,
            "Invitation from Acme Forum",
            "Ana has invited you to Acme Forum.",
            format!("https://forum.acme.test/register?token={token}"),
        ),
    ] {
        for is_html in [true, false] {
            let raw = if is_html {
                both(subject, "See the other part.", &format!("<p>{text}</p><p><a href=\"{}\">{link}</a></p>", link.replace('&', "&amp;")))
            } else {
                both(subject, &format!("{text}\r\n\r\n{link}\r\n"), "<p>See the other part.</p>")
            };
            let (found, links) = kind_and_links(&raw);
            assert_eq!(found, Some(kind), "{link}");
            assert!(!links.is_empty() && links.iter().all(|known| *known == link), "{link}: {links:?}");
        }
    }
}
