//! CPU that a mail costs to be read and recognised: `cargo bench --ignore-rust-version`. The peer is mail-parser, which
//! reads the same mail and finds no links.
#![allow(clippy::print_stdout, clippy::unwrap_used, clippy::cast_precision_loss, reason = "a program that prints figures")]

use std::{hint::black_box, time::Duration};

use firstclick::{message::Message, recognition::Recogniser};
use rustix::time::{ClockId, clock_gettime};

/// CPU time of this process.
fn cpu() -> Duration {
    let now = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(now.tv_sec.unsigned_abs(), u32::try_from(now.tv_nsec).unwrap())
}

fn micros(rounds: u32, mut work: impl FnMut()) -> f64 {
    work();
    let start = cpu();
    for _ in 0..rounds {
        work();
    }
    cpu().saturating_sub(start).as_secs_f64() * 1e6 / f64::from(rounds)
}

fn main() {
    let recogniser = Recogniser::built_in().unwrap();
    for name in ["salesforce", "slack", "zendesk", "cybozu-ja"] {
        let short = std::fs::read(format!("{}/tests/templates/{name}.eml", env!("CARGO_MANIFEST_DIR"))).unwrap();
        for size in [short.len(), 8 * 1024] {
            let mail = padded(&short, size);
            let message = Message::read(&mail);
            let (content, author) = (message.content(), message.author().ok().map(|author| author.domain));
            let peer = micros(2_000, || drop(black_box(mail_parser::MessageParser::default().parse(black_box(&mail)))));
            let reading = micros(2_000, || drop(black_box(Message::read(black_box(&mail)).content())));
            let recognising = micros(2_000, || drop(black_box(recogniser.recognise(black_box(&content), author.as_ref()))));
            println!(
                "{name:12} {:>6} octets  read {reading:>7.1} us  recognise {recognising:>7.1} us  mail-parser {peer:>7.1} us  ratio {:.2}",
                mail.len(),
                (reading + recognising) / peer
            );
        }
    }
}

/// The mail with more text of its own kind in front of its last part's end.
fn padded(mail: &[u8], size: usize) -> Vec<u8> {
    let text = String::from_utf8(mail.to_vec()).unwrap();
    let line = "Your workspace keeps its members, files and settings; nothing of it changes by this mail.\r\n";
    let missing = size.saturating_sub(mail.len()).div_ceil(line.len());
    let at = text.find("\r\n\r\n--").or_else(|| text.rfind("\r\n\r\n")).unwrap_or(text.len());
    let (head, rest) = text.split_at(at);
    if text.contains("Content-Transfer-Encoding: base64") {
        return mail.to_vec();
    }
    format!("{head}\r\n{}{rest}", line.repeat(missing)).into_bytes()
}
