//! Plain text as programs join it: lines that flow (RFC 3676), and addresses in angle brackets (RFC 3986 appendix C).

use std::ops::Range;

/// A text that was joined from another one.
#[derive(Debug, Default)]
pub struct Joined {
    /// The joined text.
    pub text: String,
    /// Where pieces start: in the joined text, and in the other one.
    pieces: Vec<(usize, usize)>,
}

impl Joined {
    fn push(&mut self, piece: &str, at: usize) {
        if !piece.is_empty() {
            self.pieces.push((self.text.len(), at));
            self.text.push_str(piece);
        }
    }

    /// Where octets of the joined text stand in the other one; what was between two pieces is inside.
    #[must_use]
    pub fn place(&self, place: &Range<usize>) -> Range<usize> {
        let source = |at: usize| {
            let piece = self.pieces.partition_point(|(start, _)| *start <= at).checked_sub(1).and_then(|piece| self.pieces.get(piece));
            piece.map_or(at, |(start, source)| source + (at - start))
        };
        let end = place.end.checked_sub(1).map_or(0, |last| source(last) + 1);
        source(place.start)..end.max(source(place.start))
    }
}

/// The text of a part that says `format=flowed; delsp=yes` (RFC 3676 section 4): a space at a line's end and the line end
/// behind it go, and so do quote marks and the space that a line is stuffed with.
#[must_use]
pub fn unflow(text: &str) -> Joined {
    let mut joined = Joined::default();
    let mut open: Option<usize> = None;
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        let start = at;
        at += line.len();
        let body = line.trim_end_matches(['\r', '\n']);
        let unquoted = body.trim_start_matches('>');
        let quotes = body.len() - unquoted.len();
        let unstuffed = unquoted.strip_prefix(' ').unwrap_or(unquoted);
        let from = start + body.len() - unstuffed.len();
        if open.is_some_and(|depth| depth != quotes) {
            joined.text.push('\n');
        }
        let flowing = unstuffed.strip_suffix(' ').filter(|_| unstuffed != "-- ");
        joined.push(flowing.unwrap_or(unstuffed), from);
        open = flowing.map(|_| quotes);
        if flowing.is_none() {
            joined.text.push('\n');
        }
    }
    joined
}

/// What stands between `<` and `>` over several lines, and addresses between quotation marks, each with the white space inside taken out. Longer than an address
/// may be, it is none.
#[must_use]
pub fn in_brackets(text: &str, longest: usize) -> Vec<Joined> {
    let mut all = Vec::new();
    let mut open: Option<usize> = None;
    for at in memchr::memchr2_iter(b'<', b'>', text.as_bytes()) {
        if text.as_bytes().get(at) == Some(&b'<') {
            open = Some(at + 1);
        } else if let Some(start) = open.take().filter(|start| at - start <= longest)
            && let Some(inside) = text.get(start..at).filter(|inside| inside.contains('\n'))
        {
            all.push(joined_pieces(inside, start));
        }
    }
    // The other marks that appendix C names. Words in them are no address.
    let mut open: Option<usize> = None;
    for at in memchr::memchr_iter(b'"', text.as_bytes()) {
        if let Some(start) = open.replace(at + 1).filter(|start| at - start <= longest)
            && let Some(inside) = text.get(start..at).filter(|inside| inside.contains('\n') && starts_address(inside))
        {
            all.push(joined_pieces(inside, start));
        }
    }
    all
}

fn starts_address(text: &str) -> bool {
    ["http://", "https://", "www."].iter().any(|start| text.get(..start.len()).is_some_and(|text| text.eq_ignore_ascii_case(start)))
}

/// A text that stands at `at`, without its white space.
fn joined_pieces(text: &str, at: usize) -> Joined {
    let mut joined = Joined::default();
    let mut next = at;
    for piece in text.split_inclusive(char::is_whitespace) {
        joined.push(piece.trim_end(), next);
        next += piece.len();
    }
    joined
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flowing_lines() {
        let text = "See https://a.test \r\n.b.test/x\r\n> quoted \r\n> on\r\n stuffed\r\n-- \r\nend";
        let joined = unflow(text);
        assert_eq!(joined.text, "See https://a.test.b.test/x\nquotedon\nstuffed\n-- \nend\n");
        let at = joined.text.find("https").unwrap();
        assert_eq!(text.get(joined.place(&(at..at + 23))).unwrap(), "https://a.test \r\n.b.test/x");
    }

    #[test]
    fn brackets_over_lines() {
        let text = "<https://a.test/x\r\n  /y> <b> <c\r\nd \"no\r\naddress\" \"https://a.\r\ntest\"";
        let all = in_brackets(text, 100);
        assert_eq!(all.len(), 2);
        assert_eq!(all[1].text, "https://a.test");
        assert_eq!(all[0].text, "https://a.test/x/y");
        assert_eq!(text.get(all[0].place(&(0..18))).unwrap(), "https://a.test/x\r\n  /y");
    }
}
