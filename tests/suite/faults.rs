//! No mail lost, doubled or bent: the hop between an upstream that goes away and a next hop that misbehaves.

use std::{
    collections::{BTreeSet, HashMap},
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use firstclick::smtp::{
    config::{Chunking, Pooling},
    server::Snapshot,
};

use crate::hop::{
    Client, Sink,
    faulty::{Account, Dice, Faulty, Mails, large, numbered},
    hop, poll,
    process::Folder,
    sink::{Act, DOT},
    stuffed,
};

/// What the upstream was told of a mail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Told {
    Accepted,
    Deferred,
    Refused,
    /// The connection was gone before the final dot was sent.
    GoneBefore,
    /// It was gone after: the upstream does not know, and would send the mail again.
    GoneAfter,
}

/// What the upstream was told of each mail, and the recipients that it was told 250 for.
type Fates = HashMap<String, (Told, BTreeSet<String>)>;

/// One upstream: sends numbered mails, several in a session, until the shared count is used up.
async fn upstream(
    hop: Arc<Mutex<SocketAddr>>,
    next: Arc<AtomicUsize>,
    (most, mails): (usize, Mails),
    told: Arc<Mutex<Fates>>,
    dice: Arc<Dice>,
) {
    let mut client: Option<Client> = None;
    loop {
        let number = next.fetch_add(1, Ordering::Relaxed);
        if number >= most {
            return;
        }
        let id = format!("m{number}");
        let mut open = match client.take() {
            Some(open) => open,
            None => loop {
                // The hop may just be starting again.
                let address = *hop.lock().unwrap();
                // A connection that the kernel completed while the hop was being killed hears nothing, not even a reset.
                match tokio::time::timeout(Duration::from_secs(3), Client::try_connect(address)).await.ok().flatten() {
                    Some(mut fresh) => {
                        fresh.greet().await;
                        break fresh;
                    }
                    None => tokio::time::sleep(Duration::from_millis(5)).await,
                }
            },
        };
        let (fate, recipients, goes_on) = send(&mut open, &id, mails, &dice).await;
        told.lock().unwrap().insert(id, (fate, recipients));
        if goes_on && dice.throw(20) != 0 {
            client = Some(open);
        }
    }
}

async fn send(client: &mut Client, id: &str, mails: Mails, dice: &Dice) -> (Told, BTreeSet<String>, bool) {
    let verdict = |reply: &str| match reply.as_bytes().first() {
        Some(b'2') => None,
        Some(b'4') => Some((Told::Deferred, !reply.starts_with("421"))),
        Some(b'5') => Some((Told::Refused, true)),
        _ => Some((Told::GoneBefore, false)),
    };
    let nobody = BTreeSet::new;
    let mail = mails(id);
    // Some announce how large it is.
    let begin = if dice.throw(2) == 0 { "MAIL FROM:<a@b.test>".into() } else { format!("MAIL FROM:<a@b.test> SIZE={}", mail.len()) };
    for line in ["RSET", &begin] {
        if let Some((told, goes_on)) = verdict(&client.say(line).await) {
            return (told, nobody(), goes_on);
        }
    }
    // Some recipients are refused, and the mail goes to the others.
    let (mut taken, mut refused) = (nobody(), None);
    for number in 0..=dice.throw(4) {
        let recipient = format!("<r{number}@d.test>");
        match verdict(&client.say(&format!("RCPT TO:{recipient}")).await) {
            None => {
                taken.insert(recipient);
            }
            Some((told, false)) => return (told, nobody(), false),
            Some((told, true)) => refused = Some(told),
        }
    }
    if taken.is_empty() {
        return (refused.unwrap_or(Told::Refused), nobody(), true);
    }
    let reply = client.say("DATA").await;
    if !reply.starts_with("354") {
        let (told, goes_on) = verdict(&reply).unwrap_or((Told::GoneBefore, false));
        return (told, nobody(), goes_on);
    }
    let wire = stuffed(&mail);
    // The upstream goes away in the middle, now and then: anywhere, or right behind the dot.
    if dice.throw(200) == 0 {
        let cut = usize::try_from(dice.throw(wire.len() as u64)).unwrap();
        client.raw(&wire[..cut]).await;
        return (Told::GoneBefore, taken, false);
    }
    client.raw(&wire).await;
    if dice.throw(200) == 0 {
        return (Told::GoneAfter, taken, false);
    }
    let reply = client.reply().await;
    let (told, goes_on) = match reply.as_bytes().first() {
        Some(b'2') => (Told::Accepted, true),
        Some(_) => verdict(&reply).unwrap_or((Told::GoneAfter, false)),
        None => (Told::GoneAfter, false),
    };
    (told, taken, goes_on)
}

/// Every 250 is there exactly once; a refusal is not there, or, where the reply was lost after the dot, at most once.
fn settle(told: &Fates, account: &Account) -> String {
    let mut lines: HashMap<(Told, usize), usize> = HashMap::new();
    let mut several = 0;
    for (id, (fate, recipients)) in told {
        let count = account.taken.get(id).copied().unwrap_or(0);
        let may_be_there = match fate {
            Told::Accepted => count == 1,
            Told::Deferred | Told::Refused => count == 0 || (count == 1 && account.reply_lost.contains(id)),
            Told::GoneBefore => count == 0,
            Told::GoneAfter => count <= 1,
        };
        assert!(may_be_there, "{id}: the upstream was told {fate:?}, and the next hop has it {count} times");
        // Whoever got it is whom the upstream was told 250 for, each and nobody else.
        for got in account.recipients.get(id).into_iter().flatten() {
            assert_eq!(got, recipients, "{id}: the upstream was told {fate:?}");
            several += usize::from(got.len() > 1);
        }
        *lines.entry((*fate, count)).or_default() += 1;
    }
    assert!(account.bent.is_empty(), "bent: {:?}", account.bent);
    assert!(account.taken.keys().all(|id| told.contains_key(id)), "the next hop has a mail that nobody sent");
    let mut lines: Vec<String> =
        lines.into_iter().map(|((fate, count), mails)| format!("{fate:?}, there {count} times: {mails}")).collect();
    lines.sort();
    assert!(several > told.len() / 20, "{several} mails to several recipients");
    format!("{} mails, {several} to several recipients, {} faults; {}", told.len(), account.faults, lines.join("; "))
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_thousand_mails_under_random_faults() {
    under_random_faults(Chunking::Off).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_thousand_mails_in_chunks_under_random_faults() {
    under_random_faults(Chunking::On).await;
}

async fn under_random_faults(chunking: Chunking) {
    let faulty = Faulty::once_in(60, 7, numbered).await;
    let hop = hop()
        .next_hop_at(faulty.address)
        .with(|config| {
            config.deadlines.reply = Duration::from_millis(300);
            config.chunking = chunking;
        })
        .start()
        .await;
    let mut sending = Box::pin(run_upstreams(&Arc::new(Mutex::new(hop.address)), 20_000, numbered));
    let told = loop {
        tokio::select! {
            told = &mut sending => break told,
            // After one 5xx to BDAT only a reload tries it again.
            () = tokio::time::sleep(Duration::from_millis(20)), if chunking == Chunking::On => {
                let before = hop.server.snapshot();
                hop.server.replace(Snapshot::new(before.config.clone(), Arc::clone(&before.pipeline)).unwrap());
            }
        }
    };
    // A mail whose upstream went away may still be on its way.
    poll("all sessions end", || (hop.server.open_sessions() == 0).then_some(())).await;
    let summary = settle(&told.lock().unwrap(), &faulty.account.lock().unwrap());
    println!("{summary}");
    let account = faulty.account.lock().unwrap();
    assert!(account.faults > 500 && account.reply_lost.len() > 50, "the test must hurt: {summary}");
    assert_eq!(account.chunks > 5_000, chunking == Chunking::On, "{} mails in chunks", account.chunks);
}

/// Starts the upstreams; the future ends when all have sent theirs.
fn run_upstreams(address: &Arc<Mutex<SocketAddr>>, most: usize, mails: Mails) -> impl Future<Output = Arc<Mutex<Fates>>> + use<> {
    let (next, told, dice) = (Arc::new(AtomicUsize::new(0)), Arc::default(), Arc::new(Dice::new(11)));
    let upstreams: Vec<_> = (0..16)
        .map(|_| tokio::spawn(upstream(Arc::clone(address), Arc::clone(&next), (most, mails), Arc::clone(&told), Arc::clone(&dice))))
        .collect();
    async move {
        for upstream in upstreams {
            upstream.await.unwrap();
        }
        told
    }
}

/// Mails over `inspect_limit` go on while they come in: a next hop that breaks off in the middle, with or without a word, and an
/// upstream that does, leave nothing behind.
#[tokio::test(flavor = "multi_thread")]
async fn large_mails_under_random_faults() {
    let faulty = Faulty::once_in(40, 17, large).await;
    let hop = hop()
        .next_hop_at(faulty.address)
        .with(|config| {
            config.deadlines.reply = Duration::from_millis(300);
            config.inspect_limit = 4_000;
        })
        .start()
        .await;
    let told = run_upstreams(&Arc::new(Mutex::new(hop.address)), 4_000, large).await;
    poll("all sessions end", || (hop.server.open_sessions() == 0).then_some(())).await;
    let summary = settle(&told.lock().unwrap(), &faulty.account.lock().unwrap());
    println!("{summary}");
    let account = faulty.account.lock().unwrap();
    assert!(account.faults > 500 && account.reply_lost.len() > 5, "the test must hurt: {summary}");
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_thousand_mails_while_the_hop_is_killed_again_and_again() {
    killed_again_and_again("1MiB", 20_000, numbered).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn large_mails_while_the_hop_is_killed_again_and_again() {
    killed_again_and_again("4KiB", 4_000, large).await;
}

async fn killed_again_and_again(inspect_limit: &str, most: usize, mails: Mails) {
    let faulty = Faulty::once_in(100, 13, mails).await;
    let next_hop = format!("next_hop = \"{}\"\ninspect_limit = \"{inspect_limit}\"\n[smtp.deadlines]\nreply = \"300ms\"", faulty.address);
    let folder = Folder::new(&next_hop, "");
    let mut process = folder.run().await;
    let address = Arc::new(Mutex::new(process.address));
    let sending = run_upstreams(&address, most, mails);
    let mut sending = Box::pin(sending);
    let mut kills = 0;
    let told = loop {
        tokio::select! {
            told = &mut sending => break told,
            () = tokio::time::sleep(Duration::from_millis(500)) => {
                process.signal("KILL");
                process.ended().await;
                kills += 1;
                process = folder.run().await;
                *address.lock().unwrap() = process.address;
            }
        }
    };
    process.signal("TERM");
    assert_eq!(process.ended().await, Some(0));
    let summary = settle(&told.lock().unwrap(), &faulty.account.lock().unwrap());
    println!("{kills} kills; {summary}");
    assert!(kills >= 5, "the test must hurt: {kills} kills");
    let report = firstclick::audit::verify::verify(&folder.audit()).unwrap();
    assert_eq!(report.broken, None, "the audit's chain holds over every kill");
}

const MAIL: &[u8] = b"From: a@b.test\r\nTo: c@d.test\r\nSubject: hello\r\n\r\nHello.\r\n";

/// S7: what the next hop does, on which line, and what the upstream must hear.
#[tokio::test(flavor = "multi_thread")]
async fn s7_the_next_hop_misbehaves_at_every_stage() {
    let garbage: String = "\u{7f}garbage".into();
    let hundred_lines =
        (1..=100).map(|line| if line == 100 { "250 100".to_owned() } else { format!("250-{line}") }).collect::<Vec<_>>().join("\r\n");
    let endless = (0..5_000).map(|line| format!("250-{line}")).collect::<Vec<_>>().join("\r\n");
    let long = format!("250 {}", "x".repeat(1 << 20));
    let acts: Vec<(&str, Act, [&str; 5])> = vec![
        // Greeting, MAIL, RCPT, DATA, the final dot.
        ("hangs up", Act::HangUp, ["451 4.4.2", "250", "451 4.4.2", "451 4.4.2", "451 4.4.2"]),
        ("says nothing", Act::Nothing, ["451 4.4.1", "451 4.4.1", "451 4.4.1", "451 4.4.2", "451 4.4.2"]),
        ("451", Act::Say("451 4.3.0 later".into()), ["451 4.4.1", "451 4.3.0", "451 4.3.0", "451 4.3.0", "451 4.3.0"]),
        ("550", Act::Say("550 5.7.1 no".into()), ["451 4.4.1", "550 5.7.1", "550 5.7.1", "550 5.7.1", "550 5.7.1"]),
        ("421", Act::Say("421 4.3.2 closing".into()), ["451 4.4.1", "421 4.3.2", "421 4.3.2", "421 4.3.2", "421 4.3.2"]),
        ("garbage", Act::Say(garbage), ["451 4.4.2", "250", "451 4.4.2", "451 4.4.2", "451 4.4.2"]),
        // Its code is obeyed, however long it is; 250 is no greeting and no answer to DATA.
        ("a 1 MB line", Act::Say(long), ["451 4.4.2", "250", "250", "451 4.4.2", "250"]),
        ("a bare 250", Act::Say("250".into()), ["451 4.4.2", "250", "250", "451 4.4.2", "250"]),
        ("mixed codes", Act::Say("250-2.0.0 ok\r\n550 5.7.1 no".into()), ["451 4.4.2", "250", "451 4.4.2", "451 4.4.2", "451 4.4.2"]),
        ("a reply without end", Act::Say(endless), ["451 4.4.2", "250", "451 4.4.2", "451 4.4.2", "451 4.4.2"]),
        ("100 lines", Act::Say(hundred_lines), ["451 4.4.2", "250", "250", "451 4.4.2", "250"]),
        (
            "one reply too many",
            Act::Say("250 2.0.0 ok\r\n250 2.0.0 ok".into()),
            ["451 4.4.2", "451 4.4.2", "451 4.4.2", "451 4.4.2", "250"],
        ),
        ("354", Act::Say("354 what".into()), ["451 4.4.2", "451 4.5.0", "451 4.5.0", "250", "451 4.5.0"]),
    ];
    for (name, act, expected) in acts {
        for (stage, code) in ["", "MAIL FROM", "RCPT TO", "DATA", DOT].into_iter().zip(expected) {
            let sink = Sink::start().await;
            let hop = hop()
                .next_hop(&sink)
                .with(|config| {
                    config.deadlines.reply = Duration::from_millis(200);
                    config.deadlines.final_reply = Duration::from_millis(200);
                    config.deadlines.connect = Duration::from_millis(400);
                })
                .start()
                .await;
            // The connection is there already when the line comes, so a broken one may be opened again: twice, then.
            sink.on(stage, act.clone());
            if stage.is_empty() {
                sink.on(stage, act.clone());
            }
            let mut client = hop.client().await;
            client.greet().await;
            let reply = client.send("<a@b.test>", &["<c@d.test>"], MAIL).await;
            println!("{name:20} {stage:10} {}", reply.trim_end().chars().take(80).collect::<String>());
            assert!(reply.starts_with(code), "{name}, at {stage:?}: {}", reply.chars().take(200).collect::<String>());
            let there = sink.mails().len();
            // A reply that was lost after the dot is the one case in which the mail may be there all the same.
            let lost = stage == DOT && reply.starts_with("451 4.4.2");
            assert!(there == usize::from(reply.starts_with("250")) || (lost && there == 1), "{name}, at {stage:?}: {there} mails");
            // Whatever it was: another try in another session is taken.
            assert!(hop.send("<a@b.test>", &["<c@d.test>"], MAIL).await.starts_with("250"), "{name}, at {stage:?}: the second try");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn s7_several_next_hops_are_tried_in_order() {
    let (one, two) = (Sink::start().await, Sink::start().await);
    // Each session opens a connection of its own.
    let hop = hop().next_hop(&one).or_next_hop(&two).with(|config| config.pool = Pooling::Off).start().await;
    let send = || hop.send("<a@b.test>", &["<c@d.test>"], MAIL);
    assert!(send().await.starts_with("250"));
    assert_eq!((one.mails().len(), two.mails().len()), (1, 0));
    // The first refuses sessions once: it is tried last for a while.
    one.on("", Act::Say("421 4.3.2 down".into()));
    assert!(send().await.starts_with("250"));
    assert!(send().await.starts_with("250"));
    assert_eq!((one.mails().len(), two.mails().len(), one.connections()), (1, 2, 2));
    // Where the second goes away too, the first is tried again.
    two.on("", Act::HangUp);
    assert!(send().await.starts_with("250"));
    assert_eq!(one.mails().len(), 2);
}

/// S6: the upstream goes away at every octet of a session, and once more between the dot and the reply.
#[tokio::test(flavor = "multi_thread")]
async fn s6_an_upstream_that_goes_away_at_every_octet_leaves_nothing_behind() {
    let sink = Sink::start().await;
    let hop = hop().next_hop(&sink).start().await;
    let commands = b"EHLO c.test\r\nMAIL FROM:<a@b.test>\r\nRCPT TO:<c@d.test>\r\nDATA\r\n";
    for cut in 0..=commands.len() {
        let mut client = hop.client().await;
        client.raw(&commands[..cut]).await;
    }
    let data = stuffed(MAIL);
    for cut in 0..data.len() {
        let mut client = hop.client().await;
        client.greet().await;
        for line in ["MAIL FROM:<a@b.test>", "RCPT TO:<c@d.test>", "DATA"] {
            client.say(line).await;
        }
        client.raw(&data[..cut]).await;
    }
    poll("all sessions end", || (hop.server.open_sessions() == 0).then_some(())).await;
    assert_eq!(sink.mails().len(), 0, "no half mail arrives");
    // Between the dot and the reply: the mail is whole, so it is delivered, and the upstream will send it again.
    let mut client = hop.client().await;
    client.greet().await;
    for line in ["MAIL FROM:<a@b.test>", "RCPT TO:<c@d.test>", "DATA"] {
        client.say(line).await;
    }
    client.raw(&data).await;
    drop(client);
    assert_eq!(sink.mail(1).await.data, MAIL);
}
