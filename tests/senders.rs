//! The great senders' mails, with the header lists that their signatures really have, and the same mails in wrong hands.
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

use std::{fs, path::Path};

use firstclick::testbed::Zone;
use serde::Deserialize;

use self::hop::{
    Client, Hop, Sink,
    dkim::{Key, Signing},
    hop, is_tagged,
};

/// One sender of `tests/senders/genuine.toml`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Sender {
    name: String,
    /// The From address.
    from: String,
    /// `d=`.
    d: String,
    /// `h=`, as seen in a genuine mail.
    h: String,
    /// MAIL FROM.
    mail_from: String,
    /// Fields that the mail has besides the usual ones.
    #[serde(default)]
    fields: String,
    /// The one-time link.
    link: String,
    /// Another link.
    other: String,
    /// The entry, for a service that the catalogue knows too little of; left out: the catalogue's.
    entry: Option<String>,
}

#[derive(Deserialize)]
struct Senders {
    sender: Vec<Sender>,
}

fn senders() -> Vec<Sender> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/senders/genuine.toml");
    let senders: Senders = toml::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    senders.sender
}

impl Sender {
    fn entry(&self) -> String {
        self.entry.clone().unwrap_or_else(|| format!("sender = \"{}\"\nowner = \"it@corp.example\"\naction = \"tag\"\n", self.name))
    }

    fn mail(&self, to: &str) -> String {
        let date = firstclick::clock::rfc5322(firstclick::clock::now());
        format!(
            "From: {}\r\nTo: {to}\r\nSubject: Please finish\r\nDate: {date}\r\nMessage-ID: <{}@{}>\r\n{}MIME-Version: 1.0\r\n\
             Content-Type: multipart/alternative; boundary=\"b1\"\r\n\r\n--b1\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n\
             Go on here:\r\n{}\r\n\r\n--b1\r\nContent-Type: text/html; charset=utf-8\r\n\r\n<html><body><p>\r\n\
             <a href=\"{}\">Go on</a></p><p><a href=\"{}\">Help</a></p></body></html>\r\n\r\n--b1--\r\n",
            self.from,
            firstclick::clock::id(),
            self.d,
            self.fields,
            self.link,
            self.link.replace('&', "&amp;"),
            self.other
        )
    }
}

struct Stage {
    zone: Zone,
    key: Key,
    hop: Hop,
    sink: Sink,
    sent: usize,
}

impl Stage {
    async fn start(sender: &Sender) -> Self {
        let zone = Zone::serve().await.unwrap();
        let key = Key::make();
        let author = sender.from.rsplit('@').next().unwrap();
        let envelope = sender.mail_from.rsplit('@').next().unwrap();
        for domain in [author, &sender.d, envelope, "other.customer.example"] {
            key.publish(&zone, domain);
        }
        let sink = Sink::start().await;
        let hop = hop()
            .allow(&sender.name, &sender.entry())
            .for_readers(&["corp.example", "corp.eu"], &["sales@corp.example: bob@corp.example"])
            .asking(&zone)
            .next_hop(&sink)
            .start()
            .await;
        Self { zone, key, hop, sink, sent: 0 }
    }

    /// Sends a mail from a host of 127.0.0.0/8; whether it is exempted, and what stopped it.
    async fn send(&mut self, client: [u8; 4], from: &str, rcpt: &str, mail: &str) -> Result<(), String> {
        let mut client = Client::from(client, self.hop.address).await.unwrap();
        client.greet().await;
        let reply = client.send(&format!("<{from}>"), &[&format!("<{rcpt}>")], mail.as_bytes()).await;
        assert!(reply.starts_with("250"), "{reply}");
        self.sent += 1;
        let arrived = self.sink.mail(self.sent).await.data;
        if is_tagged(&arrived) {
            return Ok(());
        }
        let record = self.hop.record(self.sent).await;
        let stopped = record["reasons"].as_array().unwrap().iter().find(|reason| reason["ok"] == false).cloned().unwrap_or_default();
        Err(format!("{}: {}", stopped["check"].as_str().unwrap_or_default(), stopped["detail"].as_str().unwrap_or_default()))
    }

    fn signed(&self, sender: &Sender, mail: &str) -> String {
        let signing: Signing = toml::from_str(&format!("d = {:?}\nh = {:?}", sender.d, sender.h)).unwrap();
        self.key.sign(&signing, mail)
    }
}

const HERE: [u8; 4] = [127, 0, 0, 1];
const ELSEWHERE: [u8; 4] = [127, 0, 0, 9];

#[tokio::test(flavor = "multi_thread")]
async fn genuine_mails_of_great_senders_are_exempted_and_replays_are_not() {
    let senders = senders();
    assert!(senders.len() >= 14, "{}", senders.len());
    for sender in &senders {
        let mut stage = Stage::start(sender).await;
        let name = &sender.name;
        let covers_to = sender.h.split(':').any(|field| field.eq_ignore_ascii_case("to"));
        // Addressed to the reader and sent straight.
        let genuine = stage.signed(sender, &sender.mail("bob@corp.example"));
        let outcome = stage.send(HERE, &sender.mail_from, "bob@corp.example", &genuine).await;
        assert_eq!(outcome, Ok(()), "{name}");
        // The same reader by another domain of the company's, and by a plus-address.
        let plus = stage.signed(sender, &sender.mail("bob+x@corp.eu"));
        assert_eq!(stage.send(HERE, &sender.mail_from, "bob@corp.example", &plus).await, Ok(()), "{name}: plus-address at another domain");
        // An alias that the file knows.
        let alias = stage.signed(sender, &sender.mail("sales@corp.example"));
        assert_eq!(stage.send(HERE, &sender.mail_from, "bob@corp.example", &alias).await, Ok(()), "{name}: alias");
        // Sent on from elsewhere with the reader in an unsigned To or Cc.
        let stolen = stage.signed(sender, &sender.mail("mallory@attack.test"));
        for (what, mail) in [
            ("Cc on top", format!("Cc: bob@corp.example\r\n{stolen}")),
            ("To on top", format!("To: bob@corp.example\r\n{stolen}")),
            ("To changed", stolen.replace("To: mallory@attack.test", "To: bob@corp.example")),
            ("as it was", stolen.clone()),
        ] {
            for from in [sender.mail_from.as_str(), "x@attack.test"] {
                let outcome = stage.send(ELSEWHERE, from, "bob@corp.example", &mail).await;
                assert!(outcome.is_err(), "{name}: {what} from elsewhere");
            }
        }
        // Another customer of the same mail provider: its host, its own MAIL FROM.
        let outcome = stage
            .send(HERE, "x@other.customer.example", "bob@corp.example", &stolen.replace("To: mallory@attack.test", "To: bob@corp.example"))
            .await;
        assert!(outcome.is_err(), "{name}: another customer of the provider");
        if !covers_to {
            // Once for each signature, and for one recipient.
            let once = stage.signed(sender, &sender.mail("ann@corp.example"));
            assert_eq!(stage.send(HERE, &sender.mail_from, "ann@corp.example", &once).await, Ok(()), "{name}: the first time");
            let again = once.replace("To: ann@corp.example", "To: bob@corp.example");
            assert!(stage.send(HERE, &sender.mail_from, "bob@corp.example", &again).await.is_err(), "{name}: for another reader");
            assert_eq!(
                stage.send(HERE, &sender.mail_from, "ann@corp.example", &once).await,
                Ok(()),
                "{name}: the same again, a reply was lost"
            );
        }
        // SPF that passes by what names no host of the sender's.
        for record in ["v=spf1 +all", "v=spf1 ptr:localhost +all", "v=spf1 exists:%{i}.spf.example ?all"] {
            if covers_to {
                break;
            }
            let mut stage = Stage::start(sender).await;
            stage.zone.publish(sender.mail_from.rsplit('@').next().unwrap(), record);
            let fresh = stage.signed(sender, &sender.mail("eve@corp.example"));
            assert!(stage.send(HERE, &sender.mail_from, "eve@corp.example", &fresh).await.is_err(), "{name}: {record}");
        }
    }
}
