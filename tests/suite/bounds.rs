//! Others are served while somebody takes all that he can get.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpSocket, TcpStream},
};

use crate::hop::{Client, Sink, hop, poll, process::Folder};

const MAIL: &[u8] = b"From: a@b.test\r\nTo: c@d.test\r\nSubject: hello\r\n\r\nHello.\r\n";

/// Fifty senders, twenty mails each, from an address of their own.
async fn ordinary(address: SocketAddr) -> Duration {
    let start = Instant::now();
    let senders: Vec<_> = (0..50)
        .map(|_| {
            tokio::spawn(async move {
                let mut client = Client::from([127, 0, 0, 2], address).await.expect("an ordinary sender is served");
                client.greet().await;
                for _ in 0..20 {
                    assert!(client.send("<a@b.test>", &["<c@d.test>"], MAIL).await.starts_with("250"));
                }
            })
        })
        .collect();
    for sender in senders {
        sender.await.unwrap();
    }
    start.elapsed()
}

async fn from(local: [u8; 4], address: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::from((local, 0))).unwrap();
    socket.connect(address).await.unwrap()
}

/// S5: 1,000 idle connections and 1,000 that send one octet a second, while fifty ordinary senders do their work. That
/// they finish is asserted; how fast is printed, because a test does not know how busy the machine is.
#[tokio::test(flavor = "multi_thread")]
async fn s5_idle_and_slow_connections_do_not_keep_others_out() {
    rustix_limit();
    let sink = Sink::start().await;
    let folder = Folder::new(&format!("next_hop = \"{}\"", sink.address), "");
    let process = folder.run().await;
    let undisturbed = ordinary(process.address).await;
    let before = process.memory().0;
    let mut idle = Vec::new();
    let mut slow = Vec::new();
    for number in 0..1_000_u16 {
        let host = u8::try_from(number % 250).unwrap() + 1;
        idle.push(from([127, 0, 1, host], process.address).await);
        let mut stream = from([127, 0, 2, host], process.address).await;
        slow.push(tokio::spawn(async move {
            for byte in b"EHLO slow.test\r\nMAIL FROM:<slow@b.test>\r\n".iter().cycle() {
                if stream.write_all(&[*byte]).await.is_err() {
                    return;
                }
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }));
    }
    // All of them have been greeted, so they are sessions and no backlog.
    for stream in &mut idle {
        let mut greeting = [0; 4];
        stream.read_exact(&mut greeting).await.unwrap();
        assert_eq!(&greeting, b"220 ");
    }
    let disturbed = ordinary(process.address).await;
    println!(
        "1,000 mails of 50 senders: {undisturbed:.2?} undisturbed, {disturbed:.2?} beside 2,000 idle and slow ones (x {:.2}); resident memory {before} KiB before, {} KiB with them",
        disturbed.as_secs_f64() / undisturbed.as_secs_f64(),
        process.memory().0
    );
    assert_eq!(sink.mails().len(), 2_000);
    slow.iter().for_each(tokio::task::JoinHandle::abort);
}

/// The tests' own process needs more descriptors than the usual 1,024.
fn rustix_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let wanted = limit.maximum.map_or(8_192, |most| most.min(8_192));
    setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum: limit.maximum }).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn s5_a_flood_from_one_address_leaves_the_others_alone() {
    let sink = Sink::start().await;
    let hop = hop()
        .next_hop(&sink)
        .with(|config| {
            config.bounds.connections = 20;
            config.bounds.connections_per_address = 5;
        })
        .start()
        .await;
    let mut flood = Vec::new();
    for number in 0..20 {
        let mut stream = from([127, 0, 0, 9], hop.address).await;
        let mut greeting = [0; 4];
        stream.read_exact(&mut greeting).await.unwrap();
        assert_eq!(&greeting, if number < 5 { b"220 " } else { b"421 " }, "connection {number}");
        flood.push(stream);
    }
    assert!(hop.send("<a@b.test>", &["<c@d.test>"], MAIL).await.starts_with("250"));
    // And in all: whoever comes last is told to come again.
    let mut crowd = Vec::new();
    for host in 10..40 {
        crowd.push(Client::from([127, 0, 0, host], hop.address).await);
    }
    assert_eq!(crowd.iter().flatten().count(), 15);
    drop(crowd);
    poll("places are free again", || (hop.server.open_sessions() <= 5).then_some(())).await;
    assert!(hop.send("<a@b.test>", &["<c@d.test>"], MAIL).await.starts_with("250"));
}

/// A connection through a proxy of this machine, and the first reply to its client.
async fn proxied(client: &str, address: SocketAddr) -> (TcpStream, [u8; 4]) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    // The client talks at once, as those do who do not wait for the greeting.
    stream.write_all(format!("PROXY TCP4 {client} 192.0.2.1 4000 25\r\nEHLO {client}\r\n").as_bytes()).await.unwrap();
    let mut reply = [0; 4];
    stream.read_exact(&mut reply).await.unwrap_or_else(|error| panic!("{client} hears why: {error}"));
    (stream, reply)
}

/// M6: behind a proxy the caps go by the client that it names, so that one client starves nobody.
#[tokio::test(flavor = "multi_thread")]
async fn a_flood_through_a_proxy_leaves_the_others_alone() {
    let sink = Sink::start().await;
    let hop = hop()
        .next_hop(&sink)
        .with(|config| {
            config.proxies = vec![firstclick::identity::Network::parse("127.0.0.0/8").unwrap()];
            config.bounds.connections = 20;
            config.bounds.connections_per_address = 5;
        })
        .start()
        .await;
    let mut flood = Vec::new();
    for number in 0..60 {
        let (stream, reply) = proxied("192.0.2.9", hop.address).await;
        assert_eq!(&reply, if number < 5 { b"220 " } else { b"421 " }, "connection {number}");
        flood.push(stream);
    }
    // Those that were turned away hold no place, though none of them has hung up.
    for client in ["192.0.2.1", "192.0.2.2", "192.0.2.3"] {
        for _ in 0..5 {
            let (stream, reply) = proxied(client, hop.address).await;
            assert_eq!(&reply, b"220 ", "{client}");
            flood.push(stream);
        }
    }
    // All places are taken now, and whoever comes hears so.
    let (_, reply) = proxied("192.0.2.4", hop.address).await;
    assert_eq!(&reply, b"421 ");
    drop(flood);
    poll("places are free again", || (hop.server.open_sessions() == 0).then_some(())).await;
    assert_eq!(&proxied("192.0.2.9", hop.address).await.1, b"220 ");
}

#[tokio::test(flavor = "multi_thread")]
async fn s5_silence_has_an_end_in_commands_and_in_data() {
    let sink = Sink::start().await;
    let hop = hop()
        .next_hop(&sink)
        .with(|config| {
            config.deadlines.command = Duration::from_millis(300);
            config.deadlines.data_block = Duration::from_millis(300);
            config.deadlines.data = Duration::from_millis(900);
        })
        .start()
        .await;
    let mut client = hop.client().await;
    assert!(client.reply().await.starts_with("421 4.4.2"), "no command came");
    // An octet now and then is no command either.
    let mut client = hop.client().await;
    for _ in 0..20 {
        client.raw(b"N").await;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(client.reply().await.starts_with("421 4.4.2"));
    for pause in [1_000, 50] {
        let mut client = hop.client().await;
        client.greet().await;
        for line in ["MAIL FROM:<a@b.test>", "RCPT TO:<c@d.test>", "DATA"] {
            client.say(line).await;
        }
        for _ in 0..40 {
            client.raw(b"x").await;
            tokio::time::sleep(Duration::from_millis(pause)).await;
            if pause == 1_000 {
                break;
            }
        }
        assert!(client.reply().await.starts_with("421 4.4.2"), "{pause}");
    }
    poll("all sessions end", || (hop.server.open_sessions() == 0).then_some(())).await;
    assert_eq!(sink.mails().len(), 0);
}

/// A next hop that counts octets and keeps none.
async fn counting_sink() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let _ = stream.write_all(b"220 sink.test\r\n").await;
                let (mut buffer, mut in_data, mut tail) = (vec![0; 256 * 1024], false, Vec::new());
                while let Ok(read) = stream.read(&mut buffer).await {
                    if read == 0 {
                        return;
                    }
                    tail.extend_from_slice(&buffer[read.saturating_sub(16)..read]);
                    let end = tail.len().saturating_sub(16);
                    tail.drain(..end);
                    let reply: &[u8] = match (in_data, tail.ends_with(b"\r\n.\r\n"), buffer[..read].starts_with(b"DATA")) {
                        (true, true, _) => {
                            in_data = false;
                            b"250 2.0.0 ok\r\n"
                        }
                        (true, false, _) => continue,
                        (false, _, true) => {
                            in_data = true;
                            b"354 go on\r\n"
                        }
                        (false, ..) => b"250 2.0.0 ok\r\n",
                    };
                    let _ = stream.write_all(reply).await;
                }
            });
        }
    });
    address
}

/// S10: mails of so many octets at once, all under way at the same time. Returns the kilobytes of resident memory that they take
/// at most.
async fn large_at_once(mails: usize, octets: usize) -> usize {
    let folder = Folder::new(&format!("next_hop = \"{}\"\nsize_limit = \"60MiB\"", counting_sink().await), "");
    let process = folder.run().await;
    let before = process.memory().0;
    let block = b"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcd\r\n".repeat(1_024);
    let mut clients = Vec::new();
    for _ in 0..mails {
        let mut client = Client::connect(process.address).await;
        client.greet().await;
        for line in ["MAIL FROM:<a@b.test>", "RCPT TO:<c@d.test>", "DATA"] {
            client.say(line).await;
        }
        client.raw(b"From: a@b.test\r\nSubject: large\r\n\r\n").await;
        clients.push(client);
    }
    let sending: Vec<_> = clients
        .into_iter()
        .map(|mut client| {
            let block = block.clone();
            tokio::spawn(async move {
                for _ in 0..octets / block.len() {
                    client.raw(&block).await;
                }
                client.raw(b".\r\n").await;
                client.reply_within(Duration::from_mins(5)).await
            })
        })
        .collect();
    for one in sending {
        let reply = one.await.unwrap();
        assert!(reply.starts_with("250"), "{reply}");
    }
    let (now, most) = process.memory();
    println!("{mails} mails of {octets} octets at once: resident memory {before} KiB before, {most} KiB at most, {now} KiB afterwards");
    most - before
}

#[tokio::test(flavor = "multi_thread")]
async fn s10_sixty_four_of_the_largest_at_once_take_little_memory() {
    let most = large_at_once(64, 50 * 1_000 * 1_000).await;
    assert!(most < 128 * 1024, "{most} KiB");
}

#[tokio::test(flavor = "multi_thread")]
async fn s10_twenty_large_mails_at_once_take_less_than_64_mib() {
    let most = large_at_once(20, 10 * 1_000 * 1_000).await;
    // A release build takes 12 MiB without a mail.
    assert!(most < (64 - 12) * 1024, "{most} KiB");
}

#[tokio::test(flavor = "multi_thread")]
async fn past_the_memory_of_all_mails_one_is_told_to_come_again() {
    let sink = Sink::start().await;
    let hop = hop().next_hop(&sink).with(|config| config.bounds.memory = 200_000).start().await;
    let large = [b"a: b\r\n\r\n".to_vec(), b"0123456789abcde\r\n".repeat(10_000)].concat();
    let mut half = hop.client().await;
    half.greet().await;
    for line in ["MAIL FROM:<a@b.test>", "RCPT TO:<c@d.test>", "DATA"] {
        half.say(line).await;
    }
    half.raw(&large[..150_000]).await;
    // Once those octets are in memory, there is no room for as many more.
    let reply = loop {
        let reply = hop.send("<a@b.test>", &["<c@d.test>"], &large).await;
        if !reply.starts_with("250") {
            break reply;
        }
    };
    assert!(reply.starts_with("452 4.3.1"), "{reply}");
    assert!(hop.send("<a@b.test>", &["<c@d.test>"], MAIL).await.starts_with("250"), "a small one has room");
    half.raw(&[&large[150_000..], b".\r\n"].concat()).await;
    assert!(half.reply().await.starts_with("250"));
    assert!(hop.send("<a@b.test>", &["<c@d.test>"], &large).await.starts_with("250"), "and afterwards there is room again");
}
