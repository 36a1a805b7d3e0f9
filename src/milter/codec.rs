//! The milter protocol's frames: a length, a assembly, and what belongs to it (version 6, as Sendmail's libmilter and
//! Postfix speak it).
//!
//! Bytes stay bytes: a header's value is kept as it came. Whatever does not read is an error, and the connection ends;
//! the MTA then does what its `milter_default_action` says.

use std::net::IpAddr;

use tokio::io::{AsyncRead, AsyncReadExt as _};

use crate::limits;

/// What an MTA says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MtaCommand {
    /// What it offers.
    Negotiate(Negotiation),
    /// Values by name that belong to the frame after it.
    Macros(Vec<(Vec<u8>, Vec<u8>)>),
    /// A client has connected; its address, where it has one.
    Connect(Option<IpAddr>),
    /// The name that the client gave.
    Helo(Vec<u8>),
    /// The reverse-path, with angle brackets; a mail begins.
    Mail(Vec<u8>),
    /// A forward-path.
    Recipient(Vec<u8>),
    /// A header field: its name, and its value as it stands behind the colon.
    Header(Vec<u8>, Vec<u8>),
    /// The header is complete.
    EndOfHeader,
    /// A piece of the body.
    Body(Vec<u8>),
    /// The body is complete; a last piece may come along.
    EndOfBody(Vec<u8>),
    /// The mail is off.
    Abort,
    /// The client has gone; another one may come on this connection.
    QuitClient,
    /// The connection ends.
    Quit,
    /// A step that this milter asked not to handle of, or takes no notice of.
    Other,
}

/// What both sides agree on, or what one of them offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Negotiation {
    /// The protocol's version.
    pub version: u32,
    /// What the milter may do, `SMFIF_*`.
    pub actions: u32,
    /// Which steps are left out or go without a reply, `SMFIP_*`.
    pub steps: u32,
}

/// `SMFIF_*`: what the milter may do.
pub mod action {
    /// Add and insert header fields.
    pub const ADD_HEADER: u32 = 0x01;
    /// Change the body.
    pub const CHANGE_BODY: u32 = 0x02;
    /// Change and delete header fields.
    pub const CHANGE_HEADER: u32 = 0x10;
}

/// `SMFIP_*`: steps that are left out or need no reply.
pub mod step {
    /// No unknown commands.
    pub const NO_UNKNOWN: u32 = 0x100;
    /// No DATA.
    pub const NO_DATA: u32 = 0x200;
    /// The MTA understands "send no more of the body".
    pub const SKIP: u32 = 0x400;
    /// No reply to a header field.
    pub const NO_REPLY_HEADER: u32 = 0x80;
    /// No reply to the connection.
    pub const NO_REPLY_CONNECT: u32 = 0x1000;
    /// No reply to HELO.
    pub const NO_REPLY_HELO: u32 = 0x2000;
    /// No reply to MAIL.
    pub const NO_REPLY_MAIL: u32 = 0x4000;
    /// No reply to RCPT.
    pub const NO_REPLY_RECIPIENT: u32 = 0x8000;
    /// Values come with the white space behind the colon.
    pub const LEADING_SPACE: u32 = 0x10_0000;
}

/// Why nothing more can be read.
#[derive(Debug, thiserror::Error)]
pub enum CodecError {
    /// The MTA hung up between frames.
    #[error("the MTA has hung up")]
    Closed,
    /// It hung up inside a frame, or the network failed.
    #[error("the connection broke: {0}")]
    Broken(#[from] std::io::Error),
    /// A frame of no octets, or of more than [`limits::MILTER_FRAME`].
    #[error("a frame of {0} octets")]
    Size(u32),
    /// A frame that holds something else than its assembly says.
    #[error("a frame {0:?} that cannot be read")]
    Malformed(char),
}

/// Reads one frame.
///
/// # Errors
/// [`CodecError`]; the connection is then of no further use.
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
    // Room is made as octets come, not as the length promises.
    let mut frame = Vec::with_capacity(size.min(4_096));
    input.take(u64::from(length)).read_to_end(&mut frame).await?;
    if frame.len() < size {
        return Err(CodecError::Broken(std::io::ErrorKind::UnexpectedEof.into()));
    }
    parse(&frame)
}

/// Reads a frame without its length.
///
/// # Errors
/// [`CodecError::Malformed`].
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

/// Texts that each end with a NUL.
fn texts(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    bytes.strip_suffix(&[0]).into_iter().flat_map(|bytes| bytes.split(|byte| *byte == 0))
}

/// The address of a connection: the host's name, a family's assembly, a port, the address in text.
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

/// What the milter says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MilterReply {
    /// What it takes of the offer.
    Negotiate(Negotiation),
    /// Go on.
    Continue,
    /// The mail may go; nothing more of it needs to be told.
    Accept,
    /// No more of the body.
    Skip,
    /// Still at it; the MTA waits on.
    Progress,
    /// Refuse the mail with these words.
    Refuse(String),
    /// Put a header field on top; the value with what stands behind the colon.
    Insert {
        /// Its name.
        name: String,
        /// Its value.
        value: Vec<u8>,
    },
    /// A piece of the new body, of 65,535 octets at most.
    Body(Vec<u8>),
    /// Delete the so-manieth field of this name, counted from 1.
    Delete {
        /// The name.
        name: Vec<u8>,
        /// Which of them.
        number: u32,
    },
}

impl MilterReply {
    /// Appends the frame.
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
        // An answer is 64 KiB at most; its length fits.
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
