//! Short texts of links, addresses and names in fewer octets, without a model to keep.
//!
//! A packed text is a row of runs. A run's first octet says how it is written (three bits) and how long it is (five bits):
//! letters of small alphabets in four, five or six bits each, known words in none, what stood before by where it stood. Which
//! runs are fewest octets is found by looking at all of them.

/// How the octets of a run are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Writing {
    /// Octets as they are.
    Octets,
    /// Small letters and the marks of host names, paths and addresses, in 5 bits.
    Letters,
    /// The letters of base64 for URLs (RFC 4648 section 5), in 6 bits.
    Base64,
    /// Small hexadecimal digits, in 4 bits.
    Hex,
    /// A word of [`WORDS`], by its number.
    Word,
    /// A UUID in small letters (RFC 9562 section 4), in 16 octets.
    Uuid,
    /// A repetition of earlier text; the next octet is how far back it stands.
    Again,
}

/// By their number in a run's first octet.
const WRITINGS: [Writing; 7] =
    [Writing::Octets, Writing::Letters, Writing::Base64, Writing::Hex, Writing::Word, Writing::Uuid, Writing::Again];

const LETTERS: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz./-=@\0";
const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
const HEX: &[u8; 16] = b"0123456789abcdef";
/// Lengths of runs in hexadecimal digits: those of usual digests among them.
const HEX_LENGTHS: [usize; 32] =
    [2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 26, 28, 30, 32, 36, 40, 48, 56, 64];
/// Words of one-time links. Their order is part of the format.
const WORDS: [&str; 32] = [
    "https://",
    "http://",
    "https://www.",
    "https://login.",
    "https://app.",
    "https://auth.",
    "https://account",
    "?token=",
    "&token=",
    "?code=",
    "&code=",
    "?key=",
    "&key=",
    "?email=",
    "&email=",
    "&type=",
    "&lang=",
    "/reset-password",
    "/reset/",
    "/reset_password",
    "password",
    "/confirm",
    "/verify",
    "/invite",
    "/invitation",
    "/accept",
    "/activate",
    "/users/",
    "_token=",
    ".com",
    "%3D",
    "&redirect",
];
/// Octets of the shortest repetition.
const SHORTEST_AGAIN: usize = 4;
/// Octets that a repetition may reach back.
const FURTHEST: usize = 256;

impl Writing {
    /// The length of a run, by the code in its first octet.
    fn length(self, code: usize) -> usize {
        match self {
            Self::Octets | Self::Letters | Self::Base64 => code + 1,
            Self::Hex => HEX_LENGTHS.get(code).copied().unwrap_or(0),
            Self::Word => WORDS.get(code).map_or(0, |word| word.len()),
            Self::Uuid => 36,
            Self::Again => code + SHORTEST_AGAIN,
        }
    }

    /// The letters and the bits of each.
    const fn alphabet(self) -> Option<(&'static [u8], usize)> {
        match self {
            Self::Letters => Some((LETTERS, 5)),
            Self::Base64 => Some((BASE64, 6)),
            Self::Hex => Some((HEX, 4)),
            Self::Octets | Self::Word | Self::Uuid | Self::Again => None,
        }
    }
}

/// One run: how, its code, its length in the text, its octets behind the first, and how far back what it says again stood.
#[derive(Clone, Copy)]
struct Run {
    writing: Writing,
    code: usize,
    length: usize,
    behind: usize,
    back: usize,
}

/// A text in fewer octets; in few more where it is of no letters that are known here.
pub(super) fn pack(text: &[u8]) -> Option<Vec<u8>> {
    // For each place: the fewest octets up to it, and the run that leads there.
    let mut best: Vec<Option<(usize, Run)>> = vec![None; text.len() + 1];
    for at in 0..text.len() {
        let so_far = if at == 0 { 0 } else { best.get(at)?.as_ref()?.0 };
        runs(text, at, &mut |run| {
            let cost = so_far + 1 + run.behind;
            if let Some(there) = best.get_mut(at + run.length)
                && there.as_ref().is_none_or(|(known, _)| cost < *known)
            {
                *there = Some((cost, run));
            }
        });
    }
    let mut chosen = Vec::new();
    let mut at = text.len();
    while at > 0 {
        let (_, run) = best.get(at).copied()??;
        at = at.checked_sub(run.length)?;
        chosen.push((at, run));
    }
    let mut out = Vec::new();
    for (at, run) in chosen.into_iter().rev() {
        let piece = text.get(at..at + run.length)?;
        let number = WRITINGS.iter().position(|writing| *writing == run.writing)?;
        out.push(u8::try_from(number << 5 | run.code).ok()?);
        match run.writing {
            Writing::Octets => out.extend_from_slice(piece),
            Writing::Word => {}
            Writing::Uuid => out.extend(narrow(piece.iter().copied().filter(|octet| *octet != b'-'), HEX, 4)),
            Writing::Again => out.push(u8::try_from(run.back.checked_sub(1)?).ok()?),
            Writing::Letters | Writing::Base64 | Writing::Hex => {
                let (alphabet, bits) = run.writing.alphabet()?;
                out.extend(narrow(piece.iter().copied(), alphabet, bits));
            }
        }
    }
    Some(out)
}

/// Every run that may begin at a place; of those that say again what stood before, the longest.
fn runs(text: &[u8], at: usize, take: &mut impl FnMut(Run)) {
    let rest = text.get(at..).unwrap_or_default();
    for writing in WRITINGS {
        let run = |code, length, behind| Run { writing, code, length, behind, back: 0 };
        match writing {
            Writing::Octets => (0..rest.len().min(32)).for_each(|code| take(run(code, code + 1, code + 1))),
            Writing::Letters | Writing::Base64 | Writing::Hex => {
                let Some((alphabet, bits)) = writing.alphabet() else { continue };
                let fits = rest.iter().take(64).take_while(|octet| alphabet.contains(octet)).count();
                let codes = (0..32).map(|code| (code, writing.length(code))).take_while(|(_, length)| *length <= fits);
                codes.for_each(|(code, length)| take(run(code, length, (length * bits).div_ceil(8))));
            }
            Writing::Word => {
                let words = WORDS.iter().enumerate().filter(|(_, word)| rest.starts_with(word.as_bytes()));
                words.for_each(|(code, word)| take(run(code, word.len(), 0)));
            }
            Writing::Uuid => {
                if rest.get(..36).is_some_and(is_uuid) {
                    take(run(0, 36, 16));
                }
            }
            Writing::Again => {
                let same = |back: usize| {
                    let before = text.get(at - back..).unwrap_or_default();
                    before.iter().zip(rest).take(31 + SHORTEST_AGAIN).take_while(|(one, other)| one == other).count()
                };
                let longest = (1..=at.min(FURTHEST)).map(|back| (same(back), back)).max();
                if let Some((length, back)) = longest.filter(|(length, _)| *length >= SHORTEST_AGAIN) {
                    // A shorter one may leave a better rest.
                    for length in SHORTEST_AGAIN..=length {
                        take(Run { writing, code: length - SHORTEST_AGAIN, length, behind: 1, back });
                    }
                }
            }
        }
    }
}

/// Letters of an alphabet, some bits each, the last octet filled with zeros.
fn narrow(letters: impl Iterator<Item = u8>, alphabet: &[u8], bits: usize) -> Vec<u8> {
    let (mut out, mut open, mut count) = (Vec::new(), 0_usize, 0);
    for octet in letters {
        open = open << bits | alphabet.iter().position(|letter| *letter == octet).unwrap_or(0);
        count += bits;
        if count >= 8 {
            count -= 8;
            out.push(u8::try_from(open >> count & 0xff).unwrap_or(0));
            open &= (1 << count) - 1;
        }
    }
    if count > 0 {
        out.push(u8::try_from(open << (8 - count) & 0xff).unwrap_or(0));
    }
    out
}

fn is_uuid(piece: &[u8]) -> bool {
    piece.iter().enumerate().all(|(at, octet)| if matches!(at, 8 | 13 | 18 | 23) { *octet == b'-' } else { HEX.contains(octet) })
}

/// The text again, up to a bound; none where the octets are no packed text.
pub(super) fn unpack(packed: &[u8], most: usize) -> Option<Vec<u8>> {
    let mut out: Vec<u8> = Vec::new();
    let mut rest = packed;
    while let Some((first, behind)) = rest.split_first() {
        let writing = *WRITINGS.get(usize::from(first >> 5))?;
        let code = usize::from(first & 0x1f);
        let length = writing.length(code);
        let size = match writing {
            Writing::Octets => length,
            Writing::Word => 0,
            Writing::Uuid => 16,
            Writing::Again => 1,
            Writing::Letters | Writing::Base64 | Writing::Hex => writing.alphabet().map(|(_, bits)| (length * bits).div_ceil(8))?,
        };
        let (octets, after) = behind.split_at_checked(size)?;
        match writing {
            Writing::Octets => out.extend_from_slice(octets),
            Writing::Letters | Writing::Base64 | Writing::Hex => {
                let (alphabet, bits) = writing.alphabet()?;
                out.extend(widened(octets, alphabet, bits).take(length));
            }
            Writing::Word => out.extend_from_slice(WORDS.get(code)?.as_bytes()),
            Writing::Uuid => {
                for (at, digit) in widened(octets, HEX, 4).enumerate() {
                    if matches!(at, 8 | 12 | 16 | 20) {
                        out.push(b'-');
                    }
                    out.push(digit);
                }
            }
            Writing::Again => {
                let back = usize::from(*octets.first()?) + 1;
                for _ in 0..length {
                    out.push(*out.get(out.len().checked_sub(back)?)?);
                }
            }
        }
        if out.len() > most {
            return None;
        }
        rest = after;
    }
    Some(out)
}

fn widened<'o>(octets: &'o [u8], alphabet: &'o [u8], bits: usize) -> impl Iterator<Item = u8> + 'o {
    (0..octets.len() * 8 / bits).map_while(move |number| {
        let at = number * bits;
        let two = usize::from(*octets.get(at / 8)?) << 8 | octets.get(at / 8 + 1).copied().map_or(0, usize::from);
        alphabet.get(two >> (16 - bits - at % 8) & ((1 << bits) - 1)).copied()
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn usual_pieces_shrink() {
        for (text, octets) in [
            ("", 0),
            ("https://", 1),
            ("6d0f6b2f9c1e4a7f8b3d5c2a1e9f7b604d3c2b1a", 21),
            ("0198c1d2-4f1e-7c3a-9b8d-2f6e5a4c3b21", 17),
            ("login.vendor.test/reset", 16),
            ("Xk29LmQz81PwVt7RbYcD", 16),
            ("vendor.test login.vendor.test", 17),
        ] {
            let packed = pack(text.as_bytes()).unwrap();
            assert_eq!(unpack(&packed, 100).unwrap(), text.as_bytes());
            assert!(packed.len() <= octets, "{text}: {} octets", packed.len());
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn what_is_packed_unpacks(text in "([a-z]{1,9}[./?=&@-]?|[0-9a-f]{1,70}|[A-Za-z0-9_-]{1,60}|\\PC{0,9}|https://|[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}){0,8}") {
            let packed = pack(text.as_bytes()).unwrap();
            prop_assert_eq!(unpack(&packed, text.len()).unwrap(), text.as_bytes());
            prop_assert!(packed.len() <= text.len() + text.len().div_ceil(32));
        }

        #[test]
        fn unpacking_is_total(octets in proptest::collection::vec(any::<u8>(), 0..100)) {
            if let Some(text) = unpack(&octets, 500) {
                prop_assert!(text.len() <= 500);
            }
        }
    }
}
