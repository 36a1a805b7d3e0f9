//! What an upstream, or a sealer in front of it, says of a mail's sender: Authentication-Results (RFC 8601) and ARC (RFC 8617).

use firstclick::{
    identity::{
        Authenticator, Network, ResultsAt,
        proof::{AuthResult, Coverage, Identity, Source, Weakness},
    },
    message::{Domain, Message},
};

use crate::hop::dkim::ArcSigner;

use crate::identity::{H, Scene, arrival, domain, mail, signing, weakness};

const RECEIVED: &str =
    "Received: from a.test (b.test [198.51.100.66]) by mx.corp.example (Postfix) with ESMTP; Wed, 25 Nov 2026 14:00:00 +0000\r\n";
const OLD: &str = "Received: from x.test (x.test [203.0.113.1]) by a.test (Postfix) with ESMTP; Wed, 25 Nov 2026 13:00:00 +0000\r\n";

fn upstream(at: ResultsAt, names: &[&str]) -> Authenticator {
    let trusted = vec![Network::parse("127.0.0.0/8").unwrap()];
    Authenticator::upstream(names.iter().map(|name| (*name).to_owned()).collect(), trusted, "hop.test".into()).with_results(at)
}

async fn told_with(asking: &Authenticator, mail: &str, signers: &[Domain]) -> Identity {
    asking.identify(&Message::read(mail.as_bytes()), arrival("127.0.0.1", "a@bank.test"), signers).await
}

/// What a DKIM-Signature says, without a signature that verifies: the upstream has done that.
fn field(tags: &str) -> String {
    format!("DKIM-Signature: v=1; a=rsa-sha256; bh=YWJj; {tags}\r\n")
}

#[tokio::test]
async fn what_an_upstream_says_is_matched_with_the_signatures_own_field() {
    let asking = upstream(ResultsAt::AboveReceived, &["mx.corp.example"]);
    let now = firstclick::clock::now().as_second();
    let plain = field(&format!("d=bank.test; s=s1; t={now}; h={H}; b=QUJDREVGR0hJSktM"));
    let dmarc = "dmarc=pass header.from=bank.test";
    let rows = [
        ("plain", format!("dkim=pass header.d=bank.test header.s=s1; {dmarc}"), plain.clone(), None, true),
        ("B145: header.i without header.d", format!("dkim=pass header.i=@bank.test; {dmarc}"), plain.clone(), None, true),
        ("header.i with a local part", format!("dkim=pass header.i=joe@bank.test; {dmarc}"), plain.clone(), None, true),
        ("header.i with a quoted local part", format!("dkim=pass header.i=\"joe s\"@bank.test; {dmarc}"), plain.clone(), None, true),
        ("header.i of another", format!("dkim=pass header.i=@attack.test; {dmarc}"), plain.clone(), Some(Weakness::NoField), false),
        (
            "Cisco's d= behind dmarc",
            "dkim=pass header.i=@bank.test; dmarc=pass (p=reject dis=none) d=bank.test".into(),
            plain.clone(),
            None,
            true,
        ),
        ("dmarc of another author", "dkim=pass header.d=bank.test; dmarc=pass header.from=attack.test".into(), plain.clone(), None, false),
        ("header.b of it", format!("dkim=pass header.d=bank.test header.b=QUJDREVG; {dmarc}"), plain.clone(), None, true),
        (
            "header.b of another",
            format!("dkim=pass header.d=bank.test header.b=XXXXXXXX; {dmarc}"),
            plain.clone(),
            Some(Weakness::NoField),
            false,
        ),
        (
            "header.s of another",
            format!("dkim=pass header.d=bank.test header.s=s2; {dmarc}"),
            plain.clone(),
            Some(Weakness::NoField),
            false,
        ),
        ("no field at all", format!("dkim=pass header.d=bank.test; {dmarc}"), String::new(), Some(Weakness::NoField), false),
        ("neither d nor i", format!("dkim=pass; {dmarc}"), plain.clone(), Some(Weakness::NoField), false),
        ("H4: l=", format!("dkim=pass header.d=bank.test; {dmarc}"), plain.replace(" h=", " l=10; h="), Some(Weakness::BodyLength), false),
        (
            "H4: Subject not covered",
            format!("dkim=pass header.d=bank.test; {dmarc}"),
            plain.replace(":subject", ""),
            Some(Weakness::SubjectUnsigned),
            false,
        ),
        (
            "past x=",
            format!("dkim=pass header.d=bank.test; {dmarc}"),
            plain.replace(&format!("t={now}"), "t=1000; x=2000"),
            Some(Weakness::OutOfTime),
            false,
        ),
        (
            "a better one beside the one with l=",
            format!("dkim=pass header.d=bank.test; {dmarc}"),
            format!("{plain}{}", field("d=bank.test; s=s1; l=1; h=from:subject; b=WFla")),
            Some(Weakness::BodyLength),
            false,
        ),
        (
            "a better one beside one that can be read in two ways",
            format!("dkim=pass header.d=bank.test; {dmarc}"),
            format!("{plain}{}", field("d=bank.test; D=bank.test; s=s1; h=from:subject; b=WFla")),
            Some(Weakness::Unclear),
            false,
        ),
        (
            "one that can be read in two ways, of another signer",
            format!("dkim=pass header.d=bank.test; {dmarc}"),
            format!("{plain}{}", field("d=news.test; D=news.test; s=s1; h=from:subject; b=WFla")),
            None,
            true,
        ),
        (
            "one with a time beside one without",
            format!("dkim=pass header.d=bank.test; {dmarc}"),
            format!("{plain}{}", field("d=bank.test; s=s1; h=from:subject; b=WFla")),
            Some(Weakness::Unclear),
            false,
        ),
        (
            "H5: a child's",
            format!("dkim=pass header.d=tenant42.bank.test; {dmarc}"),
            plain.replace("d=bank.test", "d=tenant42.bank.test"),
            Some(Weakness::NotTheAuthors),
            false,
        ),
    ];
    for (what, results, fields, right, aligned) in rows {
        let mail = format!("Authentication-Results: mx.corp.example; {results}\r\n{RECEIVED}{fields}{}", mail("bank.test"));
        let identity = told_with(&asking, &mail, &[]).await;
        assert_eq!((identity.source.clone(), identity.trouble.clone()), (Source::Upstream, None), "{what}");
        assert_eq!((weakness(&identity), identity.dkim[0].aligned), (right, aligned), "{what}: {identity:?}");
    }
    // The one that covers least, and the oldest.
    let two = format!("{plain}{}", field(&format!("d=bank.test; s=s1; t={}; h=from:subject:to; b=WFla", now - 900)));
    let mail =
        format!("Authentication-Results: mx.corp.example; dkim=pass header.d=bank.test; {dmarc}\r\n{RECEIVED}{two}{}", mail("bank.test"));
    let identity = told_with(&asking, &mail, &[]).await;
    assert_eq!(identity.dkim[0].signed_at, Some(now - 900));
    assert_eq!(identity.dkim[0].coverage, Coverage::Fields(vec!["from".into(), "subject".into(), "to".into()]));
    assert_eq!(identity.dkim[0].id, [0; 32]);
    // One word that is not known, and the others stand.
    let results = format!("dkim=invalid header.d=old.test; dkim=pass header.d=bank.test; spf=pass smtp.mailfrom=a@bank.test; {dmarc}");
    let mail = format!("Authentication-Results: mx.corp.example; {results}\r\n{RECEIVED}{plain}{}", self::mail("bank.test"));
    let identity = told_with(&asking, &mail, &[]).await;
    assert_eq!(identity.proofs().count(), 1, "{identity:?}");
    assert_eq!(identity.dkim[0].result, AuthResult::PermError);
    let spf = identity.spf.unwrap();
    assert_eq!((spf.result, spf.domain, spf.by), (AuthResult::Pass, Some(domain("bank.test")), None));
}

#[tokio::test]
async fn h4_results_are_believed_where_only_the_upstream_can_write() {
    let now = firstclick::clock::now().as_second();
    let rest = format!("{}{}", field(&format!("d=bank.test; s=s1; t={now}; h={H}; b=QUJD")), mail("bank.test"));
    let own = "Authentication-Results: mx.corp.example; dkim=pass header.d=bank.test; dmarc=pass header.from=bank.test\r\n";
    let only_dkim = "Authentication-Results: mx.corp.example; dkim=pass header.d=bank.test\r\n";
    let only_dmarc = "Authentication-Results: mx.corp.example; dmarc=pass header.from=bank.test\r\n";
    let foreign = "Authentication-Results: mx.attack.test; dkim=pass header.d=bank.test\r\n";
    let exchange = "Authentication-Results: spf=pass (sender IP is 192.0.2.1) smtp.mailfrom=bank.test; dkim=pass (signature was verified) header.d=bank.test;dmarc=pass action=none header.from=bank.test;compauth=pass reason=100\r\n";
    let edge = "Received: from mail.bank.test (192.0.2.1) by AM1.mail.protection.outlook.com (10.0.0.1) with Microsoft SMTP Server; Wed, 25 Nov 2026 14:00:00 +0000\r\n";
    let inner = "Received: from AM1.eurprd04.prod.outlook.com (2603:10a6::1) by DB2.eurprd04.prod.outlook.com (2603:10a6::2) with Microsoft SMTP Server; Wed, 25 Nov 2026 14:00:01 +0000\r\n";
    let (above, below) = (ResultsAt::AboveReceived, ResultsAt::BelowReceived);
    let mine = &["mx.corp.example"][..];
    let online = &["exchange-online"][..];
    for (what, at, names, head, proven) in [
        ("above", above, mine, format!("{own}{RECEIVED}{OLD}"), true),
        ("below", above, mine, format!("{RECEIVED}{own}{OLD}"), false),
        ("below, where the admin says so", below, mine, format!("{RECEIVED}{own}{OLD}"), true),
        ("below, and nothing under it", below, mine, format!("{RECEIVED}{own}"), true),
        ("below the second", below, mine, format!("{RECEIVED}{OLD}{own}"), false),
        ("above, where it may stand below", below, mine, format!("{own}{RECEIVED}"), true),
        ("below, and a forged one further down", below, mine, format!("{RECEIVED}{own}{OLD}{own}"), false),
        ("above, and a forged one further down", above, mine, format!("{own}{RECEIVED}{own}"), true),
        ("a foreign one on top", above, mine, format!("{foreign}{own}{RECEIVED}"), false),
        ("a foreign one below", above, mine, format!("{own}{RECEIVED}{foreign}"), true),
        ("two milters, one method each", above, mine, format!("{only_dmarc}{only_dkim}{RECEIVED}"), true),
        ("two milters behind Received", below, mine, format!("{RECEIVED}{only_dmarc}{only_dkim}{OLD}"), true),
        ("one method twice", below, mine, format!("{RECEIVED}{own}{only_dkim}{OLD}"), false),
        ("none", above, mine, RECEIVED.to_owned(), false),
        ("another name", above, &["mx.other.example"], format!("{own}{RECEIVED}"), false),
        ("Exchange Online", above, online, format!("{inner}{exchange}{edge}"), true),
        ("Exchange Online, where nobody says so", above, mine, format!("{inner}{exchange}{edge}"), false),
        ("its form behind another's Received", above, online, format!("{RECEIVED}{exchange}{edge}"), false),
        ("its form twice", above, online, format!("{inner}{exchange}{edge}{exchange}"), false),
        ("its form below the edge of another", above, online, format!("{RECEIVED}{exchange}"), false),
    ] {
        let identity = told_with(&upstream(at, names), &format!("{head}{rest}"), &[]).await;
        assert_eq!(identity.proofs().any(|signature| signature.aligned), proven, "{what}: {identity:?}");
        assert_eq!(identity.trouble.is_none(), proven, "{what}: {identity:?}");
    }
    let refused = told_with(&upstream(above, mine), &format!("{RECEIVED}{own}{rest}"), &[]).await;
    assert!(refused.trouble.unwrap().contains("below_received"), "the sentence names the setting");
    let (asking, mail) = (upstream(above, mine), format!("{own}{RECEIVED}{rest}"));
    let stranger = asking.identify(&Message::read(mail.as_bytes()), arrival("192.0.2.9", "a@b.test"), &[]).await;
    assert!(stranger.trouble.unwrap().contains("trusted_upstreams"));
}

#[tokio::test(flavor = "multi_thread")]
async fn c6_chains_of_arc() {
    let mut scene = Scene::set().await;
    scene.asking = scene.asking.trusting_arc(vec![domain("list.test")]);
    let genuine = scene.key.sign(&signing(""), &mail("bank.test"));
    let changed = genuine.replace("Subject: Reset", "Subject: [list] Reset");
    let seal = |text: &str| -> ArcSigner { toml::from_str(text).unwrap() };
    let all = "from:to:subject:date:message-id:dkim-signature";
    let rows = [
        ("plain", format!("h = \"{all}\""), true, AuthResult::Pass),
        ("the sender's signature not covered", "h = \"from:to:subject:date:message-id\"".into(), false, AuthResult::Pass),
        (
            "two d=",
            format!("h = \"{all}\"\ntags = \" d=list.test;\"\nseal_tags = \" d=list.test;\"\nd = \"attack.test\""),
            false,
            AuthResult::Fail,
        ),
        ("two spellings", format!("h = \"{all}\"\ntags = \" D=attack.test;\"\nseal_tags = \" D=attack.test;\""), false, AuthResult::Fail),
        ("a blank in front of =", format!("h = \"{all}\"\ntags = \" d =attack.test;\""), false, AuthResult::Fail),
        ("an empty tag", format!("h = \"{all}\"\nseal_tags = \" ;\""), false, AuthResult::Fail),
        ("h= in the seal", format!("h = \"{all}\"\nseal_tags = \" h=from;\""), false, AuthResult::Fail),
        ("the seal among the covered fields", format!("h = \"{all}:arc-seal\""), false, AuthResult::Fail),
        ("B189: no c=", format!("h = \"{all}\"\nwithout = \" c=relaxed/simple;\""), true, AuthResult::Pass),
        ("B189: no a=", format!("h = \"{all}\"\nwithout = \" a=rsa-sha256;\""), false, AuthResult::Fail),
        ("B189: a repeated tag", format!("h = \"{all}\"\ntags = \" a=rsa-sha256;\""), false, AuthResult::Fail),
        ("B189: a tag whose name is none", format!("h = \"{all}\"\ntags = \" 1x=y;\""), false, AuthResult::Fail),
        ("B189: a name of other characters", format!("h = \"{all}\"\ntags = \" x-y=z;\""), false, AuthResult::Fail),
        ("B189: a stray semicolon", format!("h = \"{all}\"\ntags = \" ;\""), false, AuthResult::Fail),
        ("B189: a stray semicolon in the seal", format!("h = \"{all}\"\nseal_tags = \";\""), false, AuthResult::Fail),
        ("B189: another tag, whose name is one", format!("h = \"{all}\"\ntags = \" x_y=z;\""), true, AuthResult::Pass),
        ("B189: the seal among the covered fields", format!("h = \"arc-seal:{all}\""), false, AuthResult::Fail),
        ("a stranger's", format!("h = \"{all}\"\nd = \"attack.test\""), false, AuthResult::None),
        ("cv=pass at first", format!("h = \"{all}\"\ncv = \"pass\""), false, AuthResult::Fail),
        ("starts at 2", format!("h = \"{all}\"\ni = 2"), false, AuthResult::Fail),
    ];
    for (what, how, proven, arc) in rows {
        let identity = scene.ask(&scene.key.seal(&seal(&how), &changed), &[]).await;
        assert_eq!((identity.proofs().any(|signature| signature.aligned), identity.arc), (proven, arc), "{what}: {identity:?}");
        if proven {
            assert_eq!(identity.source, Source::Sealer(domain("list.test")));
            let Coverage::Fields(fields) = &identity.dkim[0].coverage else { panic!("{identity:?}") };
            assert!(fields.contains(&"to".to_owned()) && !fields.contains(&"dkim-signature".to_owned()), "{fields:?}");
        }
    }
    // What the sender's own signature left out stays out, whatever the seal covers.
    let narrow = scene.key.sign(&signing("h = \"from:subject\""), &mail("bank.test")).replace("Subject: Reset", "Subject: [list] Reset");
    let identity = scene.ask(&scene.key.seal(&seal(&format!("h = \"{all}\"")), &narrow), &[]).await;
    assert_eq!(identity.dkim[0].coverage, Coverage::Fields(vec!["from".into(), "subject".into()]));
}
