//! The attributes of Postfix's XCLIENT and XFORWARD, `NAME=value` each with the value in xtext (RFC 3461 section 4).

use std::net::IpAddr;

use super::command::{CommandError, is_hello_name};

/// The client that a session or a mail is from. An attribute that is not known is none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attributes {
    /// ADDR: the client's address.
    pub address: Option<IpAddr>,
    /// NAME: the client's name in DNS.
    pub name: Option<String>,
    /// HELO: the name that the client gave in EHLO or HELO.
    pub helo: Option<String>,
    /// PROTO: whether the client sent EHLO or HELO.
    pub protocol: Option<Protocol>,
}

/// The protocol by which mails come, as a trace field names it (RFC 3848).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// SMTP: the client sent HELO.
    Smtp,
    /// ESMTP: the client sent EHLO.
    Esmtp,
}

impl Attributes {
    /// Reads the attributes behind the verb. Those that the hop does not use are checked for their syntax and left out.
    ///
    /// # Errors
    /// Where there is no attribute, or one is unknown or malformed.
    pub fn parse(rest: &str) -> Result<Self, CommandError> {
        let mut found = Self::default();
        let mut count = 0;
        for word in rest.split(' ').filter(|word| !word.is_empty()) {
            count += 1;
            let (name, value) = word.split_once('=').ok_or(CommandError::Syntax)?;
            let value = decode_xtext(value).ok_or(CommandError::Syntax)?;
            let known = !value.eq_ignore_ascii_case(UNAVAILABLE) && !value.eq_ignore_ascii_case("[TEMPUNAVAIL]");
            match name.to_ascii_uppercase().as_str() {
                "ADDR" if known => found.address = Some(parse_address(&value).ok_or(CommandError::Syntax)?),
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

    /// Writes the attributes of these names, each behind a blank; what is not known is said to be so, or it would stay as it was
    /// for the mail before.
    pub fn write(&self, names: Names, out: &mut Vec<u8>) {
        let protocol = self.protocol.map(|protocol| match protocol {
            Protocol::Smtp => "SMTP",
            Protocol::Esmtp => "ESMTP",
        });
        let address = self.address.map(|address| match address.to_canonical() {
            IpAddr::V4(address) => address.to_string(),
            IpAddr::V6(address) => format!("IPV6:{address}"),
        });
        for (_, name) in NAMES.iter().enumerate().filter(|(at, _)| names.0 & (1 << at) != 0) {
            out.push(b' ');
            out.extend_from_slice(name.as_bytes());
            out.push(b'=');
            let value = match *name {
                "NAME" => self.name.as_deref(),
                "ADDR" => address.as_deref(),
                "HELO" => self.helo.as_deref(),
                "PROTO" => protocol,
                _ => None,
            };
            match value {
                Some(value) => encode_xtext(value, out),
                None => out.extend_from_slice(UNAVAILABLE.as_bytes()),
            }
        }
    }
}

/// The attributes of XFORWARD but SOURCE, which is never sent: Postfix takes an unknown one for LOCAL, and rewrites the header of
/// local mails.
const NAMES: [&str; 6] = ["NAME", "ADDR", "PORT", "HELO", "PROTO", "IDENT"];

/// Names of attributes: those that a next hop takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Names(u8);

impl Names {
    /// Those that [`Attributes`] has.
    pub const KNOWN: Self = Self(0b1_1011);

    /// All of them.
    pub const ALL: Self = Self(0b11_1111);

    /// Reads what stands behind XFORWARD in the reply to EHLO.
    #[must_use]
    pub fn read(announced: &str) -> Self {
        let is_among = |name: &str| announced.split(' ').any(|word| word.eq_ignore_ascii_case(name));
        Self(NAMES.iter().enumerate().filter(|(_, name)| is_among(name)).fold(0, |set, (at, _)| set | 1 << at))
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }
}

/// The value of an attribute that is not known.
const UNAVAILABLE: &str = "[UNAVAILABLE]";

/// An address as XCLIENT writes it, IPv6 behind `IPV6:`; an IPv4 address in IPv6 form is an IPv4 address.
fn parse_address(text: &str) -> Option<IpAddr> {
    let plain = text.get(..5).filter(|head| head.eq_ignore_ascii_case("IPV6:")).map_or(text, |_| text.get(5..).unwrap_or_default());
    plain.parse().ok().map(|address: IpAddr| address.to_canonical())
}

/// Decodes xtext, in which `+XX` stands for an octet. None where the result is not UTF-8 or holds control characters.
fn decode_xtext(value: &str) -> Option<String> {
    let mut pieces = value.split('+');
    let mut out = pieces.next().unwrap_or_default().as_bytes().to_vec();
    for piece in pieces {
        out.push(u8::from_str_radix(piece.get(..2)?, 16).ok()?);
        out.extend_from_slice(piece.get(2..)?.as_bytes());
    }
    String::from_utf8(out).ok().filter(|text| !text.chars().any(char::is_control))
}

/// Encodes xtext: `+`, `=` and all but graphic ASCII become `+XX`.
fn encode_xtext(value: &str, out: &mut Vec<u8>) {
    for byte in value.bytes() {
        if byte.is_ascii_graphic() && byte != b'+' && byte != b'=' {
            out.push(byte);
        } else {
            out.extend_from_slice(format!("+{byte:02X}").as_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::smtp::codec::command::Command;

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
        let Ok(Command::Xforward(found)) = Command::parse(b"XFORWARD ADDR=IPV6:::ffff:192.0.2.7") else { panic!() };
        assert_eq!(found.address, "192.0.2.7".parse().ok());
        let mut wire = Vec::new();
        Command::Xforward(Attributes { helo: Some("a=b c+é".into()), ..found }).write(&mut wire);
        assert_eq!(wire, b"XFORWARD NAME=[UNAVAILABLE] ADDR=192.0.2.7 HELO=a+3Db+20c+2B+C3+A9 PROTO=[UNAVAILABLE]\r\n");
        let mut wire = Vec::new();
        Attributes { helo: Some("a.test".into()), ..Attributes::default() }.write(Names::read("ident source ADDR X HELO"), &mut wire);
        assert_eq!(wire, b" ADDR=[UNAVAILABLE] HELO=a.test IDENT=[UNAVAILABLE]");
        assert_eq!((Names::read("PROTO HELO ADDR NAME"), Names::read("")), (Names::KNOWN, Names::default()));
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

    proptest! {
        #[test]
        fn xtext_is_read_as_it_is_written(value in "\\PC{0,40}") {
            let mut wire = Vec::new();
            encode_xtext(&value, &mut wire);
            prop_assert!(wire.iter().all(|byte| byte.is_ascii_graphic() && *byte != b'='));
            prop_assert_eq!(decode_xtext(std::str::from_utf8(&wire).unwrap()), Some(value));
        }
    }
}
