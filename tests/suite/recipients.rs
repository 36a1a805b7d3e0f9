//! Mails to many recipients: RCPTs go on in the groups in which they come, each gets its own reply, in its place, and a group costs one
//! round trip.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use crate::hop::{Client, hop, stuffed};

/// What a next hop says to the recipient of a number; nothing where it hangs up instead.
type Says = fn(usize) -> Option<String>;

/// A next hop that counts.
struct Counting {
    address: SocketAddr,
    counts: Arc<Counts>,
}

#[derive(Default)]
struct Counts {
    /// RCPT lines.
    recipients: AtomicUsize,
    /// Reads in which some came.
    flights: AtomicUsize,
    /// The most lines of one read.
    largest: AtomicUsize,
}

impl Counting {
    async fn start(extensions: &'static str, says: Says) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, counts) = (listener.local_addr().unwrap(), Arc::<Counts>::default());
        let shared = Arc::clone(&counts);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let counts = Arc::clone(&shared);
                tokio::spawn(async move { talk(stream, &counts, extensions, says).await });
            }
        });
        Self { address, counts }
    }

    /// RCPT lines, reads in which some came, the most lines of one read.
    fn counted(&self) -> (usize, usize, usize) {
        let Counts { recipients, flights, largest } = &*self.counts;
        (recipients.load(Ordering::SeqCst), flights.load(Ordering::SeqCst), largest.load(Ordering::SeqCst))
    }
}

async fn talk(mut stream: TcpStream, counts: &Counts, extensions: &str, says: Says) -> std::io::Result<()> {
    stream.write_all(b"220 counting.test\r\n").await?;
    let (mut input, mut in_data) = (Vec::with_capacity(64 * 1024), false);
    while stream.read_buf(&mut input).await? > 0 {
        let (mut answer, mut lines, mut recipients) = (String::new(), 0, 0);
        while let Some(end) = input.iter().position(|byte| *byte == b'\n') {
            let line = String::from_utf8(input.drain(..=end).collect()).unwrap();
            if in_data {
                in_data = line != ".\r\n";
                answer.push_str(if in_data { "" } else { "250 2.0.0 taken\r\n" });
                continue;
            }
            lines += 1;
            match line.split_at(4).0 {
                "EHLO" => answer.push_str(&format!("250-counting.test\r\n{extensions}250 8BITMIME\r\n")),
                "DATA" => {
                    in_data = true;
                    answer.push_str("354 go on\r\n");
                }
                "RCPT" => {
                    recipients += 1;
                    counts.recipients.fetch_add(1, Ordering::SeqCst);
                    let digits = |letter: &char| letter.is_ascii_digit();
                    let number: String = line.chars().skip_while(|letter| !digits(letter)).take_while(digits).collect();
                    let Some(reply) = says(number.parse().unwrap()) else {
                        stream.write_all(answer.as_bytes()).await?;
                        return Ok(());
                    };
                    answer.push_str(&format!("{reply} {number}\r\n"));
                }
                _ => answer.push_str("250 2.0.0 ok\r\n"),
            }
        }
        counts.flights.fetch_add(usize::from(recipients > 0), Ordering::SeqCst);
        counts.largest.fetch_max(lines, Ordering::SeqCst);
        stream.write_all(answer.as_bytes()).await?;
    }
    Ok(())
}

const SEVENTH_REFUSED: Says = |number| Some(reply(number).to_owned());

fn reply(number: usize) -> &'static str {
    if number.is_multiple_of(7) { "550 5.1.1 no" } else { "250 2.1.5 ok" }
}

/// MAIL and RCPT for so many, in one write; the replies to RCPT.
async fn ask(client: &mut Client, recipients: usize) -> Vec<String> {
    client.greet().await;
    let lines: String = (1..=recipients).map(|number| format!("RCPT TO:<r{number}@d.test>\r\n")).collect();
    client.raw(format!("MAIL FROM:<a@b.test>\r\n{lines}").as_bytes()).await;
    assert!(client.reply().await.starts_with("250"));
    let mut replies = Vec::new();
    for _ in 0..recipients {
        replies.push(client.reply().await.trim_end().to_owned());
    }
    replies
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_go_on_in_groups_and_each_has_its_own_reply() {
    let next = Counting::start("250-PIPELINING\r\n", SEVENTH_REFUSED).await;
    let hop = hop().next_hop_at(next.address).with(|config| config.bounds.idle_commands = 1_000).start().await;
    let mut client = hop.client().await;
    let expected: Vec<String> = (1..=1_000).map(|number| format!("{} {number}", reply(number))).collect();
    assert_eq!(ask(&mut client, 1_000).await, expected);
    let (recipients, flights, largest) = next.counted();
    assert_eq!(recipients, 1_000);
    assert!(flights <= 50, "{flights} round trips");
    assert!(largest <= 102, "{largest} commands in one group");
    assert!(client.say("DATA").await.starts_with("354"));
    client.raw(&stuffed(b"From: a@b.test\r\n\r\nx\r\n")).await;
    assert!(client.reply().await.starts_with("250 2.0.0 taken"));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_by_one_where_the_next_hop_takes_no_groups() {
    let next = Counting::start("", SEVENTH_REFUSED).await;
    let hop = hop().next_hop_at(next.address).with(|config| config.bounds.idle_commands = 1_000).start().await;
    let expected: Vec<String> = (1..=200).map(|number| format!("{} {number}", reply(number))).collect();
    assert_eq!(ask(&mut hop.client().await, 200).await, expected);
    assert_eq!(next.counted(), (200, 200, 1));
}

/// A next hop that takes its time for each: those that it has answered are answered, and what it has not been asked yet waits.
#[tokio::test(flavor = "multi_thread")]
async fn replies_do_not_wait_for_later_groups() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let hop = hop().next_hop_at(listener.local_addr().unwrap()).start().await;
    let mut client = hop.client().await;
    let (asked, mut told) = (tokio::spawn(async move { ask_some(&mut client).await }), 0);
    let (mut stream, _) = listener.accept().await.unwrap();
    stream.write_all(b"220 slow.test\r\n").await.unwrap();
    let mut input = Vec::new();
    // It answers five recipients, and then no more.
    while told < 5 {
        while let Some(end) = input.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = input.drain(..=end).collect();
            if line.starts_with(b"RCPT") {
                told += 1;
            }
            let reply: &[u8] = if line.starts_with(b"EHLO") { b"250-slow.test\r\n250 PIPELINING\r\n" } else { b"250 2.0.0 ok\r\n" };
            stream.write_all(reply).await.unwrap();
        }
        if told < 5 {
            stream.read_buf(&mut input).await.unwrap();
        }
    }
    assert_eq!(asked.await.unwrap(), 5, "replies to recipients while the sixth waits");
}

/// Asks for 40 recipients at once; counts what is answered until five are.
async fn ask_some(client: &mut Client) -> usize {
    client.greet().await;
    let lines: String = (1..=40).map(|number| format!("RCPT TO:<r{number}@d.test>\r\n")).collect();
    client.raw(format!("MAIL FROM:<a@b.test>\r\n{lines}").as_bytes()).await;
    assert!(client.reply().await.starts_with("250"));
    let mut replies = 0;
    while replies < 5 && client.reply().await.starts_with("250") {
        replies += 1;
    }
    replies
}

/// The bound on commands without a mail, where MAIL is one of them: it is said, however they come.
#[tokio::test(flavor = "multi_thread")]
async fn refused_mails_end_the_session_with_421() {
    let next = Counting::start("250-PIPELINING\r\n", |_| Some("550 5.1.1 no".to_owned())).await;
    let hop = hop().next_hop_at(next.address).with(|config| config.bounds.idle_commands = 3).start().await;
    let mut client = hop.client().await;
    let replies = ask(&mut client, 6).await;
    assert_eq!(replies.iter().filter(|reply| reply.starts_with("550")).count(), 4);
    assert_eq!(replies[4], "421 4.7.0 too many commands without a mail");
}

/// In the second group, so that the first's recipients are accepted already.
#[tokio::test(flavor = "multi_thread")]
async fn what_ends_a_group_ends_it_at_its_place() {
    for extensions in ["250-PIPELINING\r\n", ""] {
        // 421: those before it have their replies, it has its own, and the session ends.
        let closing: Says = |number| Some(if number == 150 { "421 4.7.0 enough" } else { "250 2.1.5 ok" }.to_owned());
        let next = Counting::start(extensions, closing).await;
        let hop = hop().next_hop_at(next.address).start().await;
        let replies = ask(&mut hop.client().await, 160).await;
        assert_eq!((&*replies[148], &*replies[149], &*replies[150]), ("250 2.1.5 ok 149", "421 4.7.0 enough 150", ""), "{extensions}");

        // It hangs up: those before have their replies, the others are deferred, and so is the mail.
        let next = Counting::start(extensions, |number| (number < 150).then(|| "250 2.1.5 ok".to_owned())).await;
        let hop = crate::hop::hop().next_hop_at(next.address).start().await;
        let mut client = hop.client().await;
        let replies = ask(&mut client, 160).await;
        assert_eq!(replies[148], "250 2.1.5 ok 149", "{extensions}");
        assert!(replies[149..].iter().all(|reply| reply.starts_with("451 4.4.2")), "{extensions} {:?}", &replies[149..]);
        assert!(client.say("DATA").await.starts_with("451 4.4.2"));

        // A reply that ends no command, in the middle: the same.
        let odd: Says = |number| Some(if number == 150 { "354 go on" } else { "250 2.1.5 ok" }.to_owned());
        let next = Counting::start(extensions, odd).await;
        let hop = crate::hop::hop().next_hop_at(next.address).start().await;
        let mut client = hop.client().await;
        let replies = ask(&mut client, 160).await;
        assert_eq!(replies[148], "250 2.1.5 ok 149", "{extensions}");
        assert!(replies[149..].iter().all(|reply| reply.starts_with("451 4.")), "{extensions} {:?}", &replies[149..]);
        assert!(client.say("DATA").await.starts_with("451 4.4.2"));
    }
}

/// The bound on commands that begin or continue no mail holds for what goes on in groups.
#[tokio::test(flavor = "multi_thread")]
async fn a_group_brings_no_more_guesses() {
    for extensions in ["250-PIPELINING\r\n", ""] {
        let next = Counting::start(extensions, |_| Some("550 5.1.1 no".to_owned())).await;
        let hop = hop().next_hop_at(next.address).with(|config| config.bounds.idle_commands = 130).start().await;
        let replies = ask(&mut hop.client().await, 400).await;
        let refused = replies.iter().filter(|reply| reply.starts_with("550")).count();
        assert_eq!((next.counted().0, refused), (131, 131), "{extensions}");
        assert_eq!(replies[131], "421 4.7.0 too many commands without a mail");
    }
}

/// The bound on recipients counts those that are accepted.
#[tokio::test(flavor = "multi_thread")]
async fn a_group_goes_up_to_the_bound_and_the_rest_gets_452() {
    let next = Counting::start("250-PIPELINING\r\n", SEVENTH_REFUSED).await;
    let hop = hop().next_hop_at(next.address).with(|config| config.bounds.recipients = 120).start().await;
    let replies = ask(&mut hop.client().await, 150).await;
    assert_eq!(replies.iter().filter(|reply| reply.starts_with("250")).count(), 120);
    // 139 are asked for until 120 are accepted.
    assert_eq!(replies[138], "250 2.1.5 ok 139");
    assert!(replies[139..].iter().all(|reply| reply.starts_with("452 4.5.3")), "{:?}", &replies[139..]);
}
