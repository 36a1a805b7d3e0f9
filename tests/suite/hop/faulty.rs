//! A next hop that misbehaves at random, and keeps account of what it took.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use super::sink::chunk_size;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

/// Random numbers that a seed makes again.
#[derive(Debug)]
pub(crate) struct Dice(AtomicU64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(AtomicU64::new(seed | 1))
    }

    /// A number below `sides`.
    pub(crate) fn throw(&self, sides: u64) -> u64 {
        let mut x = self.0.fetch_add(0x9E37_79B9_7F4A_7C15, Ordering::Relaxed).wrapping_add(0x9E37_79B9_7F4A_7C15);
        x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (x ^ (x >> 31)) % sides
    }
}

/// What the next hop has.
#[derive(Debug, Default)]
pub(crate) struct Account {
    /// How often each mail was taken, by the first line of its data.
    pub taken: HashMap<String, usize>,
    /// For which recipients, each time.
    pub recipients: HashMap<String, Vec<BTreeSet<String>>>,
    /// Those that were taken and whose reply never left.
    pub reply_lost: HashSet<String>,
    /// Mails that arrived otherwise than they were sent.
    pub bent: Vec<String>,
    pub faults: usize,
    /// Those that came by BDAT.
    pub chunks: usize,
}

#[derive(Clone)]
pub(crate) struct Faulty {
    pub address: SocketAddr,
    pub account: Arc<Mutex<Account>>,
}

/// The mails of an accounting: each of its number alone, so that a bent one shows.
pub(crate) type Mails = fn(&str) -> Vec<u8>;

impl Faulty {
    /// Misbehaves once in so many lines or pieces of data, on average.
    pub(crate) async fn once_in(lines: u64, seed: u64, mails: Mails) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let account: Arc<Mutex<Account>> = Arc::default();
        let dice = Arc::new(Dice::new(seed));
        let shared = Arc::clone(&account);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (account, dice) = (Arc::clone(&shared), Arc::clone(&dice));
                tokio::spawn(async move {
                    let _ = talk(stream, &account, &dice, lines, mails).await;
                });
            }
        });
        Self { address, account }
    }
}

/// A small mail.
pub(crate) fn numbered(id: &str) -> Vec<u8> {
    format!("X-Number: {id}\r\nFrom: a@b.test\r\nTo: c@d.test\r\nSubject: {id}\r\n\r\n.{id}\r\n..\r\nend of {id}\r\n").into_bytes()
}

/// A mail of some 64 KB, with dots, long lines and NULs.
pub(crate) fn large(id: &str) -> Vec<u8> {
    let long = format!("{id}{}\r\n", "x".repeat(20_000));
    let lines = format!("..{id}\r\n.\r\n\r\na line of {id}\0\r\n{}", "0123456789abcdef\r\n".repeat(40)).repeat(50);
    [numbered(id), long.into_bytes(), lines.into_bytes()].concat()
}

async fn talk(mut stream: TcpStream, account: &Mutex<Account>, dice: &Dice, once_in: u64, mails: Mails) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let fault = || {
        let happens = dice.throw(once_in) == 0;
        if happens {
            account.lock().unwrap().faults += 1;
        }
        happens
    };
    if fault() {
        return if dice.throw(2) == 0 { Ok(()) } else { stream.write_all(b"421 4.3.2 not now\r\n").await };
    }
    stream.write_all(b"220 faulty.test ESMTP\r\n").await?;
    let (mut input, mut in_data, mut chunk) = (Vec::new(), false, None);
    // The recipients that this transaction was told 250 for.
    let mut recipients: BTreeSet<String> = BTreeSet::new();
    loop {
        while !in_data
            && chunk.is_none()
            && let Some(end) = find(&input, b"\r\n")
        {
            let line: Vec<u8> = input.drain(..end + 2).collect();
            let verb = String::from_utf8_lossy(&line[..4.min(line.len())]).to_uppercase();
            if fault() {
                if !misbehave(&mut stream, dice).await? {
                    return Ok(());
                }
            } else if verb == "EHLO" {
                stream
                    .write_all(
                        b"250-faulty.test\r\n250-PIPELINING\r\n250-8BITMIME\r\n250-ENHANCEDSTATUSCODES\r\n250-CHUNKING\r\n250 SIZE 0\r\n",
                    )
                    .await?;
            } else if verb == "DATA" {
                in_data = true;
                stream.write_all(b"354 go on\r\n").await?;
            } else if verb == "BDAT" {
                chunk = chunk_size(String::from_utf8_lossy(&line).trim_end());
            } else if verb == "QUIT" {
                return stream.write_all(b"221 2.0.0 bye\r\n").await;
            } else {
                if verb == "RCPT" {
                    recipients.insert(String::from_utf8_lossy(&line).trim_end().split_at(8).1.to_owned());
                } else if matches!(verb.as_str(), "MAIL" | "RSET") {
                    recipients.clear();
                }
                stream.write_all(b"250 2.0.0 ok\r\n").await?;
            }
        }
        let ended = if let Some(size) = chunk {
            (input.len() >= size).then(|| input.drain(..size).collect())
        } else if in_data && let Some(end) = find(&input, b"\r\n.\r\n") {
            let wire: Vec<u8> = input.drain(..end + 5).take(end + 2).collect();
            let lines = wire.split_inclusive(|byte| *byte == b'\n');
            Some(lines.flat_map(|line| line.strip_prefix(b".").unwrap_or(line)).copied().collect::<Vec<u8>>())
        } else {
            None
        };
        if let Some(data) = ended {
            account.lock().unwrap().chunks += usize::from(chunk.is_some());
            (in_data, chunk) = (false, None);
            let recipients = std::mem::take(&mut recipients);
            let text = String::from_utf8_lossy(&data).into_owned();
            let id = text.lines().find_map(|line| line.strip_prefix("X-Number: ")).unwrap_or("none").to_owned();
            if fault() {
                match dice.throw(4) {
                    0 => return Ok(()),
                    1 => stream.write_all(b"451 4.3.0 try again\r\n").await?,
                    2 => stream.write_all(b"554 5.7.1 no\r\n").await?,
                    _ => {
                        take(account, &id, &data, recipients, mails);
                        account.lock().unwrap().reply_lost.insert(id);
                        return Ok(());
                    }
                }
            } else {
                take(account, &id, &data, recipients, mails);
                stream.write_all(format!("250 2.0.0 queued as {id}\r\n").as_bytes()).await?;
            }
            continue;
        }
        if stream.read_buf(&mut input).await? == 0 {
            return Ok(());
        }
        if (in_data || chunk.is_some()) && fault() {
            // It breaks off, and says why or not; of those that do, one reads on and one does not.
            match dice.throw(4) {
                0 => return Ok(()),
                1 => return stream.write_all(b"421 4.3.2 shutting down\r\n").await,
                2 => stream.write_all(b"452 4.3.1 disk full\r\n").await?,
                _ => stream.write_all(b"552 5.3.4 too large for me\r\n").await?,
            }
            while stream.read_buf(&mut input).await? > 0 {
                input.clear();
            }
            return Ok(());
        }
    }
}

fn take(account: &Mutex<Account>, id: &str, data: &[u8], recipients: BTreeSet<String>, mails: Mails) {
    let mut account = account.lock().unwrap();
    *account.taken.entry(id.to_owned()).or_default() += 1;
    account.recipients.entry(id.to_owned()).or_default().push(recipients);
    if !data.ends_with(&mails(id)) {
        account.bent.push(id.to_owned());
    }
}

/// Returns whether the connection goes on.
async fn misbehave(stream: &mut TcpStream, dice: &Dice) -> std::io::Result<bool> {
    let words: &[u8] = match dice.throw(9) {
        0 => return Ok(false),
        1 => b"451 4.3.0 try again\r\n",
        2 => b"550 5.1.1 no\r\n",
        3 => b"421 4.3.2 shutting down\r\n",
        4 => b"what is this\r\n",
        5 => b"250-half a reply\r\n",
        6 => b"250 no end",
        7 => &[b'9'; 5_000],
        _ => b"550-5.1.1 two\r\n550 5.1.1 lines\r\n",
    };
    stream.write_all(words).await?;
    Ok(matches!(words.first(), Some(b'4' | b'5')) && !words.starts_with(b"421"))
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    memchr::memmem::find(haystack, needle)
}
