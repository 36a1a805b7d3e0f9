//! Tests of [`super`]: addresses in plain text.

use super::*;

fn links(text: &str) -> Vec<String> {
    let author = Domain::parse("bank.test").unwrap();
    let reading = read(text, Some(&author));
    let flaws = reading.flaws.iter().map(|flaw| flaw.code().to_owned());
    let found = reading.found.into_iter().map(|found| {
        assert!(text.get(found.place.clone()).is_some(), "{text}: {found:?}");
        found.address
    });
    found.chain(flaws).collect()
}

#[test]
fn what_some_program_links() {
    for (text, found) in [
        ("Go to attack.com/login.", &["http://attack.com/login"][..]),
        ("WWW.EVIL-LOGIN.COM/SSO", &["http://WWW.EVIL-LOGIN.COM/SSO"]),
        ("Evil-Login.Com/sso", &["http://Evil-Login.Com/sso"]),
        ("evil-login.com/@bob", &["http://evil-login.com/@bob"]),
        ("Urgent:evil-login.com/x", &["http://evil-login.com/x"]),
        (
            "*evil-login.com*, _evil-login.com_, --evil-login.com",
            &["http://evil-login.com", "http://evil-login.com", "http://evil-login.com"],
        ),
        ("my_account.evil-login.com", &["http://my_account.evil-login.com", "http://account.evil-login.com"]),
        (
            "203.0.113.7/login 203.0.113.7:80 https://203.0.113.7",
            &["http://203.0.113.7/login", "http://203.0.113.7:80", "https://203.0.113.7"],
        ),
        ("203.0.113.7, version 1.2.3, 1.2.3.4.5, 256.1.1.1/x", &[]),
        ("\\\\evil-login.com\\share", &["http://evil-login.com\\share", "link-ambiguous"]),
        ("\\\\server\\share", &["link-ambiguous"]),
        ("a\\\\b", &[]),
        ("//evil.com/x //intra.corp/x http://intranet/x", &["http://evil.com/x", "http://intra.corp/x", "http://intranet/x"]),
        ("bank.test, x.BANK.test/a, notbank.test", &["http://bank.test", "http://x.BANK.test/a"]),
        ("bob@attack.com, mailto:bob@attack.com?subject=x, a.b@x.attack.com tel:+1 sms:1", &[]),
        ("@attack.com bob@attack.com/x", &["http://attack.com", "http://attack.com/x"]),
        ("setup.py readme.md", &["http://setup.py", "http://readme.md"]),
        ("e.g. Node.js v1.2.3 Mr.Smith readme.invalid i.e. U.S.A 10.30am ...", &[]),
        ("wait..evil.com... evil.com.Please", &["http://evil.com", "http://evil.com"]),
        ("www.intra.corp and www.x", &["http://www.intra.corp"]),
        (
            "evil.com?x=1 evil.com? evil.com:8080/x evil.com:x",
            &["http://evil.com?x=1", "http://evil.com", "http://evil.com:8080/x", "http://evil.com"],
        ),
        ("(https://a.com/x_(y)) '<https://b.com/>' \"https://c.com\"", &["https://a.com/x_(y)", "https://b.com/", "https://c.com"]),
        ("HTTPS://A.com/x seehttps://b.com", &["HTTPS://A.com/x", "https://b.com"]),
        ("*https://a.com/x* 'https://a.com/y','z'", &["https://a.com/x", "https://a.com/y"]),
        ("https://a.com/x,evil.com", &["https://a.com/x,evil.com", "http://evil.com"]),
        ("https://a.com/x)evil.com https://a.com/x/evil.com", &["https://a.com/x", "http://evil.com", "https://a.com/x/evil.com"]),
        ("ftp://attack.com/ x://", &["http://attack.com/", "link-ambiguous"]),
        ("evil.co.uk github.io evil.ck", &["http://evil.co.uk", "http://github.io", "http://evil.ck"]),
    ] {
        assert_eq!(links(text), found, "{text}");
    }
    assert_eq!(links("evil-login.com/?u=https://allowed.com"), ["http://evil-login.com/?u=https://allowed.com", "https://allowed.com"]);
}

#[test]
fn every_script() {
    for (text, found) in [
        ("evil\u{3002}com/x", &["http://evil.com/x"][..]),
        ("evil\u{ff0e}com evil\u{ff61}com", &["http://evil.com", "http://evil.com"]),
        ("evil\u{2024}com", &["link-ambiguous"]),
        ("ｅｖｉｌ.com", &["http://evil.com"]),
        ("ev\u{ad}il.c\u{200b}om", &["http://evil.com"]),
        ("app\u{200b}.acme\u{200b}.com", &["http://app.acme.com"]),
        ("evil.com\u{200b}", &["http://evil.com"]),
        ("bücher.com", &["http://xn--bcher-kva.com"]),
        ("почта.рф", &["http://xn--80a1acny.xn--p1ai"]),
        ("example.com에서", &["http://example.com"]),
        ("これは文です。次の文です。", &[]),
        ("https://a.com/token/을 누르세요", &["https://a.com/token/", "https://a.com/token/을"]),
        ("https://a.com/token/을", &["https://a.com/token/", "https://a.com/token/을"]),
        ("https://a.com/token。次", &["https://a.com/token"]),
        ("https://a.com、次", &["https://a.com"]),
        ("https://a.comを", &["https://a.com"]),
        ("—evil.com— “evil.com”", &["http://evil.com", "http://evil.com"]),
    ] {
        assert_eq!(links(text), found, "{text}");
    }
    // A name in front of which letters stand is another name for some programs.
    assert!(links("詳細はexample.com").contains(&"http://example.com".to_owned()));
    assert_eq!(links("詳細はexample.com").len(), 2);
    assert!(!links(&format!("https://{}", "a.".repeat(90_000))).is_empty());
    assert!(!links(&format!("{}com", "a.".repeat(200))).is_empty());
}

/// What one linkifier of three, or a browser, takes for another name than the one that is plain to see.
#[test]
fn names_in_odd_company() {
    for text in [
        "https://a.com\u{2014}a.com/x",
        "https://a.com\u{3001}a.com",
        "https://a.com\u{300d}a.com/",
        "\\\\evil@ssl\\share\\x",
        "x@c.--evil.com",
        "\\\\evil.com@443\\share",
    ] {
        assert!(links(text).contains(&"link-ambiguous".to_owned()), "{text}: {:?}", links(text));
    }
    for (text, address) in [
        ("\u{3030}a.com", "http://xn--a-v6t.com"),
        ("evil.இந்தியா\u{202e}moc.r", "http://evil.xn--xkc2dl3a5ee0h"),
        ("a.рф?evil.com", "http://evil.com"),
        ("(evil.sh@a.com:80", "http://evil.sh"),
        ("*https://a.com/x?*a&evil.com/x*", "http://evil.com/x*"),
        ("*https://a.com/r?a=*&t=b*", "https://a.com/r?a=*&t=b"),
        ("*https://a.com/r?a=*&t=b*", "https://a.com/r?a="),
        ("'https://a.com/r?n=O'Neil&t=b', x", "https://a.com/r?n=O'Neil&t=b"),
    ] {
        assert!(links(text).iter().any(|found| found == address), "{text}: {:?}", links(text));
    }
    for text in ["https://a.com\u{3001}次の a.com", "https://a.com\u{2014}the site", "\u{300c}https://a.com\u{300d}"] {
        assert!(!links(text).contains(&"link-ambiguous".to_owned()), "{text}: {:?}", links(text));
    }
}

#[test]
fn too_many_are_too_many() {
    let reading = read(&"www.a.co ".repeat(limits::LINKS + 1), None);
    assert!(reading.flaws.has(Flaw::LinkLimit));
    assert!(!read(&"www.a.co ".repeat(limits::LINKS), None).flaws.has(Flaw::LinkLimit));
}

proptest::proptest! {
    /// What the quick look passes over holds nothing that the slow one finds.
    #[test]
    fn sentences_hold_no_address(text in "[a-zA-Z0-9 ._?#@\\-\n]{0,40}") {
        if text.contains('.') && !may_hold(&text) {
            proptest::prop_assert_eq!(links(&text), Vec::<String>::new());
        }
    }
}

#[test]
fn a_quick_look() {
    for text in ["Reset it now.", "a. b. c...", "Is it so. Mr. X said (\"yes.\")", "x", ""] {
        assert_eq!((may_hold(text), links(text)), (text.contains("..") || text.contains(".\""), Vec::new()), "{text}");
    }
    for text in ["See localhost?x. Now.", "a.b", "x:y", "a/b", "a\\b", "a.\u{ad}b"] {
        assert!(may_hold(text), "{text}");
    }
}
