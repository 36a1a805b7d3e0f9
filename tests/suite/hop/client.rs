//! An SMTP client that says what it is told, as an upstream does.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use firstclick::tls::Channel;
use rustls_pki_types::ServerName;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
};
use tokio_rustls::rustls::ClientConfig;

use super::PATIENCE;

/// An SMTP client that says what it is told.
pub(crate) struct Client {
    stream: Channel,
    input: Vec<u8>,
}

impl Client {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        Self::try_connect(address).await.expect("a greeting")
    }

    /// None where nobody is there, or nobody greets.
    pub(crate) async fn try_connect(address: SocketAddr) -> Option<Self> {
        let stream = TcpStream::connect(address).await.ok()?;
        // Where nobody listens, a loopback connection can meet itself: the port that it leaves from is the one it goes to.
        if stream.local_addr().ok()? == address {
            return None;
        }
        Self::on(stream).await
    }

    /// The same, from an address of the test's choice.
    pub(crate) async fn from(local: [u8; 4], address: SocketAddr) -> Option<Self> {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::from((local, 0))).unwrap();
        Self::on(socket.connect(address).await.ok()?).await
    }

    /// The same, by a proxy that says for whom it connects.
    pub(crate) async fn through_proxy(client: &str, address: SocketAddr) -> Self {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(format!("PROXY TCP4 {client} 192.0.2.1 4000 25\r\n").as_bytes()).await.unwrap();
        Self::on(stream).await.expect("a greeting")
    }

    async fn on(stream: TcpStream) -> Option<Self> {
        stream.set_nodelay(true).unwrap();
        let mut client = Self { stream: Channel::Clear(stream), input: Vec::new() };
        client.reply().await.starts_with("220 ").then_some(client)
    }

    /// With TLS from the first octet.
    pub(crate) async fn connect_encrypted(address: SocketAddr, config: Arc<ClientConfig>, name: &str) -> io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let stream = Channel::Clear(stream).connect(config, ServerName::try_from(name.to_owned()).unwrap()).await?;
        let mut client = Self { stream, input: Vec::new() };
        assert!(client.reply().await.starts_with("220 "));
        Ok(client)
    }

    /// Shakes hands; what the server said before is in `input` still.
    pub(crate) async fn encrypt(&mut self, config: Arc<ClientConfig>, name: &str) -> io::Result<()> {
        assert!(self.input.is_empty(), "the server says nothing in the clear behind its 220");
        self.stream = std::mem::take(&mut self.stream).connect(config, ServerName::try_from(name.to_owned()).unwrap()).await?;
        Ok(())
    }

    pub(crate) async fn greet(&mut self) -> String {
        self.say("EHLO client.test").await
    }

    /// Sends a line and reads its reply, of one line or several.
    pub(crate) async fn say(&mut self, line: &str) -> String {
        self.raw(format!("{line}\r\n").as_bytes()).await;
        self.reply().await
    }

    /// Sends octets; a server that is gone shows in the reply that does not come.
    pub(crate) async fn raw(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes).await;
        let _ = self.stream.flush().await;
    }

    /// The next reply; empty where the server hung up.
    pub(crate) async fn reply(&mut self) -> String {
        self.reply_within(PATIENCE).await
    }

    pub(crate) async fn reply_within(&mut self, patience: Duration) -> String {
        let mut text = String::new();
        loop {
            while let Some(end) = self.input.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.input.drain(..=end).collect();
                text.push_str(&String::from_utf8(line).unwrap());
                let last = text.lines().next_back().unwrap();
                if last.as_bytes().get(3) != Some(&b'-') {
                    return text;
                }
            }
            let read = tokio::time::timeout(patience, self.stream.read_buf(&mut self.input)).await.expect("a reply comes");
            if read.unwrap_or(0) == 0 {
                return text;
            }
        }
    }

    pub(crate) async fn send(&mut self, from: &str, to: &[&str], mail: &[u8]) -> String {
        let reply = self.say(&format!("MAIL FROM:{from}")).await;
        if !reply.starts_with("250") {
            return reply;
        }
        for to in to {
            let reply = self.say(&format!("RCPT TO:{to}")).await;
            if !reply.starts_with("250") {
                return reply;
            }
        }
        let reply = self.say("DATA").await;
        if !reply.starts_with("354") {
            return reply;
        }
        self.raw(&stuffed(mail)).await;
        self.reply().await
    }
}

/// A mail as it goes over the wire, with its end.
pub(crate) fn stuffed(mail: &[u8]) -> Vec<u8> {
    let mut wire = Vec::with_capacity(mail.len() + 64);
    for line in mail.split_inclusive(|byte| *byte == b'\n') {
        if line.starts_with(b".") {
            wire.push(b'.');
        }
        wire.extend_from_slice(line);
    }
    if !wire.is_empty() && !wire.ends_with(b"\r\n") {
        wire.extend_from_slice(b"\r\n");
    }
    wire.extend_from_slice(b".\r\n");
    wire
}
