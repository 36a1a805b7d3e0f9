//! The hop's own trace: the Received field that carries a mail's id (RFC 5321 section 4.4).

use std::net::IpAddr;

use super::command::Protocol;
use crate::clock;

/// How a mail came.
#[derive(Clone, Copy, Debug)]
pub(super) struct With {
    /// Whether the upstream said EHLO.
    pub(super) protocol: Protocol,
    /// Whether TLS was spoken.
    pub(super) encrypted: bool,
    /// Whether SMTPUTF8 was asked for.
    pub(super) utf8: bool,
}

impl With {
    /// RFC 3848, RFC 6531 section 4.3.
    const fn keyword(self) -> &'static str {
        match (self.protocol, self.utf8, self.encrypted) {
            (_, true, true) => "UTF8SMTPS",
            (_, true, false) => "UTF8SMTP",
            (Protocol::Esmtp, false, true) => "ESMTPS",
            (Protocol::Esmtp, false, false) => "ESMTP",
            (Protocol::Smtp, false, _) => "SMTP",
        }
    }
}

/// Writes the Received field. What the upstream said of itself is quoted only where it is a plain name.
pub(super) fn received(out: &mut Vec<u8>, hostname: &str, helo: &str, name: Option<&str>, peer: IpAddr, with: With, id: &str) {
    let plain =
        |text: &str| text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b'[' | b']' | b':'));
    let helo = if plain(helo) { helo } else { "invalid" };
    let name = name.filter(|name| plain(name)).map(|name| format!("{name} ")).unwrap_or_default();
    let peer = match peer.to_canonical() {
        IpAddr::V4(address) => format!("[{address}]"),
        IpAddr::V6(address) => format!("[IPv6:{address}]"),
    };
    let (with, date) = (with.keyword(), clock::rfc5322(clock::now()));
    out.extend_from_slice(
        format!("Received: from {helo} ({name}{peer})\r\n\tby {hostname} (firstclick) with {with} id {id};\r\n\t{date}\r\n").as_bytes(),
    );
}
