#![no_main]
//! Shapes: total over any text, as shape and as link; a link that an entry takes leads to one of its hosts.
use firstclick::{
    allowlist::{LinkRules, OtherLink, Shape},
    message::{Link, Target},
    recognition::Kind,
};
use std::sync::LazyLock;

static RULES: LazyLock<LinkRules> = LazyLock::new(|| {
    let shapes = [
        "login.bank.test/reset/{token}",
        "bank.test/join?code={code}&lang={word}&next={url}&name={text}",
        "us{id}web.bank.test/{word}-{token}?email={email}",
        "{tenant}.bank.test/#/verify/{token}?t={word}:{token}",
    ];
    let shapes = shapes.iter().map(|text| (Kind::Invite, Shape::parse(text).expect("a shape")));
    let others = ["bank.test/help/*", "news.bank.test", "*.cdn.bank.test"].iter().map(|text| OtherLink::parse(text).expect("a link"));
    LinkRules::new(shapes.collect(), others.collect(), vec!["corp".into()])
});

fn link(address: &str) -> Option<Link> {
    match Target::read(address) {
        Target::Web(link) => Some(link),
        _ => None,
    }
}

libfuzzer_sys::fuzz_target!(|text: &str| {
    let (shape, tail) = text.split_once('\n').unwrap_or((text, text));
    for address in [tail.to_owned(), format!("https://news.bank.test/{tail}"), format!("https://bank.test/join?code=48291&next={tail}")] {
        let Some(link) = link(&address) else { continue };
        let readers = ["bob@corp.example"];
        if RULES.one_time(&link, &readers).is_some() || RULES.other(&link, &readers).is_ok() {
            let host = link.host().expect("a domain");
            assert!(host.as_str() == "bank.test" || host.as_str().ends_with(".bank.test"), "{host}");
        }
        let _ = RULES.why_not(&link, &readers);
        if let Ok(shape) = Shape::parse(shape) {
            let rules = LinkRules::new(vec![(Kind::Invite, shape)], Vec::new(), vec!["corp".into()]);
            let _ = (rules.one_time(&link, &readers), rules.why_not(&link, &readers));
        }
    }
    let _ = OtherLink::parse(shape);
});
