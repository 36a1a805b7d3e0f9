//! SMTP dialogues as text files, one case each: `tests/dialogues/*.txt`. A new case is a new file and no code.
//!
//! ```text
//! # what the case is about
//! set size_limit 1000           how the hop is set up, see `set_up`
//! hop RCPT TO:<no@ 550 no       the next hop answers the next line that starts so with this; HANGUP hangs up;
//!                               GREETING stands for what it says first, a dot for the end of a mail's data
//! > EHLO client.test            the client sends this line and CR LF
//! >> a\r\n.\r\n                 the client sends these octets, and nothing behind them
//! < 250 2.1.0                   a line of the server's that starts so comes next
//! <= 250 ok                     a whole line of the server's comes next
//! <*                            the rest of a reply is passed over
//! closed                        the server has hung up
//! mails 1                       so many mails are at the next hop
//! data a: b\r\n                 the newest one's data, whole
//! begins, ends, lacks a: b       the newest one's data starts so, ends so, does not hold this
//! heard MAIL FROM:<a@b.test>    the next hop has heard this line
//! unheard evil                  and no line that holds this
//! ```

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a test that cannot go on panics"
)]

mod hop;

use std::{
    fs,
    path::{Path, PathBuf},
};

use firstclick::{
    identity::Network,
    smtp::config::{BareLineEndings, Config, Trace},
    tls::ClientTls,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use self::hop::{
    PATIENCE, Sink, hop, poll,
    sink::{ALL, Act, GREETING},
};

fn set_up(config: &mut Config, key: &str, value: &str) {
    let networks = || value.split(' ').map(|text| Network::parse(text).unwrap()).collect();
    match key {
        "size_limit" => config.size_limit = value.parse().unwrap(),
        "inspect_limit" => config.inspect_limit = value.parse().unwrap(),
        "recipients" => config.bounds.recipients = value.parse().unwrap(),
        "idle_commands" => config.bounds.idle_commands = value.parse().unwrap(),
        "bare_line_endings" => {
            config.bare_line_endings = if value == "normalize" { BareLineEndings::Normalize } else { BareLineEndings::Reject }
        }
        "accept_from" => config.accept_from = networks(),
        "trusted_upstreams" => config.trusted_upstreams = networks(),
        "proxies" => config.proxies = networks(),
        "trace" => config.trace = if value == "false" { Trace::Hidden } else { Trace::Written },
        "next_hop_tls" => config.next_hop_tls = if value == "required" { ClientTls::Required } else { ClientTls::Verified },
        "connections" => config.bounds.connections = value.parse().unwrap(),
        "connections_per_address" => config.bounds.connections_per_address = value.parse().unwrap(),
        _ => panic!("no such setting: {key}"),
    }
}

fn octets(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        if letter != '\\' {
            out.extend_from_slice(letter.encode_utf8(&mut [0; 4]).as_bytes());
            continue;
        }
        match letters.next().expect("something behind a backslash") {
            'r' => out.push(b'\r'),
            'n' => out.push(b'\n'),
            't' => out.push(b'\t'),
            '0' => out.push(0),
            'x' => {
                let hex: String = letters.by_ref().take(2).collect();
                out.push(u8::from_str_radix(&hex, 16).unwrap());
            }
            // `\{1000 x}`: so many of a letter.
            '{' => {
                let inside: String = letters.by_ref().take_while(|letter| *letter != '}').collect();
                let (count, what) = inside.split_once(' ').unwrap();
                out.extend(octets(what).repeat(count.parse().unwrap()));
            }
            other => out.push(u8::try_from(other).unwrap()),
        }
    }
    out
}

struct Peer {
    stream: TcpStream,
    input: Vec<u8>,
}

impl Peer {
    /// The server's next line without its end; none once it has hung up.
    async fn line(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.input.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.input.drain(..=end).collect();
                return Some(String::from_utf8(line).unwrap().trim_end().to_owned());
            }
            match timeout(PATIENCE, self.stream.read_buf(&mut self.input)).await.expect("the server says something") {
                Ok(0) | Err(_) => return None,
                Ok(_) => {}
            }
        }
    }
}

async fn play(path: PathBuf) {
    let text = fs::read_to_string(&path).unwrap();
    let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
    let lines: Vec<(usize, &str)> =
        text.lines().enumerate().map(|(at, line)| (at + 1, line)).filter(|(_, line)| !line.is_empty() && !line.starts_with('#')).collect();
    let announced = lines.iter().find_map(|(_, line)| line.strip_prefix("announces "));
    let sink = match announced {
        Some(list) => Sink::announcing(&list.split(", ").filter(|word| *word != "nothing").collect::<Vec<_>>()).await,
        None => Sink::announcing(ALL).await,
    };
    let settings: Vec<(&str, &str)> =
        lines.iter().filter_map(|(_, line)| line.strip_prefix("set ")).map(|rest| rest.split_once(' ').unwrap_or((rest, ""))).collect();
    let hop = hop().next_hop(&sink).with(|config| settings.iter().for_each(|(key, value)| set_up(config, key, value))).start().await;
    let mut peer = Peer { stream: TcpStream::connect(hop.address).await.unwrap(), input: Vec::new() };
    let mut last = String::new();
    for (number, line) in lines {
        let place = format!("{name}:{number}: {line}");
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        match word {
            "set" | "announces" => {}
            "hop" => {
                if let Some(start) = rest.strip_suffix(" HANGUP") {
                    sink.on(start, Act::HangUp);
                } else {
                    let is_reply =
                        |at: &usize| rest[..*at].ends_with(' ') && rest[*at..].starts_with(|letter: char| letter.is_ascii_digit());
                    let at = (0..rest.len()).find(is_reply).unwrap_or_else(|| panic!("{place}: no reply"));
                    let start = rest[..at].trim_end();
                    sink.on(if start == "GREETING" { GREETING } else { start }, Act::Say(String::from_utf8(octets(&rest[at..])).unwrap()));
                }
            }
            ">" => peer.stream.write_all(format!("{rest}\r\n").as_bytes()).await.unwrap(),
            ">>" => peer.stream.write_all(&octets(rest)).await.unwrap(),
            "<" => {
                last = peer.line().await.unwrap_or_else(|| panic!("{place}: the server hung up"));
                assert!(last.starts_with(rest), "{place}: got {last:?}");
            }
            "<=" => {
                last = peer.line().await.unwrap_or_else(|| panic!("{place}: the server hung up"));
                assert_eq!(last, rest, "{place}");
            }
            "<*" => {
                while last.as_bytes().get(3) == Some(&b'-') {
                    last = peer.line().await.unwrap_or_else(|| panic!("{place}: the server hung up"));
                }
            }
            "closed" => assert_eq!(peer.line().await, None, "{place}"),
            "mails" => assert_eq!(sink.mails().len(), rest.parse::<usize>().unwrap(), "{place}"),
            "data" => {
                let data = sink.mails().last().unwrap_or_else(|| panic!("{place}: there is none")).data.clone();
                assert_eq!(data.escape_ascii().to_string(), octets(rest).escape_ascii().to_string(), "{place}");
            }
            "begins" | "ends" | "lacks" => {
                let data = sink.mails().last().unwrap_or_else(|| panic!("{place}: there is none")).data.clone();
                let (text, octets) = (data.escape_ascii().to_string(), octets(rest));
                let holds = match word {
                    "begins" => data.starts_with(&octets),
                    "ends" => data.ends_with(&octets),
                    _ => !data.windows(octets.len()).any(|window| window == octets),
                };
                assert!(holds, "{place}: {text:?}");
            }
            "heard" => poll(&place, || sink.lines().iter().any(|line| line == rest).then_some(())).await,
            "unheard" => assert!(!sink.lines().iter().any(|line| line.contains(rest)), "{place}: {:?}", sink.lines()),
            _ => panic!("{place}: no such word"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_dialogue_goes_as_written() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/dialogues");
    let mut files: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|end| end == "txt"))
        .collect();
    files.sort();
    assert!(files.len() > 30, "only {} dialogues", files.len());
    let mut failed = Vec::new();
    for file in &files {
        if tokio::spawn(play(file.clone())).await.is_err() {
            failed.push(file.file_stem().unwrap().to_string_lossy());
        }
    }
    println!("{} dialogues", files.len());
    assert!(failed.is_empty(), "{} dialogues failed: {failed:?}", failed.len());
}
