//! What the worst mails cost to be read: `cargo bench --ignore-rust-version --bench reading`. Each input is a pattern over
//! and over, in sizes from 1 KB to 1 MB; nanoseconds per octet that stay the same show that reading is linear.
#![allow(clippy::print_stdout, clippy::unwrap_used, clippy::cast_precision_loss, reason = "a program that prints figures")]

use std::{hint::black_box, time::Duration};

use firstclick::message::Message;
use rustix::time::{ClockId, clock_gettime};

/// CPU time of this process.
fn cpu() -> Duration {
    let now = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(now.tv_sec.unsigned_abs(), u32::try_from(now.tv_nsec).unwrap())
}

/// A start, what is repeated, and an end.
const TEXTS: &[(&str, &str, &str)] = &[
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
const MARKUP: &[(&str, &str, &str)] = &[
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

fn of_size(start: &str, pattern: &str, end: &str, size: usize) -> String {
    format!("{start}{}{end}", pattern.repeat(size / pattern.len()))
}

fn measure(name: &str, make: impl Fn(usize) -> Vec<u8>) {
    print!("{name:28}");
    for size in [1 << 10, 1 << 14, 1 << 17, 1 << 20] {
        let mail = make(size);
        let rounds = u32::try_from(((1 << 20) / size).clamp(1, 64)).unwrap();
        let start = cpu();
        for _ in 0..rounds {
            drop(black_box(Message::read(black_box(&mail)).content()));
        }
        let spent = cpu().saturating_sub(start);
        print!("{:>10.1}", spent.as_secs_f64() * 1e9 / f64::from(rounds) / mail.len() as f64);
        if size == 1 << 20 {
            println!("{:>10.0} ms", spent.as_secs_f64() * 1e3 / f64::from(rounds));
        }
    }
}

fn main() {
    println!("{:28}{:>10}{:>10}{:>10}{:>10}{:>13}", "ns per octet", "1 KB", "16 KB", "128 KB", "1 MB", "1 MB in all");
    let head = |fields: &str| format!("From: a@bank.test\r\nMIME-Version: 1.0\r\n{fields}\r\n\r\n");
    for (name, pattern, end) in TEXTS {
        let head = head("Content-Type: text/plain; charset=utf-8; format=flowed; delsp=yes\r\nContent-Transfer-Encoding: 8bit");
        measure(name, |size| (head.clone() + &of_size("", pattern, end, size)).into_bytes());
    }
    for (name, pattern, end) in MARKUP {
        let head = head("Content-Type: text/html; charset=utf-8\r\nContent-Transfer-Encoding: 8bit");
        let start = if *name == "many attributes" { "<a" } else { "" };
        measure(name, |size| (head.clone() + &of_size(start, pattern, end, size)).into_bytes());
    }
    measure("header fields", |size| of_size("From: a@bank.test\r\n", "a: b\r\n", "\r\nx\r\n", size).into_bytes());
    measure("folded lines", |size| of_size("From: a@bank.test\r\nX:", " b\r\n", "\r\nx\r\n", size).into_bytes());
    measure("base64", |size| {
        (head("Content-Type: text/plain\r\nContent-Transfer-Encoding: base64") + &of_size("", "d3d3LmEuY28g\r\n", "", size)).into_bytes()
    });
    measure("parts", |size| {
        (head("Content-Type: multipart/mixed; boundary=b") + &of_size("", "--b\r\n\r\nx\r\n", "--b--\r\n", size)).into_bytes()
    });
    measure("parts in parts", |size| {
        (head("Content-Type: multipart/mixed; boundary=b")
            + &of_size("", "--b\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n", "", size))
            .into_bytes()
    });
}
