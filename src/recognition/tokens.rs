//! The shape of a link: its plain words and its token.

use crate::message::link::Link;

/// The words of a link's path, in lower case, and `name=value` of each query whose value is a word. Host names do not
/// count: a sign-in host serves many pages.
pub(super) fn words(link: &Link) -> String {
    let url = link.url();
    let mut out = String::new();
    for segment in url.path_segments().into_iter().flatten() {
        out.push('/');
        if !is_token(segment) {
            out.push_str(&segment.to_ascii_lowercase());
        }
    }
    out.push('/');
    for (name, value) in url.query_pairs() {
        out.push('&');
        out.push_str(&name.to_ascii_lowercase());
        if value.len() <= 24 && value.bytes().all(|byte| byte.is_ascii_lowercase() || matches!(byte, b'_' | b'-')) {
            out.push('=');
            out.push_str(&value);
        }
    }
    out
}

/// The length of the longest part of a link that looks like a token; 0 where there is none.
pub(super) fn token(link: &Link) -> usize {
    let url = link.url();
    let path = url.path_segments().into_iter().flatten().map(str::to_owned);
    let query = url.query_pairs().map(|(_, value)| value.into_owned());
    let fragment = url.fragment().into_iter().flat_map(|fragment| fragment.split(['/', '=', '&']).map(str::to_owned));
    // A portal's link that carries the page in it: `nav_to.do?uri=$pwd_reset.do?token=…`.
    let inner = url.query_pairs().filter_map(|(_, value)| Some(value.split_once('?')?.1.to_owned()));
    let inner =
        inner.flat_map(|query| query.split('&').map(|pair| pair.rsplit('=').next().unwrap_or_default().to_owned()).collect::<Vec<_>>());
    path.chain(query).chain(inner).chain(fragment).filter(|piece| is_token(piece)).map(|piece| piece.len()).max().unwrap_or(0)
}

/// Whether a part of a link is something that no person would type: long enough, and either mixing letters with
/// digits, mixing cases within words, or one long run without the shape of words.
fn is_token(piece: &str) -> bool {
    let letters = piece.bytes().filter(u8::is_ascii_alphabetic).count();
    let digits = piece.bytes().filter(u8::is_ascii_digit).count();
    if piece.len() < SHORTEST || !piece.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.~=+:%!$".contains(&byte)) {
        return false;
    }
    let is_file = piece.rsplit_once('.').is_some_and(|(stem, end)| end.len() <= 4 && stem.len() < 24);
    let upper = piece.bytes().filter(u8::is_ascii_uppercase).count();
    let lower = letters - upper;
    let dense = digits >= 3 && letters + digits >= SHORTEST;
    let mixed = upper >= 3 && lower >= 3 && turns(piece) * 4 >= piece.len();
    let hex = letters + digits >= SHORTEST && piece.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-') && digits > 0;
    let long_run = piece.split(['-', '_', '.']).any(|run| run.len() >= 22 && !crate::message::link::is_word(run));
    !is_file && (dense || mixed || hex || long_run) && !is_slug(piece)
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

/// Characters of the shortest token: `WordPress` uses 20, some services 16.
const SHORTEST: usize = 16;

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
            ("https://a.test/secur/forgotpassword.jsp", 0),
            ("https://a.test/articleView?id=user_password.htm", 0),
            ("https://a.test/blog/why-password-reset-links-expire-2026", 0),
            ("https://a.test/issues/83693", 0),
            ("https://a.test/", 0),
        ] {
            assert_eq!(token(&link(address)), length, "{address}");
        }
    }
}
