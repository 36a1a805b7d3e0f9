//! deploy/ and docs/upstreams.md with the mail servers themselves: firstclick is put into a configuration that has routes and filters of its
//! own, these go on as before, and taken out again everything is as it was.

use std::{fs, net::SocketAddr, path::Path, process::Command, thread};

use firstclick::testbed::{Signer, Zone};

use crate::{
    hop::{Client, Hop, Sink, VENDOR, hop, is_tagged, needs, poll, programs::Program, reset_mail},
    interop::loopback,
};

fn shipped(name: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy").join(name)).unwrap()
}

/// A hop before this scanner, which believes its upstream about the client, and a sender that it exempts.
async fn before(scanner: &Sink) -> (Hop, Signer, Zone) {
    before_with(scanner, VENDOR).await
}

async fn before_with(scanner: &Sink, entry: &str) -> (Hop, Signer, Zone) {
    let zone = Zone::serve().await.unwrap();
    let signer = Signer::publish(&zone, "vendor.test").unwrap();
    zone.publish("vendor.test", "v=spf1 ip4:127.0.0.77 -all");
    let hop = hop()
        .allow("vendor", entry)
        .asking(&zone)
        .next_hop(scanner)
        .tracing()
        .with(|config| config.trusted_upstreams = loopback())
        .start()
        .await;
    (hop, signer, zone)
}

/// Sends a mail from a host outside.
async fn send(server: SocketAddr, to: &str, mail: &str) {
    let mut client = Client::from([127, 0, 0, 77], server).await.unwrap();
    client.greet().await;
    let reply = client.send("<bounce@vendor.test>", &[to], mail.as_bytes()).await;
    assert!(reply.starts_with("250"), "{to}: {reply}");
}

fn ordinary(to: &str) -> String {
    format!(
        "From: a@shop.test\r\nTo: {to}\r\nSubject: hello\r\nMessage-ID: <1@shop.test>\r\nDate: Tue, 24 Nov 2026 10:00:00 +0000\r\n\r\nHello.\r\n"
    )
}

fn came_through_the_hop(mail: &[u8]) -> bool {
    String::from_utf8_lossy(mail).contains("by hop.test (firstclick)")
}

/// A Postfix with transport maps, in the words of its documentation, and a route for everything else.
#[tokio::test(flavor = "multi_thread")]
async fn postfix_keeps_its_other_routes() {
    let [scanner, partner, outside] = [Sink::start().await, Sink::start().await, Sink::start().await];
    let (hop, signer, _zone) = before(&scanner).await;
    let to = |sink: &Sink| format!("smtp:[127.0.0.1]:{}", sink.address.port());
    let existing = format!(
        "transport_maps = inline:{{ {{ corp.example = {0} }}, {{ corp.eu = {0} }} }},\n  inline:{{ {{ partner.example = {1} }}, {{ lab@corp.example = {1} }} }}",
        to(&scanner),
        to(&partner)
    );
    let Some(postfix) = Program::postfix(outside.address, &existing).await else { return };
    let (main, services) = (postfix.postfix_admin("postconf -n"), postfix.postfix_admin("postconf -M; postconf -P"));
    let reset = signer.sign(&reset_mail()).unwrap();

    // Twice, as somebody might who adds a domain.
    let add = format!("HOP=[127.0.0.1]:{} deploy/postfix/add", hop.address.port());
    postfix.postfix_admin(&format!("{add} corp.example; {add} corp.example corp.eu"));
    send(postfix.address, "<bob@corp.example>", &reset).await;
    let arrived = scanner.mail(1).await.data;
    assert!(is_tagged(&arrived) && arrived.ends_with(reset.as_bytes()), "{}", hop.record(1).await);
    let record = hop.record(1).await;
    assert_eq!((record["client"].as_str(), record["upstream"].as_str()), (Some("127.0.0.77"), Some("127.0.0.1")), "XFORWARD: {record}");
    // The second domain; one of its addresses that has a route of its own; a partner; mails that go out.
    for (to, sink, mails, through) in [
        ("bob@corp.eu", &scanner, 2, true),
        ("lab@corp.example", &partner, 1, false),
        ("x@partner.example", &partner, 2, false),
        ("y@elsewhere.test", &outside, 1, false),
    ] {
        send(postfix.address, &format!("<{to}>"), &ordinary(to)).await;
        assert_eq!(came_through_the_hop(&sink.mail(mails).await.data), through, "{to}");
    }

    // Taken out of the map alone, as at 3 a.m.
    postfix.postfix_admin("sed -i '/^corp.eu/d' $(postconf -h config_directory)/firstclick; postfix reload");
    send(postfix.address, "<bob@corp.eu>", &ordinary("bob@corp.eu")).await;
    assert!(!came_through_the_hop(&scanner.mail(3).await.data));

    postfix.postfix_admin("deploy/postfix/remove");
    assert_eq!((postfix.postfix_admin("postconf -n"), postfix.postfix_admin("postconf -M; postconf -P")), (main, services));
    send(postfix.address, "<bob@corp.example>", &reset).await;
    let arrived = scanner.mail(4).await.data;
    assert!(!came_through_the_hop(&arrived) && arrived.ends_with(reset.as_bytes()));
}

/// What waits in the queue when the hop is taken out goes the old way.
#[tokio::test(flavor = "multi_thread")]
async fn postfixs_queue_goes_the_old_way_once_the_hop_is_taken_out() {
    let scanner = Sink::start().await;
    let Some(postfix) = Program::postfix(scanner.address, "").await else { return };
    // Nobody is there.
    postfix.postfix_admin("HOP=[127.0.0.1]:1 deploy/postfix/add corp.example");
    send(postfix.address, "<bob@corp.example>", &ordinary("bob@corp.example")).await;
    poll("the mail waits", || postfix.log().contains("status=deferred").then_some(())).await;
    postfix.postfix_admin("deploy/postfix/remove; postqueue -f || true");
    assert!(scanner.mail(1).await.data.ends_with(b"Hello.\r\n"));
}

/// Whatever routes and milters are there, `add`, `add-milter` and `remove` leave them as they were, each in its order.
#[test]
fn postfixs_lists_are_as_before() {
    if needs("postconf").is_none() {
        return;
    }
    // Postfix waits a second for a file that was just written: side by side.
    thread::scope(|scope| {
        for (maps, milters) in [
            ("", ""),
            ("hash:/etc/postfix/transport", "inet:127.0.0.1:11332"),
            // Of a similar name, twice.
            ("texthash:FOLDER/firstclick2, texthash:FOLDER/firstclick.old", "unix:/run/firstclick/milter.socket"),
            ("hash:/a", "{inet:127.0.0.1:9, { connect_timeout = 9s }, default_action=accept}, { inet:127.0.0.1:88911, macros={a,b} }"),
            ("hash:/a", "{ inet:127.0.0.1:7, default_action=accept, connect_timeout=5s, command_timeout=30s, content_timeout=60s }"),
            ("proxy:pgsql:/etc/a hash:/b,regexp:/c", "unix:a, { inet:127.0.0.1:11332, default_action=tempfail },unix:b"),
            ("inline:{ { a.example = smtp:[b] }, { c.example = d } },\n  # said below\n  $relay_maps", "$other_milters"),
        ] {
            scope.spawn(|| in_and_out(maps, milters));
        }
    });
}

/// What [`postfixs_lists_are_as_before`] says, for `transport_maps` and `smtpd_milters`, without a Postfix that runs.
fn in_and_out(maps: &str, milters: &str) {
    let folder = tempfile::TempDir::new().unwrap();
    let map = folder.path().join("firstclick");
    let run = |command: &str| {
        let mut shell = Command::new("sh");
        shell.args(["-c", command]).current_dir(env!("CARGO_MANIFEST_DIR")).env("MAIL_CONFIG", folder.path());
        let output = shell.output().unwrap();
        (output.status.success(), String::from_utf8(output.stdout).unwrap())
    };
    let own = format!("texthash:{}", map.display());
    fs::copy("/usr/share/postfix/master.cf.dist", folder.path().join("master.cf")).unwrap();
    let list = |name: &str, list: &str| if list.is_empty() { String::new() } else { format!("{name} = {list}\n") };
    let main = format!("compatibility_level = 3.6\n{}{}", list("transport_maps", maps), list("smtpd_milters", milters));
    fs::write(folder.path().join("main.cf"), main.replace("FOLDER", &folder.path().display().to_string())).unwrap();
    let all = "postconf -n; postconf -M; postconf -P";
    let before = run(all);

    // One domain is a pattern of another. The last word counts for where it goes; an address is for trying.
    assert!(run("deploy/postfix/add corp.example corpXexample bob@corp.eu && HOP=[::1]:26 deploy/postfix/add corp.example").0);
    assert!(run("deploy/postfix/add-milter && deploy/postfix/add-milter").0);
    // A milter of the admin's with the same deadlines is the admin's.
    assert!(!run("MILTER=unix:/run/other deploy/postfix/add-milter").0, "twice");
    for (domain, hop) in [("corp.example", "[::1]:26"), ("corpxexample", "[127.0.0.1]:2525"), ("bob@corp.eu", "[127.0.0.1]:2525")] {
        assert_eq!(run(&format!("postmap -q {domain} {own}")).1, format!("firstclick:{hop}\n"), "{domain}");
    }
    let value = |name: &str| run(&format!("postconf -h {name}")).1;
    let maps = value("transport_maps");
    assert_eq!(maps.split([',', ' ', '\n']).filter(|map| *map == own).count(), 1, "{maps}");
    assert!(maps.starts_with(&own), "{maps}");
    // Encrypted on the way to another machine as everywhere else, and never led past the scanner.
    let client = |name: &str| run(&format!("postconf -Ph firstclick/unix/{name}; true")).1.trim().to_owned();
    assert_eq!((client("smtp_tls_security_level"), client("smtp_fallback_relay")), ("none".into(), String::new()));
    assert!(run("postconf -P").1.contains("firstclick/unix/smtp_fallback_relay"));
    assert!(run("HOP=[192.0.2.1]:25 deploy/postfix/add corp.eu").0);
    assert!(!run("postconf -P").1.contains("firstclick/unix/smtp_tls_security_level"));
    assert_eq!(value("smtpd_milters").matches("inet:127.0.0.1:8891,").count(), 1);

    // Its deadlines may have been changed, and its blanks.
    run(
        "postconf -e \"smtpd_milters = $(postconf -h smtpd_milters | sed 's/\\(8891[^}]*timeout=\\)60s/\\190s/; s/{ \\(inet:127.0.0.1:8891,\\)/{\\1/')\"",
    );
    assert!(run("deploy/postfix/remove && deploy/postfix/remove").0);
    assert_eq!(run(all), before);
    assert!(!map.exists());
}

/// A map of patterns answers for whole addresses before ours is asked for their domain: that is said.
#[test]
fn a_pattern_that_has_the_domain_already_is_said() {
    if needs("postconf").is_none() {
        return;
    }
    let folder = tempfile::TempDir::new().unwrap();
    let path = folder.path();
    fs::copy("/usr/share/postfix/master.cf.dist", path.join("master.cf")).unwrap();
    fs::write(path.join("patterns"), "/@corp\\.example$/ smtp:[192.0.2.1]:25\n").unwrap();
    let main = format!("compatibility_level = 3.6\ntransport_maps = hash:/a, regexp:{}\n", path.join("patterns").display());
    fs::write(path.join("main.cf"), &main).unwrap();
    let add = |domain: &str| {
        let mut add = Command::new("deploy/postfix/add");
        add.arg(domain).current_dir(env!("CARGO_MANIFEST_DIR")).env("MAIL_CONFIG", path).output().unwrap()
    };
    let refused = add("corp.example");
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(
        refused.status.code() == Some(1) && said.contains("patterns gives every address of corp.example a route, smtp:[192.0.2.1]:25"),
        "{said}"
    );
    assert_eq!(fs::read_to_string(path.join("main.cf")).unwrap(), main, "nothing is half done");
    assert!(add("corp.eu").status.success() && add("bob@corp.example").status.success());
    // Several at once are one after another.
    thread::scope(|scope| (0..6).for_each(|n| drop(scope.spawn(move || assert!(add(&format!("d{n}.example")).status.success())))));
    let lines = fs::read_to_string(path.join("firstclick")).unwrap();
    assert!((0..6).all(|n| lines.contains(&format!("d{n}.example\t"))), "{lines}");
    // A map made of maps is one, too.
    fs::write(path.join("main.cf"), main.replace("regexp:", "pipemap:{regexp:").replace("patterns", "patterns}")).unwrap();
    assert_eq!(add("corp.example").status.code(), Some(1));
}

/// Who asks it already, by a line of his own, keeps that line.
#[test]
fn a_milter_that_the_admin_wrote_stays() {
    if needs("postconf").is_none() {
        return;
    }
    let folder = tempfile::TempDir::new().unwrap();
    let path = folder.path();
    fs::copy("/usr/share/postfix/master.cf.dist", path.join("master.cf")).unwrap();
    let main = "compatibility_level = 3.6\nsmtpd_milters = inet:[::1]:8891 inet:127.0.0.1:8891,inet:x:1\n";
    fs::write(path.join("main.cf"), main).unwrap();
    for script in ["add-milter", "remove"] {
        let mut command = Command::new("deploy/postfix/".to_owned() + script);
        let output = command.current_dir(env!("CARGO_MANIFEST_DIR")).env("MAIL_CONFIG", path).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        assert_eq!(fs::read_to_string(path.join("main.cf")).unwrap(), main, "{script}");
    }
}

/// What is no domain changes nothing.
#[test]
fn postfix_is_given_domains_only() {
    for domain in ["", "two words", "/etc/passwd", "a;b", "*.corp.example", "corp.example."] {
        let mut add = Command::new("deploy/postfix/add");
        let output = add.arg(domain).current_dir(env!("CARGO_MANIFEST_DIR")).env("MAIL_CONFIG", "/nonexistent").output().unwrap();
        assert!(String::from_utf8_lossy(&output.stderr).contains("is no domain"), "{output:?}");
    }
    for name in ["add", "add-milter", "remove"] {
        let mut help = Command::new("deploy/postfix/".to_owned() + name);
        let output = help.arg("--help").current_dir(env!("CARGO_MANIFEST_DIR")).env("MAIL_CONFIG", "/nonexistent").output().unwrap();
        assert!(output.status.code() == Some(2) && output.stdout.starts_with(name.as_bytes()), "{output:?}");
    }
}

/// A filter on the same machine, as amavis is one: the hop goes between Postfix and the filter.
#[tokio::test(flavor = "multi_thread")]
async fn postfixs_content_filter_goes_on_behind_the_hop() {
    let [filter, outside] = [Sink::start().await, Sink::start().await];
    let (hop, signer, _zone) = before(&filter).await;
    let old = format!("content_filter = smtp:[127.0.0.1]:{}", filter.address.port());
    let Some(postfix) = Program::postfix(outside.address, &old).await else { return };
    let main = postfix.postfix_admin("postconf -n");
    postfix.postfix_admin(&format!(
        "deploy/postfix/add; postconf -e 'content_filter = firstclick:[127.0.0.1]:{}'; postfix reload",
        hop.address.port()
    ));
    let reset = signer.sign(&reset_mail()).unwrap();
    send(postfix.address, "<bob@corp.example>", &reset).await;
    assert!(is_tagged(&filter.mail(1).await.data));
    assert_eq!(hop.record(1).await["client"], "127.0.0.77");
    // Mails that came in before, and wait, have the filter of then: `postsuper -r` gives them the one of now.
    postfix.postfix_admin(&format!("postconf -e '{old}'; postfix reload; postsuper -r ALL"));
    let mut sent = 1;
    loop {
        send(postfix.address, "<bob@corp.example>", &reset).await;
        sent += 1;
        if !came_through_the_hop(&filter.mail(sent).await.data) {
            break;
        }
    }
    postfix.postfix_admin("deploy/postfix/remove");
    assert_eq!(postfix.postfix_admin("postconf -n"), main);
    send(postfix.address, "<bob@corp.example>", &reset).await;
    assert!(!came_through_the_hop(&filter.mail(sent + 1).await.data));
    assert_eq!(outside.mails().len(), 0);
}

/// rspamd is asked first, firstclick behind it, and rspamd alone once firstclick is taken out.
#[tokio::test(flavor = "multi_thread")]
async fn rspamd_stays_in_postfixs_chain_of_milters() {
    let scanner = Sink::start().await;
    let (hop, signer, _zone) = before(&scanner).await;
    let Some(rspamd) = Program::rspamd(&[]).await else { return };
    let existing = format!("smtpd_milters = inet:{}", rspamd.address);
    let Some(postfix) = Program::postfix(scanner.address, &existing).await else { return };
    let main = postfix.postfix_admin("postconf -n");
    let add = format!("MILTER=inet:{} deploy/postfix/add-milter", hop.milter().await);
    postfix.postfix_admin(&format!("{add}; {add}"));
    let reset = signer.sign(&reset_mail()).unwrap();
    let has_bar = |mail: &[u8]| String::from_utf8_lossy(mail).to_lowercase().contains("x-spamd-bar:");
    send(postfix.address, "<bob@corp.example>", &reset).await;
    let arrived = scanner.mail(1).await.data;
    assert!(is_tagged(&arrived) && has_bar(&arrived), "{}\n{}", String::from_utf8_lossy(&arrived), hop.record(1).await);
    assert_eq!(hop.record(1).await["upstream"], "127.0.0.77");
    postfix.postfix_admin("deploy/postfix/remove");
    assert_eq!(postfix.postfix_admin("postconf -n"), main);
    send(postfix.address, "<bob@corp.example>", &reset).await;
    let arrived = scanner.mail(2).await.data;
    assert!(!is_tagged(&arrived) && has_bar(&arrived), "{}", String::from_utf8_lossy(&arrived));
}

/// rspamd behind the hop: it judges the sender, and not the hop.
#[tokio::test(flavor = "multi_thread")]
async fn rspamd_behind_the_hop_sees_the_sender() {
    let relay = shipped("rspamd/external_relay.conf");
    let Some(rspamd) = Program::rspamd(&[("external_relay.conf", &relay)]).await else { return };
    let sink = Sink::start().await;
    let Some(behind) = Program::postfix(sink.address, &format!("smtpd_milters = inet:{}", rspamd.address)).await else { return };
    let hop = hop().next_hop_at(behind.address).tracing().start().await;
    let trace = "Received: from mail.vendor.test (mail.vendor.test [192.0.2.10])\r\n\tby mx.corp.example (Postfix) with ESMTP id 4X1;\r\n\tTue, 24 Nov 2026 10:00:00 +0000 (UTC)\r\n";
    let reply =
        hop.send("<bounce@vendor.test>", &["<bob@corp.example>"], format!("{trace}{}", ordinary("bob@corp.example")).as_bytes()).await;
    assert!(reply.starts_with("250"), "{reply}");
    assert!(came_through_the_hop(&sink.mail(1).await.data));
    poll("rspamd tells of it", || rspamd.log().contains("ip: 192.0.2.10").then_some(())).await;
}

/// Exim, with routers of its own behind the shipped one.
#[tokio::test(flavor = "multi_thread")]
async fn exim_keeps_its_other_routes() {
    let [scanner, partner] = [Sink::start().await, Sink::start().await];
    let (hop, signer, _zone) = before_with(&scanner, &VENDOR.replace("action =", "reader = \"straight\"\naction =")).await;
    let place = tempfile::TempDir::new().unwrap();
    let domains = place.path().join("firstclick");
    fs::write(&domains, "corp.example\ncorp.eu\n").unwrap();
    let replaced = |name: &str, from: &str, to: &str| {
        let text = shipped(name);
        assert!(text.contains(from));
        text.replace(from, to)
    };
    let router = replaced("exim/router", "/etc/exim4/firstclick}", &format!("{}}}", domains.display()));
    // Exim is root in the tests, and a transport is not.
    let transport =
        replaced("exim/transport", "port = 2525", &format!("port = {}\n  user = nobody\n  hosts_try_fastopen =", hop.address.port()));
    let route = |name: &str, domains: &str| {
        format!("{name}:\n  driver = manualroute\n  domains = {domains}\n  route_list = * 127.0.0.1\n  transport = {name}\n  self = send\n")
    };
    let client = |name: &str, sink: &Sink| {
        format!("{name}:\n  driver = smtp\n  user = nobody\n  port = {}\n  allow_localhost\n  hosts_try_fastopen =\n", sink.address.port())
    };
    let routers = format!("{router}{}{}", route("partner", "partner.example"), route("scanner", "*\n  local_parts = bob"));
    let transports = format!("{transport}{}{}", client("partner", &partner), client("scanner", &scanner));
    let Some(exim) = Program::exim_with(&routers, &transports).await else { return };

    let reset = signer.sign_over(&reset_mail(), ["From", "Subject", "Date", "MIME-Version", "Content-Type"]).unwrap();
    send(exim.address, "<bob@corp.example>", &reset).await;
    let arrived = scanner.mail(1).await.data;
    assert!(is_tagged(&arrived) && arrived.ends_with(reset.as_bytes()), "{}\n{}", hop.record(1).await, exim.log());
    // Its To is not signed, so SPF is asked about the client, whom the hop knows by Exim's Received field.
    assert_eq!(hop.record(1).await["identity"]["spf"], "pass");
    send(exim.address, "<x@partner.example>", &ordinary("x@partner.example")).await;
    assert!(!came_through_the_hop(&partner.mail(1).await.data));
    send(exim.address, "<bob@corp.eu>", &ordinary("bob@corp.eu")).await;
    assert!(came_through_the_hop(&scanner.mail(2).await.data));

    // Whom nobody knows is refused, and not bounced.
    let mut client = Client::from([127, 0, 0, 77], exim.address).await.unwrap();
    client.greet().await;
    client.say("MAIL FROM:<a@vendor.test>").await;
    let replies = [client.say("RCPT TO:<bob@corp.example>").await, client.say("RCPT TO:<nobody@corp.example>").await];
    assert!(replies[0].starts_with("250") && replies[1].starts_with("550"), "{replies:?}");

    // Out again, without a reload.
    fs::rename(&domains, place.path().join("firstclick.off")).unwrap();
    send(exim.address, "<bob@corp.example>", &reset).await;
    let arrived = scanner.mail(3).await.data;
    assert!(!came_through_the_hop(&arrived) && arrived.ends_with(reset.as_bytes()));
}

/// Sendmail asks firstclick as a milter, which changes no route: those of its mailertable stay.
#[tokio::test(flavor = "multi_thread")]
async fn sendmail_keeps_its_other_routes() {
    let [scanner, partner] = [Sink::start().await, Sink::start().await];
    let (hop, signer, _zone) = before(&scanner).await;
    let place = tempfile::TempDir::new().unwrap();
    let table = place.path().join("mailertable");
    fs::write(&table, "partner.example esmtp:[127.0.0.1]\n").unwrap();
    let existing = format!(
        "define(`confDONT_BLAME_SENDMAIL', `MapInUnsafeDirPath')dnl\nFEATURE(`mailertable', `text -k0 -v1 {}')dnl\ndefine(`ESMTP_MAILER_ARGS', `TCP $h {}')dnl\n",
        table.display(),
        partner.address.port()
    );
    let milter = shipped("sendmail/firstclick.mc").replace("inet:8891@127.0.0.1", &format!("inet:{}@127.0.0.1", hop.milter().await.port()));
    let reset = signer.sign(&reset_mail()).unwrap();
    for (lines, tagged, mails) in [(format!("{existing}{milter}"), true, 1), (existing.clone(), false, 2)] {
        let Some(sendmail) = Program::sendmail_with(scanner.address, &lines).await else { return };
        send(sendmail.address, "<bob@corp.example>", &reset).await;
        assert_eq!(is_tagged(&scanner.mail(mails).await.data), tagged, "{}", sendmail.log());
        send(sendmail.address, "<x@partner.example>", &ordinary("x@partner.example")).await;
        assert!(partner.mail(mails).await.data.ends_with(b"Hello.\r\n"), "{}", sendmail.log());
    }
    assert_eq!(hop.record(1).await["upstream"], "127.0.0.77");
}
