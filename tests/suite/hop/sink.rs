//! A next hop that keeps what it is told, and misbehaves on request.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use firstclick::tls::Channel;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::rustls::ServerConfig;

use super::poll;

/// What arrived in one transaction.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Mail {
    /// The MAIL line.
    pub from: String,
    /// The RCPT lines that were taken.
    pub to: Vec<String>,
    /// Whether it came by TLS.
    pub(crate) encrypted: bool,
    /// The mail, dots unstuffed.
    pub data: Vec<u8>,
}

/// What a sink does on a line that starts so, instead of what it would do.
#[derive(Clone, Debug)]
pub(crate) enum Act {
    /// Says this.
    Say(String),
    /// Hangs up.
    HangUp,
    /// Says nothing, and stays.
    Nothing,
}

/// An SMTP server on loopback.
pub(crate) struct Sink {
    pub address: SocketAddr,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    extensions: Vec<String>,
    acts: Vec<(String, Act)>,
    mails: Vec<Mail>,
    lines: Vec<String>,
    connections: usize,
    /// Whether it has done what was asked for in the data.
    acted: bool,
    tls: Option<Arc<ServerConfig>>,
}

pub(crate) const ALL: &[&str] = &["PIPELINING", "SIZE 104857600", "8BITMIME", "SMTPUTF8", "DSN", "ENHANCEDSTATUSCODES"];

/// The line that stands for the greeting in [`Sink::on`].
pub(crate) const GREETING: &str = "";

/// The line that stands for the final dot in [`Sink::on`].
pub(crate) const DOT: &str = ".";

/// The line that stands for data that has not ended in [`Sink::on`]. Whatever the sink does then, it takes no mail.
pub(crate) const IN_DATA: &str = "in data";

impl Sink {
    pub(crate) async fn start() -> Self {
        Self::announcing(ALL).await
    }

    /// The same at this address, which is free.
    pub(crate) async fn start_at(address: SocketAddr) -> Self {
        Self::listening(TcpListener::bind(address).await.unwrap(), ALL)
    }

    pub(crate) async fn announcing(extensions: &[&str]) -> Self {
        Self::listening(TcpListener::bind("127.0.0.1:0").await.unwrap(), extensions)
    }

    fn listening(listener: TcpListener, extensions: &[&str]) -> Self {
        let address = listener.local_addr().unwrap();
        let state =
            Arc::new(Mutex::new(State { extensions: extensions.iter().map(|text| (*text).to_owned()).collect(), ..State::default() }));
        let shared = Arc::clone(&state);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let state = Arc::clone(&shared);
                state.lock().unwrap().connections += 1;
                tokio::spawn(async move { serve(stream, state).await });
            }
        });
        Self { address, state }
    }

    /// Offers STARTTLS from now on.
    pub(crate) fn encrypting(self, tls: Arc<ServerConfig>) -> Self {
        {
            let mut state = self.state.lock().unwrap();
            state.tls = Some(tls);
            state.extensions.insert(0, "STARTTLS".into());
        }
        self
    }

    /// Does this on the first line that starts so, from now on, once.
    pub(crate) fn on(&self, line: &str, act: Act) {
        self.state.lock().unwrap().acts.push((line.to_owned(), act));
    }

    pub(crate) fn mails(&self) -> Vec<Mail> {
        self.state.lock().unwrap().mails.clone()
    }

    /// Every command line that was heard.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.state.lock().unwrap().lines.clone()
    }

    /// Whether it has done what it does on [`IN_DATA`].
    pub(crate) fn has_acted(&self) -> bool {
        self.state.lock().unwrap().acted
    }

    pub(crate) fn connections(&self) -> usize {
        self.state.lock().unwrap().connections
    }

    /// The newest mail, once so many have come.
    pub(crate) async fn mail(&self, count: usize) -> Mail {
        poll("a mail at the next hop", || {
            let mails = self.mails();
            (mails.len() >= count).then(|| mails.last().unwrap().clone())
        })
        .await
    }
}

async fn serve(stream: TcpStream, state: Arc<Mutex<State>>) {
    stream.set_nodelay(true).unwrap();
    let _ = talk(Channel::Clear(stream), &state).await;
}

async fn talk(mut stream: Channel, state: &Mutex<State>) -> std::io::Result<()> {
    match take_act(state, GREETING) {
        None => stream.write_all(b"220 sink.test ESMTP\r\n").await?,
        Some(Act::HangUp) => return Ok(()),
        Some(Act::Nothing) => {}
        Some(Act::Say(greeting)) => stream.write_all(format!("{greeting}\r\n").as_bytes()).await?,
    }
    let mut input = Vec::new();
    let mut mail = Mail::default();
    let (mut in_data, mut chunk) = (false, None);
    loop {
        while !in_data
            && chunk.is_none()
            && let Some(end) = find(&input, b"\r\n")
        {
            let line: Vec<u8> = input.drain(..end + 2).collect();
            let line = String::from_utf8_lossy(&line[..end]).into_owned();
            state.lock().unwrap().lines.push(line.clone());
            let act = take_act(state, &line);
            let verb: String = line.split([' ', ':']).next().unwrap_or_default().to_uppercase();
            let reply = match (act, verb.as_str()) {
                (Some(Act::HangUp), _) => return Ok(()),
                (Some(Act::Nothing), _) => continue,
                (Some(Act::Say(reply)), _) => {
                    in_data = reply.starts_with("354");
                    reply
                }
                (None, "EHLO") => {
                    let extensions = state.lock().unwrap().extensions.clone();
                    let mut lines = vec!["sink.test".to_owned()];
                    lines.extend(extensions);
                    let last = lines.len() - 1;
                    lines
                        .iter()
                        .enumerate()
                        .map(|(at, line)| format!("250{}{line}\r\n", if at == last { ' ' } else { '-' }))
                        .collect::<String>()
                        .trim_end()
                        .to_owned()
                }
                (None, "STARTTLS") => {
                    let tls = state.lock().unwrap().tls.clone();
                    match tls {
                        None => "454 4.7.0 not now".into(),
                        Some(tls) => {
                            stream.write_all(b"220 2.0.0 go ahead\r\n").await?;
                            stream = stream.accept(tls).await?;
                            continue;
                        }
                    }
                }
                (None, "MAIL") => {
                    mail = Mail { from: line, encrypted: stream.is_encrypted(), ..Mail::default() };
                    "250 2.1.0 sender ok".into()
                }
                (None, "RCPT") => {
                    mail.to.push(line);
                    "250 2.1.5 recipient ok".into()
                }
                (None, "DATA") => {
                    in_data = true;
                    "354 go on".into()
                }
                (None, "BDAT") => {
                    chunk = chunk_size(&line);
                    continue;
                }
                (None, "RSET") => {
                    mail = Mail::default();
                    "250 2.0.0 ok".into()
                }
                (None, "QUIT") => {
                    stream.write_all(b"221 2.0.0 bye\r\n").await?;
                    return Ok(());
                }
                (None, _) => "250 2.0.0 ok".into(),
            };
            stream.write_all(format!("{reply}\r\n").as_bytes()).await?;
            stream.flush().await?;
        }
        let ended = if let Some(size) = chunk {
            (input.len() >= size).then(|| input.drain(..size).collect())
        } else if in_data {
            let end = if input.starts_with(b".\r\n") { Some(0) } else { find(&input, b"\r\n.\r\n").map(|at| at + 2) };
            end.map(|end| unstuffed(&input.drain(..end + 3).take(end).collect::<Vec<u8>>()))
        } else {
            None
        };
        if let Some(data) = ended {
            mail.data = data;
            (in_data, chunk) = (false, None);
            let mail = std::mem::take(&mut mail);
            match take_act(state, DOT) {
                Some(Act::HangUp) => return Ok(()),
                Some(Act::Nothing) => {}
                Some(Act::Say(reply)) => {
                    if reply.starts_with("250") {
                        state.lock().unwrap().mails.push(mail);
                    }
                    stream.write_all(format!("{reply}\r\n").as_bytes()).await?;
                }
                None => {
                    state.lock().unwrap().mails.push(mail);
                    stream.write_all(b"250 2.0.0 queued as SINK1\r\n").await?;
                }
            }
            continue;
        }
        if in_data && input.len() > 100 {
            match take_act(state, IN_DATA) {
                None => {}
                Some(Act::HangUp) => {
                    drop(stream);
                    state.lock().unwrap().acted = true;
                    return Ok(());
                }
                Some(Act::Nothing) => std::future::pending().await,
                Some(Act::Say(reply)) => {
                    stream.write_all(format!("{reply}\r\n").as_bytes()).await?;
                    state.lock().unwrap().acted = true;
                    while stream.read_buf(&mut input).await? > 0 {
                        input.clear();
                    }
                    return Ok(());
                }
            }
        }
        if stream.read_buf(&mut input).await? == 0 {
            return Ok(());
        }
    }
}

fn take_act(state: &Mutex<State>, line: &str) -> Option<Act> {
    let mut state = state.lock().unwrap();
    let at = state.acts.iter().position(|(start, _)| {
        if [DOT, GREETING, IN_DATA].contains(&start.as_str()) { line == start } else { line.starts_with(start.as_str()) }
    })?;
    Some(state.acts.remove(at).1)
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    memchr::memmem::find(haystack, needle)
}

fn unstuffed(data: &[u8]) -> Vec<u8> {
    data.split_inclusive(|byte| *byte == b'\n').flat_map(|line| line.strip_prefix(b".").unwrap_or(line)).copied().collect()
}

/// The octets of the one chunk that `BDAT n LAST` announces.
pub(crate) fn chunk_size(line: &str) -> Option<usize> {
    line.get(5..)?.strip_suffix(" LAST")?.parse().ok()
}
