//! The PROXY protocol, by which a proxy in front names the client of a connection: versions 1 and 2 (`proxy-protocol.txt` of
//! `HAProxy`).

use std::{io, net::IpAddr, time::Duration};

use ppp::{HeaderResult, PartialResult as _, v1, v2};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _},
    time::timeout,
};

/// Reads the PROXY header at the start of a proxy's connection, version 1 or 2. Returns the client's address, none for the
/// proxy's own health checks (LOCAL, UNKNOWN), and the octets that were read behind the header. Not cancel-safe.
///
/// # Errors
/// There is no such header, it has more than 4 KiB, or it does not come within `patience`.
pub async fn read_header(stream: &mut (impl AsyncRead + Unpin), patience: Duration) -> io::Result<(Option<IpAddr>, Vec<u8>)> {
    let mut input = Vec::with_capacity(256);
    let read = async {
        loop {
            if stream.read_buf(&mut input).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let header = HeaderResult::parse(&input);
            if header.is_complete() {
                let found = match &header {
                    HeaderResult::V1(Ok(header)) => Some((client_v1(&header.addresses), header.header.len())),
                    HeaderResult::V2(Ok(header)) => Some((client_v2(header), header.len())),
                    HeaderResult::V1(Err(_)) | HeaderResult::V2(Err(_)) => None,
                };
                let (client, length) = found.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "no PROXY header"))?;
                return Ok((client, input.split_off(length)));
            }
            if input.len() > PROXY_HEADER {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "the PROXY header is too long"));
            }
        }
    };
    timeout(patience, read).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

const fn client_v1(addresses: &v1::Addresses) -> Option<IpAddr> {
    match addresses {
        v1::Addresses::Tcp4(pair) => Some(IpAddr::V4(pair.source_address)),
        v1::Addresses::Tcp6(pair) => Some(IpAddr::V6(pair.source_address)),
        v1::Addresses::Unknown => None,
    }
}

fn client_v2(header: &v2::Header<'_>) -> Option<IpAddr> {
    match (header.command, &header.addresses) {
        (v2::Command::Proxy, v2::Addresses::IPv4(pair)) => Some(IpAddr::V4(pair.source_address)),
        (v2::Command::Proxy, v2::Addresses::IPv6(pair)) => Some(IpAddr::V6(pair.source_address)),
        _ => None,
    }
}

/// Octets of the longest header: version 2 with a certificate's name and the like.
const PROXY_HEADER: usize = 4_096;

#[cfg(test)]
mod tests {
    use super::*;

    async fn read(bytes: &[u8]) -> Option<(Option<IpAddr>, Vec<u8>)> {
        read_header(&mut { bytes }, Duration::from_secs(5)).await.ok()
    }

    #[tokio::test]
    async fn proxy_headers() {
        let client = "192.0.2.7".parse().ok();
        assert_eq!(read(b"PROXY TCP4 192.0.2.7 192.0.2.1 4000 25\r\nEHLO a\r\n").await, Some((client, b"EHLO a\r\n".to_vec())));
        assert_eq!(read(b"PROXY UNKNOWN\r\n").await, Some((None, vec![])));
        let v2 = |command: u8, length: u8| {
            [b"\r\n\r\n\0\r\nQUIT\n".as_slice(), &[command, 0x11, 0, length, 192, 0, 2, 7, 192, 0, 2, 1, 0x10, 0, 0, 25], b"EHLO a\r\n"]
                .concat()
        };
        assert_eq!(read(&v2(0x21, 12)).await, Some((client, b"EHLO a\r\n".to_vec())));
        assert_eq!(read(&v2(0x20, 12)).await, Some((None, b"EHLO a\r\n".to_vec())));
        for odd in [&b"EHLO a\r\n"[..], b"PROXY TCP4 x y 1 2\r\n", b"PROXY TCP4 192.0.2.7", &[b'P'; 5_000], &v2(0x21, 200), &v2(0x31, 12)] {
            assert_eq!(read(odd).await, None, "{}", odd.escape_ascii());
        }
    }
}
