//! The guard page: who gets past it, what it shows, what it bears.

use std::{collections::BTreeSet, fs, io::Write as _, net::SocketAddr, time::Duration};

use firstclick::{
    clock,
    edit::guard_link::{GuardLink, GuardLinkKeys, SealKey},
    http::{Confirm, HelpDesk},
    testbed::Zone,
    tls::Channel,
};
use rustls_pki_types::ServerName;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::hop::{
    Sink, VENDOR, hop,
    page::{BROWSER, LINK, Page, ask, nonce, raw, seal_key},
    poll,
    process::Folder,
    read_records, reset_mail,
};

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
    assert_eq!(press["link"]["link"], "https://login.vendor.test/reset/{40}?x={1}&y={1}", "which link of the mail it was");
    assert_eq!(press["link"]["hash"].as_str().map(str::len), Some(16));
    // What the page says is right behind "no, it was not me", too.
    assert!(shown.body.contains("Continue only if you want to open this link. Until then, this page opens nothing."), "{}", shown.body);
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
    let foreign = GuardLinkKeys { url: String::new(), keys: vec![seal_key(9)], lifetime: Duration::from_hours(1) };
    let now = clock::now();
    let sealed = GuardLink {
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
    let page = Page::open(|config| config.note = "Questions? <b>IT</b> & \"help\"".into()).await;
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

/// The tests' own process needs more descriptors than the usual 1,024.
fn raise_file_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let wanted = limit.maximum.map_or(8_192, |most| most.min(8_192));
    setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum: limit.maximum }).unwrap();
}

/// A POST from this address whose body comes an octet a second; none where the page closes at once.
async fn slow_post(from: [u8; 4], page: SocketAddr, headers: &str) -> tokio::net::TcpStream {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::from((from, 0))).unwrap();
    let mut stream = socket.connect(page).await.unwrap();
    let _ = stream.write_all(format!("POST /c/x HTTP/1.1\r\nHost: {page}\r\n{headers}Content-Length: 1000\r\n\r\nnonce=").as_bytes()).await;
    stream
}

/// M4: a thousand slow POSTs from one address close the page for nobody else.
#[tokio::test(flavor = "multi_thread")]
async fn slow_posts_from_one_address_leave_the_page_open() {
    raise_file_limit();
    let page = Page::open(|_| {}).await;
    let url = page.seal(LINK);
    let mut slow = Vec::new();
    for _ in 0..1_000 {
        slow.push(slow_post([127, 0, 0, 2], page.address, "").await);
    }
    let start = std::time::Instant::now();
    assert_eq!(ask("GET", &url, BROWSER, "").await.status, 200);
    assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
    // Those that have a place lose it when their body does not come, however slowly they drip.
    let mut first = slow.swap_remove(0);
    let mut told = Vec::new();
    let end = async {
        loop {
            tokio::select! {
                read = first.read_buf(&mut told) => if read.unwrap_or(0) == 0 { break },
                () = tokio::time::sleep(Duration::from_secs(1)) => {
                    let _ = first.write_all(b"x").await;
                }
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(15), end).await.expect("a body has a few seconds");
    assert!(told.starts_with(b"HTTP/1.1 408"), "{}", told.escape_ascii());
    assert!(slow.len() == 999);
}

/// M4: nor do they through a trusted proxy, whose one address is everybody's.
#[tokio::test(flavor = "multi_thread")]
async fn slow_posts_through_a_proxy_leave_the_page_open() {
    raise_file_limit();
    let page = Page::open(|config| config.proxies = vec![firstclick::identity::Network::parse("127.0.0.0/8").unwrap()]).await;
    let url = page.seal(LINK);
    let mut slow = Vec::new();
    for _ in 0..1_000 {
        slow.push(slow_post([127, 0, 0, 2], page.address, "X-Forwarded-For: 203.0.113.9\r\n").await);
    }
    let mine = [BROWSER[0], BROWSER[1], ("x-forwarded-for", "203.0.113.10")];
    assert_eq!(ask("GET", &url, &mine, "").await.status, 200);
    let theirs = [BROWSER[0], BROWSER[1], ("x-forwarded-for", "203.0.113.9")];
    assert_eq!(ask("GET", &url, &theirs, "").await.status, 429);
    // Through the same proxy, once those that hold nothing are gone.
    let mut other = slow_post([127, 0, 0, 2], page.address, "X-Forwarded-For: 203.0.113.10\r\n").await;
    other.write_all(&[b'x'; 994]).await.unwrap();
    let mut answer = vec![0; 12];
    tokio::time::timeout(Duration::from_secs(3), other.read_exact(&mut answer)).await.expect("an answer at once").unwrap();
    assert_eq!(answer, b"HTTP/1.1 404");
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
    let page = Page::open(|config| config.confirm = Confirm::Choose).await;
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
    let page = Page::open(|config| {
        config.proxies = vec![firstclick::identity::Network::parse("127.0.0.0/8").unwrap()];
        config.help_desk = HelpDesk::Open;
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

/// TLS on the page itself.
#[tokio::test(flavor = "multi_thread")]
async fn the_page_speaks_tls() {
    let authority = crate::hop::certificate::Authority::new();
    let page = Page::open(|config| config.certificate = Some(authority.issue("links.test"))).await;
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
        "7 mistakes",
    ] {
        assert!(said.contains(words), "{words}\n{said}");
    }
    let keygen = || assert_eq!(folder.command(&["keygen", "--out", folder.path("guard.key").to_str().unwrap()]).2, Some(0));
    keygen();
    fs::write(folder.path("arc.pem"), crate::hop::dkim::Key::make().pem()).unwrap();
    configure(
        "[guard]\nurl = \"https://links.corp.example\"\nlisten = \"127.0.0.1:0\"\nkey_file = \"guard.key\"\n[arc]\ndomain = \"corp.example\"\nselector = \"arc1\"\nkey_file = \"arc.pem\"\n",
    );
    let (said, complained, code) = folder.command(&["check"]);
    assert_eq!((complained.as_str(), code), ("", Some(0)), "{said}");
    let process = folder.run().await;
    let address: SocketAddr =
        process.says("the guard page is there").await.split("page=").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap();
    let mut client = crate::hop::Client::connect(process.address).await;
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
            GuardLinkKeys { url: String::new(), keys, lifetime: Duration::from_hours(1) }.open(value, clock::now()).is_ok()
        };
        assert!(opens(own) && !opens(other));
    }
    // Whichever key is the newest when it is opened: a click's record has the link, and the hash, that the mail's record has.
    let records = poll("three clicks on record", || {
        let records = read_records(&folder.audit());
        (records.iter().filter(|record| record["type"] == "click").count() == 3).then_some(records)
    })
    .await;
    let clicks: Vec<_> = records.iter().filter(|record| record["type"] == "click").collect();
    for click in clicks {
        let mail = records.iter().find(|record| record["type"] == "mail" && record["id"] == click["id"]).unwrap();
        assert!(click["link"]["hash"].is_string() && click["link"] == mail["one_time_links"][0], "{click} {mail}");
    }
    let (said, _, _) = folder.command(&["audit", "find", "--to", "bob@corp.example"]);
    assert!(said.contains("opened the guard page of https://login.vendor.test/reset/{40}, from"), "{said}");
    assert!(said.contains("another mail of this kind came at"), "{said}");
}

/// A machine of its own for the page: no listener for mails, the same keys.
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
    let sealed = GuardLink {
        link: LINK.into(),
        mail: "m".into(),
        entry: "e".into(),
        author: "vendor.test".into(),
        recipient: String::new(),
        at: now,
        until: now + Duration::from_hours(1),
    };
    let elsewhere = GuardLinkKeys { url: format!("http://{address}"), keys: vec![key], lifetime: Duration::from_hours(1) };
    let shown = ask("GET", &elsewhere.seal(&sealed).unwrap(), BROWSER, "").await;
    assert!(shown.status == 200 && shown.body.contains("login.vendor.test"), "{}", shown.body);
    process.signal("TERM");
    assert_eq!(process.ended().await, Some(0));
}
