//! Mails where they lie: files, folders, mboxes, maildirs and standard input, one after another. One mail is in memory at a time.

use std::{
    collections::HashSet,
    fs::{self, File},
    io::{self, BufRead, BufReader, Cursor, Read},
    ops::RangeInclusive,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use anyhow::Context as _;

use crate::{
    limits,
    message::{Message, as_sent},
};

/// What was found, with a name for people: the file and, in an mbox, the mail's number.
pub(super) struct Found {
    pub(super) name: String,
    pub(super) what: What,
}

/// What lies there.
pub(super) enum What {
    /// A mail, its line ends as they are sent.
    Mail(Vec<u8>),
    /// Something else, in words.
    NoMail(&'static str),
}

/// Hands over every mail of these files and folders, in the order of their names.
pub(super) fn each(named: &[PathBuf], with: &mut dyn FnMut(Found) -> anyhow::Result<()>) -> anyhow::Result<()> {
    let mut walked = HashSet::new();
    for path in named {
        let name = path.display().to_string();
        if path == Path::new("-") {
            read(io::stdin().lock(), &name, with)?;
        } else if path.is_dir() {
            folder(path, 0, &mut walked, with)?;
        } else {
            file(path, with)?;
        }
    }
    Ok(())
}

/// Folders in one another: nobody keeps mails deeper.
const DEEP: usize = 32;

/// Folders that were walked, by device and inode: a link may lead back to one.
type Walked = HashSet<(u64, u64)>;

fn folder(path: &Path, depth: usize, walked: &mut Walked, with: &mut dyn FnMut(Found) -> anyhow::Result<()>) -> anyhow::Result<()> {
    let about = fs::metadata(path).with_context(|| format!("{} cannot be read", path.display()))?;
    if !walked.insert((about.dev(), about.ino())) {
        return Ok(());
    }
    if depth > DEEP {
        return with(Found {
            name: path.display().to_string(),
            what: What::NoMail("it is a folder below 32 others, and is not looked into"),
        });
    }
    let mut inside: Vec<PathBuf> = fs::read_dir(path)
        .with_context(|| format!("{} cannot be read", path.display()))?
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .collect();
    inside.sort();
    let is_maildir = ["cur", "new"].iter().all(|name| path.join(name).is_dir());
    // A maildir's mails have names of any kind, and what lies in tmp is not whole yet.
    let holds_mails = path.file_name().is_some_and(|name| name == "cur" || name == "new");
    for inside in inside {
        let name = inside.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        if inside.is_dir() {
            if !(is_maildir && name == "tmp") {
                folder(&inside, depth + 1, walked, with)?;
            }
        } else if inside.is_file() && !is_maildir && (holds_mails || is_mail_name(&inside)) && !name.starts_with('.') {
            file(&inside, with)?;
        }
    }
    Ok(())
}

/// Whether a file of a folder is named as mails are.
fn is_mail_name(path: &Path) -> bool {
    path.extension().is_none_or(|end| matches!(end.to_str(), Some("eml" | "msg" | "mail" | "txt" | "mbox" | "mbx")))
}

fn file(path: &Path, with: &mut dyn FnMut(Found) -> anyhow::Result<()>) -> anyhow::Result<()> {
    let name = path.display().to_string();
    let file = File::open(path).with_context(|| unread(&name))?;
    read(BufReader::new(file), &name, with)
}

/// About an input; what fails in the hands of who gets its mails is another matter.
fn unread(name: &str) -> String {
    format!("{name} cannot be read")
}

fn read(mut from: impl BufRead, name: &str, with: &mut dyn FnMut(Found) -> anyhow::Result<()>) -> anyhow::Result<()> {
    // Empty lines in front of an mbox are nobody's.
    let mut raw = Vec::new();
    let first = loop {
        let start = raw.len();
        let count = from.by_ref().take(PIECE).read_until(b'\n', &mut raw).with_context(|| unread(name))?;
        let is_blank = raw.get(start..).is_some_and(|line| line.trim_ascii().is_empty());
        if count == 0 || !is_blank || raw.len() as u64 > PIECE {
            break start;
        }
    };
    if raw.get(first..).is_some_and(|line| line.starts_with(b"From ")) {
        return mbox(Cursor::new(raw.split_off(first)).chain(from), name, with);
    }
    from.take(limits::SAVED_MAIL + 1).read_to_end(&mut raw).with_context(|| unread(name))?;
    with(Found { name: name.to_owned(), what: seen(raw) })
}

/// The mails of an mbox: each begins with a `From ` line behind an empty one, and lines of the text that look like it are quoted
/// with `>` (mboxo, mboxrd). Where the empty line is missing, a `From ` line with a whole date begins a mail, as other readers have
/// it; that is said, because it may be a line of text.
fn mbox(mut from: impl BufRead, name: &str, with: &mut dyn FnMut(Found) -> anyhow::Result<()>) -> anyhow::Result<()> {
    let (mut mail, mut piece, mut number) = (Vec::new(), Vec::new(), 0_usize);
    let (mut starts, mut behind_blank, mut in_separator) = (true, true, false);
    let mut doubt = "";
    loop {
        piece.clear();
        // A line without an end is read in pieces.
        let count = from.by_ref().take(PIECE).read_until(b'\n', &mut piece).with_context(|| unread(name))?;
        let separates =
            starts && piece.starts_with(b"From ") && (number == 0 || if behind_blank { has_time(&piece) } else { has_date(&piece) });
        if (count == 0 || separates) && number > 0 {
            let whole = std::mem::take(&mut mail);
            with(Found { name: format!("{name}, mail {number}{doubt}"), what: seen(without_blank(whole)) })?;
        }
        if count == 0 {
            return Ok(());
        }
        if separates {
            doubt = if behind_blank { "" } else { " (no empty line before its From line, which may be text of the mail before)" };
            number += 1;
            in_separator = true;
        } else if starts {
            in_separator = false;
        }
        if !in_separator && mail.len() as u64 <= limits::SAVED_MAIL {
            let quotes = piece.iter().take_while(|octet| **octet == b'>').count();
            let is_quoted = starts && quotes > 0 && piece.get(quotes..).is_some_and(|rest| rest.starts_with(b"From "));
            mail.extend_from_slice(piece.get(usize::from(is_quoted)..).unwrap_or_default());
        }
        behind_blank = starts && piece.trim_ascii().is_empty();
        starts = piece.ends_with(b"\n");
    }
}

/// Octets of a line that are read at once.
const PIECE: u64 = 1 << 16;

/// Whether a line has a time in it: one that begins with `From ` and has none is text.
fn has_time(line: &[u8]) -> bool {
    line.windows(5).any(|five| matches!(five, [a, b, b':', c, d] if [a, b, c, d].iter().all(|digit| digit.is_ascii_digit())))
}

/// Whether a line is `From sender Tue Nov 24 10:00:00 2026`, with a date as asctime(3) writes it, perhaps with a zone.
fn has_date(line: &[u8]) -> bool {
    let words: Vec<&[u8]> = line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty()).collect();
    let number = |word: &[u8], lengths: RangeInclusive<usize>| lengths.contains(&word.len()) && word.iter().all(u8::is_ascii_digit);
    (1..=2).any(|at| match words.get(at..) {
        Some([weekday, month, day, time, rest @ ..]) => {
            WEEKDAYS.contains(weekday)
                && MONTHS.contains(month)
                && number(day, 1..=2)
                && has_time(time)
                && rest.len() <= 3
                && rest.iter().any(|word| number(word, 4..=4))
        }
        _ => false,
    })
}

const WEEKDAYS: [&[u8]; 7] = [b"Mon", b"Tue", b"Wed", b"Thu", b"Fri", b"Sat", b"Sun"];
const MONTHS: [&[u8]; 12] = [b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec"];

/// A mail without the empty line that stands in front of the next one.
fn without_blank(mut mail: Vec<u8>) -> Vec<u8> {
    for (end, kept) in [(&b"\r\n\r\n"[..], 2), (b"\n\n", 1)] {
        if mail.ends_with(end) {
            mail.truncate(mail.len() - kept);
            break;
        }
    }
    mail
}

/// A mail, or what these octets are instead.
fn seen(raw: Vec<u8>) -> What {
    if raw.len() as u64 > limits::SAVED_MAIL {
        return What::NoMail("it is larger than any mail that the hop looks into");
    }
    let what = match raw.as_slice() {
        [] => "it is empty",
        [0xD0, 0xCF, 0x11, 0xE0, ..] => "it is a message of Outlook's own form; save it as .eml",
        [0x1F, 0x8B, ..] | [0x28, 0xB5, 0x2F, 0xFD, ..] | [b'P', b'K', 3, 4, ..] => "it is compressed",
        _ => {
            let sent = as_sent(raw);
            let message = Message::read(&sent);
            let has = |name: &&str| message.headers().named(name).next().is_some();
            if FIELDS.iter().any(has) {
                return What::Mail(sent);
            }
            "it has no field of a mail's header"
        }
    };
    What::NoMail(what)
}

/// Fields of which every mail has one.
const FIELDS: [&str; 7] = ["From", "To", "Date", "Subject", "Received", "Message-ID", "Return-Path"];

#[cfg(test)]
mod tests {
    use super::*;

    fn mails(text: &str) -> Vec<(String, String)> {
        let mut found = Vec::new();
        read(text.as_bytes(), "x", &mut |mail| {
            let text = match mail.what {
                What::Mail(raw) => String::from_utf8(raw).unwrap().replace("\r\n", "\n"),
                What::NoMail(why) => why.to_owned(),
            };
            found.push((mail.name, text));
            Ok(())
        })
        .unwrap();
        found
    }

    #[test]
    fn an_mbox_holds_its_mails_as_they_were() {
        let text = "From a@b Tue Nov 24 10:00:00 2026\nFrom: a@b\n\n>From here on\n>>From there\nFrom me to you\n\nFrom nowhere\n\n\
                    From - Tue Nov 24 10:00:01 2026\nFrom: c@d\n\nx\n\nFrom e@f Tue Nov 24 10:00:02 2026\nnothing\n\n";
        assert_eq!(
            mails(text),
            [
                ("x, mail 1".to_owned(), "From: a@b\n\nFrom here on\n>From there\nFrom me to you\n\nFrom nowhere\n".to_owned()),
                ("x, mail 2".to_owned(), "From: c@d\n\nx\n".to_owned()),
                ("x, mail 3".to_owned(), "it has no field of a mail's header".to_owned()),
            ]
        );
        let long = format!("From a@b Tue Nov 24 10:00:00 2026\nFrom: a@b\n\n{}From \n", "y".repeat(200_000));
        assert_eq!(mails(&long)[0].1.len(), 11 + 200_006);
        assert_eq!(mails(&text.replace('\n', "\r\n")), mails(text), "with line ends as they are sent");
    }

    #[test]
    fn an_mbox_without_empty_lines_is_one_and_what_is_doubtful_is_said() {
        let text = "\n\r\nFrom a@b Tue Nov 24 10:00:00 2026\nFrom: a@b\n\nx\nFrom me at 10:00, Tue Nov 24\n\
                    From c@d Tue Nov 24 10:00:01 2026\nFrom: c@d\n\ny\nFrom - Wed Jan  6 09:15 CET 2027\nFrom: e@f\n\nz\n";
        let found = mails(text);
        let texts: Vec<&str> = found.iter().map(|(_, text)| text.as_str()).collect();
        assert_eq!(texts, ["From: a@b\n\nx\nFrom me at 10:00, Tue Nov 24\n", "From: c@d\n\ny\n", "From: e@f\n\nz\n"]);
        let doubtful: Vec<bool> = found.iter().map(|(name, _)| name.contains("may be text")).collect();
        assert_eq!(doubtful, [false, true, true]);
        assert_eq!(mails("From nobody whenever\nFrom: a@b\n\nx\n").len(), 1, "an odd first line is not dropped in silence");
    }

    #[test]
    fn what_is_no_mail_is_said() {
        for (text, says) in [("", "empty"), ("key = 1\n", "no field"), ("PK\u{3}\u{4}", "compressed"), ("# note: of mine\n", "no field")] {
            assert!(mails(text)[0].1.contains(says), "{text}");
        }
        assert_eq!(mails("Subject: x\n\n")[0].1, "Subject: x\n\n");
    }
}
