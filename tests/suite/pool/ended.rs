//! What ends a connection that is kept, or keeps it from being kept: a reload, a drain, TLS that failed, a next hop that freezes, has no more
//! room or is down.

use std::{sync::Arc, time::Duration};

use firstclick::tls::ClientTls;

use super::{PARKED, before_data, event, mail, metric, replace, send, start};
use crate::hop::{
    PATIENCE, Sink,
    certificate::Authority,
    hop, poll,
    sink::Act,
    strict::{Rules, Strict},
    stuffed,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_empties_it_and_its_tls_policy_holds_from_the_next_mail_on() {
    let authority = Authority::new();
    let sink = Sink::start().await.encrypting(authority.server("localhost"));
    let hop = hop().next_hop(&sink).with(|config| config.next_hop_tls = ClientTls::Off).start().await;
    let mut open = before_data(&hop, 1).await.remove(0);
    assert!(send(&hop, "clear").await.starts_with("250"));
    assert_eq!(metric(&hop, PARKED), 1);
    replace(&hop, |config| config.next_hop_tls = ClientTls::Required);
    assert_eq!(metric(&hop, PARKED), 0);
    // A mail that was under way is finished as it began, and its connection is nobody else's.
    open.raw(&stuffed(&mail("under way"))).await;
    assert!(open.reply().await.starts_with("250"));
    assert!(send(&hop, "encrypted").await.starts_with("250"));
    assert!(open.send("<a@b.test>", &["<c@d.test>"], &mail("encrypted")).await.starts_with("250"));
    assert_eq!(sink.mails().iter().map(|mail| mail.encrypted).collect::<Vec<_>>(), [false, false, true, true]);
    // The other way round, too.
    replace(&hop, |config| config.next_hop_tls = ClientTls::Off);
    assert!(send(&hop, "clear").await.starts_with("250"));
    assert!(!sink.mails()[4].encrypted);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_went_in_the_clear_for_a_failed_handshake_is_not_kept() {
    let authority = Authority::new();
    let sink = Sink::start().await.encrypting(authority.server("localhost"));
    let hop = hop().next_hop(&sink).start().await;
    sink.on("STARTTLS", Act::Say("454 4.7.0 not now".into()));
    for _ in 0..3 {
        assert!(send(&hop, "x").await.starts_with("250"));
    }
    assert_eq!(sink.mails().iter().map(|mail| mail.encrypted).collect::<Vec<_>>(), [false, true, true]);
    assert_eq!(event(&hop, "parked"), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_empties_it() {
    let strict = Strict::start(Rules::default()).await;
    let mut hop = start(&strict).await;
    assert!(send(&hop, "x").await.starts_with("250"));
    let mut busy = hop.client().await;
    busy.greet().await;
    for line in ["MAIL FROM:<a@b.test>", "RCPT TO:<c@d.test>", "DATA"] {
        busy.say(line).await;
    }
    let mut other = hop.client().await;
    other.greet().await;
    assert!(other.send("<a@b.test>", &["<c@d.test>"], &mail("x")).await.starts_with("250"));
    assert_eq!(metric(&hop, PARKED), 1);
    hop.stop();
    poll("it is empty", || (metric(&hop, PARKED) == 0).then_some(())).await;
    busy.raw(&stuffed(&mail("x"))).await;
    assert!(busy.reply().await.starts_with("250"));
    assert_eq!(metric(&hop, PARKED), 0, "and nothing waits any more");
    hop.has_stopped().await;
    poll("all say QUIT", || (strict.connections().1 == 0 && strict.quits() == strict.connections().0).then_some(())).await;
}

/// One EHLO without STARTTLS, by whoever stands in between, does not put everybody's mails in the clear.
#[tokio::test(flavor = "multi_thread")]
async fn what_went_in_the_clear_where_tls_was_spoken_before_is_not_kept() {
    let authority = Authority::new();
    let sink = Sink::start().await.encrypting(authority.server("localhost"));
    let hop = hop().next_hop(&sink).start().await;
    assert!(send(&hop, "x").await.starts_with("250"));
    let mut open = before_data(&hop, 1).await.remove(0);
    sink.on("EHLO", Act::Say("250-sink.test\r\n250-PIPELINING\r\n250-8BITMIME\r\n250 SIZE 104857600".into()));
    let _ = send(&hop, "x").await;
    assert_eq!(metric(&hop, PARKED), 0, "the one in the clear");
    open.raw(&stuffed(&mail("x"))).await;
    assert!(open.reply().await.starts_with("250"));
    for _ in 0..3 {
        assert!(send(&hop, "x").await.starts_with("250"));
    }
    let encrypted: Vec<bool> = sink.mails().iter().map(|mail| mail.encrypted).collect();
    assert!(encrypted.len() >= 5 && encrypted.iter().rev().take(4).all(|encrypted| *encrypted), "{encrypted:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_a_reload_finds_with_a_connection_goes_on_with_a_new_one() {
    let strict = Strict::start(Rules::default()).await;
    let hop = start(&strict).await;
    let mut client = hop.client().await;
    client.greet().await;
    replace(&hop, |_| ());
    for _ in 0..130 {
        assert!(client.send("<a@b.test>", &["<c@d.test>"], &mail("x")).await.starts_with("250"));
    }
    assert!(strict.taken().iter().all(|taken| taken.connection > 1), "the first one is of the old configuration");
    assert_eq!((metric(&hop, PARKED), strict.connections().0), (1, 3), "a hundred mails each at most");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_next_hop_that_freezes_costs_no_mail() {
    let (first, second) = (Strict::start(Rules::default()).await, Strict::start(Rules::default()).await);
    let hop = start(&first).await;
    replace(&hop, |config| {
        config.next_hops = vec![first.address.to_string(), second.address.to_string()];
        // The reply's deadline is minutes.
        config.deadlines.connect = Duration::from_secs(1);
    });
    assert!(send(&hop, "first").await.starts_with("250"));
    assert_eq!(metric(&hop, PARKED), 1);
    first.now(|rules| rules.frozen = true);
    for _ in 0..3 {
        assert!(send(&hop, "second").await.starts_with("250"));
    }
    assert_eq!((first.taken().len(), second.taken().len()), (1, 3));
}

/// A next hop with few processes lets connections wait for their greeting: those that are shared give way.
#[tokio::test(flavor = "multi_thread")]
async fn who_waits_to_be_greeted_is_not_kept_out_by_those_that_share() {
    let strict = Strict::start(Rules { served: 2, ..Rules::default() }).await;
    let hop = Arc::new(start(&strict).await);
    let senders: Vec<_> = (0..4)
        .map(|_| {
            let hop = Arc::clone(&hop);
            tokio::spawn(async move {
                for _ in 0..40 {
                    assert!(send(&hop, "x").await.starts_with("250"));
                }
            })
        })
        .collect();
    for sender in senders {
        sender.await.unwrap();
    }
    assert_eq!(strict.taken().len(), 160);
}

/// A next hop that takes one connection of a client: what waits is used, and makes room where it cannot be.
#[tokio::test(flavor = "multi_thread")]
async fn what_waits_takes_no_place_from_a_session() {
    let strict = Strict::start(Rules { connections: 1, ..Rules::default() }).await;
    let hop = start(&strict).await;
    let mut sessions = Vec::new();
    for _ in 0..4 {
        let mut client = hop.client().await;
        client.greet().await;
        assert!(client.send("<a@b.test>", &["<c@d.test>"], &mail("x")).await.starts_with("250"));
        sessions.push(client);
    }
    for client in &mut sessions {
        assert!(client.send("<a@b.test>", &["<c@d.test>"], &mail("x")).await.starts_with("250"), "sessions that stay open share");
    }
    assert_eq!((strict.taken().len(), strict.connections().0), (8, 1));

    // Two wait; the one that is taken has come to its end, and the other one is in the way of a new one.
    strict.now(|rules| rules.connections = 2);
    let mut clients = before_data(&hop, 2).await;
    for client in &mut clients {
        client.raw(&stuffed(&mail("x"))).await;
        assert!(client.reply().await.starts_with("250"));
    }
    strict.now(|rules| (rules.connections, rules.mails) = (1, 0));
    let mut client = hop.client().await;
    client.greet().await;
    let reply = client.say("MAIL FROM:<a@b.test>").await;
    // The new connection says 421 to MAIL as well, which is told: it was reached.
    assert!(reply.starts_with("421 4.7.0 too many mails"), "{reply}");
    assert_eq!(strict.connections().0, 4, "refused once, then taken");
}

#[tokio::test(flavor = "multi_thread")]
async fn ehlo_is_answered_as_the_next_hop_did_last_and_a_session_is_not_held_to_another_answer() {
    let strict = Strict::start(Rules::default()).await;
    let hop = start(&strict).await;
    assert!(send(&hop, "x").await.starts_with("250"));
    let before = strict.connections().0;
    let mut early = hop.client().await;
    assert!(early.greet().await.contains("SIZE 1000000\r\n"));
    assert_eq!(strict.connections().0, before, "without a connection");
    // It comes back and takes smaller mails only: whoever was promised more has to ask again, and is told.
    strict.now(|rules| rules.extensions[1] = "SIZE 5000".into());
    strict.restart().await;
    assert!(early.say("MAIL FROM:<a@b.test> SIZE=9000").await.starts_with("421 4.3.2 the next hop's extensions have changed"));
    let mut again = hop.client().await;
    assert!(again.greet().await.contains("SIZE 5000\r\n"));
    assert!(again.send("<a@b.test>", &["<c@d.test>"], &mail("x")).await.starts_with("250"));
    assert!(send(&hop, "x").await.starts_with("250"));
    // Once it takes more again, nobody has to.
    let mut client = hop.client().await;
    client.greet().await;
    strict.now(|rules| rules.extensions[1] = "SIZE 6000".into());
    strict.restart().await;
    assert!(client.send("<a@b.test>", &["<c@d.test>"], &mail("x")).await.starts_with("250"));
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_next_hop_is_down_sessions_open_and_mails_wait() {
    let strict = Strict::start(Rules::default()).await;
    let hop = start(&strict).await;
    assert!(send(&hop, "x").await.starts_with("250"));
    drop(strict.stop().await);
    let mut client = hop.client().await;
    assert!(client.greet().await.contains("8BITMIME"));
    assert!(client.say("MAIL FROM:<a@b.test>").await.starts_with("451 4.4.1"));
    // Soon everything is offered that a next hop might carry, so that no mail is returned for the minute.
    let offered = async || hop.client().await.greet().await;
    let all = async {
        while !offered().await.contains("SMTPUTF8") {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, all).await.expect("everything is offered");
    assert!(offered().await.contains("DSN"));
    strict.restart().await;
    assert!(client.say("MAIL FROM:<a@b.test>").await.starts_with("250"), "this session was offered what there is");
}
