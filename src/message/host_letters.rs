//! What names of hosts are made of, for one mail program or another.

use idna::AsciiDenyList;

/// The end of the longest start of a name that ends in a public suffix. In a label, a program may stop where ASCII starts or
/// ends, or at a hyphen.
pub(super) fn with_ending(name: &str) -> Option<usize> {
    let mut end = name.len();
    loop {
        let head = name.get(..end)?;
        let (at, dot) = head.char_indices().rev().find(|(_, letter)| is_dot(*letter))?;
        let label = head.get(at + dot.len_utf8()..)?;
        if at > 0 && is_ending(label) {
            return Some(end);
        }
        let ascii = label.starts_with(|letter: char| letter.is_ascii());
        let cut = label
            .find(|letter: char| letter.is_ascii() != ascii || matches!(letter, '-' | '_'))
            .filter(|cut| at > 0 && label.get(..*cut).is_some_and(is_ending));
        if let Some(cut) = cut {
            return Some(at + dot.len_utf8() + cut);
        }
        end = at;
    }
}

/// Whether names can end in a label: the last label of a public suffix.
pub(super) fn is_ending(label: &str) -> bool {
    let known = |label: &str| {
        let labels = [label.as_bytes(), b"b", b"a"];
        // Not on the list, and yet linked by a program that many use.
        psl::Psl::find(&psl::List, labels.into_iter()).typ.is_some() || label == "web"
    };
    if label.is_ascii() {
        let plain =
            label.bytes().all(|byte| byte.is_ascii_alphabetic()) || label.get(..4).is_some_and(|start| start.eq_ignore_ascii_case("xn--"));
        return (2..=LABEL).contains(&label.len()) && plain && known(&label.to_ascii_lowercase());
    }
    let short = label.chars().filter(|letter| !is_dropped(*letter)).take(LABEL + 1).count() <= LABEL;
    short && idna::domain_to_ascii_cow(label.as_bytes(), AsciiDenyList::URL).is_ok_and(|label| !label.contains('.') && known(&label))
}

/// Whether a name is four numbers: an IPv4 address, a version, a date.
pub(super) fn is_address(name: &str) -> bool {
    let is_number =
        |label: &str| (1..=3).contains(&label.len()) && label.bytes().all(|byte| byte.is_ascii_digit()) && label.parse::<u8>().is_ok();
    name.len() <= 15 && name.split('.').count() == 4 && name.split('.').all(is_number)
}

/// Dots between labels: RFC 3490 section 3.1, and two that compatibility makes one of.
pub(super) fn is_dot(letter: char) -> bool {
    matches!(letter, '.' | '\u{3002}' | '\u{ff0e}' | '\u{ff61}' | '\u{2024}' | '\u{fe52}')
}

/// What UTS 46 takes out of a name.
pub(super) fn is_dropped(letter: char) -> bool {
    matches!(
        letter,
        '\u{ad}' | '\u{34f}' | '\u{180b}'..='\u{180d}' | '\u{180f}' | '\u{200b}' | '\u{2060}' | '\u{2064}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{e0100}'..='\u{e01ef}'
    )
}

/// What directs how a text is written, and is none of it: in a name no browser takes it.
pub(super) fn is_direction(letter: char) -> bool {
    matches!(
        letter,
        '\u{61c}' | '\u{180e}' | '\u{200c}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2061}'..='\u{206f}' | '\u{fff9}'..='\u{fffb}' | '\u{e0001}'..='\u{e007f}'
    )
}

/// What a name may be made of, for one program or another: letters, marks and digits of every script, signs, dots.
pub(super) fn is_host(letter: char) -> bool {
    if letter.is_ascii() {
        return letter.is_ascii_alphanumeric() || matches!(letter, '.' | '-' | '_');
    }
    is_dot(letter) || !(letter.is_whitespace() || letter.is_control() || is_punctuation(letter))
}

/// Punctuation of the scripts that mails are written in; what is missing here is read as a letter, and without it. So are the
/// four that are pictures for some programs.
pub(super) fn is_punctuation(letter: char) -> bool {
    matches!(
        letter,
        '\u{a1}' | '\u{a7}' | '\u{ab}' | '\u{b6}' | '\u{b7}' | '\u{bb}' | '\u{bf}'
            | '\u{37e}' | '\u{387}'
            | '\u{55a}'..='\u{55f}' | '\u{589}' | '\u{58a}'
            | '\u{5be}' | '\u{5c0}' | '\u{5c3}' | '\u{5c6}' | '\u{5f3}' | '\u{5f4}'
            | '\u{609}' | '\u{60a}' | '\u{60c}' | '\u{60d}' | '\u{61b}' | '\u{61d}'..='\u{61f}' | '\u{66a}'..='\u{66d}' | '\u{6d4}'
            | '\u{964}' | '\u{965}' | '\u{e4f}' | '\u{e5a}' | '\u{e5b}' | '\u{104a}'..='\u{104f}' | '\u{1361}'..='\u{1368}' | '\u{17d4}'..='\u{17da}'
            | '\u{2010}'..='\u{2023}' | '\u{2025}'..='\u{2027}' | '\u{2030}'..='\u{203b}' | '\u{203d}'..='\u{2048}' | '\u{204a}'..='\u{205e}' | '\u{207d}' | '\u{207e}' | '\u{2308}'..='\u{230b}'
            | '\u{2329}' | '\u{232a}' | '\u{2768}'..='\u{2775}' | '\u{27e6}'..='\u{27ef}' | '\u{2983}'..='\u{2998}' | '\u{2e00}'..='\u{2e5d}'
            | '\u{3001}' | '\u{3003}' | '\u{3008}'..='\u{3011}' | '\u{3014}'..='\u{301f}' | '\u{30a0}' | '\u{30fb}'
            | '\u{fd3e}' | '\u{fd3f}' | '\u{fe10}'..='\u{fe19}' | '\u{fe30}'..='\u{fe51}' | '\u{fe54}'..='\u{fe6b}'
            | '\u{ff01}'..='\u{ff03}' | '\u{ff05}'..='\u{ff0a}' | '\u{ff0c}' | '\u{ff0d}' | '\u{ff0f}' | '\u{ff1a}'..='\u{ff20}' | '\u{ff3b}'..='\u{ff3f}'
            | '\u{ff5b}'..='\u{ff60}' | '\u{ff62}'..='\u{ff65}'
    )
}

/// What ends an address for some programs and not for others: behind it, another one may start.
pub(super) fn is_break(letter: char) -> bool {
    "|^`{}[]()'\",;!*\\<>".contains(letter)
}

/// Octets of a host (RFC 1035 section 2.3.4).
pub(super) const NAME: usize = 253;
/// Octets of a label.
const LABEL: usize = 63;
