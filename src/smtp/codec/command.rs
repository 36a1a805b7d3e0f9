//! SMTP commands (RFC 5321 section 4.1.1), understood without a byte of their paths changed.
//!
//! A library that parses addresses also rewrites them or refuses legal ones (see docs/decisions.md). The hop needs no
//! address, only the stretch between the angle brackets, so that is what is kept.

use std::net::IpAddr;

/// A command line, understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// EHLO with the name given.
    Ehlo(String),
    /// HELO with the name given.
    Helo(String),
    /// MAIL.
    Mail(PathCommand),
    /// RCPT.
    Rcpt(PathCommand),
    /// DATA.
    Data,
    /// RSET.
    Rset,
    /// NOOP.
    Noop,
    /// QUIT.
    Quit,
    /// VRFY.
    Vrfy,
    /// HELP.
    Help,
    /// STARTTLS (RFC 3207).
    StartTls,
    /// XCLIENT: for whom the rest of the session is.
    Xclient(Attributes),
    /// XFORWARD: for whom the next mail is.
    Xforward(Attributes),
}

/// The attributes of XCLIENT and XFORWARD, decoded; a value that is not known is none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attributes {
    /// The client's address.
    pub address: Option<IpAddr>,
    /// Its name.
    pub name: Option<String>,
    /// What it said in EHLO or HELO.
    pub helo: Option<String>,
    /// Whether it said HELO.
    pub protocol: Option<Protocol>,
}

/// The protocol by which mails come, as a trace field names it (RFC 3848).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// The upstream said HELO.
    Smtp,
    /// The upstream said EHLO.
    Esmtp,
}

/// MAIL or RCPT: the path and its parameters as sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathCommand {
    /// The path with its angle brackets.
    pub path: String,
    /// The parameters, with single spaces between them; empty where there are none.
    pub parameters: String,
}

/// Why a line is no command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// The verb is not known here.
    #[error("5.5.2 command not recognised")]
    Unknown,
    /// The verb is known, its arguments are not in order.
    #[error("5.5.4 syntax error in parameters or arguments")]
    Syntax,
    /// The reverse-path is no path.
    #[error("5.1.7 the address must stand in angle brackets")]
    Path,
    /// The forward-path is no path.
    #[error("5.1.3 the address must stand in angle brackets")]
    Recipient,
    /// The forward-path is the null path, which RFC 5321 section 4.1.1.2 allows in MAIL alone.
    #[error("5.1.3 the null path <> is no recipient")]
    NullRecipient,
    /// Octets that are not UTF-8, or control characters.
    #[error("5.5.2 the command holds characters that no command may hold")]
    Characters,
}

impl Command {
    /// Reads a line without its CRLF.
    ///
    /// # Errors
    /// Says what is wrong, in the words of the reply.
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
            "VRFY" => Ok(Self::Vrfy),
            "HELP" => Ok(Self::Help),
            "STARTTLS" => bare(Self::StartTls),
            "XCLIENT" => Attributes::parse(rest).map(Self::Xclient),
            "XFORWARD" => Attributes::parse(rest).map(Self::Xforward),
            _ => Err(CommandError::Unknown),
        }
    }
}

/// One word, as long as a domain or an address literal may be. What it says is never believed.
fn is_hello_name(text: &str) -> bool {
    (1..=255).contains(&text.len()) && !text.contains([' ', '\t'])
}

impl PathCommand {
    fn parse(rest: &str, keyword: &str) -> Result<Self, CommandError> {
        let (head, tail) = rest.split_at_checked(keyword.len()).ok_or(CommandError::Syntax)?;
        if !head.eq_ignore_ascii_case(keyword) {
            return Err(CommandError::Syntax);
        }
        // RFC 5321 section 3.3 allows no space here; many clients send one, and nothing is lost by taking it.
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

    /// The line for the next hop, without its CRLF.
    #[must_use]
    pub fn line(&self, verb: &str) -> String {
        let space = if self.parameters.is_empty() { "" } else { " " };
        format!("{verb}:{}{space}{}", self.path, self.parameters)
    }

    /// A parameter's value, by its keyword.
    #[must_use]
    pub fn parameter(&self, keyword: &str) -> Option<&str> {
        self.parameters.split(' ').find_map(|word| {
            let (name, value) = word.split_once('=').unwrap_or((word, ""));
            name.eq_ignore_ascii_case(keyword).then_some(value)
        })
    }
}

impl Attributes {
    /// `NAME=value` pairs, values in xtext (RFC 3461 section 4). Attributes that are not needed here are checked for
    /// their syntax and left.
    fn parse(rest: &str) -> Result<Self, CommandError> {
        let mut found = Self::default();
        let mut count = 0;
        for word in rest.split(' ').filter(|word| !word.is_empty()) {
            count += 1;
            let (name, value) = word.split_once('=').ok_or(CommandError::Syntax)?;
            let value = xtext(value).ok_or(CommandError::Syntax)?;
            let known = !value.eq_ignore_ascii_case("[UNAVAILABLE]") && !value.eq_ignore_ascii_case("[TEMPUNAVAIL]");
            match name.to_ascii_uppercase().as_str() {
                "ADDR" if known => found.address = Some(address(&value).ok_or(CommandError::Syntax)?),
                "NAME" if known => found.name = Some(value).filter(|name| is_hello_name(name)),
                "HELO" if known => found.helo = Some(value).filter(|name| is_hello_name(name)),
                "PROTO" if known => {
                    found.protocol = Some(if value.eq_ignore_ascii_case("SMTP") { Protocol::Smtp } else { Protocol::Esmtp });
                }
                "ADDR" | "NAME" | "HELO" | "PROTO" | "PORT" | "LOGIN" | "DESTADDR" | "DESTPORT" | "IDENT" | "SOURCE" => {}
                _ => return Err(CommandError::Syntax),
            }
        }
        if count == 0 { Err(CommandError::Syntax) } else { Ok(found) }
    }
}

fn address(text: &str) -> Option<IpAddr> {
    let plain = text.get(..5).filter(|head| head.eq_ignore_ascii_case("IPV6:")).map_or(text, |_| text.get(5..).unwrap_or_default());
    plain.parse().ok()
}

/// RFC 3461 section 4: `+XX` stands for an octet.
fn xtext(value: &str) -> Option<String> {
    let mut pieces = value.split('+');
    let mut out = pieces.next().unwrap_or_default().as_bytes().to_vec();
    for piece in pieces {
        out.push(u8::from_str_radix(piece.get(..2)?, 16).ok()?);
        out.extend_from_slice(piece.get(2..)?.as_bytes());
    }
    String::from_utf8(out).ok().filter(|text| !text.chars().any(char::is_control))
}

/// The octets of the path at the start of a text, brackets included: up to the `>` that no quoted string holds.
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
            assert_eq!(line.line("MAIL FROM"), format!("MAIL FROM:{path} SIZE=10 RET=HDRS"));
        }
    }

    #[test]
    fn whom_an_upstream_speaks_for() {
        let Ok(Command::Xclient(found)) = Command::parse(b"XCLIENT ADDR=192.0.2.7 NAME=[UNAVAILABLE] HELO=a+2Eb.test PROTO=SMTP LOGIN=x")
        else {
            panic!()
        };
        assert_eq!(
            found,
            Attributes {
                address: Some("192.0.2.7".parse().unwrap()),
                name: None,
                helo: Some("a.b.test".into()),
                protocol: Some(Protocol::Smtp)
            }
        );
        let Ok(Command::Xforward(found)) = Command::parse(b"xforward addr=ipv6:2001:db8::1 name=c.test port=25") else { panic!() };
        assert_eq!((found.address, found.name.as_deref()), ("2001:db8::1".parse().ok(), Some("c.test")));
        for odd in [
            "XCLIENT",
            "XCLIENT ADDR",
            "XCLIENT ADDR=x",
            "XCLIENT ADDR=+",
            "XCLIENT ADDR=192.0.2.7+0D+0A",
            "XCLIENT ROOT=yes",
            "XFORWARD HELO=a+zz",
        ] {
            assert_eq!(Command::parse(odd.as_bytes()), Err(CommandError::Syntax), "{odd}");
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
    }
}
