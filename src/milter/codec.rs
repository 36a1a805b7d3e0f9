//! The frames of the milter protocol: a length of four octets, a command's letter, and its arguments (version 6, as Sendmail's
//! libmilter and Postfix speak it).
//!
//! Octets are kept as they come: a header's value, too. A malformed frame is an error, and the connection ends; the MTA then
//! applies its `milter_default_action`.

use std::net::IpAddr;

use tokio::io::{AsyncRead, AsyncReadExt as _};

use crate::limits;

/// A command of the MTA (`SMFIC_*`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MtaCommand {
    /// The MTA's offer, or the milter's answer to it.
    Negotiate(Negotiation),
    /// Macros by name, for the command after them; the hop uses none.
    Macros(Vec<(Vec<u8>, Vec<u8>)>),
    /// A client has connected; its address, none for a socket in the file system.
    Connect(Option<IpAddr>),
    /// The client's name in HELO or EHLO.
    Helo(Vec<u8>),
    /// The reverse-path, as the MTA writes it; a transaction begins.
    Mail(Vec<u8>),
    /// A forward-path, as the MTA writes it.
    Recipient(Vec<u8>),
    /// A header field: its name, and its value with what stands behind the colon.
    Header(Vec<u8>, Vec<u8>),
    /// The header is complete.
    EndOfHeader,
    /// A piece of the body, in order.
    Body(Vec<u8>),
    /// The body is complete; a last piece may come with it.
    EndOfBody(Vec<u8>),
    /// The transaction is abandoned; the session goes on.
    Abort,
    /// The client's session is over; another one may come on this connection.
    QuitClient,
    /// The MTA closes the connection.
    Quit,
    /// A command that this milter asked to be left out, or ignores.
    Other,
}

/// An offer, or the answer to one (`SMFIC_OPTNEG`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Negotiation {
    /// The protocol's version; the hop speaks 6.
    pub version: u32,
    /// What the milter may change, a set of `SMFIF_*`.
    pub actions: u32,
    /// The steps that are left out, or have no reply, a set of `SMFIP_*`.
    pub steps: u32,
}

/// `SMFIF_*`: what the milter may change.
pub mod action {
    /// It may add and insert header fields.
    pub const ADD_HEADER: u32 = 0x01;
    /// It may change the body.
    pub const CHANGE_BODY: u32 = 0x02;
    /// It may change and delete header fields.
    pub const CHANGE_HEADER: u32 = 0x10;
}

/// `SMFIP_*`: steps that are left out or have no reply.
pub mod step {
    /// The MTA leaves out unknown SMTP commands.
    pub const NO_UNKNOWN: u32 = 0x100;
    /// The MTA leaves out DATA.
    pub const NO_DATA: u32 = 0x200;
    /// The MTA knows the reply that asks for no more of the body.
    pub const SKIP: u32 = 0x400;
    /// A header field has no reply.
    pub const NO_REPLY_HEADER: u32 = 0x80;
    /// The client's connection has no reply.
    pub const NO_REPLY_CONNECT: u32 = 0x1000;
    /// HELO has no reply.
    pub const NO_REPLY_HELO: u32 = 0x2000;
    /// MAIL has no reply.
    pub const NO_REPLY_MAIL: u32 = 0x4000;
    /// RCPT has no reply.
    pub const NO_REPLY_RECIPIENT: u32 = 0x8000;
    /// Header values come with the white space behind the colon.
    pub const LEADING_SPACE: u32 = 0x10_0000;
}

/// Why no further frame can be read.
#[derive(Debug, thiserror::Error)]
pub enum CodecError {
    /// The MTA closed the connection between two frames.
    #[error("the MTA has hung up")]
    Closed,
    /// The connection ended inside a frame, or the network failed.
    #[error("the connection broke: {0}")]
    Broken(#[from] std::io::Error),
    /// A frame of no octets, or of more than [`limits::MILTER_FRAME`]; its length.
    #[error("a frame of {0} octets")]
    Size(u32),
    /// A frame whose arguments are not those of its command; the command's letter.
    #[error("a frame {0:?} that cannot be read")]
    Malformed(char),
}

/// Reads one frame. Not cancel-safe: the octets read so far are lost, so whoever gives this up must close the connection.
///
/// # Errors
/// [`CodecError`]; the connection cannot be used afterwards.
pub async fn read(input: &mut (impl AsyncRead + Unpin)) -> Result<MtaCommand, CodecError> {
    let mut length = [0_u8; 4];
    if input.read(&mut length[..1]).await? == 0 {
        return Err(CodecError::Closed);
    }
    if let Some(rest) = length.get_mut(1..) {
        input.read_exact(rest).await?;
    }
    let length = u32::from_be_bytes(length);
    let size = usize::try_from(length).ok().filter(|size| (1..=limits::MILTER_FRAME).contains(size)).ok_or(CodecError::Size(length))?;
    // Memory is taken as octets come, not as the length promises.
    let mut frame = Vec::with_capacity(size.min(4_096));
    input.take(u64::from(length)).read_to_end(&mut frame).await?;
    if frame.len() < size {
        return Err(CodecError::Broken(std::io::ErrorKind::UnexpectedEof.into()));
    }
    parse(&frame)
}

/// Reads a frame without its length: a letter and its arguments.
///
/// # Errors
/// [`CodecError::Malformed`], or [`CodecError::Size`] for an empty frame.
pub fn parse(frame: &[u8]) -> Result<MtaCommand, CodecError> {
    let Some((assembly, rest)) = frame.split_first() else { return Err(CodecError::Size(0)) };
    let malformed = || CodecError::Malformed(char::from(*assembly));
    Ok(match assembly {
        b'O' => MtaCommand::Negotiate(Negotiation::read(rest).ok_or_else(malformed)?),
        b'D' => {
            let mut texts = texts(rest.get(1..).ok_or_else(malformed)?);
            let mut pairs = Vec::new();
            while let (Some(name), Some(value)) = (texts.next(), texts.next()) {
                pairs.push((name.to_vec(), value.to_vec()));
            }
            MtaCommand::Macros(pairs)
        }
        b'C' => MtaCommand::Connect(address(rest)),
        b'H' => MtaCommand::Helo(texts(rest).next().unwrap_or_default().to_vec()),
        b'M' => MtaCommand::Mail(texts(rest).next().ok_or_else(malformed)?.to_vec()),
        b'R' => MtaCommand::Recipient(texts(rest).next().ok_or_else(malformed)?.to_vec()),
        b'L' => {
            let end = memchr::memchr(0, rest).ok_or_else(malformed)?;
            let (name, value) = rest.split_at_checked(end).ok_or_else(malformed)?;
            let value = value.get(1..).and_then(|value| value.strip_suffix(&[0])).ok_or_else(malformed)?;
            MtaCommand::Header(name.to_vec(), value.to_vec())
        }
        b'N' => MtaCommand::EndOfHeader,
        b'B' => MtaCommand::Body(rest.to_vec()),
        b'E' => MtaCommand::EndOfBody(rest.to_vec()),
        b'A' => MtaCommand::Abort,
        b'K' => MtaCommand::QuitClient,
        b'Q' => MtaCommand::Quit,
        b'T' | b'U' => MtaCommand::Other,
        _ => return Err(malformed()),
    })
}

/// The texts of a row of texts that each end with a NUL.
fn texts(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    bytes.strip_suffix(&[0]).into_iter().flat_map(|bytes| bytes.split(|byte| *byte == 0))
}

/// The address in a connection's arguments: the host's name, a family's letter, a port, the address as text.
fn address(rest: &[u8]) -> Option<IpAddr> {
    let end = memchr::memchr(0, rest)?;
    let behind = rest.get(end + 1..)?;
    if !matches!(behind.first()?, b'4' | b'6') {
        return None;
    }
    let text = std::str::from_utf8(behind.get(3..)?.strip_suffix(&[0])?).ok()?;
    let text = text.strip_prefix("IPv6:").unwrap_or(text);
    text.parse::<IpAddr>().ok().map(|address| address.to_canonical())
}

impl Negotiation {
    fn read(bytes: &[u8]) -> Option<Self> {
        let number = |at: usize| bytes.get(at..at + 4)?.try_into().ok().map(u32::from_be_bytes);
        Some(Self { version: number(0)?, actions: number(4)?, steps: number(8)? })
    }
}

/// A reply of the milter (`SMFIR_*`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MilterReply {
    /// The answer to the MTA's offer.
    Negotiate(Negotiation),
    /// Go on with the next step.
    Continue,
    /// Accept the mail: no further step of it is sent.
    Accept,
    /// Send no more of the body.
    Skip,
    /// Keep waiting: the milter is still working.
    Progress,
    /// Refuse the mail with this SMTP reply.
    Refuse(String),
    /// Insert a header field on top.
    Insert {
        /// The field's name, without its colon.
        name: String,
        /// The value with what stands behind the colon.
        value: Vec<u8>,
    },
    /// A piece of the new body, of 65,535 octets at most.
    Body(Vec<u8>),
    /// Delete the field with this name and number.
    Delete {
        /// The field's name, in any case.
        name: Vec<u8>,
        /// Its number among the fields of this name, counted from 1 at the top.
        number: u32,
    },
}

impl MilterReply {
    /// Appends the reply as a frame.
    pub fn write(&self, out: &mut Vec<u8>) {
        let at = out.len();
        out.extend_from_slice(&[0; 4]);
        match self {
            Self::Negotiate(terms) => {
                out.push(b'O');
                for number in [terms.version, terms.actions, terms.steps] {
                    out.extend_from_slice(&number.to_be_bytes());
                }
            }
            Self::Continue => out.push(b'c'),
            Self::Accept => out.push(b'a'),
            Self::Skip => out.push(b's'),
            Self::Progress => out.push(b'p'),
            Self::Refuse(words) => {
                out.push(b'y');
                out.extend_from_slice(words.as_bytes());
                out.push(0);
            }
            Self::Insert { name, value } => {
                out.push(b'i');
                out.extend_from_slice(&0_u32.to_be_bytes());
                out.extend_from_slice(name.as_bytes());
                out.push(0);
                out.extend_from_slice(value);
                out.push(0);
            }
            Self::Body(piece) => {
                out.push(b'b');
                out.extend_from_slice(piece);
            }
            Self::Delete { name, number } => {
                out.push(b'm');
                out.extend_from_slice(&number.to_be_bytes());
                out.extend_from_slice(name);
                out.extend_from_slice(&[0, 0]);
            }
        }
        // A reply has 64 KiB at most, so its length fits.
        let length = u32::try_from(out.len() - at - 4).unwrap_or(0);
        if let Some(permit) = out.get_mut(at..at + 4) {
            permit.copy_from_slice(&length.to_be_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(bytes: &[u8]) -> Option<MtaCommand> {
        parse(bytes).ok()
    }

    #[test]
    fn what_postfix_says() {
        let offer = [&b"O"[..], &6_u32.to_be_bytes(), &0x1ff_u32.to_be_bytes(), &0x1f_ffff_u32.to_be_bytes()].concat();
        assert_eq!(frame(&offer), Some(MtaCommand::Negotiate(Negotiation { version: 6, actions: 0x1ff, steps: 0x1f_ffff })));
        assert_eq!(frame(b"Cmx.test\x004\x00\x19192.0.2.1\0"), Some(MtaCommand::Connect("192.0.2.1".parse().ok())));
        assert_eq!(frame(b"Cmx.test\x006\x00\x19IPv6:2001:db8::1\0"), Some(MtaCommand::Connect("2001:db8::1".parse().ok())));
        assert_eq!(frame(b"Clocalhost\x00U"), Some(MtaCommand::Connect(None)));
        assert_eq!(frame(b"M<a@b.test>\0SIZE=10\0"), Some(MtaCommand::Mail(b"<a@b.test>".to_vec())));
        assert_eq!(frame(b"LSubject\0 caf\xe9\n two\0"), Some(MtaCommand::Header(b"Subject".to_vec(), b" caf\xe9\n two".to_vec())));
        assert_eq!(frame(b"LX\0 a\0b\0"), Some(MtaCommand::Header(b"X".to_vec(), b" a\0b".to_vec())));
        assert_eq!(
            frame(b"DMi\0ABC123\0{x}\0\0"),
            Some(MtaCommand::Macros(vec![(b"i".to_vec(), b"ABC123".to_vec()), (b"{x}".to_vec(), Vec::new())]))
        );
        assert_eq!(frame(b"E"), Some(MtaCommand::EndOfBody(Vec::new())));
    }

    #[test]
    fn what_is_no_frame() {
        for bytes in [&b""[..], b"Z", b"O\0\0\0\x06", b"M", b"Mno-nul", b"LSubject", b"LSubject\0no-nul", b"D"] {
            assert!(parse(bytes).is_err(), "{bytes:?}");
        }
    }

    #[test]
    fn what_is_said() {
        let said = |answer: MilterReply| {
            let mut out = b"before".to_vec();
            answer.write(&mut out);
            out.split_off(6)
        };
        assert_eq!(said(MilterReply::Continue), b"\0\0\0\x01c");
        assert_eq!(said(MilterReply::Insert { name: "X".into(), value: b" y".to_vec() }), b"\0\0\0\x0ai\0\0\0\0X\0 y\0");
        assert_eq!(said(MilterReply::Delete { name: b"X".to_vec(), number: 3 }), b"\0\0\0\x08m\0\0\0\x03X\0\0");
    }
}
