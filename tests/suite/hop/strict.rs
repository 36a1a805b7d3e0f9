//! A next hop that counts: errors and mails of each connection, connections at one time; and that knows of each mail over which
//! connection it came, and for which client. It forgets a client only when it is told of another.

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::broadcast,
};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{faulty::Dice, poll};

/// What the next hop bears.
#[derive(Clone, Debug)]
pub(crate) struct Rules {
    /// What it announces.
    pub extensions: Vec<String>,
    /// Errors of one connection; one more closes it.
    pub errors: usize,
    /// Mails of one connection; one more MAIL closes it.
    pub mails: usize,
    /// Whether it says 421 as soon as there may be no more mails, to no command.
    pub closes_unasked: bool,
    /// The reply to one mail too many; 421 closes the connection.
    pub mails_over: &'static str,
    /// The command that gets it.
    pub over_at: &'static str,
    /// Connections at one time.
    pub connections: usize,
    /// Connections that are served at one time; others wait for their greeting.
    pub served: usize,
    /// Whether it says nothing any more.
    pub frozen: bool,
    /// Misbehaves once in so many lines; 0: never.
    pub faults: u64,
}

impl Default for Rules {
    fn default() -> Self {
        let extensions = ["PIPELINING", "SIZE 1000000", "8BITMIME", "XFORWARD NAME ADDR PROTO HELO SOURCE IDENT"];
        Self {
            extensions: extensions.map(str::to_owned).to_vec(),
            errors: usize::MAX,
            mails: usize::MAX,
            closes_unasked: false,
            mails_over: "421 4.7.0 too many mails",
            over_at: "MAIL",
            connections: usize::MAX,
            served: usize::MAX,
            frozen: false,
            faults: 0,
        }
    }
}

/// A mail that arrived.
#[derive(Clone, Debug)]
pub(crate) struct Taken {
    /// Its Subject.
    pub id: String,
    /// The XFORWARD line that stood.
    pub client: String,
    /// The connection, counted from 1.
    pub connection: usize,
    /// Errors on the connection before it.
    pub errors: usize,
    /// Mails on the connection before it.
    pub mails: usize,
}

pub(crate) struct Strict {
    pub address: SocketAddr,
    state: Arc<Mutex<State>>,
    life: Mutex<DropGuard>,
    /// One at a time: each waits for the address.
    restarting: tokio::sync::Mutex<()>,
    words: broadcast::Sender<Vec<u8>>,
}

#[derive(Default)]
struct State {
    rules: Rules,
    open: usize,
    connections: usize,
    quits: usize,
    /// Words to no command that were written.
    said: usize,
    taken: Vec<Taken>,
    reply_lost: BTreeSet<String>,
}

impl Strict {
    pub(crate) async fn start(rules: Rules) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (state, words) = (Arc::new(Mutex::new(State { rules, ..State::default() })), broadcast::channel(8).0);
        let life = Mutex::new(serve(listener, &state, &words));
        Self { address, state, life, restarting: tokio::sync::Mutex::default(), words }
    }

    /// Changes what it bears, for all connections.
    pub(crate) fn now(&self, change: impl FnOnce(&mut Rules)) {
        change(&mut self.state.lock().unwrap().rules);
    }

    /// Closes every connection and starts again, at the same address.
    pub(crate) async fn restart(&self) {
        let _one = self.restarting.lock().await;
        let listener = self.stop().await;
        *self.life.lock().unwrap() = serve(listener, &self.state, &self.words);
    }

    /// Closes every connection, and takes no more. What is returned is bound to the address again, and listens as long as it lives.
    pub(crate) async fn stop(&self) -> TcpListener {
        *self.life.lock().unwrap() = CancellationToken::new().drop_guard();
        loop {
            if let Ok(listener) = TcpListener::bind(self.address).await {
                return listener;
            }
            tokio::task::yield_now().await;
        }
    }

    /// Says this on every connection, to no command.
    pub(crate) async fn say(&self, words: &[u8]) {
        let before = self.state.lock().unwrap().said;
        let listeners = self.words.send(words.to_vec()).unwrap();
        poll("it is said", || (self.state.lock().unwrap().said == before + listeners).then_some(())).await;
    }

    pub(crate) fn taken(&self) -> Vec<Taken> {
        self.state.lock().unwrap().taken.clone()
    }

    pub(crate) fn reply_lost(&self) -> BTreeSet<String> {
        self.state.lock().unwrap().reply_lost.clone()
    }

    /// Connections so far, and those that are open.
    pub(crate) fn connections(&self) -> (usize, usize) {
        let state = self.state.lock().unwrap();
        (state.connections, state.open)
    }

    /// How many said QUIT.
    pub(crate) fn quits(&self) -> usize {
        self.state.lock().unwrap().quits
    }
}

fn serve(listener: TcpListener, state: &Arc<Mutex<State>>, words: &broadcast::Sender<Vec<u8>>) -> DropGuard {
    let life = CancellationToken::new();
    let (state, words, over, dice) = (Arc::clone(state), words.clone(), life.clone(), Arc::new(Dice::new(5)));
    tokio::spawn(over.clone().run_until_cancelled_owned(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (state, words, dice) = (Arc::clone(&state), words.subscribe(), Arc::clone(&dice));
            let number = {
                let mut state = state.lock().unwrap();
                state.connections += 1;
                state.open += 1;
                state.connections
            };
            let connection = Connection { state: Arc::clone(&state), dice, number, errors: 0, mails: 0, client: String::new() };
            tokio::spawn(over.clone().run_until_cancelled_owned(async move {
                let _ = connection.talk(stream, words).await;
            }));
        }
    }));
    life.drop_guard()
}

struct Connection {
    state: Arc<Mutex<State>>,
    dice: Arc<Dice>,
    number: usize,
    errors: usize,
    mails: usize,
    client: String,
}

/// A connection counts until it is over.
impl Drop for Connection {
    fn drop(&mut self) {
        self.state.lock().unwrap().open -= 1;
    }
}

impl Connection {
    async fn talk(mut self, mut stream: TcpStream, mut words: broadcast::Receiver<Vec<u8>>) -> std::io::Result<()> {
        stream.set_nodelay(true)?;
        let too_many = {
            let state = self.state.lock().unwrap();
            state.open > state.rules.connections
        };
        if too_many {
            return self.over(stream, b"421 4.7.0 too many connections\r\n").await;
        }
        poll("its turn", || {
            let state = self.state.lock().unwrap();
            (state.connections - state.open + state.rules.served.min(state.connections) >= self.number).then_some(())
        })
        .await;
        stream.write_all(b"220 strict.test ESMTP\r\n").await?;
        let (mut input, mut in_data) = (Vec::new(), false);
        loop {
            while !in_data && let Some(end) = find(&input, b"\r\n") {
                let line: Vec<u8> = input.drain(..end + 2).collect();
                let line = String::from_utf8_lossy(&line[..end]).into_owned();
                let rules = self.state.lock().unwrap().rules.clone();
                if rules.frozen {
                    std::future::pending::<()>().await;
                }
                if rules.faults > 0 && self.dice.throw(rules.faults) == 0 {
                    match self.dice.throw(4) {
                        0 => return Ok(()),
                        1 => return self.over(stream, b"421 4.3.2 closing\r\n").await,
                        2 => stream.write_all(b"451 4.3.0 not now\r\n").await?,
                        _ => stream.write_all(b"what?\r\n").await?,
                    }
                    self.errors += 1;
                    continue;
                }
                let verb = line.split([' ', ':']).next().unwrap_or_default().to_uppercase();
                let reply = match verb.as_str() {
                    "EHLO" => format!("250-strict.test\r\n250-{}\r\n250 HELP", rules.extensions.join("\r\n250-")),
                    "XFORWARD" => {
                        self.client = line.clone();
                        "250 2.0.0 ok".into()
                    }
                    verb if verb == rules.over_at && self.mails >= rules.mails => {
                        if rules.mails_over.starts_with("421") {
                            return self.over(stream, format!("{}\r\n", rules.mails_over).as_bytes()).await;
                        }
                        rules.mails_over.into()
                    }
                    "MAIL" | "RCPT" if line.contains("<no") => "550 5.1.1 no".into(),
                    "DATA" => {
                        in_data = true;
                        "354 go on".into()
                    }
                    "QUIT" => {
                        self.state.lock().unwrap().quits += 1;
                        return self.over(stream, b"221 2.0.0 bye\r\n").await;
                    }
                    _ => "250 2.0.0 ok".into(),
                };
                self.errors += usize::from(reply.starts_with('5'));
                if self.errors > rules.errors {
                    return self.over(stream, b"421 4.7.0 too many errors\r\n").await;
                }
                stream.write_all(format!("{reply}\r\n").as_bytes()).await?;
            }
            if in_data && let Some(end) = find(&input, b"\r\n.\r\n") {
                let wire: Vec<u8> = input.drain(..end + 5).collect();
                in_data = false;
                let rules = self.state.lock().unwrap().rules.clone();
                let text = String::from_utf8_lossy(&wire).into_owned();
                let id = text.lines().find_map(|line| line.strip_prefix("Subject: ")).unwrap_or("none").to_owned();
                let fault = if rules.faults > 0 { self.dice.throw(rules.faults) } else { 9 };
                if fault == 0 {
                    return Ok(());
                }
                let Self { client, number: connection, errors, mails, .. } = &self;
                let taken = Taken { id: id.clone(), client: client.clone(), connection: *connection, errors: *errors, mails: *mails };
                self.state.lock().unwrap().taken.push(taken);
                if fault == 1 {
                    self.state.lock().unwrap().reply_lost.insert(id);
                    return Ok(());
                }
                self.mails += 1;
                stream.write_all(b"250 2.0.0 taken\r\n").await?;
                if rules.closes_unasked && self.mails >= rules.mails {
                    return self.over(stream, b"421 4.7.0 too many mails\r\n").await;
                }
                continue;
            }
            tokio::select! {
                read = stream.read_buf(&mut input) => if read? == 0 { return Ok(()) },
                said = words.recv() => {
                    stream.write_all(&said.unwrap_or_default()).await?;
                    self.state.lock().unwrap().said += 1;
                }
            }
        }
    }

    /// Says the last words: whoever hears them finds the connection not counted any more.
    async fn over(self, mut stream: TcpStream, words: &[u8]) -> std::io::Result<()> {
        drop(self);
        stream.write_all(words).await
    }
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}
