//! SMTP commands (RFC 5321 section 4.1.1), read and written without an octet of their paths changed.
//!
//! A library that parses addresses also rewrites them or refuses legal ones (see docs/decisions.md). The hop needs no
//! address, only the stretch between the angle brackets, so that is what is kept.

use super::attributes::{Attributes, Names};

/// A command, from an upstream or for a next hop (RFC 5321 section 4.1.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// EHLO with the client's name (section 4.1.1.1).
    Ehlo(String),
    /// HELO with the client's name (section 4.1.1.1).
    Helo(String),
    /// MAIL with the reverse-path (section 4.1.1.2).
    Mail(PathCommand),
    /// RCPT with a forward-path (section 4.1.1.3).
    Rcpt(PathCommand),
    /// DATA (section 4.1.1.4).
    Data,
    /// RSET (section 4.1.1.5).
    Rset,
    /// NOOP; its argument is left out (section 4.1.1.9).
    Noop,
    /// QUIT (section 4.1.1.10).
    Quit,
    /// VRFY with its argument (section 4.1.1.6).
    Vrfy(String),
    /// HELP; its argument is left out (section 4.1.1.8).
    Help,
    /// STARTTLS (RFC 3207).
    StartTls,
    /// XCLIENT: the client that the rest of the session is from.
    Xclient(Attributes),
    /// XFORWARD: the client that the next mail is from.
    Xforward(Attributes),
}

/// MAIL or RCPT: the path and its parameters as received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathCommand {
    /// The path with its angle brackets.
    pub path: String,
    /// The ESMTP parameters, with single blanks between them; empty where there are none.
    pub parameters: String,
}

/// Why a line is no command; each has its own reply code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// The verb is not known: 502; of an empty line 500.
    #[error("5.5.2 command not recognised")]
    Unknown,
    /// The verb is known, and its arguments are malformed: 501.
    #[error("5.5.4 syntax error in parameters or arguments")]
    Syntax,
    /// The reverse-path is malformed.
    #[error("5.1.7 the address must stand in angle brackets")]
    Path,
    /// The forward-path is malformed.
    #[error("5.1.3 the address must stand in angle brackets")]
    Recipient,
    /// The forward-path is the null path, which only MAIL may have (RFC 5321 section 4.1.1.2).
    #[error("5.1.3 the null path <> is no recipient")]
    NullRecipient,
    /// The line holds octets that are not UTF-8, or control characters.
    #[error("5.5.2 the command holds characters that no command may hold")]
    Characters,
}

impl Command {
    /// Reads a line without its CRLF.
    ///
    /// # Errors
    /// What is wrong with the line; its text is that of the reply.
    pub fn parse(line: &[u8]) -> Result<Self, CommandError> {
        let text = std::str::from_utf8(line).map_err(|_| CommandError::Characters)?;
        if text.chars().any(|letter| letter.is_control() && letter != '\t') {
            return Err(CommandError::Characters);
        }
        let text = text.trim_end_matches([' ', '\t']);
        let (verb, rest) = text.split_once(' ').unwrap_or((text, ""));
        let bare = |command| if rest.is_empty() { Ok(command) } else { Err(CommandError::Syntax) };
        let name = || if is_hello_name(rest.trim()) { Ok(rest.trim().to_owned()) } else { Err(CommandError::Syntax) };
        match verb.to_ascii_uppercase().as_str() {
            "EHLO" => name().map(Self::Ehlo),
            "HELO" => name().map(Self::Helo),
            "MAIL" => PathCommand::parse(rest, "FROM:").map(Self::Mail),
            "RCPT" => match PathCommand::parse(rest, "TO:") {
                Ok(line) if line.path == "<>" => Err(CommandError::NullRecipient),
                Ok(line) => Ok(Self::Rcpt(line)),
                Err(CommandError::Path) => Err(CommandError::Recipient),
                Err(error) => Err(error),
            },
            "DATA" => bare(Self::Data),
            "RSET" => bare(Self::Rset),
            "QUIT" => bare(Self::Quit),
            "NOOP" => Ok(Self::Noop),
            "VRFY" if rest.trim().is_empty() => Err(CommandError::Syntax),
            "VRFY" => Ok(Self::Vrfy(rest.trim().to_owned())),
            "HELP" => Ok(Self::Help),
            "STARTTLS" => bare(Self::StartTls),
            "XCLIENT" => Attributes::parse(rest).map(Self::Xclient),
            "XFORWARD" => Attributes::parse(rest).map(Self::Xforward),
            _ => Err(CommandError::Unknown),
        }
    }

    /// Writes the line with its CRLF. [`Command::parse`] reads it as the same command again.
    pub fn write(&self, out: &mut Vec<u8>) {
        let word = |out: &mut Vec<u8>, verb: &str, argument: &str| out.extend_from_slice(format!("{verb} {argument}").as_bytes());
        match self {
            Self::Ehlo(name) => word(out, "EHLO", name),
            Self::Helo(name) => word(out, "HELO", name),
            Self::Mail(path) => path.write("MAIL FROM:", out),
            Self::Rcpt(path) => path.write("RCPT TO:", out),
            Self::Data => out.extend_from_slice(b"DATA"),
            Self::Rset => out.extend_from_slice(b"RSET"),
            Self::Noop => out.extend_from_slice(b"NOOP"),
            Self::Quit => out.extend_from_slice(b"QUIT"),
            Self::Vrfy(argument) => word(out, "VRFY", argument),
            Self::Help => out.extend_from_slice(b"HELP"),
            Self::StartTls => out.extend_from_slice(b"STARTTLS"),
            Self::Xclient(client) => {
                out.extend_from_slice(b"XCLIENT");
                client.write(Names::KNOWN, out);
            }
            Self::Xforward(client) => {
                out.extend_from_slice(b"XFORWARD");
                client.write(Names::KNOWN, out);
            }
        }
        out.extend_from_slice(b"\r\n");
    }
}

/// Whether a text is one word, no longer than a domain or an address literal may be. The name is never trusted.
pub(super) fn is_hello_name(text: &str) -> bool {
    (1..=255).contains(&text.len()) && !text.contains([' ', '\t'])
}

impl PathCommand {
    fn parse(rest: &str, keyword: &str) -> Result<Self, CommandError> {
        let (head, tail) = rest.split_at_checked(keyword.len()).ok_or(CommandError::Syntax)?;
        if !head.eq_ignore_ascii_case(keyword) {
            return Err(CommandError::Syntax);
        }
        // RFC 5321 section 3.3 allows no blank here; many clients send one, and nothing is lost by taking it.
        let tail = tail.trim_start_matches(' ');
        let end = path_length(tail).ok_or(CommandError::Path)?;
        let (path, parameters) = tail.split_at_checked(end).ok_or(CommandError::Path)?;
        if !parameters.is_empty() && !parameters.starts_with(' ') {
            return Err(CommandError::Syntax);
        }
        let parameters: Vec<&str> = parameters.split(' ').filter(|word| !word.is_empty()).collect();
        if !parameters.iter().all(|word| is_parameter(word)) {
            return Err(CommandError::Syntax);
        }
        Ok(Self { path: path.to_owned(), parameters: parameters.join(" ") })
    }

    /// Writes the line without its CRLF; `keyword` is `MAIL FROM:` or `RCPT TO:`.
    pub fn write(&self, keyword: &str, out: &mut Vec<u8>) {
        out.extend_from_slice(keyword.as_bytes());
        out.extend_from_slice(self.path.as_bytes());
        if !self.parameters.is_empty() {
            out.push(b' ');
            out.extend_from_slice(self.parameters.as_bytes());
        }
    }

    /// The value of a parameter, by its keyword in any case.
    #[must_use]
    pub fn parameter(&self, keyword: &str) -> Option<&str> {
        self.values_of(keyword).next()
    }

    /// The same of one that stands there several times, which RFC 5321 does not allow: servers differ in which one counts.
    pub fn values_of(&self, keyword: &str) -> impl Iterator<Item = &str> {
        self.parameters.split(' ').filter_map(move |word| {
            let (name, value) = word.split_once('=').unwrap_or((word, ""));
            name.eq_ignore_ascii_case(keyword).then_some(value)
        })
    }
}

/// Octets of the path at the start of a text, brackets included: up to the `>` that no quoted string holds.
fn path_length(text: &str) -> Option<usize> {
    if !text.starts_with('<') {
        return None;
    }
    let (mut quoted, mut escaped) = (false, false);
    for (at, letter) in text.char_indices().skip(1) {
        match letter {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            '>' if !quoted => return Some(at + 1),
            '<' | ' ' | '\t' if !quoted => return None,
            _ => {}
        }
    }
    None
}

/// RFC 5321 section 4.1.2: `esmtp-keyword ["=" esmtp-value]`; values may be UTF-8 (RFC 6531 section 3.3).
fn is_parameter(word: &str) -> bool {
    let (name, value) = word.split_once('=').unwrap_or((word, "-"));
    name.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        && !value.is_empty()
        && value.chars().all(|letter| !letter.is_ascii() || letter.is_ascii_graphic())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_stay_as_they_are() {
        for path in [
            "<>",
            "<a@b.test>",
            "<postmaster>",
            "<\"a b\"@c.test>",
            "<\"a\\\"b>\"@c.test>",
            "<@r1.test,@r2.test:a@b.test>",
            "<a@[192.0.2.1]>",
            "<a@[IPv6:::1]>",
            "<ü@ü.example>",
            "<a..b@c.test>",
            "<a.@c.test>",
            "<a@b.test.>",
            "<a_b+c=d@e_f.test>",
        ] {
            let Ok(Command::Mail(line)) = Command::parse(format!("MAIL FROM:{path} SIZE=10 RET=HDRS").as_bytes()) else { panic!("{path}") };
            assert_eq!((line.path.as_str(), line.parameters.as_str()), (path, "SIZE=10 RET=HDRS"));
            let mut wire = Vec::new();
            Command::Mail(line).write(&mut wire);
            assert_eq!(String::from_utf8(wire).unwrap(), format!("MAIL FROM:{path} SIZE=10 RET=HDRS\r\n"));
        }
    }

    #[test]
    fn what_is_no_command() {
        for (line, error) in [
            ("", CommandError::Unknown),
            ("BDAT 10", CommandError::Unknown),
            ("GET / HTTP/1.1", CommandError::Unknown),
            ("EHLO", CommandError::Syntax),
            ("EHLO a b", CommandError::Syntax),
            ("MAIL a@b", CommandError::Syntax),
            ("MAIL FROM:a@b", CommandError::Path),
            ("MAIL FROM:<a@b", CommandError::Path),
            ("MAIL FROM:<a b@c>", CommandError::Path),
            ("MAIL FROM:<a@b>SIZE=1", CommandError::Syntax),
            ("MAIL FROM:<a@b> =", CommandError::Syntax),
            ("RCPT TO:<>", CommandError::NullRecipient),
            ("RCPT TO:<> NOTIFY=NEVER", CommandError::NullRecipient),
            ("RCPT TO:a@b", CommandError::Recipient),
            ("VRFY", CommandError::Syntax),
            ("DATA now", CommandError::Syntax),
            ("MAIL FROM:<a\0b@c>", CommandError::Characters),
            ("RCPT TO:<\"a\rX: y\"@c>", CommandError::Characters),
        ] {
            assert_eq!(Command::parse(line.as_bytes()), Err(error), "{line:?}");
        }
        assert_eq!(Command::parse(b"MAIL FROM:<\xfc@b>"), Err(CommandError::Characters));
        assert_eq!(Command::parse(b"noop ping"), Ok(Command::Noop));
        assert_eq!(Command::parse(b"quit "), Ok(Command::Quit));
        assert_eq!(Command::parse(b"vrfy  bob "), Ok(Command::Vrfy("bob".into())));
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig { cases: 2_000, ..proptest::prelude::ProptestConfig::default() })]

        /// What was understood is written so that it is understood alike, and is one line.
        #[test]
        fn commands_are_read_as_they_are_written(
            line in "(EHLO|helo|MAIL FROM:|RCPT TO:|DATA|rset|NOOP|QUIT|VRFY|HELP|STARTTLS|XCLIENT|XFORWARD) ?\
                (<[a-zü\"\\\\ .]{0,8}(@[a-z.\\[\\]]{1,8})?>|[!-~]{0,10})?\
                ( ?(ADDR|NAME|HELO|PROTO|SIZE|body)=(192.0.2.7|IPV6:2001:db8::1|SMTP|[!-~]{0,6}|\\[UNAVAILABLE\\]|a\\+2[Bb]c)){0,3}",
        ) {
            if let Ok(command) = Command::parse(line.as_bytes()) {
                let mut wire = Vec::new();
                command.write(&mut wire);
                let text = wire.strip_suffix(b"\r\n").unwrap();
                proptest::prop_assert!(!text.iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0)));
                proptest::prop_assert_eq!(Command::parse(text), Ok(command));
            }
        }
    }
}
