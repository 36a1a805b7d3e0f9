//! Connections that are turned away, sessions that fail, and listeners that die.

use std::{
    net::{Shutdown as Half, TcpListener, TcpStream},
    os::fd::OwnedFd,
    sync::Arc,
    time::Instant,
};

use firstclick::{
    http::{self, admin::Admin},
    identity::Network,
    metrics::Metrics,
    service::Shutdown,
    smtp::config::Config,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    time::timeout,
};

use crate::hop::{
    Client, PATIENCE, Sink, hop,
    mta::Mta,
    page::{Answer, ask},
    poll,
    process::{Folder, Process},
    read_records,
    sink::{Act, DOT},
    stuffed,
};

const MAIL: &[u8] = b"From: a@b.test\r\nTo: c@d.test\r\nSubject: hello\r\n\r\nHello.\r\n";
const ADMIN: &str = "[admin]\nlisten = \"127.0.0.1:0\"";

async fn page(process: &Process) -> String {
    process.says("the admin page is there").await.split("address=").nth(1).unwrap().trim().to_owned()
}

async fn get(address: &str, path: &str) -> Answer {
    ask("GET", &format!("http://{address}/{path}"), &[], "").await
}

/// Takes the socket away from whoever listens on it, as nothing but a fault does.
fn kill(socket: TcpListener) {
    TcpStream::from(OwnedFd::from(socket)).shutdown(Half::Both).unwrap();
}

/// Whoever is turned away hears why, though it goes on sending: the connection is half-closed, and not reset.
#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_turned_away_hears_why_while_sending() {
    let networks = |text: &str| vec![Network::parse(text).unwrap()];
    let proxied = "PROXY TCP4 198.51.100.7 192.0.2.1 4000 25\r\n";
    let cases = [
        ("421 hop.test 4.3.2 too many sessions", "", 1, (1, 500)),
        ("421 hop.test 4.7.0 too many sessions from your address", "", 1, (2_500, 1)),
        ("554 5.7.1 you may not connect here", proxied, 0, (2_500, 500)),
    ];
    for (says, header, before, bounds) in cases {
        let sink = Sink::start().await;
        let set_up = |config: &mut Config| {
            (config.bounds.connections, config.bounds.connections_per_address) = bounds;
            if !header.is_empty() {
                (config.proxies, config.accept_from) = (networks("127.0.0.0/8"), networks("192.0.2.0/24"));
            }
        };
        let hop = hop().next_hop(&sink).with(set_up).start().await;
        let mut held = Vec::new();
        for _ in 0..before {
            held.push(hop.client().await);
        }
        let (mut input, mut output) = tokio::net::TcpStream::connect(hop.address).await.unwrap().into_split();
        output.write_all(header.as_bytes()).await.unwrap();
        for _ in 0..50 {
            output.write_all(&[b'x'; 10_000]).await.unwrap();
        }
        let mut heard = Vec::new();
        timeout(PATIENCE, input.read_to_end(&mut heard)).await.expect("an end").expect("no reset");
        let heard = String::from_utf8(heard).unwrap();
        assert!(heard.starts_with(says) && heard.ends_with("\r\n") && heard.lines().count() == 1, "{heard}");
        let shared = &hop.server.snapshot().pipeline.shared;
        let code = &says[..3];
        let metric = format!("firstclick_refusals_total{{by=\"hop\",stage=\"connection\",code=\"{code}\"}} 1");
        assert!(shared.metrics.text().contains(&metric), "{metric}");
        shared.summarise_refusals(firstclick::clock::now());
        let record = poll("a summary", || read_records(&hop.audit).into_iter().find(|record| record["type"] == "refusals")).await;
        let network = if header.is_empty() { "127.0.0.0/24" } else { "198.51.100.0/24" };
        assert_eq!((record["code"].as_str(), record["network"].as_str(), record["count"].as_u64()), (Some(code), Some(network), Some(1)));
    }
}

/// The milter protocol has no word for it: the MTA does what its default action says. It is counted all the same.
#[tokio::test(flavor = "multi_thread")]
async fn an_mta_too_many_is_hung_up_on_and_counted() {
    let sink = Sink::start().await;
    let milter = "[milter]\nlisten = [\"inet:127.0.0.1:0\"]\nconnections = 1";
    let folder = Folder::new(&format!("next_hop = \"{}\"", sink.address), &format!("{milter}\n{ADMIN}"));
    let process = folder.run().await;
    let line = process.says("listening for MTAs").await;
    let address = line.split("address=").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap();
    let mut first = Mta::connect(address).await;
    first.greet("192.0.2.1").await;
    assert!(Mta::connect(address).await.answer().await.is_none());
    let metrics = get(&page(&process).await, "metrics").await.body;
    let line = "firstclick_refusals_total{by=\"hop\",stage=\"connection\",code=\"421\"} 1";
    assert!(metrics.lines().any(|is| is == line), "{metrics}");
}

/// What was refused since the last minute is on record when the program ends.
#[tokio::test(flavor = "multi_thread")]
async fn refusals_are_summed_up_at_the_end() {
    let sink = Sink::start().await;
    let folder = Folder::new(&format!("next_hop = \"{}\"\naccept_from = [\"192.0.2.0/24\"]", sink.address), "");
    let mut process = folder.run().await;
    for _ in 0..3 {
        assert!(Client::try_connect(process.address).await.is_none());
    }
    process.signal("TERM");
    assert_eq!(process.ended().await, Some(0));
    let counts: Vec<_> = read_records(&folder.audit())
        .into_iter()
        .filter(|record| record["type"] == "refusals")
        .map(|record| record["count"].as_u64())
        .collect();
    assert_eq!(counts.into_iter().flatten().sum::<u64>(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listener_that_dies_stops_the_program_in_good_order() {
    let sink = Sink::start().await;
    let folder = Folder::new(&format!("next_hop = \"{}\"", sink.address), ADMIN);
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let spare = socket.try_clone().unwrap();
    let mut process = Process::start(&mut folder.run_on(socket)).await;
    let address = page(&process).await;
    assert_eq!(get(&address, "readyz").await.status, 200);
    let mut client = Client::connect(process.address).await;
    client.greet().await;
    for line in ["MAIL FROM:<a@b.test>", "RCPT TO:<c@d.test>", "DATA"] {
        client.say(line).await;
    }
    kill(spare);
    let said = process.says("has died").await;
    assert!(said.contains(&format!("smtp.listen {}", process.address)) && said.contains("start"), "{said}");
    let (mut status, start) = (0, Instant::now());
    while status != 503 {
        assert!(start.elapsed() < PATIENCE, "the page says {status}");
        status = get(&address, "readyz").await.status;
    }
    client.raw(&stuffed(MAIL)).await;
    assert!(client.reply().await.starts_with("250"), "a mail under way is finished");
    assert_eq!(process.ended().await, Some(75));
    let line = process.says("firstclick: the listener").await;
    assert!(line.starts_with("firstclick: the listener smtp.listen"), "{line}");
    assert_eq!(sink.mails().len(), 1);
}

/// One that mails can do without is a warning; the guard page's is not.
#[tokio::test(flavor = "multi_thread")]
async fn the_admin_pages_listener_may_die() {
    let (mails, page) = (Shutdown::default(), Shutdown::default());
    let listen = || {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        socket.set_nonblocking(true).unwrap();
        (socket.try_clone().unwrap(), tokio::net::TcpListener::from_std(socket).unwrap())
    };
    let (spare, socket) = listen();
    let admin = Arc::new(Admin::new(Arc::new(Metrics::default()), Arc::default(), mails.clone()));
    let running = tokio::spawn(http::admin::run(socket, admin, page));
    kill(spare);
    timeout(PATIENCE, running).await.expect("it ends").unwrap();
    assert!(!mails.drain.is_cancelled(), "mails go on");

    let (spare, socket) = listen();
    let guard = crate::hop::page::server();
    let running = tokio::spawn(http::run(socket, guard, mails.clone()));
    kill(spare);
    let died = timeout(PATIENCE, running).await.expect("it ends").unwrap().unwrap_err();
    assert!(died.name.starts_with("guard.listen 127.0.0.1:"), "{died}");
    assert!(mails.drain.is_cancelled(), "readers would find nobody");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_ends_its_session_alone_and_is_counted() {
    let sink = Sink::start().await;
    let folder = Folder::new(&format!("next_hop = \"{}\"", sink.address), ADMIN);
    let mut process = folder.run_after("export FIRSTCLICK_FAULT=delivery").await;
    let address = page(&process).await;
    let mut other = Client::connect(process.address).await;
    other.greet().await;
    for count in 1..=2 {
        let mut client = Client::connect(process.address).await;
        client.greet().await;
        assert_eq!(client.send("<a@b.test>", &["<c@d.test>"], MAIL).await, "", "the connection is gone");
        let lines =
            [format!("firstclick_panics_total{{protocol=\"smtp\"}} {count}"), "firstclick_sessions_open{protocol=\"smtp\"} 1".into()];
        let (mut metrics, start) = (String::new(), Instant::now());
        while !lines.iter().all(|line| metrics.lines().any(|is| is == line)) {
            assert!(start.elapsed() < PATIENCE, "{lines:?} are not in\n{metrics}");
            metrics = get(&address, "metrics").await.body;
        }
    }
    poll("a log line for each", || (process.log().matches("a session panicked").count() == 2).then_some(())).await;
    assert!(other.say("NOOP").await.starts_with("250"), "others go on");
    assert_eq!(get(&address, "readyz").await.status, 200);
    process.signal("TERM");
    assert_eq!(process.ended().await, Some(0));
    let records: Vec<_> = read_records(&folder.audit()).into_iter().filter(|record| record["type"] == "mail").collect();
    let unknown = records.iter().filter(|record| record["delivery"] == "unknown" && record["reply"] == "cancelled").count();
    assert_eq!((records.len(), unknown), (2, 2), "each mail has its record: {records:?}");
    assert_eq!(sink.mails().len(), 0);
}

/// A mail whose next hop does not answer is cut at the end of the drain, and its record says so.
#[tokio::test(flavor = "multi_thread")]
async fn a_mail_that_is_cut_has_a_record() {
    let sink = Sink::start().await;
    sink.on(DOT, Act::Nothing);
    let folder = Folder::new(&format!("next_hop = \"{}\"\n[smtp.deadlines]\ndrain = \"200ms\"", sink.address), "");
    let mut process = folder.run().await;
    let mut client = Client::connect(process.address).await;
    client.greet().await;
    for line in ["MAIL FROM:<a@b.test>", "RCPT TO:<c@d.test>", "DATA"] {
        client.say(line).await;
    }
    client.raw(&stuffed(MAIL)).await;
    poll("the next hop has the mail", || sink.lines().iter().any(|line| line == "DATA").then_some(())).await;
    process.signal("TERM");
    assert_eq!(process.ended().await, Some(0));
    assert!(client.reply().await.is_empty(), "nobody promises what nobody knows");
    let records: Vec<_> = read_records(&folder.audit()).into_iter().filter(|record| record["type"] == "mail").collect();
    assert_eq!(records.len(), 1);
    let (delivery, reply) = (records[0]["delivery"].as_str(), records[0]["reply"].as_str());
    assert_eq!((delivery, reply), (Some("unknown"), Some("cancelled")), "{}", records[0]);
    assert_eq!(firstclick::audit::verify::verify(&folder.audit()).unwrap().broken, None);
}
