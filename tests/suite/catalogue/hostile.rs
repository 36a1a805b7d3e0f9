//! What strangers put into genuine mails, and genuine mails in wrong hands.

use super::{Mail, Sent, Subject, fill, listed};

/// What strangers put into a genuine mail of the service's, each with its name.
pub(crate) fn hostile(subject: &Subject) -> Vec<(String, Mail, Sent)> {
    let genuine = subject.genuine();
    let one_time = genuine.links[0].clone();
    let host = one_time.strip_prefix("https://").unwrap().split('/').next().unwrap();
    let mut mails: Vec<(String, Mail, Sent)> = Vec::new();
    let mut add = |what: String, mail: Mail| mails.push((what, mail, Sent::Straight));

    // A stranger's name that is a link.
    for name in ["evil-login.com/sso", "Evil-Login.Com/sso", "www.attack.com", "https://attack.com/", "attack.com", "evil\u{3002}com/sso"] {
        let said = format!("{name} invited you. Your workspace is waiting.");
        add(format!("the name {name} in the text"), genuine.with(|mail| mail.plain.clone_from(&said)));
        add(format!("the name {name} in HTML"), genuine.with(|mail| mail.html.clone_from(&said)));
        add(format!("the name {name} everywhere"), genuine.with(|mail| mail.said.clone_from(&said)));
    }
    for html in [
        "<a href=\"https://attack.com/\">Go on</a>",
        "<a href=\"//attack.com/\">Go on</a>",
        "<form action=\"https://attack.com/\"><button>Go on</button></form>",
        "<!--[if mso]><a href=\"https://attack.com/\">Go on</a><![endif]-->",
    ] {
        add(format!("in HTML {html}"), genuine.with(|mail| mail.html = html.into()));
    }

    // What strangers write on the same hosts, beside the one-time link and in its place.
    let generic = [
        "/redirect?url=https://attack.com/",
        "/redirect?url=https%3A%2F%2Fattack.com%2F",
        "/redirect?url=//attack.com/",
        "/r?u=aHR0cHM6Ly9hdHRhY2suY29tLw==",
        "/?next=https://attack.com/",
        "/login?returnTo=https://attack.com",
        "//attack.com/",
        "/@attacker/page",
        "/l/AbCdEfGhIjKlMnOpQrStUvWx",
        "/share/AbCdEfGhIjKlMnOpQrStUvWx",
        "/comments/1234#comment-5678",
        "/files/AbCdEfGh/invoice.pdf",
        "/u/attacker",
    ];
    let whole = subject.trusts_whole(host);
    let leads_off = |page: &str| page.contains("attack.com") || page.contains("aHR0cHM6Ly9hdHRhY2suY29tLw");
    let pages = generic.iter().map(|path| format!("{host}{path}")).chain(subject.pages.iter().cloned());
    for page in pages {
        let link = format!("https://{page}");
        // An entry that names the whole host says that all its pages may stand beside; where they lead to is another matter.
        let may_stand = whole && page.strip_prefix(host).is_some_and(|rest| rest.starts_with('/')) && !leads_off(&page);
        if !may_stand {
            add(format!("{link} beside the one-time link"), genuine.with(|mail| mail.links.push(link.clone())));
        }
        add(format!("{link} in its place"), genuine.with(|mail| mail.links[0].clone_from(&link)));
    }
    // The listed links as open redirectors.
    for other in subject.other_links.iter().map(|other| listed(other)) {
        for query in ["url=https://attack.com/", "continue=https%3A%2F%2Fattack.com%2F", "q=//attack.com/x", "u=aHR0cHM6Ly9hdHRhY2suY29tLw"]
        {
            let link = format!("{other}?{query}");
            add(link.clone(), genuine.with(|mail| mail.links.push(link.clone())));
        }
    }

    // The one-time link itself, bent.
    let (before, fragment) =
        one_time.split_once('#').map_or((one_time.as_str(), String::new()), |(before, rest)| (before, format!("#{rest}")));
    let glue = if before.contains('?') { '&' } else { '?' };
    for (what, link) in [
        ("a field more", format!("{before}{glue}redirect=https://attack.com/{fragment}")),
        ("a field more, by name", format!("{before}{glue}attacker=1{fragment}")),
        ("a host below", one_time.replacen(host, &format!("attack.{host}"), 1)),
        ("a host around", one_time.replacen(host, &format!("{host}.attack.com"), 1)),
        ("a user in front", one_time.replacen(host, &format!("{host}@attack.com"), 1)),
        ("a port", one_time.replacen(host, &format!("{host}:8443"), 1)),
        ("http", one_time.replacen("https:", "http:", 1)),
        ("a path more", one_time.replacen(host, &format!("{host}/attacker/a.page"), 1)),
    ] {
        add(format!("the one-time link with {what}"), genuine.with(|mail| mail.links[0].clone_from(&link)));
    }
    for (_, shape) in subject.shapes.iter().filter(|(_, shape)| shape.contains("{url}")) {
        for url in ["https://attack.com/", "//attack.com/", "https://attack.com", "javascript:alert(1)"] {
            let link = format!("https://{}", fill(shape, url, "corp", 0));
            add(format!("{shape} that leads to {url}"), genuine.with(|mail| mail.links[0].clone_from(&link)));
        }
    }
    // Another tenant's.
    for (_, shape) in subject.shapes.iter().filter(|(_, shape)| shape.contains("{tenant}")) {
        let link = subject.one_time(shape, "attacker", 0);
        add(format!("{shape} of another tenant"), genuine.with(|mail| mail.links[0].clone_from(&link)));
        add(format!("{shape} of another tenant beside one's own"), genuine.with(|mail| mail.links.push(link.clone())));
    }
    // A link that is meant for somebody else.
    for (_, shape) in subject.shapes.iter().filter(|(_, shape)| shape.contains("{email}")) {
        let link = subject.one_time(&shape.replace("{email}", "mallory%40attack.com"), "corp", 0);
        add(format!("{shape} of somebody else"), genuine.with(|mail| mail.links[0].clone_from(&link)));
    }
    add("no one-time link".into(), genuine.with(|mail| mail.links.remove(0).clear()));

    // Who it is from, and for whom.
    for never in &subject.never {
        add(format!("from {never}"), genuine.with(|mail| mail.from.clone_from(never)));
    }
    let domain = subject.from[0].rsplit('@').next().unwrap();
    let takes_all = subject.allowlist.entries()[0].from.iter().any(|pattern| pattern.to_string() == format!("*@{domain}"));
    let mut others = vec![format!("noreply@attacker.{domain}")];
    if !takes_all {
        others.extend([format!("attacker-comments@{domain}"), format!("mentions@{domain}")]);
    }
    for from in others {
        add(format!("from {from}"), genuine.with(|mail| mail.from.clone_from(&from)));
    }
    add("to somebody else".into(), genuine.with(|mail| mail.set("To", "mallory@attack.com")));
    add(
        "to somebody else, the reader's address in words".into(),
        genuine.with(|mail| mail.set("To", "\"bob@corp.example\" <mallory@attack.com>")),
    );
    add("to several".into(), genuine.with(|mail| mail.set("To", "bob@corp.example, mallory@attack.com")));
    add("a copy for somebody else".into(), genuine.with(|mail| mail.set("Cc", "mallory@attack.com")));
    for (name, value) in [("List-Post", "<mailto:all@attack.com>"), ("List-Archive", "<https://lists.attack.com/>"), ("Precedence", "list")]
    {
        add(name.to_owned(), genuine.with(|mail| mail.set(name, value)));
    }
    for (what, sent) in [("a customer's signature", Sent::ByChild), ("an old signature", Sent::Old), ("no signature", Sent::Unsigned)] {
        mails.push((what.into(), genuine.clone(), sent));
    }
    if subject.leaves_out.iter().any(|name| name == "to") {
        mails.push(("sent on by another host".into(), genuine, Sent::Replayed));
    } else {
        let stolen = genuine.with(|mail| mail.set("To", "mallory@attack.com"));
        mails.push(("another's mail, sent on".into(), stolen, Sent::Replayed));
    }
    mails
}
