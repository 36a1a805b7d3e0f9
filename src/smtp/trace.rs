//! The hop's own trace: an id for each mail, and the Received field that carries it (RFC 5321 section 4.4).

use std::net::IpAddr;

use super::session::Protocol;
use crate::clock;

/// A new id: the time in milliseconds and 32 random bits, in hexadecimal, so that ids sort by time and two replicas
/// never share one.
pub(super) fn id() -> String {
    let mut random = [0_u8; 4];
    // Without random bits the time alone still tells mails apart within one replica.
    let _ = aws_lc_rs::rand::fill(&mut random);
    format!("{:011x}{:08x}", clock::now().as_millisecond(), u32::from_be_bytes(random))
}

/// Writes the Received field. What the upstream said of itself is quoted only where it is a plain name.
pub(super) fn received(out: &mut Vec<u8>, hostname: &str, helo: &str, peer: IpAddr, protocol: Protocol, utf8: bool, id: &str) {
    let plain = helo.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b'[' | b']' | b':'));
    let helo = if plain { helo } else { "invalid" };
    let peer = match peer.to_canonical() {
        IpAddr::V4(address) => format!("[{address}]"),
        IpAddr::V6(address) => format!("[IPv6:{address}]"),
    };
    // RFC 3848, RFC 6531 section 4.3.
    let with = match (protocol, utf8) {
        (_, true) => "UTF8SMTP",
        (Protocol::Esmtp, false) => "ESMTP",
        (Protocol::Smtp, false) => "SMTP",
    };
    let date = clock::rfc5322(clock::now());
    out.extend_from_slice(format!("Received: from {helo} ({peer})\r\n\tby {hostname} (firstclick) with {with} id {id};\r\n\t{date}\r\n").as_bytes());
}
