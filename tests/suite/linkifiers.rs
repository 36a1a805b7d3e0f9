//! What other programs make links of. The fixture is written by `tests/tools/linkifiers.mjs`.

use firstclick::message::Message;

/// Whether a host can exist: a program that takes too much of a text links a name with an ending that nobody has. What
/// leads to the reader's own machine is left out.
fn leads_somewhere(host: &str, text: &str) -> bool {
    let ending = host.rsplit('.').next().unwrap_or_default();
    let known = psl::suffix(host.as_bytes()).is_some_and(|suffix| suffix.is_known());
    // A bare IPv4 address is none: account mails tell where somebody signed in from.
    let address = !ending.is_empty() && ending.bytes().all(|byte| byte.is_ascii_digit());
    let address =
        address && [format!("//{host}"), format!(" {host}/"), format!(" {host}:8")].iter().any(|form| format!(" {text}").contains(form));
    known || ending == "test" || address
}

/// No linkifier of three links a host that is neither a link here nor a flaw.
#[test]
fn what_linkifiers_link_is_a_link_or_a_flaw() {
    let mut missed = Vec::new();
    let mut count = 0;
    for line in include_str!("../fixtures/linkifiers.tsv").lines() {
        let (text, hosts) = line.split_once('\t').unwrap();
        let text: String = serde_json::from_str(text).unwrap();
        count += 1;
        let head = "From: a@bank.test\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit";
        let raw = format!("{head}\r\n\r\nHello\r\n{}\r\n", text.replace('\n', "\r\n"));
        let content = Message::read(raw.as_bytes()).content();
        if !content.flaws.is_empty() {
            continue;
        }
        let found: Vec<&str> = content.links.iter().filter_map(|found| found.link.url().host_str()).collect();
        for host in hosts.split(',').filter(|host| leads_somewhere(host, &text)) {
            // With signs in front, or cut at a line below: the same owner's name.
            let owner = psl::domain_str(host).unwrap_or(host);
            let odd = !host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-".contains(&byte));
            let cut = |known: &&str| odd && psl::domain_str(known) == Some(owner) || known.ends_with(&format!("_{host}"));
            let nobodys = owner.contains(|letter: char| letter.is_ascii_punctuation() && !".-_".contains(letter));
            if !found.contains(&host) && !nobodys && !found.iter().any(cut) {
                missed.push(format!("{text:?}: {host} is not among {found:?}"));
            }
        }
    }
    assert!(count >= 2_000, "{count}");
    assert!(missed.is_empty(), "{} of {count}:\n{}", missed.len(), missed.join("\n"));
}
