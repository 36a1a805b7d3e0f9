//! The guard page in a real browser: Debian's Chromium, driven by `WebDriver`.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use firstclick::{
    edit::guard_link,
    http::Confirm,
    message::{
        Message,
        unwrap::{Unwrapped, unwrap},
    },
    testbed::{Signer, Site, Zone},
};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::hop::{Sink, hop, needs, page::Page, reset_mail};

/// A headless Chromium; it ends with the test.
struct Browser {
    driver: Child,
    base: String,
    session: String,
    _profile: TempDir,
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = call("DELETE", &format!("{}/session/{}", self.base, self.session), &Value::Null);
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}

fn call(method: &str, url: &str, body: &Value) -> Value {
    let config = ureq::Agent::config_builder().http_status_as_error(false).timeout_global(Some(Duration::from_mins(1))).build();
    let agent = ureq::Agent::new_with_config(config);
    let answer = match method {
        "POST" => agent.post(url).header("Content-Type", "application/json").send(body.to_string()),
        "DELETE" => agent.delete(url).call(),
        _ => agent.get(url).call(),
    };
    let text = answer.unwrap().body_mut().with_config().limit(64 << 20).read_to_string().unwrap();
    serde_json::from_str::<Value>(&text).unwrap()["value"].clone()
}

/// A chromedriver and its port; none where it ended at once.
fn driver() -> Option<(Child, u16)> {
    let mut command = Command::new("chromedriver");
    let mut driver = command.arg("--port=0").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut lines = BufReader::new(driver.stdout.take().unwrap()).lines();
    let port = lines
        .by_ref()
        .map_while(Result::ok)
        .find_map(|line| Some(line.split_once("successfully on port ")?.1.trim_end_matches('.').to_owned()));
    let Some(port) = port else {
        let _ = driver.wait();
        return None;
    };
    thread::spawn(move || lines.for_each(drop));
    Some((driver, port.parse().unwrap()))
}

impl Browser {
    fn start(language: &str) -> Option<Self> {
        needs("chromedriver")?;
        let profile = TempDir::new().unwrap();
        // It takes any port for one family of addresses, and ends where another program has it for the other.
        let (driver, port) = (0..5).find_map(|_| driver()).expect("chromedriver says its port");
        let base = format!("http://127.0.0.1:{port}");
        let arguments = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-dev-shm-usage",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            // The reader's names lead to this machine.
            "--host-resolver-rules=MAP *.vendor.test 127.0.0.1",
            &format!("--user-data-dir={}", profile.path().display()),
            &format!("--accept-lang={language}"),
        ];
        let wanted = json!({ "capabilities": { "alwaysMatch": { "goog:chromeOptions": {
            "args": arguments, "prefs": { "intl.accept_languages": language } } } } });
        let session = call("POST", &format!("{base}/session"), &wanted);
        let session = session["sessionId"].as_str().unwrap_or_else(|| panic!("no session: {session}")).to_owned();
        Some(Self { driver, base, session, _profile: profile })
    }

    fn post(&self, path: &str, body: &Value) -> Value {
        call("POST", &format!("{}/session/{}/{path}", self.base, self.session), body)
    }

    fn get(&self, path: &str) -> Value {
        call("GET", &format!("{}/session/{}/{path}", self.base, self.session), &Value::Null)
    }

    fn open(&self, url: &str) {
        self.post("url", &json!({ "url": url }));
    }

    fn source(&self) -> String {
        self.get("source").as_str().unwrap_or_default().to_owned()
    }

    /// Waits until the page shows `text`: a press ends when the browser has taken it, not when what it leads to is there.
    fn sees(&self, text: &str) {
        eventually(text, || self.source().contains(text), || self.source());
    }

    fn element(&self, css: &str) -> String {
        let found = self.post("element", &json!({ "using": "css selector", "value": css }));
        found.as_object().and_then(|ids| ids.values().next()).and_then(Value::as_str).unwrap_or_else(|| panic!("{css}: {found}")).to_owned()
    }

    fn press(&self, css: &str) {
        let element = self.element(css);
        self.post(&format!("element/{element}/click"), &json!({}));
    }

    fn script(&self, script: &str) -> Value {
        self.post("execute/sync", &json!({ "script": script, "args": [] }))
    }

    fn keys(&self, keys: &[&str]) {
        let actions: Vec<Value> =
            keys.iter().flat_map(|key| [json!({ "type": "keyDown", "value": key }), json!({ "type": "keyUp", "value": key })]).collect();
        self.post("actions", &json!({ "actions": [{ "type": "key", "id": "keyboard", "actions": actions }] }));
    }

    fn screenshot(&self, name: &str, width: u32, height: u32, scheme: &str) {
        self.post("goog/cdp/execute", &json!({ "cmd": "Emulation.setEmulatedMedia", "params": { "features": [{ "name": "prefers-color-scheme", "value": scheme }] } }));
        self.post("goog/cdp/execute", &json!({ "cmd": "Emulation.setDeviceMetricsOverride", "params": { "width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500 } }));
        let picture = BASE64.decode(self.get("screenshot").as_str().unwrap()).unwrap();
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/guard-screenshots");
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join(format!("{name}.png")), picture).unwrap();
        // Nothing stands beside the screen, whatever its width.
        assert_eq!(self.script("return document.documentElement.scrollWidth <= window.innerWidth"), json!(true), "{name}");
    }
}

/// Polls until `holds`, and says what `is` there instead when it does not come.
fn eventually(what: &str, holds: impl Fn() -> bool, is: impl Fn() -> String) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < crate::hop::PATIENCE, "{what} did not come: {}", is());
        thread::sleep(Duration::from_millis(20));
    }
}

/// Waits for the one visit of `token`.
fn visited(site: &Site, token: &str) {
    eventually("the visit", || site.visits(token) > 0, String::new);
    assert_eq!(site.visits(token), 1);
}

async fn page(confirm: Confirm) -> Page {
    Page::open(|config| {
        config.confirm = confirm;
        config.note = "Questions? Ask the service desk, extension 4711.".into();
    })
    .await
}

/// G1 with a browser that runs scripts: loading and waiting gets nowhere, a press gets to the link, once; by keyboard too.
#[tokio::test(flavor = "multi_thread")]
async fn g1_a_browser_that_waits_gets_nowhere_and_a_press_gets_to_the_link() {
    let (site, page) = (Site::serve().await.unwrap(), page(Confirm::Press).await);
    tokio::task::spawn_blocking(move || {
        let Some(browser) = Browser::start("de") else { return };
        let link = |token: &str| page.seal(&format!("http://127.0.0.1:{}/reset/{token}", site.port()));
        browser.open(&link("first"));
        assert_eq!(browser.script("return document.scripts.length"), json!(0));
        // What a sandbox does to a page: events, submits by script, and waiting for what the page does by itself.
        browser.script("window.dispatchEvent(new Event('load')); document.querySelector('form').dispatchEvent(new Event('submit'));");
        let waited = browser.post("execute/async", &json!({ "script": "setTimeout(arguments[0], 3000)", "args": [] }));
        assert_eq!((waited, site.visits("first")), (Value::Null, 0), "nobody pressed");
        assert!(browser.source().contains("Weiter zu"), "in the reader's language: {}", browser.source());
        browser.press("button");
        browser.sees("Choose a new password.");
        visited(&site, "first");

        // By keyboard alone: Tab to the button, Enter.
        browser.open(&link("second"));
        browser.keys(&["\u{e004}", "\u{e007}"]);
        visited(&site, "second");

        browser.open(&link("third"));
        for (device, width, height) in [("phone", 390, 844), ("desktop", 1280, 800)] {
            for scheme in ["light", "dark"] {
                browser.screenshot(&format!("{device}-{scheme}"), width, height, scheme);
            }
        }
        assert_eq!(site.visits("third"), 0);
    })
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sender_is_chosen_among_three() {
    let (site, page) = (Site::serve().await.unwrap(), page(Confirm::Choose).await);
    tokio::task::spawn_blocking(move || {
        let Some(browser) = Browser::start("ar") else { return };
        browser.open(&page.seal(&format!("http://127.0.0.1:{}/reset/token", site.port())));
        assert_eq!(browser.script("return document.dir"), json!("rtl"));
        browser.screenshot("choose-arabic", 390, 844, "light");
        let wrong = browser.script("return [...document.querySelectorAll('button')].findIndex(b => b.textContent != 'vendor.test') + 1");
        browser.press(&format!("button:nth-of-type({wrong})"));
        browser.sees("role=\"alert\"");
        assert_eq!(site.visits("token"), 0);
        let right = browser.script("return [...document.querySelectorAll('button')].findIndex(b => b.textContent == 'vendor.test') + 1");
        browser.press(&format!("button:nth-of-type({right})"));
        browser.sees("Choose a new password.");
        visited(&site, "token");
    })
    .await
    .unwrap();
}

/// hop + guard + a rewriter that wraps every link and fetches it, as Safe Links does: the person's press ends at the
/// original link, unused until then.
#[tokio::test(flavor = "multi_thread")]
async fn behind_a_scanner_that_wraps_and_fetches_the_link_is_unused() {
    let (zone, site, page) = (Zone::serve().await.unwrap(), Site::serve().await.unwrap(), page(Confirm::Press).await);
    let vendor = Signer::publish(&zone, "vendor.test").unwrap();
    let sink = Sink::start().await;
    let entry = format!(
        "from = [\"vendor.test\"]\nother_links = [\"www.vendor.test\"]\nowner = \"it@corp.example\"\naction = \"guard\"\n[links]\npassword_reset = [\"http://login.vendor.test:{}/reset/{{token}}\"]\n",
        site.port()
    );
    let hop = hop().allow("vendor", &entry).asking(&zone).with_guard(Arc::clone(&page.guard_links)).next_hop(&sink).start().await;
    let mail = reset_mail().replace("https://login.vendor.test/reset/", &format!("http://login.vendor.test:{}/reset/", site.port()));
    let token = mail.split("/reset/").nth(1).unwrap().split_whitespace().next().unwrap().to_owned();
    let mail = vendor.sign(&mail).unwrap();
    assert!(hop.send("<bounce@vendor.test>", &["<bob@corp.example>"], mail.as_bytes()).await.starts_with("250"));
    let arrived = sink.mail(1).await.data;
    let links: Vec<String> = Message::read(&arrived).content().links.iter().map(|found| found.link.expose().to_owned()).collect();
    let guarded = links
        .iter()
        .find(|link| link.contains(guard_link::PATH))
        .unwrap_or_else(|| panic!("{}", String::from_utf8_lossy(&arrived)))
        .clone();
    tokio::task::spawn_blocking(move || {
        // The scanner opens it twice, and wraps it.
        for method in ["GET", "HEAD"] {
            let agent = ureq::Agent::new_with_defaults();
            let answer = if method == "GET" { agent.get(&guarded).call() } else { agent.head(&guarded).call() };
            assert_eq!(answer.unwrap().status(), 200, "{method}");
        }
        let encoded: String = url::form_urlencoded::byte_serialize(guarded.as_bytes()).collect();
        let wrapped = format!("https://eur01.safelinks.protection.outlook.com/?url={encoded}&data=05&reserved=0");
        assert_eq!(site.visits(&token), 0);
        // The reader clicks the wrapped link; Safe Links sends the browser on to what it wrapped.
        let Unwrapped::Original { link, .. } = unwrap(&wrapped) else { panic!("{wrapped}") };
        let Some(browser) = Browser::start("en") else { return };
        browser.open(&link);
        assert!(browser.source().contains("login.vendor.test"), "{}", browser.source());
        assert_eq!(site.visits(&token), 0);
        browser.press("button");
        browser.sees("Choose a new password.");
        visited(&site, &token);
    })
    .await
    .unwrap();
}
