//! Guard links: what is put into mails, and the page that they lead to.

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
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{Read as _, Write as _},
    net::SocketAddr,
    path::Path,
    process::Command,
    sync::Arc,
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use firstclick::{
    audit::Audit,
    clock,
    edit::{
        seal::{SealKey, Sealed, Sealer},
        tag::Key,
    },
    http::{self, Confirm, HelpDesk, Setup},
    identity::Sealing,
    message::Message,
    stage::{Signer, Zone},
    tls::Channel,
};
use rustls_pki_types::ServerName;
use serde_json::Value;
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

use self::hop::{SECRET, Sink, VENDOR, hop, mta, poll, process::Folder, read_records, reset_mail};

const URL: &str = "https://links.corp.example";

fn seal_key(letter: u8) -> SealKey {
    SealKey::parse(&BASE64.encode([letter; 32])).unwrap()
}

fn sealer(url: &str) -> Arc<Sealer> {
    Arc::new(Sealer { url: url.into(), keys: vec![seal_key(3)], lifetime: Duration::from_hours(24) })
}

/// A guard page on loopback.
struct Page {
    address: SocketAddr,
    sealer: Arc<Sealer>,
    audit: TempDir,
    _stop: tokio::sync::watch::Sender<bool>,
}

impl Page {
    async fn open(change: impl FnOnce(&mut Setup)) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut setup = Setup {
            listen: address,
            sealer: sealer(&format!("http://{address}")),
            nonces: Key::parse(&BASE64.encode([4; 32])).unwrap(),
            certificate: None,
            proxies: Vec::new(),
            confirm: Confirm::Press,
            others: ["google.com", "apple.com", "zoom.us"].map(str::to_owned).to_vec(),
            logo: None,
            note: String::new(),
            help_desk: HelpDesk::Closed,
        };
        change(&mut setup);
        let sealer = Arc::clone(&setup.sealer);
        let audit = TempDir::new().unwrap();
        let door = Arc::new(http::Door::new(setup, Some(Audit::open(audit.path()).unwrap())).unwrap());
        let (stop, stopped) = tokio::sync::watch::channel(false);
        tokio::spawn(http::run(listener, door, stopped));
        Self { address, sealer, audit, _stop: stop }
    }

    fn seal(&self, link: &str) -> String {
        self.seal_of(link, "vendor.test", Duration::from_hours(1))
    }

    fn seal_of(&self, link: &str, author: &str, lifetime: Duration) -> String {
        // The mail came a while ago, as it does when people open it.
        let at = clock::now() - Duration::from_mins(1);
        let sealed = Sealed {
            link: link.into(),
            mail: "mail-1".into(),
            entry: "vendor".into(),
            author: author.into(),
            recipient: "bob@corp.example".into(),
            at,
            until: at + lifetime,
        };
        self.sealer.seal(&sealed).unwrap()
    }

    async fn clicks(&self, count: usize) -> Vec<Value> {
        poll("clicks", || {
            let clicks: Vec<Value> = read_records(self.audit.path()).into_iter().filter(|record| record["type"] == "click").collect();
            (clicks.len() >= count).then_some(clicks)
        })
        .await
    }
}

struct Answer {
    status: u16,
    headers: BTreeMap<String, String>,
    body: String,
}

const BROWSER: &[(&str, &str)] =
    &[("user-agent", "Mozilla/5.0 (X11; Linux x86_64; rv:150.0) Gecko/20100101 Firefox/150.0"), ("accept-language", "en")];

/// One request by hand; redirects are not followed.
async fn ask(method: &str, url: &str, headers: &[(&str, &str)], body: &str) -> Answer {
    let rest = url.strip_prefix("http://").unwrap();
    let (host, path) = rest.split_once('/').unwrap();
    let mut text = format!("{method} /{path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n");
    for (name, value) in headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    if !body.is_empty() {
        text.push_str(&format!("Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n", body.len()));
    }
    raw(host.parse().unwrap(), format!("{text}\r\n{body}").into_bytes()).await
}

async fn raw(address: SocketAddr, octets: Vec<u8>) -> Answer {
    let read = tokio::task::spawn_blocking(move || {
        let mut stream = std::net::TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(hop::PATIENCE)).unwrap();
        let _ = stream.write_all(&octets);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        answer
    });
    let text = String::from_utf8(read.await.unwrap()).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    let headers = head.lines().skip(1).filter_map(|line| line.split_once(": "));
    Answer { status, headers: headers.map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned())).collect(), body: body.to_owned() }
}

fn nonce(page: &Answer) -> String {
    page.body.split("name=\"nonce\" value=\"").nth(1).unwrap().split('"').next().unwrap().to_owned()
}

const LINK: &str = "https://login.vendor.test/reset/6d0f6b2f9c1e4a7f8b3d5c2a1e9f7b604d3c2b1a?x=1&y=2";

/// G1: nothing but a press leads on.
#[tokio::test(flavor = "multi_thread")]
async fn g1_only_a_press_leads_on() {
    let page = Page::open(|_| {}).await;
    let url = page.seal(LINK);
    let secret = "6d0f6b2f9c1e4a7f8b3d5c2a1e9f7b604d3c2b1a";
    let prefetch: &[(&str, &str)] = &[("purpose", "prefetch"), BROWSER[0], BROWSER[1]];
    for (method, headers) in
        [("GET", BROWSER), ("HEAD", BROWSER), ("GET", prefetch), ("GET", &[]), ("OPTIONS", BROWSER), ("PUT", BROWSER), ("DELETE", BROWSER)]
    {
        let answer = ask(method, &url, headers, "").await;
        let status = if matches!(method, "GET" | "HEAD") { 200 } else { 405 };
        assert_eq!(answer.status, status, "{method}");
        assert!(!answer.headers.contains_key("location") && !answer.body.contains(secret), "{method}");
    }
    let shown = ask("GET", &url, BROWSER, "").await;
    assert!(
        shown.body.contains("<strong>vendor.test</strong>") && shown.body.contains("<strong>login.vendor.test</strong>"),
        "{}",
        shown.body
    );
    assert!(
        !shown.body.contains("<script") && !shown.body.split([' ', '<']).any(|word| word.starts_with("on") && word.contains('=')),
        "no script: {}",
        shown.body
    );
    // What a script would post without the page's nonce, and what another link's page gave.
    let other = ask("GET", &page.seal("https://other.vendor.test/reset/abcdef0123456789abcdef"), BROWSER, "").await;
    for body in ["x=1", "nonce=", &format!("nonce={}", nonce(&other)), "nonce=1.0123456789abcdef", "nonce=99999999999999999999.x"] {
        let answer = ask("POST", &url, BROWSER, body).await;
        assert_eq!((answer.status, answer.headers.contains_key("location")), (200, false), "{body}");
    }
    // The press.
    let answer = ask("POST", &url, BROWSER, &format!("nonce={}", nonce(&shown))).await;
    assert_eq!((answer.status, answer.headers["location"].as_str()), (303, LINK));
    let clicks = page.clicks(12).await;
    let of = |what: &str| clicks.iter().filter(|click| click["what"] == what).collect::<Vec<_>>();
    assert_eq!((of("press").len(), of("refused").len()), (1, 5));
    let press = of("press")[0];
    assert_eq!(
        (press["id"].as_str(), press["to"].as_str(), press["likely"].as_str()),
        (Some("mail-1"), Some("bob@corp.example"), Some("person"))
    );
    assert!(press["after_s"].as_i64().unwrap() >= 60);
    assert!(of("open").iter().any(|open| open["likely"] == "scanner" && open["why"] == "it does not say what program it is"), "{clicks:?}");
    assert!(!serde_json::to_string(&clicks).unwrap().contains(secret));
}

/// G2: whatever was not sealed here is a page that says nothing.
#[tokio::test(flavor = "multi_thread")]
async fn g2_what_was_not_sealed_here_opens_nothing() {
    let page = Page::open(|_| {}).await;
    let url = page.seal(LINK);
    let (base, value) = url.rsplit_once('/').unwrap();
    let expired = page.seal_of(LINK, "vendor.test", Duration::from_secs(30));
    let foreign = Sealer { url: String::new(), keys: vec![seal_key(9)], lifetime: Duration::from_hours(1) };
    let now = clock::now();
    let sealed = Sealed {
        link: LINK.into(),
        mail: "m".into(),
        entry: "e".into(),
        author: "a".into(),
        recipient: String::new(),
        at: now,
        until: now + Duration::from_hours(1),
    };
    let foreign = foreign.seal(&sealed).unwrap();
    let flipped: String =
        value.chars().enumerate().map(|(at, letter)| if at == 40 { if letter == 'A' { 'B' } else { 'A' } } else { letter }).collect();
    let long = format!("{base}/{}", "A".repeat(10_000));
    for (url, status) in [
        (format!("{base}/{}", &value[..value.len() - 1]), 404),
        (format!("{base}/{flipped}"), 404),
        (format!("{base}{foreign}"), 404),
        (format!("{base}/"), 404),
        (format!("{base}/../healthz/x"), 404),
        (format!("{base}/%2e%2e%2f"), 404),
        (format!("{base}/{value}/more"), 404),
        (format!("{}/", base.trim_end_matches("/c")), 404),
        (format!("{}/unwrap", base.trim_end_matches("/c")), 404),
        (long, 404),
        (expired, 410),
    ] {
        for method in ["GET", "POST"] {
            let answer = ask(method, &url, BROWSER, if method == "POST" { "nonce=1.x" } else { "" }).await;
            assert_eq!(answer.status, status, "{method} {}", &url[..url.len().min(120)]);
            assert!(!answer.body.contains("vendor") && !answer.headers.contains_key("location"), "{}", answer.body);
        }
    }
    assert_eq!(ask("GET", &format!("{}/healthz", base.trim_end_matches("/c")), &[], "").await.body, "ok\n");
    // Over what is read of a request at all.
    let huge = ask("GET", &format!("{base}/{}", "A".repeat(100_000)), BROWSER, "").await;
    assert!(matches!(huge.status, 0 | 400 | 404 | 414 | 431), "{}", huge.status);
}

/// G3: no other site presses for the reader.
#[tokio::test(flavor = "multi_thread")]
async fn g3_no_other_site_presses() {
    let page = Page::open(|_| {}).await;
    let url = page.seal(LINK);
    let shown = ask("GET", &url, BROWSER, "").await;
    let body = format!("nonce={}", nonce(&shown));
    for site in ["cross-site", "same-site", "none"] {
        let answer = ask("POST", &url, &[BROWSER[0], BROWSER[1], ("sec-fetch-site", site)], &body).await;
        assert_eq!((answer.status, answer.headers.contains_key("location")), (200, false), "{site}");
    }
    assert_eq!(shown.headers["x-frame-options"], "DENY");
    assert!(shown.headers["content-security-policy"].contains("frame-ancestors 'none'"));
    assert!(shown.headers["content-security-policy"].contains("form-action 'self' https://login.vendor.test;"));
    // The link itself decides on reuse: a second press leads on again.
    for _ in 0..2 {
        assert_eq!(ask("POST", &url, &[BROWSER[0], BROWSER[1], ("sec-fetch-site", "same-origin")], &body).await.status, 303);
    }
}

/// G4: what is shown is what it is.
#[tokio::test(flavor = "multi_thread")]
async fn g4_names_are_shown_as_they_are() {
    let page = Page::open(|setup| setup.note = "Questions? <b>IT</b> & \"help\"".into()).await;
    let url =
        page.seal_of("https://b\u{fc}cher.test/reset/0123456789abcdef0123", "<b>evil</b>\u{202e}\" onload=x", Duration::from_hours(1));
    let shown = ask("GET", &url, BROWSER, "").await.body;
    assert!(shown.contains("xn--bcher-kva.test") && !shown.contains("b\u{fc}cher"), "{shown}");
    assert!(shown.contains("&lt;b&gt;evil&lt;/b&gt;&quot; onload=x") && !shown.contains('\u{202e}') && !shown.contains("<b>"), "{shown}");
    assert!(shown.contains("Questions? &lt;b&gt;IT&lt;/b&gt; &amp; &quot;help&quot;"));
    for link in ["javascript:alert(1)", "data:text/html,x", "ftp://a.test/", "https://a.test/\r\nx: y"] {
        let answer = ask("GET", &page.seal(link), BROWSER, "").await;
        let press = if answer.status == 200 {
            ask("POST", &page.seal(link), BROWSER, &format!("nonce={}", nonce(&answer))).await.status
        } else {
            404
        };
        assert_eq!(press, 404, "{link:?} leads nowhere");
    }
}

/// G5: bounds.
#[tokio::test(flavor = "multi_thread")]
async fn g5_requests_are_bounded() {
    let page = Page::open(|_| {}).await;
    let url = page.seal(LINK);
    let mut header = b"GET / HTTP/1.1\r\nHost: x\r\nX-Large: ".to_vec();
    header.extend(b"a".repeat(1_000_000));
    header.extend(b"\r\n\r\n");
    let answer = raw(page.address, header).await;
    assert!(matches!(answer.status, 0 | 400 | 431), "{}", answer.status);
    // A form of a megabyte.
    assert_eq!(ask("POST", &url, BROWSER, &format!("nonce={}", "x".repeat(1_000_000))).await.status, 413);
    // Slow ones, a hundred of them, hold nobody up.
    let slow: Vec<_> = (0..100)
        .map(|_| {
            let mut stream = std::net::TcpStream::connect(page.address).unwrap();
            stream.write_all(b"GET /c/x HT").unwrap();
            stream
        })
        .collect();
    assert_eq!(ask("GET", &url, BROWSER, "").await.status, 200);
    drop(slow);
    // From one address only so many in a minute.
    let mut refused = 0;
    for _ in 0..400 {
        refused += usize::from(ask("GET", &url, BROWSER, "").await.status == 429);
    }
    assert!(refused > 0, "nobody was told to wait");
    assert_eq!(ask("GET", &format!("http://{}/healthz", page.address), &[], "").await.status, 200);
}

/// G5: thousands of requests, and mails go through as if there were none.
#[tokio::test(flavor = "multi_thread")]
async fn g5_a_flood_of_requests_stops_no_mail() {
    let page = Page::open(|_| {}).await;
    let url = page.seal(LINK);
    let sink = Sink::start().await;
    let hop = hop().next_hop(&sink).start().await;
    let flood: Vec<_> = (0..8)
        .map(|_| {
            let url = url.clone();
            tokio::spawn(async move {
                let mut told_to_wait = 0;
                for _ in 0..500 {
                    told_to_wait += usize::from(ask("GET", &url, BROWSER, "").await.status == 429);
                }
                told_to_wait
            })
        })
        .collect();
    let mut client = hop.client().await;
    client.greet().await;
    for _ in 0..200 {
        assert!(client.send("<a@b.test>", &["<bob@corp.example>"], b"From: a@b.test\r\nSubject: x\r\n\r\nx\r\n").await.starts_with("250"));
    }
    let mut told_to_wait = 0;
    for task in flood {
        told_to_wait += task.await.unwrap();
    }
    assert_eq!(sink.mails().len(), 200);
    assert!(told_to_wait > 3_000, "{told_to_wait} of 4000 were told to wait");
}

/// G6: nothing is kept, nobody is told.
#[tokio::test(flavor = "multi_thread")]
async fn g6_nothing_is_kept() {
    let page = Page::open(|_| {}).await;
    for (method, url) in
        [("GET", page.seal(LINK)), ("GET", format!("http://{}/c/x", page.address)), ("GET", format!("http://{}/style.css", page.address))]
    {
        let headers = ask(method, &url, BROWSER, "").await.headers;
        for (name, value) in [
            ("referrer-policy", "no-referrer"),
            ("cache-control", "no-store"),
            ("x-content-type-options", "nosniff"),
            ("x-robots-tag", "noindex, nofollow"),
        ] {
            assert_eq!(headers[name], value, "{url}");
        }
        assert!(headers["content-security-policy"].starts_with("default-src 'none'; style-src 'self'; img-src 'self'; "), "{headers:?}");
        assert!(!headers.contains_key("set-cookie"));
    }
}

/// `confirm = "choose"`: the right name leads on, every other one does not, and the page does not tell which it is.
#[tokio::test(flavor = "multi_thread")]
async fn the_reader_chooses_the_sender() {
    let page = Page::open(|setup| setup.confirm = Confirm::Choose).await;
    let url = page.seal(LINK);
    let shown = ask("GET", &url, BROWSER, "").await;
    assert_eq!(shown.body.matches("name=\"choice\"").count(), 3);
    assert!(!shown.body.contains("sent you this link"));
    let mut led = 0;
    for choice in ["", "0", "1", "2", "3", "x"] {
        let answer = ask("POST", &url, BROWSER, &format!("nonce={}&choice={choice}", nonce(&shown))).await;
        led += usize::from(answer.status == 303);
        assert!(answer.status == 303 || answer.body.contains("That is not the sender"), "{choice}: {}", answer.body);
    }
    assert_eq!(led, 1);
    // Over many links the sender stands in each place.
    let mut places = BTreeSet::new();
    for number in 0..30 {
        let body = ask("GET", &page.seal(&format!("{LINK}{number}")), BROWSER, "").await.body;
        places.insert(body.split("name=\"choice\"").position(|piece| piece.contains("vendor.test</bdi>")).unwrap());
    }
    assert_eq!(places.len(), 3, "{places:?}");
}

/// The reader's language, from right to left too; a proxy in front; the help desk's page.
#[tokio::test(flavor = "multi_thread")]
async fn languages_proxies_and_the_help_desk() {
    let page = Page::open(|setup| {
        setup.proxies = vec![firstclick::identity::Network::parse("127.0.0.0/8").unwrap()];
        setup.help_desk = HelpDesk::Open;
    })
    .await;
    let url = page.seal(LINK);
    let language = |wanted: &'static str| {
        let url = url.clone();
        async move {
            ask("GET", &url, &[BROWSER[0], ("accept-language", wanted), ("x-forwarded-for", "203.0.113.9, 198.51.100.7")], "").await.body
        }
    };
    assert!(language("de-CH").await.contains("Weiter zu <bdi>login.vendor.test</bdi>"));
    assert!(language("ar").await.contains("<html lang=\"ar\" dir=\"rtl\">"));
    let clicks = page.clicks(2).await;
    assert_eq!(clicks[0]["address"], "198.51.100.7", "the address that the trusted proxy saw");
    let desk = format!("http://{}/unwrap", page.address);
    assert!(ask("GET", &desk, BROWSER, "").await.body.contains("<textarea"));
    let body = "link=https%3A%2F%2Fx.safelinks.protection.outlook.com%2F%3Furl%3Dhttps%253A%252F%252Fa.test%252Freset%26data%3D1";
    let told = ask("POST", &desk, BROWSER, body).await.body;
    assert!(told.contains("Microsoft Safe Links") && told.contains("https://a.test/reset"), "{told}");
}

/// A guarded mail through both doors: the link's every place leads to the page, and nothing else has changed.
#[tokio::test(flavor = "multi_thread")]
async fn a_guarded_mail_leads_to_the_page() {
    let zone = Zone::serve().await.unwrap();
    let vendor = Signer::publish(&zone, "vendor.test").unwrap();
    let sink = Sink::start().await;
    let entry = VENDOR.replace("action = \"tag\"", "action = [\"tag\", \"guard\"]");
    let hop = hop().allow("vendor", &entry).asking(&zone).guarded_by(sealer(URL)).next_hop(&sink).start().await;
    let mail = vendor.sign(&reset_mail()).unwrap();
    assert!(hop.send("<bounce@vendor.test>", &["<bob@corp.example>"], mail.as_bytes()).await.starts_with("250"));
    let arrived = sink.mail(1).await.data;
    let text = String::from_utf8(arrived.clone()).unwrap();
    assert!(hop::is_tagged(&arrived) && !text.contains(SECRET), "{text}");
    assert!(hop::tagger().verifies(&Message::read(&arrived)), "the tag's signature covers the guarded body");
    let value = text.split(&format!("{URL}/c/")).nth(1).unwrap().split_whitespace().next().unwrap();
    let opened = sealer(URL).open(value, clock::now()).unwrap();
    assert!(opened.link.contains(SECRET) && opened.recipient == "bob@corp.example" && opened.author == "vendor.test");
    let record = hop.record(1).await;
    assert_eq!((record["actions"].clone(), record["id"].as_str()), (serde_json::json!(["guard", "tag"]), Some(opened.mail.as_str())));
    assert!(text.replace(&format!("{URL}/c/{value}"), &opened.link).ends_with(mail.as_str()), "nothing else has changed");

    let mut mta = mta::Mta::connect(hop.milter().await).await;
    mta.greet("127.0.0.1").await;
    let way = mta::Way { client: "127.0.0.1", from: "<bounce@vendor.test>", to: &["<bob@corp.example>"], piece: 65_535 };
    let told = String::from_utf8(mta.mail(way, mail.as_bytes()).await.mail).unwrap();
    assert!(told.contains(&format!("{URL}/c/")) && !told.contains(SECRET), "{told}");
}

/// A guarded mail's ARC chain, first and second set, verified by dkimpy; and this hop's own verifier believes it.
#[tokio::test(flavor = "multi_thread")]
async fn a_guarded_mail_is_sealed() {
    let zone = Zone::serve().await.unwrap();
    let vendor = Signer::publish(&zone, "vendor.test").unwrap();
    let key = hop::dkim::Key::make();
    key.publish(&zone, "corp.example");
    key.publish(&zone, "list.test");
    let sealing = || Sealing::new("corp.example", "s1", &key.pem()).unwrap();
    let sink = Sink::start().await;
    let entry = VENDOR.replace("action = \"tag\"", "action = [\"tag\", \"guard\"]\nlimit = \"unlimited\"");
    let hop = hop()
        .allow("vendor", &entry)
        .asking(&zone)
        .guarded_by(sealer(URL))
        .vouching(sealing())
        .sealed_by(&["list.test"])
        .next_hop(&sink)
        .start()
        .await;
    let mail = vendor.sign(&reset_mail()).unwrap();
    for (count, (mail, sets)) in [(mail.clone(), 1), (key.seal(&hop::dkim::Sealing::default(), &mail), 2)].into_iter().enumerate() {
        assert!(hop.send("<bounce@vendor.test>", &["<bob@corp.example>"], mail.as_bytes()).await.starts_with("250"));
        let arrived = sink.mail(count + 1).await.data;
        let text = String::from_utf8(arrived.clone()).unwrap();
        assert!(!text.contains(SECRET) && hop::is_tagged(&arrived), "{text}: {}", hop.record(count + 1).await);
        assert!(text.starts_with("ARC-Seal: i=") && text.matches("ARC-Seal:").count() == sets, "{text}");
        let results = text.split("\r\nAuthentication-Results: ").nth(1).unwrap().split("\r\nX-Firstclick").next().unwrap();
        assert!(results.starts_with("hop.test;") && results.contains("dkim=pass") && results.contains("dmarc=pass"), "{results}");
        if hop::needs("python3").is_none() {
            return;
        }
        let script = "import sys, dkim\nkeys = dict(item.split('=', 1) for item in sys.argv[1:])\ncv, results, why = dkim.arc_verify(sys.stdin.buffer.read(), dnsfunc=lambda name, **_: keys.get(name.decode().rstrip('.'), '').encode())\nprint(cv, why)\n";
        let record = format!("v=DKIM1; k=rsa; p={}", key.public());
        let mut child = Command::new("/usr/bin/python3")
            .args(["-c", script, &format!("s1._domainkey.corp.example={record}"), &format!("s1._domainkey.list.test={record}")])
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(&arrived).unwrap();
        let output = child.wait_with_output().unwrap();
        if !output.status.success() && String::from_utf8_lossy(&output.stderr).contains("No module named") {
            hop::missing("python3-dkim");
            return;
        }
        let said = String::from_utf8(output.stdout).unwrap();
        assert!(said.starts_with("b'pass'"), "dkimpy, {sets} sets: {said} {}", String::from_utf8_lossy(&output.stderr));
    }
}

/// Behind a gateway that wrapped every link: the originals are judged and put back, and the one-time link is guarded too
/// where the entry says so. What only the vendor knows is a near miss.
#[tokio::test(flavor = "multi_thread")]
async fn wrapped_links_are_put_back() {
    let wrap = |link: &str| {
        let encoded: String = url::form_urlencoded::byte_serialize(link.as_bytes()).collect();
        format!("https://linkprotect.cudasvc.com/url?a={encoded}&c=E,1,abc,,&typo=1")
    };
    let mail = reset_mail();
    let one_time = mail.split_whitespace().find(|word| word.contains(SECRET)).unwrap().to_owned();
    let wrapped = mail.replace(&one_time, &wrap(&one_time)).replace("https://www.vendor.test/", &wrap("https://www.vendor.test/"));
    assert_ne!(wrapped, mail);
    let results = "Authentication-Results: gw.corp.example; dkim=pass header.d=vendor.test; dmarc=pass header.from=vendor.test\r\n";
    for (action, guarded) in [("\"unwrap\"", false), ("[\"guard\", \"unwrap\"]", true)] {
        let sink = Sink::start().await;
        let entry = VENDOR.replace("action = \"tag\"", &format!("action = {action}"));
        let hop = hop().allow("vendor", &entry).believing("gw.corp.example").guarded_by(sealer(URL)).next_hop(&sink).start().await;
        assert!(
            hop.send("<bounce@vendor.test>", &["<bob@corp.example>"], format!("{results}{wrapped}").as_bytes()).await.starts_with("250")
        );
        let text = String::from_utf8(sink.mail(1).await.data).unwrap();
        assert!(!text.contains("cudasvc"), "{text}: {}", hop.record(1).await);
        assert!(text.contains("https://www.vendor.test/\r\n"));
        assert_eq!((text.contains(&one_time), text.contains(&format!("{URL}/c/"))), (!guarded, guarded), "{text}");
        if !guarded {
            assert!(text.ends_with(&mail), "it is the mail as it was before the gateway");
        }
        let opaque = mail.replace(&one_time, "https://protect-us.mimecast.com/s/abcdefghij0123456789abcd?domain=login.vendor.test");
        assert!(
            hop.send("<bounce@vendor.test>", &["<bob@corp.example>"], format!("{results}{opaque}").as_bytes()).await.starts_with("250")
        );
        assert_ne!(hop.record(2).await["decision"], "act");
        assert!(sink.mail(2).await.data.ends_with(opaque.as_bytes()));
    }
}

/// TLS on the page itself.
#[tokio::test(flavor = "multi_thread")]
async fn the_page_speaks_tls() {
    let authority = hop::certificate::Authority::new();
    let page = Page::open(|setup| setup.certificate = Some(authority.issue("links.test"))).await;
    let stream = Channel::Clear(tokio::net::TcpStream::connect(page.address).await.unwrap());
    let mut stream = stream.connect(authority.client(), ServerName::try_from("links.test").unwrap()).await.unwrap();
    stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: links.test\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("ok\n"), "{answer}");
    // In the clear there is nobody.
    assert_eq!(ask("GET", &format!("http://{}/healthz", page.address), &[], "").await.status, 0);
}

/// The program as an admin sets it up: mistakes are told, the page is served, and a key that was rotated away from still
/// opens what it sealed, after a reload.
#[tokio::test(flavor = "multi_thread")]
async fn the_program_serves_the_page_and_its_keys_rotate() {
    let (zone, sink) = (Zone::serve().await.unwrap(), Sink::start().await);
    let folder = Folder::new(&format!("next_hop = \"{}\"", sink.address), "");
    let configure = |guard: &str| {
        let rest = format!("[identity]\ndns = [\"{}\"]\n{guard}", zone.address());
        folder.configure(&format!("next_hop = \"{}\"", sink.address), &rest);
    };
    let entry =
        VENDOR.replace("action = \"tag\"", "require = { ip = [\"127.0.0.0/8\"], spf = false }\nlimit = \"unlimited\"\naction = \"guard\"");
    fs::write(folder.path("allow.d/vendor.toml"), entry).unwrap();
    configure("");
    let (_, said, code) = folder.command(&["check"]);
    assert!(code == Some(2) && said.contains("guard: action = \"guard\" needs [guard] with url, listen and key_file"), "{said}");
    configure(
        "[guard]\nurl = \"http://links.corp.example/x\"\nlisten = \"here\"\nkey_file = \"no.key\"\nconfirm = \"click\"\nlogo = \"a.exe\"\n[arc]\ndomain = \"corp.example\"\n",
    );
    let (_, said, _) = folder.command(&["check"]);
    for words in [
        "guard.url: found \"http://links.corp.example/x\", expected https://HOST",
        "guard.listen: found \"here\"",
        "guard.key_file: ",
        "`firstclick keygen --out FILE` writes one",
        "guard.confirm: found \"click\"",
        "guard.logo: ",
        "arc.selector: missing",
        "arc.key_file: missing",
        "8 mistakes",
    ] {
        assert!(said.contains(words), "{words}\n{said}");
    }
    let keygen = || assert_eq!(folder.command(&["keygen", "--out", folder.path("guard.key").to_str().unwrap()]).2, Some(0));
    keygen();
    fs::write(folder.path("arc.pem"), hop::dkim::Key::make().pem()).unwrap();
    configure(
        "[guard]\nurl = \"https://links.corp.example\"\nlisten = \"127.0.0.1:0\"\nkey_file = \"guard.key\"\n[arc]\ndomain = \"corp.example\"\nselector = \"arc1\"\nkey_file = \"arc.pem\"\n",
    );
    let (said, complained, code) = folder.command(&["check"]);
    assert_eq!((complained.as_str(), code), ("", Some(0)), "{said}");
    let process = folder.run().await;
    let address: SocketAddr =
        process.says("the guard page is there").await.split("page=").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap();
    let mut client = hop::Client::connect(process.address).await;
    client.greet().await;
    let mut values = Vec::new();
    for count in 1..=2 {
        assert!(client.send("<a@vendor.test>", &["<bob@corp.example>"], reset_mail().as_bytes()).await.starts_with("250"));
        let text = String::from_utf8(sink.mail(count).await.data).unwrap();
        let value = text
            .split("https://links.corp.example/c/")
            .nth(1)
            .unwrap_or_else(|| panic!("{text}\n{}", process.log()))
            .split_whitespace()
            .next()
            .unwrap()
            .to_owned();
        values.push(value);
        keygen();
        process.signal("HUP");
        poll("a reload", || (process.log().matches("reloaded").count() >= count).then_some(())).await;
        for value in &values {
            let shown = ask("GET", &format!("http://{address}/c/{value}"), BROWSER, "").await;
            assert!(shown.status == 200 && shown.body.contains("login.vendor.test"), "{}", shown.body);
        }
    }
    // The first was sealed by the oldest key, the second by the one after it.
    let keys: Vec<String> = fs::read_to_string(folder.path("guard.key")).unwrap().lines().rev().map(str::to_owned).collect();
    for (value, own, other) in [(&values[0], 0, 1), (&values[1], 1, 0)] {
        let opens = |key: usize| {
            let keys = vec![SealKey::parse(&keys[key]).unwrap()];
            Sealer { url: String::new(), keys, lifetime: Duration::from_hours(1) }.open(value, clock::now()).is_ok()
        };
        assert!(opens(own) && !opens(other));
    }
    let (said, _, _) = folder.command(&["audit", "find", "--to", "bob@corp.example"]);
    assert!(said.contains("opened the guard page") && said.contains("another mail of this kind came at"), "{said}");
}

/// A machine of its own for the page: no door for mails, the same keys.
#[tokio::test(flavor = "multi_thread")]
async fn the_page_can_stand_alone() {
    let folder = Folder::new("", "");
    assert_eq!(folder.command(&["keygen", "--out", folder.path("guard.key").to_str().unwrap()]).2, Some(0));
    let key = SealKey::parse(fs::read_to_string(folder.path("guard.key")).unwrap().trim()).unwrap();
    let text = "[guard]\nurl = \"https://links.corp.example\"\nlisten = \"127.0.0.1:0\"\nkey_file = \"guard.key\"\n[audit]\ndirectory = \"audit\"\n";
    fs::write(folder.path("firstclick.toml"), text).unwrap();
    assert_eq!(folder.command(&["check"]), (String::new(), String::new(), Some(0)));
    let mut process = folder.run_until("the guard page is there").await;
    let line = process.says("the guard page is there").await;
    let address = line.split("page=").nth(1).unwrap().split(' ').next().unwrap();
    let now = clock::now();
    let sealed = Sealed {
        link: LINK.into(),
        mail: "m".into(),
        entry: "e".into(),
        author: "vendor.test".into(),
        recipient: String::new(),
        at: now,
        until: now + Duration::from_hours(1),
    };
    let elsewhere = Sealer { url: format!("http://{address}"), keys: vec![key], lifetime: Duration::from_hours(1) };
    let shown = ask("GET", &elsewhere.seal(&sealed).unwrap(), BROWSER, "").await;
    assert!(shown.status == 200 && shown.body.contains("login.vendor.test"), "{}", shown.body);
    process.signal("TERM");
    assert_eq!(process.ended().await, Some(0));
}

/// Every positive mail of the corpus: the labelled link, wherever it stands, in every charset and encoding, and nothing
/// else; read again by Python's email package.
#[tokio::test(flavor = "multi_thread")]
async fn every_charset_and_encoding_is_guarded() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/corpus/dev");
    let Ok(table) = fs::read_to_string(root.join("labels.tsv")) else {
        println!("skipped: needs ../shared/corpus/dev");
        return;
    };
    let rows: Vec<Vec<&str>> =
        table.lines().skip(1).map(|line| line.split('\t').collect()).filter(|row: &Vec<&str>| row[0].starts_with("positive")).collect();
    let mails: Vec<Vec<u8>> = rows.iter().map(|row| fs::read(root.join(row[0])).unwrap()).collect();
    let (mut authors, mut hosts) = (BTreeSet::new(), BTreeSet::new());
    for mail in &mails {
        let message = Message::read(mail);
        authors.extend(message.author().ok().map(|author| author.domain.to_string()));
        hosts.extend(message.content().links.iter().filter_map(|found| found.link.url().host_str().map(str::to_owned)));
    }
    let list = |items: &BTreeSet<String>, end: &str| items.iter().map(|item| format!("\"{item}{end}\"")).collect::<Vec<_>>().join(", ");
    let entry = format!(
        "from = [{}]\nmails = [\"password_reset\", \"invite\", \"email_verify\", \"magic_link\"]\nlinks = [{}]\nother_links = [{}]\nrequire = {{ ip = [\"127.0.0.0/8\"], spf = false }}\nexpanded_recipients = true\nlimit = \"unlimited\"\nowner = \"it@corp.example\"\naction = \"guard\"\n",
        list(&authors, ""),
        list(&hosts, "/*"),
        list(&hosts, "")
    );
    let (zone, sink) = (Zone::serve().await.unwrap(), Sink::start().await);
    let hop = hop().allow("all", &entry).asking(&zone).guarded_by(sealer(URL)).next_hop(&sink).start().await;
    let mut client = hop.client().await;
    client.greet().await;
    let folder = TempDir::new().unwrap();
    for (count, mail) in mails.iter().enumerate() {
        assert!(client.send("<a@b.test>", &["<bob@corp.example>"], mail).await.starts_with("250"));
        let arrived = sink.mail(count + 1).await.data;
        fs::write(folder.path().join(format!("{count}.before")), mail).unwrap();
        fs::write(folder.path().join(format!("{count}.after")), &arrived).unwrap();
    }
    let records: Vec<Value> = hop.records(mails.len()).await.into_iter().filter(|record| record["type"] == "mail").collect();
    let (mut guarded, mut longest, mut not) = (0, 0, Vec::new());
    for (count, row) in rows.iter().enumerate() {
        let after = fs::read(folder.path().join(format!("{count}.after"))).unwrap();
        if records[count]["decision"] != "act" {
            assert!(after == mails[count], "{}: what is not acted on goes on as it came", row[0]);
            let stopped = records[count]["reasons"].as_array().unwrap().iter().find(|reason| reason["ok"] == false).unwrap();
            not.push(format!("{}: {}: {}", row[0], stopped["check"], stopped["detail"]));
            continue;
        }
        guarded += 1;
        let content = Message::read(&after).content();
        let mut seen = 0;
        for found in &content.links {
            assert_ne!(found.link.expose(), row[5], "{}: the labelled link still stands", row[0]);
            if let Some(value) = found.link.expose().strip_prefix(&format!("{URL}/c/")) {
                assert_eq!(sealer(URL).open(value, clock::now()).unwrap().link, row[5], "{}", row[0]);
                longest = longest.max(found.link.expose().len());
                seen += 1;
            }
        }
        let wanted = Message::read(&mails[count]).content().links.iter().filter(|found| found.link.expose() == row[5]).count();
        assert_eq!(seen, wanted, "{}", row[0]);
        fs::write(folder.path().join(format!("{count}.link")), row[5]).unwrap();
        for line in after.split(|byte| *byte == b'\n') {
            assert!(line.len() <= 999, "{}: a line of {}", row[0], line.len());
        }
    }
    println!("{guarded} of {} guarded, the longest guard link {longest} characters; not: {not:#?}", rows.len());
    assert_eq!(guarded, rows.len(), "{not:#?}");
    let script = r#"
import email, email.policy, glob, os, re, sys
folder, count = sys.argv[1], 0
for link_file in glob.glob(folder + "/*.link"):
    stem, link = link_file[:-5], open(link_file, newline="").read().encode()
    before, after = (email.message_from_bytes(open(stem + end, "rb").read()) for end in (".before", ".after"))
    def fields(part):
        # A part whose line would be too long is encoded anew.
        return [item for item in part.items() if item[0].lower() != "content-transfer-encoding"]
    assert fields(before) == fields(after), stem
    one, other = list(before.walk()), list(after.walk())
    assert [part.get_content_type() for part in one] == [part.get_content_type() for part in other], stem
    for left, right in zip(one, other):
        assert fields(left) == fields(right), stem
        if left.is_multipart():
            continue
        left, right = left.get_payload(decode=True), right.get_payload(decode=True)
        for form in (link, link.replace(b"&", b"&amp;")):
            left = left.replace(form, b"LINK")
        right = re.sub(rb"https://links\.corp\.example/c/[A-Za-z0-9_-]+", b"LINK", right)
        assert left == right, (stem, left, right)
    count += 1
print(count)
"#;
    let output = Command::new("python3").args(["-c", script]).arg(folder.path()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(String::from_utf8(output.stdout).unwrap().trim(), guarded.to_string());
}

/// The shared table of wrapped links, by the command.
#[test]
fn wrapped_links_are_unwrapped() {
    let Ok(table) = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/wrapped_urls.tsv")) else {
        println!("skipped: needs ../shared/wrapped_urls.tsv");
        return;
    };
    let mut rows = 0;
    for line in table.lines().skip(1) {
        let cells: Vec<&str> = line.split('\t').collect();
        let output = Command::new(env!("CARGO_BIN_EXE_firstclick")).args(["unwrap", "--json", cells[1]]).output().unwrap();
        let found: Value = serde_json::from_slice(&output.stdout).unwrap();
        match cells[2] {
            "OPAQUE" => assert_eq!(found["result"], "opaque", "{line}"),
            "NOT-WRAPPED" => assert_eq!(found["result"], "not_wrapped", "{line}"),
            original => assert_eq!(found["original"], original, "{line}"),
        }
        rows += 1;
    }
    assert_eq!(rows, 15);
}
