//! The load: upstreams that send, and the next hop that counts what arrives, in one process, so that the end is known.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::{Instant, sleep, timeout},
};

/// What is sent, and how.
#[derive(Clone)]
pub(crate) struct Load {
    /// The mail with its dots stuffed and its final dot.
    pub(crate) wire: Arc<Vec<u8>>,
    /// Mails in all.
    pub(crate) mails: u64,
    /// Connections at once.
    pub(crate) connections: u64,
    /// Mails of one connection.
    pub(crate) each: u64,
    /// Recipients of one mail.
    pub(crate) recipients: usize,
    /// The next mail's number.
    pub(crate) number: Arc<AtomicU64>,
}

/// What stands in a mail for its number: no signature is exempted twice.
const NUMBER: &[u8] = b"NUMBER00";

/// What arrived.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arrived {
    /// Mails, each with a final dot.
    pub(crate) mails: u64,
    /// Of those, with the hop's tag.
    pub(crate) tagged: u64,
    /// Errors of the upstreams: any refusal, any lost connection.
    pub(crate) errors: u64,
    /// Mails a second.
    pub(crate) rate: f64,
}

/// The mail as it goes over the wire (RFC 5321 section 4.5.2).
pub(crate) fn stuffed(mail: &[u8]) -> Vec<u8> {
    let mut wire = Vec::with_capacity(mail.len() + mail.len() / 40);
    for line in mail.split_inclusive(|byte| *byte == b'\n') {
        let line = line.strip_suffix(b"\n").map_or(line, |line| line.strip_suffix(b"\r").unwrap_or(line));
        if line.starts_with(b".") {
            wire.push(b'.');
        }
        wire.extend_from_slice(line);
        wire.extend_from_slice(b"\r\n");
    }
    wire.extend_from_slice(b".\r\n");
    wire
}

/// The next hop: takes everything, keeps nothing.
pub(crate) struct Sink {
    counted: Arc<(AtomicU64, AtomicU64)>,
    /// Where it listens.
    pub(crate) address: SocketAddr,
}

impl Sink {
    pub(crate) async fn start(extensions: String) -> Self {
        let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, counted) = (socket.local_addr().unwrap(), Arc::<(AtomicU64, AtomicU64)>::default());
        let counts = Arc::clone(&counted);
        tokio::spawn(async move {
            while let Ok((stream, _)) = socket.accept().await {
                let (counts, extensions) = (Arc::clone(&counts), extensions.clone());
                tokio::spawn(async move { serve(stream, &counts, &extensions).await });
            }
        });
        Self { counted, address }
    }

    /// Sends a load through the hop at `target` and waits until all of it has come here.
    pub(crate) async fn measure(&self, target: SocketAddr, load: &Load) -> Arrived {
        let before = (self.counted.0.load(Relaxed), self.counted.1.load(Relaxed));
        let (left, errors, start) = (Arc::new(AtomicU64::new(load.mails)), Arc::new(AtomicU64::new(0)), Instant::now());
        let upstreams: Vec<_> = (0..load.connections)
            .map(|_| {
                let (load, left, errors) = (load.clone(), Arc::clone(&left), Arc::clone(&errors));
                tokio::spawn(async move {
                    while let Ok(was) = left.fetch_update(Relaxed, Relaxed, |left| (left > 0).then(|| left - left.min(load.each))) {
                        if send(target, &load, was.min(load.each)).await.is_err() {
                            errors.fetch_add(1, Relaxed);
                        }
                    }
                })
            })
            .collect();
        for upstream in upstreams {
            upstream.await.unwrap();
        }
        let took = start.elapsed().as_secs_f64();
        let mails = self.counted.0.load(Relaxed) - before.0;
        Arrived { mails, tagged: self.counted.1.load(Relaxed) - before.1, errors: errors.load(Relaxed), rate: mails as f64 / took }
    }
}

async fn serve(mut stream: TcpStream, counted: &(AtomicU64, AtomicU64), extensions: &str) -> io::Result<()> {
    stream.set_nodelay(true)?;
    stream.write_all(b"220 sink ESMTP\r\n").await?;
    let (mut input, mut output) = (Vec::with_capacity(64 * 1024), Vec::new());
    // Octets of data that were looked at; none while commands come. Octets of a chunk that are to come.
    let (mut looked, mut chunk): (Option<usize>, Option<usize>) = (None, None);
    loop {
        loop {
            if let Some(from) = looked {
                let start = from.saturating_sub(4);
                let Some(found) = memchr::memmem::find(&input[start..], b"\r\n.\r\n") else {
                    looked = Some(input.len());
                    break;
                };
                count(&input[..start + found], counted);
                input.drain(..start + found + 5);
                looked = None;
                output.extend_from_slice(b"250 2.0.0 Ok\r\n");
                continue;
            }
            if let Some(size) = chunk {
                if input.len() < size {
                    break;
                }
                count(&input[..size], counted);
                input.drain(..size);
                chunk = None;
                output.extend_from_slice(b"250 2.0.0 Ok\r\n");
                continue;
            }
            let Some(end) = memchr::memchr(b'\n', &input) else { break };
            let line = input[..end].trim_ascii().escape_ascii().to_string().to_ascii_uppercase();
            match line.get(..4).unwrap_or_default() {
                "EHLO" => output.extend_from_slice(format!("250-sink\r\n{extensions}250 SMTPUTF8\r\n").as_bytes()),
                "DATA" => {
                    looked = Some(0);
                    output.extend_from_slice(b"354 go\r\n");
                }
                "BDAT" => chunk = line.split(' ').nth(1).and_then(|size| size.parse().ok()),
                "QUIT" => {
                    output.extend_from_slice(b"221 bye\r\n");
                    return stream.write_all(&output).await;
                }
                _ => output.extend_from_slice(b"250 2.1.0 Ok\r\n"),
            }
            input.drain(..=end);
        }
        if !output.is_empty() {
            stream.write_all(&output).await?;
            output.clear();
        }
        if stream.read_buf(&mut input).await? == 0 {
            return Ok(());
        }
    }
}

fn count(mail: &[u8], counted: &(AtomicU64, AtomicU64)) {
    let header = memchr::memmem::find(mail, b"\r\n\r\n").unwrap_or(mail.len());
    if memchr::memmem::find(&mail[..header], b"\r\nX-Firstclick: ").is_some() || mail.starts_with(b"X-Firstclick: ") {
        counted.1.fetch_add(1, Relaxed);
    }
    counted.0.fetch_add(1, Relaxed);
}

/// An upstream's session.
async fn send(target: SocketAddr, load: &Load, mails: u64) -> io::Result<()> {
    let stream = TcpStream::connect(target).await?;
    stream.set_nodelay(true)?;
    let mut session = Upstream { stream, input: Vec::with_capacity(4096) };
    session.reply("220").await?;
    session.stream.write_all(b"EHLO upstream.test\r\n").await?;
    session.reply("250").await?;
    let mut commands = b"MAIL FROM:<noreply@salesforce.com>\r\nRCPT TO:<bob@corp.example>\r\n".to_vec();
    for number in 1..load.recipients {
        commands.extend_from_slice(format!("RCPT TO:<bob{number}@corp.example>\r\n").as_bytes());
    }
    commands.extend_from_slice(b"DATA\r\n");
    let mut numbered = memchr::memmem::find(&load.wire, NUMBER).map(|at| (load.wire.to_vec(), at..at + NUMBER.len()));
    for _ in 0..mails {
        session.stream.write_all(&commands).await?;
        for _ in 0..=load.recipients {
            session.reply("250").await?;
        }
        session.reply("354").await?;
        if let Some((wire, number)) = &mut numbered {
            let next = format!("{:08x}", load.number.fetch_add(1, Relaxed));
            wire[number.clone()].copy_from_slice(next.as_bytes());
        }
        session.stream.write_all(numbered.as_ref().map_or(&load.wire[..], |(wire, _)| wire)).await?;
        session.reply("250").await?;
    }
    session.stream.write_all(b"QUIT\r\n").await?;
    let _ = timeout(Duration::from_secs(2), session.reply("221")).await;
    Ok(())
}

struct Upstream {
    stream: TcpStream,
    input: Vec<u8>,
}

impl Upstream {
    async fn reply(&mut self, code: &str) -> io::Result<()> {
        loop {
            while let Some(end) = memchr::memchr(b'\n', &self.input) {
                let line: Vec<u8> = self.input.drain(..=end).collect();
                if line.get(3) != Some(&b'-') {
                    let matches = line.starts_with(code.as_bytes());
                    return if matches { Ok(()) } else { Err(io::Error::other(line.escape_ascii().to_string())) };
                }
            }
            if self.stream.read_buf(&mut self.input).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }
}

/// Sessions that say EHLO and then nothing; they end when this is dropped.
pub(crate) async fn idle(target: SocketAddr, sessions: usize) -> Vec<TcpStream> {
    let mut open = Vec::new();
    for _ in 0..sessions {
        let mut session = Upstream { stream: TcpStream::connect(target).await.unwrap(), input: Vec::new() };
        session.reply("220").await.unwrap();
        session.stream.write_all(b"EHLO upstream.test\r\n").await.unwrap();
        session.reply("250").await.unwrap();
        open.push(session.stream);
    }
    open
}

/// Waits until somebody listens.
pub(crate) async fn reachable(target: SocketAddr) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while TcpStream::connect(target).await.is_err() {
        assert!(Instant::now() < deadline, "nobody listens on {target}");
        sleep(Duration::from_millis(20)).await;
    }
}
