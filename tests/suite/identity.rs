//! Who sent a mail, over a DNS that is served here: what the RFCs call invalid proves nothing, and its twin does.
//!
//! Each table has the valid twin beside the invalid one. Rows of public reports bear their numbers (`B06`), findings of the
//! security review theirs (`C4`, `H5`).

use std::{
    net::IpAddr,
    time::{Duration, Instant},
};

use firstclick::{
    identity::{
        Arrival, Authenticator, Network, Peer,
        proof::{AuthResult, Coverage, Identity, KnownBy, Mechanism, Weakness},
    },
    message::{Domain, Message},
    testbed::Zone,
};

use crate::hop::dkim::{Key, Signing};

pub(crate) const H: &str = "from:to:subject:date:message-id";
pub(crate) const DEADLINE: Duration = Duration::from_secs(4);

pub(crate) fn mail(from: &str) -> String {
    let date = firstclick::clock::rfc5322(firstclick::clock::now());
    format!(
        "From: Bank <support@{from}>\r\nTo: bob@corp.example\r\nSubject: Reset your password\r\nDate: {date}\r\nMessage-ID: <1@{from}>\r\n\r\nhello\r\n"
    )
}

pub(crate) fn domain(text: &str) -> Domain {
    Domain::parse(text).unwrap()
}

pub(crate) fn signing(text: &str) -> Signing {
    toml::from_str(text).unwrap()
}

pub(crate) struct Scene {
    pub(crate) zone: Zone,
    pub(crate) key: Key,
    pub(crate) asking: Authenticator,
}

impl Scene {
    pub(crate) async fn set() -> Self {
        let zone = Zone::serve().await.unwrap();
        let key = Key::make();
        for name in ["bank.test", "mail.bank.test", "tenant42.bank.test", "mg.bank.test", "attack.test", "list.test"] {
            zone.publish(&format!("s1._domainkey.{name}"), format!("v=DKIM1; k=rsa; p={}", key.public()));
        }
        zone.publish("_dmarc.bank.test", "v=DMARC1; p=reject");
        zone.publish("_dmarc.attack.test", "v=DMARC1; p=reject");
        zone.publish("bank.test", "v=spf1 ip4:192.0.2.10 -all");
        let asking =
            Authenticator::here(&[zone.address()], DEADLINE, vec![Network::parse("127.0.0.0/8").unwrap()], "hop.test".into()).unwrap();
        Self { zone, key, asking }
    }

    pub(crate) async fn ask(&self, mail: &str, signers: &[Domain]) -> Identity {
        self.asking.identify(&Message::read(mail.as_bytes()), arrival("198.51.100.1", "bounce@attack.test"), signers).await
    }

    pub(crate) fn signed(&self, tags: &str) -> String {
        self.key.sign_field(tags, H, None, &mail("bank.test"))
    }
}

pub(crate) fn arrival<'a>(client: &str, reverse_path: &'a str) -> Arrival<'a> {
    Arrival { peer: Peer::Host(client.parse().unwrap()), helo: "a.test", reverse_path, at: firstclick::clock::now() }
}

/// Why the only signature is no proof; none where it is one.
pub(crate) fn weakness(identity: &Identity) -> Option<Weakness> {
    let [signature] = identity.dkim.as_slice() else { panic!("{identity:?}") };
    assert_eq!(signature.is_proof(), signature.weakness.is_none(), "{identity:?}");
    signature.weakness
}

#[tokio::test(flavor = "multi_thread")]
async fn signatures() {
    let scene = Scene::set().await;
    let now = firstclick::clock::now().as_second();
    let malformed = Some(Weakness::Malformed);
    let common = "a=rsa-sha256; d=bank.test; s=s1; h=from:to:subject:date:message-id; bh={bh}; b={b}";
    let rows = [
        ("plain", format!("v=1; {common}"), None),
        ("folded", format!("v=1;\r\n\t{}", common.replace("; ", ";\r\n\t")), None),
        ("an end with a semicolon", format!("v=1; {common};"), None),
        ("B193: without v=", common.to_owned(), malformed),
        ("v=2", format!("v=2; {common}"), malformed),
        ("v=01", format!("v=01; {common}"), malformed),
        ("B192: without a=", format!("v=1; {}", common.replace("a=rsa-sha256; ", "")), malformed),
        ("a= of another time", format!("v=1; {}", common.replace("sha256", "sha512")), malformed),
        ("without b= but B=", format!("v=1; {}", common.replace(" b=", " B=")), malformed),
        ("M8: a repeated tag", format!("v=1; d=attack.test; {common}"), malformed),
        ("a repeated tag behind", format!("v=1; {common}; d=attack.test"), malformed),
        ("two spellings", format!("v=1; D=attack.test; {common}"), malformed),
        ("two spellings, one with a blank", format!("v=1; d =attack.test; {common}"), malformed),
        ("a name with a blank inside", format!("v=1; {}", common.replace("bh=", "b h=")), malformed),
        ("an empty tag between", format!("v=1;; {common}"), malformed),
        ("a word without =", format!("v=1; x; {common}"), malformed),
        ("d= with blanks", format!("v=1; {}", common.replace("d=bank.test", "d \t=  bank.test ")), None),
        ("d= in capitals", format!("v=1; {}", common.replace("d=bank.test", "d=BANK.test")), None),
        ("an unknown tag", format!("v=1; zz=1; {common}"), None),
        ("c=", format!("v=1; c=simple; {common}"), None),
        ("c= of another kind", format!("v=1; c=loose/simple; {common}"), malformed),
        ("q=", format!("v=1; q=dns/txt; {common}"), None),
        ("q= of another kind", format!("v=1; q=http; {common}"), malformed),
        ("h= with blanks around colons", format!("v=1; {}", common.replace("from:to:", "from : to :")), None),
        ("h= with an empty name", format!("v=1; {}", common.replace("from:to:", "from::to:")), malformed),
        ("i=", format!("v=1; i=@bank.test; {common}"), None),
        ("i= below d=", format!("v=1; i=a@b.bank.test; {common}"), None),
        ("i= elsewhere", format!("v=1; i=@attack.test; {common}"), malformed),
        ("i= above d=", format!("v=1; i=@test; {common}"), malformed),
        ("i= without @", format!("v=1; i=bank.test; {common}"), malformed),
        ("t=", format!("v=1; t={now}; {common}"), None),
        ("t= that is no number", format!("v=1; t=now; {common}"), malformed),
        ("t= of tomorrow", format!("v=1; t={}; {common}", now + 86_400), Some(Weakness::OutOfTime)),
        ("x=", format!("v=1; t={now}; x={}; {common}", now + 60), None),
        ("x= past", format!("v=1; t={}; x={}; {common}", now - 99, now - 60), Some(Weakness::OutOfTime)),
        ("x= in front of t=", format!("v=1; t={now}; x={now}; {common}"), malformed),
        ("l=", format!("v=1; l=7; {common}"), Some(Weakness::BodyLength)),
        ("l=0", format!("v=1; l=0; {common}"), Some(Weakness::BodyLength)),
        ("rsa-sha1", format!("v=1; {}", common.replace("rsa-sha256", "rsa-sha1")), Some(Weakness::Sha1)),
        ("a selector with an empty label", format!("v=1; {}", common.replace("s=s1", "s=s1.")), Some(Weakness::Name)),
        ("a key that is not there", format!("v=1; {}", common.replace("s=s1", "s=s9")), Some(Weakness::KeyMissing)),
        ("another body hash", format!("v=1; {}", common.replace("{bh}", "YWJj")), Some(Weakness::BodyHash)),
        ("another signature", format!("v=1; {}", common.replace("{b}", "YWJj")), Some(Weakness::Forged)),
    ];
    for (what, field, right) in rows {
        let identity = scene.ask(&scene.signed(&field), &[]).await;
        assert_eq!(weakness(&identity), right, "{what}: {identity:?}");
        assert_eq!(identity.dmarc, if right.is_none() { AuthResult::Pass } else { AuthResult::Fail }, "{what}");
    }
    for (h, right) in [
        ("from:from:to:subject:subject", None),
        ("From:Subject", None),
        ("to:subject", Some(Weakness::FromUnsigned)),
        ("from:to", Some(Weakness::SubjectUnsigned)),
    ] {
        let identity = scene.ask(&scene.key.sign(&signing(&format!("h = \"{h}\"")), &mail("bank.test")), &[]).await;
        assert_eq!(weakness(&identity), right, "{h}");
        let names = h.to_lowercase().split(':').map(str::to_owned).collect();
        assert_eq!(identity.dkim[0].coverage, Coverage::Fields(names), "{h}");
        assert_ne!(identity.dkim[0].id, [0; 32], "{h}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn keys() {
    let scene = Scene::set().await;
    let p = scene.key.public();
    let signed = scene.signed("v=1; a=rsa-sha256; d=bank.test; s=k1; i=@mail.bank.test; h=from:to:subject:date:message-id; bh={bh}; b={b}");
    for (what, texts, right) in [
        ("plain", vec![format!("v=DKIM1; k=rsa; p={p}")], None),
        ("B06: s= of another service", vec![format!("v=DKIM1; s=tlsrpt; p={p}")], Some(Weakness::KeyService)),
        ("s=email", vec![format!("v=DKIM1; s=email; p={p}")], None),
        ("B07: h=sha1", vec![format!("v=DKIM1; h=sha1; p={p}")], Some(Weakness::KeyHash)),
        ("h=sha1:sha256", vec![format!("v=DKIM1; h=sha1:sha256; p={p}")], None),
        ("B07c: v= not first", vec![format!("k=rsa; v=DKIM1; p={p}")], Some(Weakness::KeyRecord)),
        ("without v=", vec![format!("k=rsa; p={p}")], None),
        ("two records", vec![format!("v=DKIM1; p={p}"), format!("v=DKIM1; p={p}")], Some(Weakness::KeySeveral)),
        ("t=y", vec![format!("v=DKIM1; t=y; p={p}")], Some(Weakness::TestingKey)),
        ("t=s, and i= below d=", vec![format!("v=DKIM1; t=s; p={p}")], Some(Weakness::KeyStrict)),
        ("k=ed25519", vec![format!("v=DKIM1; k=ed25519; p={p}")], Some(Weakness::KeyType)),
        ("revoked", vec!["v=DKIM1; p=".into()], Some(Weakness::KeyRevoked)),
        ("no key inside", vec!["v=DKIM1; p=YWJj".into()], Some(Weakness::Forged)),
        ("no base64", vec!["v=DKIM1; p=!".into()], Some(Weakness::KeyRecord)),
        ("a repeated tag", vec![format!("v=DKIM1; p=YWJj; p={p}")], Some(Weakness::KeyRecord)),
    ] {
        // A name of its own for each, because the resolver remembers.
        let selector = format!("k{}", what.bytes().map(u32::from).sum::<u32>());
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        scene.zone.publish_several(&format!("{selector}._domainkey.bank.test"), &texts);
        let field = format!("v=1; a=rsa-sha256; d=bank.test; s={selector}; i=@mail.bank.test; h={H}; bh={{bh}}; b={{b}}");
        let identity = scene.ask(&scene.signed(&field), &[]).await;
        assert_eq!(weakness(&identity), right, "{what}: {identity:?}");
    }
    assert_eq!(weakness(&scene.ask(&signed, &[]).await), Some(Weakness::KeyMissing));
    scene.zone.fail("k9._domainkey.bank.test");
    let failing = scene.ask(&scene.key.sign(&signing("s = \"k9\""), &mail("bank.test")), &[]).await;
    assert_eq!(
        (weakness(&failing), failing.dkim[0].result, failing.dmarc),
        (Some(Weakness::NoAnswer), AuthResult::TempError, AuthResult::TempError)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn h5_who_speaks_for_an_author() {
    let scene = Scene::set().await;
    scene.zone.publish("_dmarc.strict.test", "v=DMARC1; p=reject; adkim=s");
    for name in ["strict.test", "mail.strict.test", "none.test"] {
        scene.zone.publish(&format!("s1._domainkey.{name}"), format!("v=DKIM1; p={}", scene.key.public()));
    }
    let not = Some(Weakness::NotTheAuthors);
    for (from, signer, signers, right, aligned) in [
        ("bank.test", "bank.test", &[][..], None, true),
        ("mail.bank.test", "bank.test", &[], None, true),
        ("bank.test", "tenant42.bank.test", &[], not, false),
        ("bank.test", "mg.bank.test", &["mg.bank.test"], None, true),
        ("bank.test", "tenant42.bank.test", &["mg.bank.test"], not, false),
        ("mail.bank.test", "mg.bank.test", &[], not, false),
        ("bank.test", "attack.test", &[], not, false),
        // Named by the entry, and yet not of the organisation: a proof that does not align.
        ("bank.test", "attack.test", &["attack.test"], None, false),
        ("strict.test", "strict.test", &[], None, true),
        ("mail.strict.test", "strict.test", &[], None, false),
        ("none.test", "none.test", &[], None, false),
    ] {
        let signed = scene.key.sign(&signing(&format!("d = \"{signer}\"")), &mail(from));
        let signers: Vec<Domain> = signers.iter().map(|name| domain(name)).collect();
        let identity = scene.ask(&signed, &signers).await;
        assert_eq!((weakness(&identity), identity.dkim[0].aligned), (right, aligned), "{from} by {signer}: {identity:?}");
        let dmarc = match (from, aligned) {
            ("none.test", _) => AuthResult::None,
            (_, true) => AuthResult::Pass,
            (_, false) => AuthResult::Fail,
        };
        assert_eq!(identity.dmarc, dmarc, "{from} by {signer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn policies() {
    let scene = Scene::set().await;
    let one = &["v=DMARC1; p=reject"][..];
    let two = &["v=DMARC1; p=reject", "v=DMARC1; p=none"][..];
    let rows = [
        ("its own and its organisation's", one, one, AuthResult::Pass),
        // The walk of RFC 9989 section 4.10.2 ends at the highest record: the name is an organisation of its own.
        ("its own alone", one, &[][..], AuthResult::Fail),
        ("its organisation's", &[], one, AuthResult::Pass),
        ("none", &[], &[], AuthResult::None),
        ("B25e: two at the organisation", &[], two, AuthResult::None),
        ("two at its own name, one at the organisation", two, one, AuthResult::Pass),
        ("two at its own name", two, &[], AuthResult::None),
        ("a version in small letters", &[], &["v=dmarc1; p=reject"], AuthResult::None),
        ("no policy that is one", &["v=DMARC1; p=oops"], one, AuthResult::PermError),
        ("two policies in one record", &[], &["v=DMARC1; p=reject; p=none"], AuthResult::PermError),
        ("a strict one", &["v=DMARC1; p=reject; adkim=s"], one, AuthResult::Fail),
    ];
    for (at, (what, own, organisation, right)) in rows.into_iter().enumerate() {
        let organisation_name = format!("p{at}.test");
        let name = format!("mail.{organisation_name}");
        scene.zone.publish(&format!("s1._domainkey.{organisation_name}"), format!("v=DKIM1; p={}", scene.key.public()));
        for (name, texts) in [(&name, own), (&organisation_name, organisation)] {
            if !texts.is_empty() {
                scene.zone.publish_several(&format!("_dmarc.{name}"), texts);
            }
        }
        let signed = scene.key.sign(&signing(&format!("d = \"{organisation_name}\"")), &mail(&name));
        let identity = scene.ask(&signed, &[]).await;
        assert_eq!(identity.dmarc, right, "{what}: {identity:?}");
        assert_eq!(identity.dkim[0].aligned, right == AuthResult::Pass, "{what}");
        let unsigned = scene.ask(&mail(&name), &[]).await;
        let expected = if right == AuthResult::Pass { AuthResult::Fail } else { right };
        assert_eq!(unsigned.dmarc, expected, "{what}, unsigned");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn senders_by_spf() {
    let scene = Scene::set().await;
    let zone = &scene.zone;
    zone.publish_addresses("host.test", &["192.0.2.10", "2001:db8::10"]);
    zone.publish_addresses("near.test", &["192.0.2.99"]);
    zone.publish_exchanges("taking.test", &["mx1.test", "host.test"]);
    zone.publish_addresses("mx1.test", &["192.0.2.1"]);
    zone.publish_exchanges("crowd.test", &["a.crowd.test"; 11]);
    zone.publish_names("192.0.2.10".parse().unwrap(), &["liar.other.test", "host.named.test"]);
    zone.publish_addresses("host.named.test", &["192.0.2.10"]);
    zone.publish_addresses("10.2.0.192.in-addr.list.test", &["127.0.0.2"]);
    zone.publish("pass.test", "v=spf1 ip4:192.0.2.10 -all");
    zone.publish("open.test", "v=spf1 +all");
    zone.publish("closed.test", "v=spf1 -all");
    zone.publish("silent.test", "v=spf1 a:dark.test ip4:192.0.2.10 -all");
    zone.silence("dark.test");
    zone.publish("loop.test", "v=spf1 include:loop.test");
    let (pass, fail, none) = (AuthResult::Pass, AuthResult::Fail, AuthResult::None);
    let (permerror, temperror, neutral) = (AuthResult::PermError, AuthResult::TempError, AuthResult::Neutral);
    let address = Some(Mechanism::Address);
    let rows: &[(&[&str], AuthResult, Option<Mechanism>)] = &[
        (&["v=spf1 ip4:192.0.2.10 -all"], pass, address),
        (&["v=spf1 ip4:192.0.2.0/24 -all"], pass, address),
        (&["v=spf1 ip4:192.0.2.0/33 -all"], permerror, None),
        (&["v=spf1 ip4:192.0.2.10 ip4:192.0.2.0/33"], permerror, None),
        (&["v=spf1 a:host.test -all"], pass, address),
        (&["v=spf1 a:near.test -all"], fail, Some(Mechanism::All)),
        (&["v=spf1 a:near.test/24 -all"], pass, address),
        (&["v=spf1 mx:taking.test -all"], pass, address),
        (&["v=spf1 mx:crowd.test -all"], permerror, None),
        (&["v=spf1 include:pass.test -all"], pass, address),
        (&["v=spf1 include:closed.test -all"], fail, Some(Mechanism::All)),
        (&["v=spf1 include:open.test -all"], pass, Some(Mechanism::All)),
        (&["v=spf1 include:nowhere.test -all"], permerror, None),
        (&["v=spf1 redirect=pass.test"], pass, address),
        (&["v=spf1 redirect=closed.test"], fail, Some(Mechanism::All)),
        (&["v=spf1 redirect=nowhere.test"], permerror, None),
        (&["v=spf1 redirect=pass.test ?all"], neutral, Some(Mechanism::All)),
        (&["v=spf1 +all"], pass, Some(Mechanism::All)),
        (&["v=spf1 ~all"], AuthResult::SoftFail, Some(Mechanism::All)),
        (&["v=spf1"], neutral, None),
        (&["v=spf1 ptr:named.test -all"], pass, Some(Mechanism::Ptr)),
        (&["v=spf1 ptr:other.test -all"], fail, Some(Mechanism::All)),
        (&["v=spf1 exists:%{ir}.%{v}.list.test -all"], pass, Some(Mechanism::Exists)),
        (&["v=spf1 exists:%{ir}.%{v}.nolist.test -all"], fail, Some(Mechanism::All)),
        (&["v=spf1 exists:%{x}.list.test -all"], permerror, None),
        (&["v=spf1 allow:192.0.2.10 -all"], permerror, None),
        (&["v=spf1 note=whatever ip4:192.0.2.10 -all"], pass, address),
        // B44, M8: two records.
        (&["v=spf1 ip4:192.0.2.10 -all", "v=spf1 ip4:192.0.2.10 -all"], permerror, None),
        (&["a note", "v=spf1 ip4:192.0.2.10 -all"], pass, address),
        (&["v=spf10 ip4:192.0.2.10"], none, None),
        // Bounds: ten terms that ask, two answers without records.
        (&["v=spf1 include:loop.test -all"], permerror, None),
        (&["v=spf1 a:n1.test a:n2.test ip4:192.0.2.10"], pass, address),
        (&["v=spf1 a:n1.test a:n2.test a:n3.test ip4:192.0.2.10"], permerror, None),
        (
            &[
                "v=spf1 a:near.test a:near.test a:near.test a:near.test a:near.test a:near.test a:near.test a:near.test a:near.test a:near.test ip4:192.0.2.10",
            ],
            pass,
            address,
        ),
        (
            &[
                "v=spf1 a:near.test a:near.test a:near.test a:near.test a:near.test a:near.test a:near.test a:near.test a:near.test a:near.test a:host.test",
            ],
            permerror,
            None,
        ),
        (&["v=spf1 redirect=silent.test"], temperror, None),
    ];
    for (at, (texts, result, by)) in rows.iter().enumerate() {
        let name = format!("r{at}.test");
        zone.publish_several(&name, texts);
        let path = format!("bounce@{name}");
        let started = Instant::now();
        let spf = scene.asking.spf(&Message::read(mail("bank.test").as_bytes()), arrival("192.0.2.10", &path)).await;
        assert_eq!((spf.result, spf.by), (*result, *by), "{texts:?}");
        assert_eq!(spf.domain, Some(domain(&name)), "{texts:?}");
        assert!(started.elapsed() < DEADLINE, "{texts:?}: one silent name costs one look-up");
    }
    // IPv6, and the null path, for which HELO counts.
    zone.publish("six.test", "v=spf1 a:host.test//64 -all");
    let message = mail("bank.test");
    let message = Message::read(message.as_bytes());
    let six = scene.asking.spf(&message, arrival("2001:db8::77", "a@six.test")).await;
    assert_eq!((six.result, six.by), (pass, address));
    let null = scene.asking.spf(&message, Arrival { helo: "pass.test", ..arrival("192.0.2.10", "") }).await;
    assert_eq!((null.result, null.domain), (pass, Some(domain("pass.test"))));
}

#[tokio::test(flavor = "multi_thread")]
async fn spf_is_asked_where_dmarc_needs_it_and_nowhere_else() {
    let scene = Scene::set().await;
    let unsigned = mail("bank.test");
    let unsigned = Message::read(unsigned.as_bytes());
    let ask = |client: &'static str, path: &'static str| scene.asking.identify(&unsigned, arrival(client, path), &[]);
    let own = ask("192.0.2.10", "bounce@bank.test").await;
    assert_eq!((own.dmarc, own.spf.unwrap().result), (AuthResult::Pass, AuthResult::Pass));
    let foreign = ask("198.51.100.1", "bounce@bank.test").await;
    assert_eq!((foreign.dmarc, foreign.spf.unwrap().result), (AuthResult::Fail, AuthResult::Fail));
    let other = ask("192.0.2.10", "bounce@attack.test").await;
    assert_eq!((other.dmarc, other.spf), (AuthResult::Fail, None));
    let signed = scene.key.sign(&signing(""), &mail("bank.test"));
    let proven = scene.asking.identify(&Message::read(signed.as_bytes()), arrival("192.0.2.10", "bounce@bank.test"), &[]).await;
    assert_eq!((proven.dmarc, proven.spf), (AuthResult::Pass, None));
}

#[tokio::test(flavor = "multi_thread")]
async fn h6_one_silent_name_costs_one_look_up() {
    let scene = Scene::set().await;
    scene.zone.silence("s1._domainkey.dark.test");
    scene.zone.silence("dark.test");
    scene.zone.silence("s9._domainkey.bank.test");
    let genuine = scene.key.sign(&signing(""), &mail("bank.test"));
    // A stranger's silent domain is not looked up at all, nor is the SPF of a stranger's envelope.
    let with_stranger = scene.key.sign(&signing("d = \"dark.test\""), &genuine);
    let started = Instant::now();
    let message = Message::read(with_stranger.as_bytes());
    let identity = scene.asking.identify(&message, arrival("198.51.100.1", "x@dark.test"), &[]).await;
    assert!(identity.proofs().any(|signature| signature.aligned), "{identity:?}");
    assert!(started.elapsed() < Duration::from_millis(500), "{:?}", started.elapsed());
    // A second signature of the author's own name, whose key is silent, fails alone.
    let with_own = scene.key.sign(&signing("s = \"s9\""), &genuine);
    let started = Instant::now();
    let identity = scene.ask(&with_own, &[]).await;
    assert!(identity.proofs().any(|signature| signature.aligned), "{identity:?}");
    assert_eq!(identity.dkim[0].weakness, Some(Weakness::NoAnswer));
    assert!(started.elapsed() < DEADLINE / 2 + Duration::from_millis(500), "{:?}", started.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn past_the_bound_nobody_waits() {
    let silent = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let asking = Authenticator::here(&[silent.local_addr().unwrap()], DEADLINE, vec![], "hop.test".into()).unwrap().asking_at_most(20);
    let asking = std::sync::Arc::new(asking);
    let key = Key::make();
    let signed = key.sign(&signing(""), &mail("bank.test"));
    let ask = |client: &'static str| {
        let (asking, signed) = (std::sync::Arc::clone(&asking), signed.clone());
        async move { asking.identify(&Message::read(signed.as_bytes()), arrival(client, "a@bank.test"), &[]).await }
    };
    let waiting = [tokio::spawn(ask("192.0.2.1")), tokio::spawn(ask("192.0.2.2"))];
    tokio::time::sleep(Duration::from_millis(300)).await;
    let started = Instant::now();
    let third = ask("192.0.2.3").await;
    assert!(third.trouble.unwrap().contains("too many") && started.elapsed() < Duration::from_millis(200));
    for task in waiting {
        assert_eq!(task.await.unwrap().dkim[0].weakness, Some(Weakness::NoAnswer));
    }
    assert_eq!(ask("192.0.2.3").await.trouble, None, "a place was given back");
}

#[tokio::test(flavor = "multi_thread")]
async fn c4_the_client_behind_a_trusted_upstream() {
    let scene = Scene::set().await;
    let client = async |peer: Peer, received: &str| {
        let mail = format!("Received: {received}; Wed, 25 Nov 2026 14:00:00 +0000\r\n{}", mail("bank.test"));
        let arrival = Arrival { peer, ..arrival("127.0.0.1", "a@attack.test") };
        scene.asking.identify(&Message::read(mail.as_bytes()), arrival, &[]).await.client.map(|client| (client.address, client.known_by))
    };
    let ip = |text: &str| text.parse::<IpAddr>().unwrap();
    let upstream = Peer::Host(ip("127.0.0.1"));
    let exim = "from [198.51.100.66] (helo=[192.0.2.10])\r\n\tby mx.corp.example with esmtp (Exim 4.96)\r\n\t(envelope-from <a@attack.test>)\r\n\tid 1";
    let notqmail = "from unknown (HELO [192.0.2.10]) (198.51.100.66)\r\n  by mx.corp.example with SMTP";
    let postfix = "from a.test (unknown [198.51.100.66])\r\n\tby mx.corp.example (Postfix) with ESMTP id 1\r\n\tfor <\"bob+[192.0.2.10]\"@corp.example>";
    let haraka = "from a.test (unknown [198.51.100.66])\r\n\tby mx.corp.example (Haraka/3.0.3) with ESMTP id 1\r\n\tenvelope-from <\"[192.0.2.10]\"@a.test>";
    for received in [exim, notqmail, postfix, haraka] {
        assert_eq!(client(upstream, received).await, Some((ip("198.51.100.66"), KnownBy::Received)), "{received}");
        let other = Peer::Host(ip("203.0.113.9"));
        assert_eq!(client(other, received).await, Some((ip("203.0.113.9"), KnownBy::Connection)), "no upstream of ours");
    }
    let forwarded = Peer::Forwarded { upstream: ip("127.0.0.1"), client: ip("::ffff:192.0.2.7") };
    assert_eq!(client(forwarded, exim).await, Some((ip("192.0.2.7"), KnownBy::Announced)));
    assert_eq!(client(Peer::Client(ip("192.0.2.8")), exim).await, Some((ip("192.0.2.8"), KnownBy::Told)));
    assert_eq!(client(Peer::TrustedUpstream, "from [192.0.2.10] by mx.corp.example with ESMTP").await, None);
}
