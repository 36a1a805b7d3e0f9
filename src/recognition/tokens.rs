//! What a link says of itself: its plain words and its token.

use url::Url;

use crate::message::link::{Link, is_word};

/// A link as recognition reads it.
#[derive(Default)]
pub(super) struct Words {
    /// The words of path, fragment and inner pages in lower case, and `&name=value` of each query field whose value is
    /// made of words. Host names do not count: a sign-in host serves many pages.
    pub(super) path: String,
    /// The words of paths and values alone, each piece of a segment apart: `/opt-out/pixel-gif/`. Names of query fields
    /// are not in it: they say how a value is used, not what the page is.
    pub(super) pieces: String,
    /// The length of the longest token; 0 where there is none.
    pub(super) token: usize,
    /// The tokens, in order: what makes two links one.
    pub(super) tokens: Vec<String>,
}

impl Words {
    pub(super) fn of(link: &Link) -> Self {
        let mut words = Self { path: String::new(), pieces: String::from("/"), ..Self::default() };
        for piece in pieces(link.url()) {
            words.add(piece);
        }
        words.path.push('/');
        words
    }

    fn add(&mut self, piece: Piece) {
        let token = piece.token();
        match &piece.name {
            None => {
                self.path.push('/');
                // A short token is a word where its path is none: `/reset/password1`.
                if piece.text.len() <= LONGEST_WORDS && (token.is_none() || piece.text.len() < SHORTEST) {
                    self.path.push_str(&piece.text.to_ascii_lowercase());
                    self.add_pieces(&piece.text);
                }
            }
            Some(name) => {
                if !is_tracking(name) {
                    self.path.push('&');
                    self.path.push_str(&name.to_ascii_lowercase());
                    if piece.text.len() <= LONGEST_WORDS && token.is_none() && is_wordy(&piece.text) {
                        self.path.push('=');
                        self.path.push_str(&piece.text.to_ascii_lowercase());
                        self.add_pieces(&piece.text);
                    }
                }
            }
        }
        if let Some(length) = token {
            self.token = self.token.max(length);
            self.tokens.push(piece.text);
        }
    }

    fn add_pieces(&mut self, text: &str) {
        for word in parts(text) {
            self.pieces.push_str(&word.to_ascii_lowercase());
            self.pieces.push('-');
        }
        if self.pieces.ends_with('-') {
            self.pieces.pop();
        }
        self.pieces.push('/');
    }
}

/// Whether a link carries what nobody can guess: a token in its path, query or fragment, at least 16 characters long, or at
/// least 8 under a name or behind a path segment that says so (`key=`, `code=`, `/activate/…`; six digits under such a name).
#[must_use]
pub fn has_token(link: &Link) -> bool {
    pieces(link.url()).any(|piece| piece.token().is_some())
}

/// A path segment, or a value of a query.
struct Piece {
    text: String,
    /// The name of the query field.
    name: Option<String>,
    hint: Hint,
}

/// Whether what stands around a piece says that it is a token.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Hint {
    None,
    /// The segment in front of it, or the page that it is given to.
    Segment,
    /// Its name.
    Name,
}

impl Piece {
    /// Its length, where it is a token.
    fn token(&self) -> Option<usize> {
        let is_one = |text: &str| is_token(text) || self.hint != Hint::None && is_short_token(text, self.hint);
        let whole = is_one(&self.text) && !(self.text.contains('/') && self.text.bytes().filter(u8::is_ascii_digit).count() < 2);
        if whole {
            return Some(self.text.len());
        }
        // A secret and a name in one value, as Moodle writes it.
        if self.name.is_some() && self.text.contains('/') {
            return self.text.split('/').filter(|part| is_one(part)).map(str::len).max();
        }
        None
    }
}

/// Everything in a link that can say something, in order: path, query, inner pages, fragment.
fn pieces(url: &Url) -> impl Iterator<Item = Piece> {
    let mut all = Vec::new();
    let page = add_path(url.path().trim_start_matches('/'), &mut all);
    let pairs: Vec<(String, String)> = url.query_pairs().map(|(name, value)| (name.into_owned(), value.into_owned())).collect();
    add_pairs(pairs, page, &mut all);
    if let Some(fragment) = url.fragment() {
        let (path, query) = match fragment.split_once('?') {
            Some((path, query)) => (path, query),
            None if fragment.contains('=') && !fragment.contains('/') => ("", fragment),
            None => (fragment, ""),
        };
        let page = add_path(path.trim_start_matches(['/', '!']), &mut all);
        add_pairs(split(query), page, &mut all);
    }
    all.into_iter()
}

/// Adds the segments of a path; whether its last one says that a token belongs to it.
fn add_path(path: &str, all: &mut Vec<Piece>) -> Hint {
    let mut hint = Hint::None;
    for segment in path.split('/') {
        all.push(Piece { text: segment.to_owned(), name: None, hint });
        // The page's name may stand in front of the token (`/activate/…`) or after an account's number.
        let is_number = !segment.is_empty() && segment.bytes().all(|byte| byte.is_ascii_digit());
        if !(is_number && segment.len() < 8) {
            hint = if tells(segment) { Hint::Segment } else { Hint::None };
        }
    }
    if path.rsplit('/').find(|segment| !segment.is_empty()).is_some_and(tells) { Hint::Segment } else { Hint::None }
}

fn add_pairs(pairs: Vec<(String, String)>, page: Hint, all: &mut Vec<Piece>) {
    for (name, value) in pairs {
        let hint = match name.to_ascii_lowercase().as_str() {
            lower if is_about_the_reader(lower) => Hint::None,
            lower if names_token(lower) => Hint::Name,
            lower if lower.len() <= 2 || lower == "data" || lower == "auth" => page,
            _ => Hint::None,
        };
        // A portal's link that carries the page in it: `nav_to.do?uri=$pwd_reset.do?token=…`, `index.php?r=user/reset`.
        let is_page = !value.contains("://") && !value.starts_with("//") && !is_way_back(&name) && value.len() <= LONGEST_PAGE;
        if is_page && (value.contains('?') || value.contains('/')) && value.bytes().all(|byte| byte.is_ascii_graphic()) {
            let (path, query) = value.split_once('?').unwrap_or((&value, ""));
            if path.split('/').all(|segment| is_wordy(segment.trim_start_matches('$'))) {
                let page = add_path(path.trim_start_matches('/'), all);
                // One level: a page in a page in a page is nobody's.
                for (name, value) in split(query) {
                    let hint = if names_token(&name.to_ascii_lowercase()) { Hint::Name } else { page };
                    all.push(Piece { text: value, name: Some(name), hint });
                }
                continue;
            }
        }
        all.push(Piece { text: value, name: Some(name), hint });
    }
}

fn split(query: &str) -> Vec<(String, String)> {
    url::form_urlencoded::parse(query.as_bytes()).map(|(name, value)| (name.into_owned(), value.into_owned())).collect()
}

/// Whether a segment speaks of what carries a token.
fn tells(segment: &str) -> bool {
    let lower = segment.to_ascii_lowercase();
    segment.len() <= LONGEST_WORDS && TELLING.iter().any(|word| lower.contains(word))
}

/// Whether a query field's name says that its value is a token.
fn names_token(lower: &str) -> bool {
    lower == "k" || TOKEN_NAMES.iter().any(|word| lower.contains(word))
}

/// Whether a query field says who the reader is, in what language, or from where he came.
fn is_about_the_reader(lower: &str) -> bool {
    ["user", "login", "name", "mail", "lang", "locale", "client", "tenant", "org", "redirect", "campaign"]
        .iter()
        .any(|word| lower.contains(word))
}

/// Whether a query field says where to go afterwards.
fn is_way_back(name: &str) -> bool {
    let lower = name.to_ascii_lowercase();
    ["redirect", "return", "callback", "next", "continue", "goto", "dest", "fromuri", "back", "forward", "target", "ref"]
        .iter()
        .any(|word| lower.contains(word))
}

/// Whether a query field only says through which mail the reader came.
pub(super) fn is_tracking(name: &str) -> bool {
    let lower = name.to_ascii_lowercase();
    ["utm_", "mc_", "_hs", "hsa_", "mkt_", "trk", "pk_", "mtm_", "vero_", "_branch"].iter().any(|start| lower.starts_with(start))
        || ["ref", "source", "src", "medium", "campaign", "fbclid", "gclid", "msclkid"].contains(&lower.as_str())
}

/// Whether a query field leaves open which page of the reader's it is: who he is, his language, where to go afterwards.
pub(super) fn is_by_the_way(name: &str) -> bool {
    is_tracking(name) || is_way_back(name) || is_about_the_reader(&name.to_ascii_lowercase())
}

/// Whether a part of a link is something that no person would type: long enough, and either mixing letters with
/// digits, mixing cases within words, or one long run without the shape of words.
fn is_token(piece: &str) -> bool {
    if piece.len() < SHORTEST || !piece.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.~=+:%!$@/".contains(&byte)) {
        return false;
    }
    if piece.starts_with('/') || is_mailbox(piece) {
        return false;
    }
    let letters = piece.bytes().filter(u8::is_ascii_alphabetic).count();
    let digits = piece.bytes().filter(u8::is_ascii_digit).count();
    let is_file = piece.rsplit_once('.').is_some_and(|(stem, end)| end.len() <= 4 && stem.len() < 24);
    let upper = piece.bytes().filter(u8::is_ascii_uppercase).count();
    let lower = letters - upper;
    let dense = digits >= 3 && letters + digits >= SHORTEST;
    let mixed = upper >= 3 && lower >= 3 && turns(piece) * 4 >= piece.len();
    let hex = letters + digits >= SHORTEST && piece.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-') && digits > 0;
    let long_run = piece.split(['-', '_', '.']).any(|run| run.len() >= 22 && !is_word(run));
    !is_file && (dense || mixed || hex || long_run) && !is_slug(piece) && !is_wordy(piece)
}

/// Whether a shorter part is a token where what stands around it says so.
fn is_short_token(piece: &str, hint: Hint) -> bool {
    let digits = piece.bytes().filter(u8::is_ascii_digit).count();
    let signs: &[u8] = if hint == Hint::Name { b"-_@$" } else { b"-_" };
    let plain = piece.bytes().all(|byte| byte.is_ascii_alphanumeric() || signs.contains(&byte));
    if !plain || piece.len() >= SHORTEST || is_numbered_word(piece) {
        return false;
    }
    if digits == piece.len() {
        return digits >= if hint == Hint::Name { SHORTEST_CODE } else { SHORTEST_HINTED };
    }
    let upper = piece.bytes().skip(1).filter(u8::is_ascii_uppercase).count();
    let is_random = digits >= 1 && !is_slug(piece) || upper >= 2 && turns(piece) * 3 >= piece.len() || !is_wordy(piece) && !is_word(piece);
    piece.len() >= SHORTEST_HINTED && is_random
}

/// `friends2026`, `BLACKFRIDAY25`: a word with a number behind it, as people make them up.
fn is_numbered_word(piece: &str) -> bool {
    let word = piece.trim_end_matches(|letter: char| letter.is_ascii_digit());
    let one_case = |is_case: fn(&u8) -> bool| word.bytes().all(|byte| is_case(&byte));
    word.len() >= 5
        && word.len() < piece.len()
        && (one_case(u8::is_ascii_lowercase) || one_case(u8::is_ascii_uppercase))
        && is_word(&word.to_ascii_lowercase())
}

/// `bob@corp.example`: what a person is reached at is no secret.
fn is_mailbox(piece: &str) -> bool {
    piece
        .rsplit_once('@')
        .and_then(|(_, domain)| domain.rsplit_once('.'))
        .is_some_and(|(_, top)| (2..=12).contains(&top.len()) && top.bytes().all(|byte| byte.is_ascii_lowercase()))
}

/// The runs of one case between `-`, `_`, `.`, `:` and capitals: `Special:ConfirmEmail` has three.
fn parts(text: &str) -> impl Iterator<Item = &str> {
    text.split(|letter: char| !letter.is_ascii_alphanumeric()).flat_map(|run| {
        let mut cuts: Vec<usize> = vec![0];
        let bytes = run.as_bytes();
        cuts.extend(bytes.windows(2).enumerate().filter_map(|(at, pair)| match pair {
            [left, right] if left.is_ascii_lowercase() && right.is_ascii_uppercase() => Some(at + 1),
            _ => None,
        }));
        let ends: Vec<usize> = cuts.iter().skip(1).copied().chain([run.len()]).collect();
        cuts.into_iter().zip(ends).filter_map(move |(start, end)| run.get(start..end)).filter(|part| !part.is_empty()).collect::<Vec<_>>()
    })
}

/// Whether a piece is made of words: `resetPassword`, `Special:ConfirmEmail`, `sign-in`.
fn is_wordy(piece: &str) -> bool {
    // Random letters change their case every second or third time, and seldom set one capital and letters behind it.
    let is_camel =
        piece.as_bytes().windows(2).any(|pair| matches!(pair, [left, right] if left.is_ascii_lowercase() && right.is_ascii_uppercase()));
    let is_title = |part: &str| part.len() >= 3 && !part.bytes().skip(1).any(|byte| byte.is_ascii_uppercase());
    !piece.is_empty()
        && parts(piece).all(|part| part.bytes().all(|byte| byte.is_ascii_alphabetic()) && is_word(part) && (!is_camel || is_title(part)))
}

/// How often a text changes between upper case, lower case and digits.
fn turns(piece: &str) -> usize {
    let class = |byte: u8| {
        if byte.is_ascii_uppercase() {
            1
        } else if byte.is_ascii_lowercase() {
            2
        } else {
            3
        }
    };
    piece.as_bytes().windows(2).filter(|pair| pair.first().copied().map(class) != pair.get(1).copied().map(class)).count()
}

/// Words with a number or a date between hyphens: `your-guide-2026-11-24`.
fn is_slug(piece: &str) -> bool {
    let pieces: Vec<&str> = piece.split(['-', '_']).collect();
    pieces.len() >= 2
        && pieces.iter().all(|part| {
            part.bytes().all(|byte| byte.is_ascii_digit()) && part.len() <= 4
                || part.len() <= 14
                    && part.bytes().all(|byte| byte.is_ascii_lowercase())
                    && !part.bytes().all(|byte| byte.is_ascii_hexdigit())
        })
}

/// Words of a segment, or of the page's name, behind which a short token is one.
const TELLING: &[&str] = &[
    "activ", "confirm", "verif", "validat", "invit", "reset", "recover", "magic", "regist", "signup", "sign-up", "enroll", "unlock",
    "passw", "pwd", "forgot", "token", "accept", "onboard", "welcome", "optin", "opt-in", "one-time", "join",
];
/// Words of a query field's name that say that its value is a token.
const TOKEN_NAMES: &[&str] = &[
    "token",
    "key",
    "code",
    "secret",
    "ticket",
    "hash",
    "otp",
    "otl",
    "nonce",
    "jwt",
    "confirm",
    "verif",
    "activat",
    "invit",
    "reset",
    "signature",
];
/// Characters of the shortest token that needs nothing around it: `WordPress` uses 20, some services 16.
const SHORTEST: usize = 16;
/// The same where what stands around it says so: Workday and `GitHub` use 8, forums 10, `HumHub` 12.
const SHORTEST_HINTED: usize = 8;
/// Digits of the shortest code under a name that says so.
const SHORTEST_CODE: usize = 6;
/// Characters up to which a segment or value can be made of words.
const LONGEST_WORDS: usize = 48;
/// Characters up to which a value can be a page of its own.
const LONGEST_PAGE: usize = 600;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Target;

    fn link(address: &str) -> Link {
        let Target::Web(link) = Target::read(address) else { panic!("{address}") };
        link
    }

    #[test]
    fn tokens() {
        for (address, length) in [
            ("https://a.test/accounts/reset/51Fe/ogdvbz-e76f67ca8980aab6ae4bc13d2a43a6ad/", 39),
            ("https://a.test/wp-login.php?action=rp&key=NuSvtRHzw0IczseKx995&login=bob", 20),
            ("https://a.test/confirm/msrp3J.5vQ6Au.XnnAcIJK3Q9LxBG2yDVoZmcWdwP", 41),
            ("https://a.test/reset?t=f30b33b6-ef3c-4ce9-a1a4-3afe444db4a0", 36),
            ("https://a.test/#/reset/AbCdEfGh12345678", 16),
            ("https://a.test/nav_to.do?uri=$pwd_reset.do%3Fid%3D7%26token%3D4nTq8ZkQ2vXw9LrB1cYd", 20),
            ("https://a.test/checkmail?c=P6MGMm9uIkCBZBAFi4VczcfjWc@26JkyvAheOUhAScqkeHvM$nvVGjpefGg9KXe", 63),
            // Shorter ones, where something says so.
            ("https://a.test/invites/h7Kq2mVx9Z", 10),
            ("https://a.test/site/activate/k3j9x2ab/?redirect=%2Fjob", 8),
            ("https://a.test/user/registration?token=pZ3_kQ9vLx2R", 12),
            ("https://a.test/reset?token=ab$12Zz9Qw8x1", 13),
            ("https://a.test/reset?token=ab@12Zz9Qw8x1$9", 15),
            ("https://a.test/reset?token=bob@corp", 0),
            ("https://a.test/login/confirm.php?data=Zp3kQ9vLx2RtYw8/bob", 19),
            ("https://a.test/account/confirm_verification/21337452?via=1", 8),
            ("https://a.test/callback/email?token=482913", 6),
            ("https://a.test/#password_reset_verify/Zp3kQ9vLx2", 10),
            // Words, names and addresses.
            ("https://a.test/secur/forgotpassword.jsp", 0),
            ("https://a.test/articleView?id=user_password.htm", 0),
            ("https://a.test/blog/why-password-reset-links-expire-2026", 0),
            ("https://a.test/wiki/Special:ConfirmEmail", 0),
            ("https://a.test/index.php?module=Login&action=confirmResetPasswordNow", 0),
            ("https://a.test/reset?email=bob.builder12345@corp.example", 0),
            ("https://a.test/confirm?next=/settings/notifications/2026", 0),
            ("https://a.test/reset/password", 0),
            ("https://a.test/invitations/pending", 0),
            ("https://a.test/items/48213?c=h7Kq2mVx9Z", 0),
            ("https://a.test/invite/friends2026", 0),
            ("https://a.test/promo?code=BLACKFRIDAY25", 0),
            ("https://a.test/issues/83693", 0),
            ("https://a.test/", 0),
        ] {
            assert_eq!(Words::of(&link(address)).token, length, "{address}");
            assert_eq!(has_token(&link(address)), length > 0, "{address}");
        }
    }

    #[test]
    fn words() {
        for (address, word) in [
            ("https://a.test/index.php?module=Login&action=acceptInvitation&token=x", "acceptinvitation"),
            ("https://a.test/#/auth/confirm-verification/eyJhbGciOiJIUzI1NiJ9", "confirm-verification"),
            ("https://a.test/wiki/Special:ConfirmEmail/c1a9d03b7e5f2846a0b9c8d7e6f5a4b3", "confirmemail"),
            ("https://a.test/nav_to.do?uri=$pwd_new.do%3Fsysparm_token%3D4nTq8ZkQ2vXw9LrB1cYd", "pwd_new"),
            ("https://a.test/index.php?r=user%2Fpassword-recovery%2Freset&token=x", "password-recovery"),
        ] {
            let words = Words::of(&link(address));
            assert!(words.path.contains(word), "{address}: {}", words.path);
        }
        let words =
            Words::of(&link("https://a.test/email/verify?signature=c1a9d03b7e5f2846a0b9c8d7e6f5a4b3&view=opt-out&utm_campaign=survey"));
        assert_eq!(words.pieces, "/email/verify/opt-out/");
    }
}
