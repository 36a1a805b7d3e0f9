//! What a program may take for an address by its start alone, whatever stands behind it.
//!
//! Some programs take all up to the next space for the address behind `://` and `www.`, and open schemes that need no
//! slashes. Where such a start is followed by what nobody reads in one way, that is a flaw. One look at each octet.

use std::ops::Range;

use super::host_letters::is_dot;

/// Whether a text holds the start of an address that leads where only some programs know.
pub(super) fn is_ambiguous(text: &str) -> bool {
    // Both need a colon or an `@`.
    if text.is_ascii() && memchr::memchr2(b':', b'@', text.as_bytes()).is_none() {
        return false;
    }
    text.split(|letter: char| letter.is_whitespace() || "<>\"".contains(letter)).any(|run| has_account(run) || has_scheme(run))
}

/// Whether an account and an `@` stand in front of a host (RFC 3986 section 3.2.1): what looks like the host is none then.
fn has_account(run: &str) -> bool {
    if !run.contains(['@', '\u{ff20}', '\u{fe6b}']) {
        return false;
    }
    let mut authority = false;
    // Browsers take more slashes than two for two.
    let mut slashes = false;
    let mut before = None;
    for (at, letter) in run.char_indices() {
        let rest = run.get(at..).unwrap_or_default();
        let word = before.is_none_or(|letter: char| !letter.is_ascii_alphanumeric());
        match letter {
            ':' if rest.starts_with("://") => (authority, slashes) = (true, true),
            '/' | '\\' if slashes => {}
            '/' | '?' | '#' => authority = false,
            '@' | '\u{ff20}' | '\u{fe6b}' if authority => return true,
            'w' | 'W' | 'f' | 'F' if word && !authority && is_web(rest) => authority = true,
            _ => {}
        }
        slashes = slashes && matches!(letter, ':' | '/' | '\\');
        before = Some(letter);
    }
    false
}

/// Whether a run starts with what programs put a scheme in front of.
fn is_web(rest: &str) -> bool {
    let name = rest.get(..3).is_some_and(|name| name.eq_ignore_ascii_case("www") || name.eq_ignore_ascii_case("ftp"));
    name && rest.get(3..).is_some_and(|rest| rest.starts_with(is_dot))
}

/// Where the path of a run's first http or https address stands, up to what some program may end it at.
fn plain_path(run: &str) -> Range<usize> {
    let Some(colon) = run.find("://") else { return 0..0 };
    let is_web = run.get(..colon).is_some_and(|front| {
        let front = front.as_bytes();
        [&b"http"[..], b"https"].iter().any(|scheme| {
            front.len().checked_sub(scheme.len()).and_then(|at| front.get(at..)).is_some_and(|end| end.eq_ignore_ascii_case(scheme))
        })
    });
    let rest = run.as_bytes().get(colon + 3..).unwrap_or_default();
    let host = rest.iter().take_while(|byte| byte.is_ascii_alphanumeric() || b".-:".contains(byte)).count();
    if !is_web || host == 0 || rest.get(host) != Some(&b'/') {
        return 0..0;
    }
    let path = rest.iter().skip(host).take_while(|byte| byte.is_ascii_alphanumeric() || b"/?#:@&=+$%-._~".contains(byte)).count();
    colon + 3 + host..colon + 3 + host + path
}

/// Whether a colon ends a scheme that leads off without slashes.
fn has_scheme(run: &str) -> bool {
    let path = plain_path(run);
    memchr::memchr_iter(b':', run.as_bytes()).any(|colon| {
        let (front, rest) = (run.get(..colon).unwrap_or_default(), run.get(colon + 1..).unwrap_or_default());
        let letters = |byte: &u8| byte.is_ascii_alphanumeric() || b"+-.".contains(byte);
        let length = front.bytes().rev().take(LONGEST).take_while(letters).count();
        let word = front.get(colon - length..).unwrap_or_default().to_ascii_lowercase();
        if !word.bytes().any(|byte| byte.is_ascii_alphabetic()) {
            return false;
        }
        let starts = |start: &str| rest.get(..start.len()).is_some_and(|rest| rest.eq_ignore_ascii_case(start));
        // Gateways and click counters write the address that they hide like this. Every program takes it for a path.
        if (word.ends_with("http") || word.ends_with("https")) && !starts("\\") && !starts("/\\") && path.contains(&colon) {
            return false;
        }
        if ["\\\\", "/\\", "\\/", "%5c", "%2f"].iter().any(|start| starts(start)) {
            return true;
        }
        // `://` is looked at where hosts are.
        if starts("//") || !rest.contains(|letter: char| letter.is_alphanumeric() || !letter.is_ascii()) {
            return false;
        }
        let ends = |scheme: &str| word.strip_suffix(scheme).is_some_and(|front| !front.ends_with(|letter: char| letter.is_ascii_alphabetic()));
        word.ends_with("http")
            || word.ends_with("https")
            || SCHEMES.iter().any(|scheme| ends(scheme))
            // A word for a date in some languages; a type of data starts with a letter (RFC 2397).
            || ends("data") && !rest.starts_with(|letter: char| letter.is_ascii_digit())
            || FAMILIES.iter().any(|family| {
                word.match_indices(family).any(|(at, _)| !word.get(..at).unwrap_or_default().ends_with(|letter: char| letter.is_ascii_alphanumeric()))
            })
    })
}

/// Schemes that systems and programs for work have a program for, and that need no slashes.
const SCHEMES: &[&str] = &[
    "search",
    "file",
    "javascript",
    "vbscript",
    "livescript",
    "view-source",
    "smb",
    "nfs",
    "ldap",
    "ldaps",
    "ftp",
    "ftps",
    "sftp",
    "ssh",
    "telnet",
    "rdp",
    "vnc",
    "shell",
    "jar",
    "blob",
    "mhtml",
    "hcp",
    "vscode",
    "vscode-insiders",
    "slack",
    "zoommtg",
    "zoomus",
    "msteams",
    "skype",
    "intent",
    "itms",
    "onenote",
    "microsoft-edge",
    "webcal",
    "webcals",
    "magnet",
    "steam",
    "filesystem",
    "search-ms",
    "odopen",
    "tg",
    "whatsapp",
    "afp",
    "dav",
    "davs",
    "ws",
    "wss",
    "imap",
    "nntp",
    "snews",
];
/// Families of schemes by their start.
const FAMILIES: &[&str] = &["ms-", "itms-", "itmss", "x-apple", "web+", "vnd.", "ext+", "com.apple"];
/// Octets of a scheme that are looked at.
const LONGEST: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn starts_that_some_program_opens() {
        for text in [
            "https://www.bank.test\u{2014}x@evil-login.com",
            "https://www.bank.test\u{ff0f}x@evil-login.com",
            "https://www.bank.test:\u{2014}x@evil-login.com",
            "https://www.bank.test.)x@evil-login.com",
            "see *https://www.bank.test.*x@evil-login.com",
            "https:///www.bank.test@evil-login.com",
            "https://www.bank.test\\x@evil-login.com",
            "www.bank.test@evil-login.com",
            "WWW.x|y@3405803783/login",
            "(www.bank.test+x@203.0.113.9",
            "http:3405803783/login",
            "HTTPS:3405803783",
            "see.http:/x",
            "http:\\/x@evil-login.com",
            "http:[2001:db8::7]/x",
            "http:\u{ff13}",
            "file:%5c%5c203%2e0%2e113%2e5%5cs",
            "(File:/\\evil/x",
            "search-ms:query=x",
            "ms-word:ofe%7cu",
            "MS-AppInstaller:?source=x",
            "javascript:alert(1)",
            "data:text/html,x",
            "view-source:x",
            "thing:%5C%5cevil",
            "thing:\\\\evil",
            "https://a.test,https:%2F%2Fevil/x",
            "https://a.test/x,https:%2F%2Fevil/x",
            "https://a.test/x/javascript:alert(1)",
            "https://a.test/x/https:\\\\evil",
        ] {
            assert!(is_ambiguous(text), "{text}");
        }
        for text in [
            "Note: http:// links, http: and https:, are old. http:",
            "https://www.bank.test/@bob https://www.bank.test?u=bob@corp.example https://www.bank.test#a@b",
            "www.bank.test/x@y www.bank.test, ann@corp.example <www.bank.test>ann@corp.example",
            "Code:123456 Re:x 12:30 Data:25/11/2026 E-mail:ann@corp.example Profile:x forms-x:1 Ann:bob@corp.example",
            "mailto:ann@corp.example tel:+1 sms:1 cid:x@y",
            "awww.cute@corp.example info@www.bank.test",
            "C:\\Users\\x",
            "https://k.r.eu-west-1.awstrack.me/L0/https:%2F%2Fa.test%2Freset/1/0102-x/jwE=151",
            "(https://protect.checkpoint.com/v2/r01/___https:/a.test/reset___.YXAz)",
        ] {
            assert!(!is_ambiguous(text), "{text}");
        }
    }

    #[test]
    fn long_runs_are_read_once() {
        for piece in ["http:", "www.", "://", "x:", "@", "ms-:", "www"] {
            let _ = is_ambiguous(&piece.repeat(200_000));
        }
    }
}
