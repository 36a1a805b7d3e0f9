//! Whether a person or a program opened a guard link, by its request.

use std::net::IpAddr;

use jiff::Timestamp;

use crate::mail::record::Visitor;

/// The parts of a request that show who sent it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Request<'a> {
    pub(super) method: &'a str,
    pub(super) address: IpAddr,
    pub(super) user_agent: &'a str,
    pub(super) accept_language: &'a str,
    /// `Purpose` or `Sec-Purpose`: `prefetch` where no person has opened the link yet.
    pub(super) purpose: &'a str,
}

/// Words in the User-Agent of programs that open links by themselves.
const PROGRAMS: &[&str] = &[
    "bot",
    "crawl",
    "spider",
    "curl",
    "wget",
    "python",
    "go-http",
    "java/",
    "okhttp",
    "headless",
    "phantom",
    "scan",
    "preview",
    "slurp",
    "urlcheck",
    "proofpoint",
    "mimecast",
    "barracuda",
    "safelinks",
    "libwww",
    "httpclient",
    "facebookexternalhit",
];

/// Seconds after the mail's delivery within which no person has opened it.
const AT_ONCE: i64 = 5;

/// Who probably sent the request, and what that rests on. A guess for the audit; nothing is decided by it.
pub(super) fn likely(request: Request<'_>, at: Timestamp, now: Timestamp) -> (Visitor, String) {
    let agent = request.user_agent.to_ascii_lowercase();
    let delay = now.as_second() - at.as_second();
    let why = if request.method != "GET" && request.method != "POST" {
        format!("it asks by {}", request.method)
    } else if agent.is_empty() {
        "it does not say what program it is".into()
    } else if let Some(word) = PROGRAMS.iter().find(|word| agent.contains(**word)) {
        format!("its program's name has {word:?}")
    } else if !request.purpose.is_empty() {
        "it fetches before anybody has pressed".into()
    } else if request.accept_language.is_empty() {
        "it wants no language".into()
    } else if request.method == "GET" && delay < AT_ONCE {
        format!("it opened the link {delay} s after the mail")
    } else {
        return (Visitor::Person, "nothing speaks for a program".into());
    };
    (Visitor::Scanner, why)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_and_people() {
        let at = Timestamp::from_second(1_800_000_000).unwrap();
        let later = Timestamp::from_second(1_800_000_120).unwrap();
        let browser = Request {
            method: "GET",
            address: IpAddr::from([192, 0, 2, 1]),
            user_agent: "Mozilla/5.0 (X11; Linux x86_64) Firefox/150.0",
            accept_language: "de",
            purpose: "",
        };
        assert_eq!(likely(browser, at, later).0, Visitor::Person);
        assert_eq!(likely(browser, at, at).0, Visitor::Scanner);
        assert_eq!(likely(Request { method: "HEAD", ..browser }, at, later).0, Visitor::Scanner);
        assert_eq!(likely(Request { user_agent: "", ..browser }, at, later).0, Visitor::Scanner);
        assert_eq!(likely(Request { user_agent: "HeadlessChrome/150", ..browser }, at, later).0, Visitor::Scanner);
        assert_eq!(likely(Request { accept_language: "", ..browser }, at, later).0, Visitor::Scanner);
        assert_eq!(likely(Request { purpose: "prefetch", ..browser }, at, later).0, Visitor::Scanner);
    }
}
