//! Connections to the next hop that are kept across sessions: nobody meets what another has brought upon one, no mail is lost or
//! doubled by it, and none is told to be another's. What ends one is in `ended`.

mod ended;

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use firstclick::{
    identity::Network,
    smtp::{
        config::{Config, Pooling},
        server::Snapshot,
    },
};

use crate::hop::{
    Client, Hop, PATIENCE, Sink,
    faulty::Dice,
    hop, poll,
    process::Folder,
    strict::{Rules, Strict, Taken},
    stuffed,
};

async fn start(strict: &Strict) -> Hop {
    hop().next_hop_at(strict.address).with(|config| config.trusted_upstreams = vec![Network::parse("127.0.0.0/8").unwrap()]).start().await
}

fn mail(id: &str) -> Vec<u8> {
    format!("From: a@b.test\r\nTo: c@d.test\r\nSubject: {id}\r\n\r\nx\r\n").into_bytes()
}

/// Sends a mail in a session of its own.
async fn send(hop: &Hop, id: &str) -> String {
    hop.send("<a@b.test>", &["<c@d.test>"], &mail(id)).await
}

/// Sessions that have said DATA: each holds a connection to the next hop.
async fn before_data(hop: &Hop, count: usize) -> Vec<Client> {
    let mut clients = Vec::new();
    for _ in 0..count {
        let mut client = hop.client().await;
        client.greet().await;
        for line in ["MAIL FROM:<a@b.test>", "RCPT TO:<c@d.test>", "DATA"] {
            client.say(line).await;
        }
        clients.push(client);
    }
    clients
}

/// A metric's value.
fn metric(hop: &Hop, name: &str) -> usize {
    let text = hop.server.snapshot().pipeline.shared.metrics.text();
    let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_else(|| panic!("no {name}"));
    line.trim().parse().unwrap()
}

const PARKED: &str = "firstclick_next_hop_parked ";

fn event(hop: &Hop, event: &str) -> usize {
    metric(hop, &format!("firstclick_next_hop_pool_total{{event=\"{event}\"}} "))
}

fn replace(hop: &Hop, change: impl FnOnce(&mut Config)) {
    let before = hop.server.snapshot();
    let mut config = before.config.clone();
    change(&mut config);
    hop.server.replace(Snapshot::new(config, Arc::clone(&before.pipeline)).unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_use_one_connection_one_after_another_and_it_ends_in_time() {
    let sink = Sink::start().await;
    let hop = hop().next_hop(&sink).start().await;
    for count in 1..=5 {
        assert!(send(&hop, "x").await.starts_with("250"));
        assert_eq!((sink.mails().len(), metric(&hop, PARKED)), (count, 1));
    }
    let greetings = sink.lines().iter().filter(|line| line.starts_with("EHLO")).count();
    assert_eq!((sink.connections(), greetings, event(&hop, "parked"), event(&hop, "reused")), (1, 1, 5, 4));
    // It waits for seconds, not for ever, and says QUIT.
    poll("the connection's end", || (sink.lines().last().is_some_and(|line| line == "QUIT")).then_some(())).await;
    assert_eq!((metric(&hop, PARKED), event(&hop, "closed")), (0, 1));
    assert!(send(&hop, "x").await.starts_with("250"));
    assert_eq!(sink.connections(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn it_can_be_switched_off() {
    let sink = Sink::start().await;
    let hop = hop().next_hop(&sink).with(|config| config.pool = Pooling::Off).start().await;
    for count in 1..=3 {
        let mut client = hop.client().await;
        client.greet().await;
        for _ in 0..2 {
            assert!(client.send("<a@b.test>", &["<c@d.test>"], &mail("x")).await.starts_with("250"));
        }
        assert_eq!((sink.connections(), event(&hop, "parked")), (count, 0));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn by_the_configuration_too() {
    for (setting, connections) in [("", 1), ("pool = \"on\"\n", 1), ("pool = \"off\"\n", 3)] {
        let sink = Sink::start().await;
        let process = Folder::new(&format!("next_hop = \"{}\"\n{setting}", sink.address), "").run().await;
        for _ in 0..3 {
            let mut client = Client::connect(process.address).await;
            client.greet().await;
            assert!(client.send("<a@b.test>", &["<c@d.test>"], &mail("x")).await.starts_with("250"));
        }
        assert_eq!(sink.connections(), connections, "{setting}");
    }
}

/// The hostile one's errors, refused and given up transactions and broken exchanges, each with an honest mail right behind.
#[tokio::test(flavor = "multi_thread")]
async fn an_honest_upstream_does_not_meet_what_a_hostile_one_has_done() {
    let strict = Strict::start(Rules { errors: 3, ..Rules::default() }).await;
    let hop = start(&strict).await;
    let hostile: [&[&str]; 6] = [
        &["MAIL FROM:<a@b.test>", "RCPT TO:<no@d.test>", "RCPT TO:<no@d.test>", "RCPT TO:<no@d.test>"],
        &["MAIL FROM:<no@b.test>", "MAIL FROM:<no@b.test>"],
        &["MAIL FROM:<a@b.test>", "RSET", "MAIL FROM:<a@b.test>", "RSET"],
        &["MAIL FROM:<a@b.test>", "RCPT TO:<c@d.test>", "DATA"],
        // And a mail that is accepted in the end.
        &["MAIL FROM:<a@b.test>", "RCPT TO:<no@d.test>", "RCPT TO:<no@d.test>", "RCPT TO:<c@d.test>", "DATA", "mail"],
        &["MAIL FROM:<no@b.test>", "MAIL FROM:<a@b.test>", "RCPT TO:<c@d.test>", "DATA", "mail"],
    ];
    for round in 0..4 {
        for (number, lines) in hostile.iter().enumerate() {
            let mut client = hop.client().await;
            client.greet().await;
            for line in *lines {
                if *line == "mail" {
                    client.raw(&stuffed(&mail("hostile"))).await;
                    assert!(client.reply().await.starts_with("250"));
                } else {
                    client.say(line).await;
                }
            }
            // What follows DATA is data.
            if round % 2 == 0 && lines.last() != Some(&"DATA") {
                client.say("QUIT").await;
            }
            drop(client);
            for _ in 0..2 {
                assert!(send(&hop, "honest").await.starts_with("250"), "after {number} in round {round}");
            }
        }
    }
    let honest: Vec<Taken> = strict.taken().into_iter().filter(|taken| taken.id == "honest").collect();
    assert_eq!(honest.len(), 48);
    assert!(honest.iter().all(|taken| taken.errors == 0), "{honest:?}");
    assert!(honest.iter().filter(|taken| taken.mails > 0).count() > 10, "and connections are used again all the while");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_next_hop_that_takes_few_mails_of_a_connection_gets_all() {
    for (closes_unasked, mails_over) in [
        (false, "421 4.7.0 too many mails"),
        (true, "421 4.7.0 too many mails"),
        (false, "452 4.5.3 too many"),
        (false, "550 5.7.1 enough"),
    ] {
        let strict = Strict::start(Rules { mails: 3, closes_unasked, mails_over, ..Rules::default() }).await;
        let hop = start(&strict).await;
        for number in 0..20 {
            assert!(send(&hop, &number.to_string()).await.starts_with("250"), "{number}");
        }
        let mut ids: Vec<usize> = strict.taken().iter().map(|taken| taken.id.parse().unwrap()).collect();
        ids.sort_unstable();
        assert_eq!(ids, (0..20).collect::<Vec<_>>());
        assert!(strict.taken().iter().all(|taken| taken.mails < 3));
        assert!(strict.connections().0 < 20, "{:?}", strict.connections());
    }
}

/// A session keeps a connection on which it was refused something itself: that others have used it before still is not told to it.
#[tokio::test(flavor = "multi_thread")]
async fn one_that_a_session_keeps_may_have_had_enough_of_others() {
    for mails_over in ["421 4.7.0 too many mails", "450 4.7.0 slow down", "452 4.5.3 too many", "550 5.7.1 enough"] {
        let strict = Strict::start(Rules { mails: 5, mails_over, ..Rules::default() }).await;
        let hop = start(&strict).await;
        for number in 0..4 {
            assert!(send(&hop, &number.to_string()).await.starts_with("250"));
        }
        let mut client = hop.client().await;
        client.greet().await;
        for number in 4..10 {
            client.say("MAIL FROM:<a@b.test>").await;
            assert!(client.say("RCPT TO:<no@d.test>").await.starts_with("550"));
            for line in ["RCPT TO:<c@d.test>", "DATA"] {
                client.say(line).await;
            }
            client.raw(&stuffed(&mail(&number.to_string()))).await;
            assert!(client.reply().await.starts_with("250"), "{number}: {mails_over}");
        }
        assert_eq!(strict.taken().len(), 10);
        // What a connection of its own says is its own.
        if !mails_over.starts_with("421") {
            assert_eq!(client.say("MAIL FROM:<a@b.test>").await.trim_end(), mails_over);
        }
    }
}

/// One that froze after it accepted MAIL is given as little time as one that froze before.
#[tokio::test(flavor = "multi_thread")]
async fn one_that_freezes_before_the_first_recipient_is_replaced() {
    let strict = Strict::start(Rules::default()).await;
    let patience = Duration::from_millis(300);
    let hop = hop()
        .next_hop_at(strict.address)
        .with(|config| (config.deadlines.connect, config.deadlines.reply) = (patience, PATIENCE))
        .start()
        .await;
    assert!(send(&hop, "first").await.starts_with("250"));
    let mut client = hop.client().await;
    client.greet().await;
    assert!(client.say("MAIL FROM:<a@b.test>").await.starts_with("250"));
    strict.now(|rules| rules.frozen = true);
    client.raw(b"RCPT TO:<c@d.test>\r\n").await;
    poll("RCPT is asked on a new connection", || (strict.connections().0 == 2).then_some(())).await;
    strict.now(|rules| rules.frozen = false);
    // The new one's EHLO may have met the frost, too.
    assert!(matches!(client.reply().await.get(..3), Some("250" | "451")));
}

/// MAIL and RCPT in one group, or one by one.
async fn send_in(group: &[&str], hop: &Hop, id: &str) -> Vec<String> {
    let mut client = hop.client().await;
    client.greet().await;
    let mut replies = Vec::new();
    for lines in group {
        client.raw(lines.as_bytes()).await;
        for _ in lines.lines() {
            replies.push(client.reply().await);
        }
    }
    client.raw(&stuffed(&mail(id))).await;
    replies.push(client.reply().await);
    replies
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_says_so_to_the_first_recipient_gets_all_too() {
    let alone = ["MAIL FROM:<a@b.test>\r\n", "RCPT TO:<c@d.test>\r\n", "RCPT TO:<e@d.test>\r\n", "DATA\r\n"];
    let together = ["MAIL FROM:<a@b.test>\r\nRCPT TO:<c@d.test>\r\nRCPT TO:<e@d.test>\r\nDATA\r\n"];
    for mails_over in ["421 4.7.0 too many mails", "452 4.5.3 too many"] {
        for group in [&alone[..], &together[..]] {
            let strict = Strict::start(Rules { mails: 3, mails_over, over_at: "RCPT", ..Rules::default() }).await;
            let hop = start(&strict).await;
            for number in 0..10 {
                let replies = send_in(group, &hop, &number.to_string()).await;
                let codes: Vec<&str> = replies.iter().map(|reply| &reply[..3]).collect();
                assert_eq!(codes, ["250", "250", "250", "354", "250"], "{number}: {mails_over} {group:?}");
            }
            assert_eq!(strict.taken().len(), 10);
            assert!(strict.connections().0 < 10, "{:?}", strict.connections());
            // A new connection's reply is told.
            strict.now(|rules| rules.mails = 0);
            let mut client = hop.client().await;
            client.greet().await;
            client.say("MAIL FROM:<a@b.test>").await;
            assert_eq!(client.say("RCPT TO:<c@d.test>").await.trim_end(), mails_over);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_carries_a_hundred_mails_at_most() {
    let strict = Strict::start(Rules::default()).await;
    let hop = start(&strict).await;
    let mut client = hop.client().await;
    client.greet().await;
    for _ in 0..250 {
        assert!(client.send("<a@b.test>", &["<c@d.test>"], &mail("x")).await.starts_with("250"));
    }
    assert!(strict.taken().iter().all(|taken| taken.mails < 100));
    assert!(strict.taken().iter().any(|taken| taken.mails > 20), "and more than a few");
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_connections_and_a_next_hop_that_starts_again() {
    let strict = Strict::start(Rules::default()).await;
    let hop = start(&strict).await;
    let mut clients = before_data(&hop, 50).await;
    for client in &mut clients {
        client.raw(&stuffed(&mail("before"))).await;
    }
    for client in &mut clients {
        assert!(client.reply().await.starts_with("250"));
    }
    assert_eq!(event(&hop, "parked"), 50);
    strict.restart().await;
    let hop = Arc::new(hop);
    let sending: Vec<_> = (0..50)
        .map(|number| {
            let hop = Arc::clone(&hop);
            tokio::spawn(async move { send(&hop, &format!("after {number}")).await })
        })
        .collect();
    for sent in sending {
        let reply = sent.await.unwrap();
        assert!(reply.starts_with("250"), "{reply}");
    }
    let mut after: Vec<String> = strict.taken().into_iter().map(|taken| taken.id).filter(|id| id.starts_with("after")).collect();
    after.sort();
    after.dedup();
    assert_eq!((after.len(), strict.taken().len()), (50, 100));
}

/// More than may wait, and none is lost for it.
#[tokio::test(flavor = "multi_thread")]
async fn more_than_fifty_do_not_wait() {
    let strict = Strict::start(Rules::default()).await;
    let hop = start(&strict).await;
    let mut clients = before_data(&hop, 60).await;
    for client in &mut clients {
        client.raw(&stuffed(&mail("x"))).await;
        assert!(client.reply().await.starts_with("250"));
        assert!(metric(&hop, PARKED) <= 50);
    }
    assert_eq!(event(&hop, "parked") + event(&hop, "full"), 60);
    // What did not find a place ends with its session.
    drop(clients);
    poll("the connections' end", || (strict.connections().1 == 0).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_late_reply_is_no_answer_to_another_sessions_command() {
    let strict = Strict::start(Rules::default()).await;
    let hop = start(&strict).await;
    assert!(send(&hop, "one").await.starts_with("250"));
    strict.say(b"250 2.0.0 late\r\n").await;
    let mut client = hop.client().await;
    client.greet().await;
    assert!(client.say("MAIL FROM:<a@b.test>").await.starts_with("250"));
    assert!(client.say("RCPT TO:<no@d.test>").await.starts_with("550"), "each reply is its command's");
    assert!(client.say("RCPT TO:<c@d.test>").await.starts_with("250"));
    client.say("DATA").await;
    client.raw(&stuffed(&mail("two"))).await;
    assert!(client.reply().await.starts_with("250"));
    let taken = strict.taken();
    assert_eq!((taken.len(), taken[1].connection), (2, 2), "{taken:?}");
}

/// Sessions, faults and restarts at random: every 250 is there once, what was refused is not, and each mail is told to be its
/// own client's.
#[tokio::test(flavor = "multi_thread")]
async fn two_thousand_mails_of_many_clients_through_shared_connections() {
    let strict = Arc::new(Strict::start(Rules { faults: 80, ..Rules::default() }).await);
    let hop = Arc::new(start(&strict).await);
    let (next, dice) = (Arc::new(AtomicUsize::new(0)), Arc::new(Dice::new(3)));
    let upstreams: Vec<_> = (0..8)
        .map(|_| {
            let (hop, strict, next, dice) = (Arc::clone(&hop), Arc::clone(&strict), Arc::clone(&next), Arc::clone(&dice));
            tokio::spawn(async move {
                let mut told = HashMap::new();
                loop {
                    let mut client = hop.client().await;
                    client.greet().await;
                    for _ in 0..=dice.throw(3) {
                        let number = next.fetch_add(1, Ordering::Relaxed);
                        if number >= 2_000 {
                            return told;
                        }
                        if dice.throw(150) == 0 {
                            strict.restart().await;
                        }
                        let id = format!("m{number}");
                        // Some say for whom, some leave the name out, and some say nothing.
                        let client_told = match dice.throw(3) {
                            0 => format!("NAME={id}.test ADDR=192.0.2.{}", number % 250),
                            1 => format!("ADDR=198.51.100.{}", number % 250),
                            _ => String::new(),
                        };
                        if !client_told.is_empty() {
                            client.say(&format!("XFORWARD {client_told}")).await;
                        }
                        if dice.throw(10) == 0 {
                            client.say("MAIL FROM:<a@b.test>").await;
                            client.say("RCPT TO:<no@d.test>").await;
                            client.say("RSET").await;
                            if !client_told.is_empty() {
                                client.say(&format!("XFORWARD {client_told}")).await;
                            }
                        }
                        let reply = client.send("<a@b.test>", &["<c@d.test>"], &mail(&id)).await;
                        told.insert(id, (reply.clone(), client_told));
                        if !reply.starts_with("250") {
                            client.say("RSET").await;
                        }
                        if reply.is_empty() || reply.starts_with("421") {
                            break;
                        }
                    }
                }
            })
        })
        .collect();
    let mut told: HashMap<String, (String, String)> = HashMap::new();
    for upstream in upstreams {
        told.extend(upstream.await.unwrap());
    }
    let (taken, reply_lost) = (strict.taken(), strict.reply_lost());
    let mut there: HashMap<&str, Vec<&Taken>> = HashMap::new();
    for mail in &taken {
        there.entry(&mail.id).or_default().push(mail);
    }
    let mut accepted = 0;
    for (id, (reply, client)) in &told {
        let found = there.remove(id.as_str()).unwrap_or_default();
        if reply.starts_with("250") {
            accepted += 1;
            assert_eq!(found.len(), 1, "{id}: {reply}");
        } else {
            // A restart cuts a reply off, too, where the mail was just taken.
            assert!(found.len() <= usize::from(reply_lost.contains(id) || reply.starts_with("451 4.4.2")), "{id}: {reply} {found:?}");
        }
        for mail in found {
            let (name, address) = match (client.starts_with("NAME"), client.rsplit_once('=')) {
                (true, Some((_, address))) => (format!("{id}.test"), address),
                (_, Some((_, address))) => ("[UNAVAILABLE]".into(), address),
                (_, None) => ("[UNAVAILABLE]".into(), "127.0.0.1"),
            };
            let said = format!("XFORWARD NAME={name} ADDR={address} HELO=");
            // A new connection whose XFORWARD was refused knows nobody.
            let is_its_own = mail.client.starts_with(&said) && mail.client.ends_with(" PROTO=ESMTP IDENT=[UNAVAILABLE]");
            assert!(is_its_own || (mail.client.is_empty() && mail.mails == 0), "{id} of {client}: {}", mail.client);
        }
    }
    assert!(there.is_empty(), "nobody sent {there:?}");
    let reused = taken.iter().filter(|mail| mail.mails > 0).count();
    println!("{accepted} accepted, {} on a connection that had carried others, {} connections", reused, strict.connections().0);
    assert!(accepted > 1_000 && reused > 500 && event(&hop, "replaced") > 0, "the test must try it");
}
