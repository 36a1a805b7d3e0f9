//! The header fields that a proof covers, and what of them a check may see.

use std::borrow::Cow;

use crate::message::header::{Field, Headers};

/// The header fields that a proof covers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Coverage {
    /// All of them: the mail came straight from the host that is itself the proof.
    Whole,
    /// The fields of a signature's `h=`, in lower case, as often as they occur there: n times stands for the n lowest fields
    /// of that name (RFC 6376 section 5.4.2).
    Fields(Vec<String>),
}

/// The fields of one name, as far as they are covered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen<'h> {
    /// No field of this name stands in the header.
    Absent,
    /// All fields of this name are covered: their values, unfolded, topmost first.
    Covered(Vec<Cow<'h, [u8]>>),
    /// So many fields are not covered: nothing of this name is evidence.
    Bare(usize),
}

impl Coverage {
    /// No field at all.
    #[must_use]
    pub const fn nothing() -> Self {
        Self::Fields(Vec::new())
    }

    /// The fields of this name, as far as they are covered. A field whose name is not written plainly ("To :") is never
    /// covered: verifiers do not find it, and some readers do.
    #[must_use]
    pub fn of<'h>(&self, headers: &'h Headers<'h>, name: &str) -> Seen<'h> {
        let fields: Vec<_> = headers.fields().iter().filter(|field| headers.is_named(field, name)).collect();
        if fields.is_empty() {
            return Seen::Absent;
        }
        let bare = match self {
            Self::Whole => 0,
            Self::Fields(covered) => {
                let odd = fields.iter().filter(|field| !is_plain(field, name)).count();
                let times = covered.iter().filter(|known| known.eq_ignore_ascii_case(name)).count();
                odd + (fields.len() - odd).saturating_sub(times)
            }
        };
        if bare > 0 {
            return Seen::Bare(bare);
        }
        Seen::Covered(fields.into_iter().map(|field| Cow::Owned(headers.unfolded(field))).collect())
    }

    /// The fields that both cover: each name as often as in the one that has it less often.
    #[must_use]
    pub fn meet(self, other: &Self) -> Self {
        match (self, other) {
            (Self::Whole, other) => other.clone(),
            (own, Self::Whole) => own,
            (Self::Fields(mut own), Self::Fields(others)) => {
                let mut left = others.clone();
                own.sort_unstable();
                left.sort_unstable();
                let mut left = left.into_iter().peekable();
                own.retain(|name| {
                    while left.next_if(|other| other < name).is_some() {}
                    left.next_if(|other| other == name).is_some()
                });
                Self::Fields(own)
            }
        }
    }
}

/// Whether the field's name stands as it should, with its colon right behind it.
fn is_plain(field: &Field, name: &str) -> bool {
    field.name.start == field.whole.start && field.name.end + 1 == field.value.start && field.name.len() == name.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(names: &str) -> Coverage {
        Coverage::Fields(names.split(':').filter(|name| !name.is_empty()).map(str::to_owned).collect())
    }

    #[test]
    fn as_often_as_they_occur() {
        let raw = b"To: c\r\nCc : d\r\nTo: a\r\n b\r\nFrom: x\r\n\r\n";
        let headers = Headers::read(raw);
        let covered = |values: &[&str]| Seen::Covered(values.iter().map(|value| Cow::Owned(value.as_bytes().to_vec())).collect());
        for (h, name, seen) in [
            ("from:to", "To", Seen::Bare(1)),
            ("from:to:to", "To", covered(&["c", "a b"])),
            ("from:to:to:to", "to", covered(&["c", "a b"])),
            ("from", "from", covered(&["x"])),
            ("", "from", Seen::Bare(1)),
            ("from:cc:cc", "cc", Seen::Bare(1)),
            ("from:subject", "subject", Seen::Absent),
        ] {
            assert_eq!(fields(h).of(&headers, name), seen, "{h} {name}");
        }
        assert_eq!(Coverage::Whole.of(&headers, "cc"), covered(&["d"]));
    }

    #[test]
    fn what_both_cover() {
        for (one, other, both) in [
            ("from:to:to:date", "to:from:from", "from:to"),
            ("from:from", "from:from:from", "from:from"),
            ("to:from", "from:to", "from:to"),
            ("from", "", ""),
            ("", "from", ""),
        ] {
            assert_eq!(fields(one).meet(&fields(other)), fields(both), "{one} {other}");
        }
        assert_eq!(Coverage::Whole.meet(&fields("from")), fields("from"));
        assert_eq!(fields("from").meet(&Coverage::Whole), fields("from"));
    }
}
