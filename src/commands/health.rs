//! `health`: whether the service that runs by this configuration takes mails, for whoever checks on it from outside.

use std::{
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream},
    os::unix::net::UnixStream,
    sync::mpsc,
    thread,
};

use anyhow::{Context as _, bail};

use super::{Answer, Config, listening::Listening, printable};
use crate::{
    limits,
    settings::{Files, Settings},
};

/// The admin page tells most, and is asked where there is one; else each listener is. With a mistake in it the configuration still says
/// where: the service goes on by the one of before, and a container runtime that took the mistake for a no would end it.
pub(super) fn health(config: &Config) -> anyhow::Result<Answer> {
    let mut out = io::stdout().lock();
    let (settings, mistakes) = Settings::whatever_is_there(config.path(), &mut Files::default());
    if !mistakes.0.is_empty() {
        // Its lines escape what they repeat.
        writeln!(out, "{}\n{mistakes}", mistakes.headline())?;
        if mistakes.unread().is_some() {
            return Ok(Answer::No);
        }
    }
    let listening = Listening::kept(config.path()).unwrap_or_else(|| Listening::by(&settings));
    // Whoever answers an octet a second is no answer.
    let (answers, answered) = mpsc::channel();
    thread::spawn(move || {
        let said = match listening.admin {
            Some(address) => ready(at_hand(address)),
            None => listens(&listening),
        };
        answers.send(said)
    });
    let answered = answered.recv_timeout(limits::HEALTH).unwrap_or_else(|_| bail!("no answer within {:?}", limits::HEALTH));
    let (said, answer) = match answered {
        Ok(said) => (said, Answer::Yes),
        Err(error) => (format!("{error:#}"), Answer::No),
    };
    for line in said.lines() {
        writeln!(out, "{}", printable(line))?;
    }
    Ok(answer)
}

/// What `/readyz` says; an error where it is that no mails are taken.
fn ready(page: SocketAddr) -> anyhow::Result<String> {
    let config =
        ureq::Agent::config_builder().http_status_as_error(false).proxy(None).max_redirects(0).timeout_global(Some(limits::HEALTH));
    let agent = ureq::Agent::new_with_config(config.build());
    let mut answer = agent.get(format!("http://{page}/readyz")).call().with_context(|| format!("admin.listen: {page}"))?;
    let said = answer.body_mut().read_to_string().with_context(|| format!("admin.listen: {page}"))?;
    // Another program may have the port.
    if !answer.status().is_success() || said.lines().next() != Some("ready") {
        bail!("{}", said.trim_end());
    }
    Ok(said)
}

/// Whether each listener answers: by SMTP with its greeting, a milter as an MTA is answered, else by taking the connection.
fn listens(listening: &Listening) -> anyhow::Result<String> {
    let mut asked = Vec::new();
    let mut ask = |key: &str, address: &dyn std::fmt::Display, answer: io::Result<()>| {
        asked.push(format!("{key} {address}"));
        answer.with_context(|| format!("{key}: {address}"))
    };
    for address in &listening.smtp {
        ask("smtp.listen", address, greets(at_hand(*address)))?;
    }
    for address in &listening.smtp_tls {
        ask("smtp.listen_tls", address, connects(at_hand(*address)))?;
    }
    for address in &listening.milter {
        ask("milter.listen", address, connect(at_hand(*address)).and_then(negotiates))?;
    }
    for path in &listening.milter_sockets {
        ask("milter.listen", &path.display(), UnixStream::connect(path).and_then(negotiates))?;
    }
    if let Some(address) = &listening.guard {
        ask("guard.listen", address, connects(at_hand(*address)))?;
    }
    if asked.is_empty() {
        bail!("nothing listens by this configuration");
    }
    Ok(format!("listens: {}", asked.join(", ")))
}

fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&address, limits::HEALTH)?;
    stream.set_read_timeout(Some(limits::HEALTH))?;
    Ok(stream)
}

fn connects(address: SocketAddr) -> io::Result<()> {
    connect(address).map(drop)
}

fn greets(address: SocketAddr) -> io::Result<()> {
    let mut stream = connect(address)?;
    let mut greeting = String::new();
    BufReader::new((&stream).take(limits::GREETING)).read_line(&mut greeting)?;
    if !greeting.starts_with("220") {
        return Err(io::Error::other(format!("the greeting is {:?}", greeting.trim_end())));
    }
    stream.write_all(b"QUIT\r\n")
}

/// A kernel takes connections for a program that is stopped; only the program answers an MTA's first packet.
fn negotiates(mut stream: impl io::Read + io::Write) -> io::Result<()> {
    // SMFIC_OPTNEG: version 6, any action, any step; then SMFIC_QUIT.
    stream.write_all(&[0, 0, 0, 13, b'O', 0, 0, 0, 6, 0, 0, 1, 0xff, 0, 0x1f, 0xff, 0xff])?;
    let mut answer = [0; 5];
    stream.read_exact(&mut answer)?;
    if answer.last() != Some(&b'O') {
        return Err(io::Error::other("it is no milter"));
    }
    stream.write_all(&[0, 0, 0, 1, b'Q'])
}

/// Where what listens on all addresses of this machine is reached from it.
fn at_hand(address: SocketAddr) -> SocketAddr {
    let here = match address.ip() {
        ip if !ip.is_unspecified() => ip,
        IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
    };
    SocketAddr::new(here, address.port())
}
