//! Edits of a mail, octet by octet: what no patch names stays as it came.

pub mod guard_link;
pub mod link_id;
mod pack;
pub mod rewrite;
pub mod tag;
pub mod token;

use std::ops::Range;

/// A stretch of a mail and what stands there instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Patch {
    /// The octets of the mail that are replaced; empty to insert.
    pub at: Range<usize>,
    /// The octets that take their place.
    pub with: Vec<u8>,
}

/// Two patches overlap, or one lies outside of the mail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("patches overlap or lie outside of the mail")]
pub struct PatchError;

/// Applies patches, given in any order. Insertions at the same place keep their order.
///
/// # Errors
/// [`PatchError`]: patches overlap; the mail is then to be left as it came.
pub fn apply(raw: &[u8], patches: &[Patch]) -> Result<Vec<u8>, PatchError> {
    Ok(pieces(raw, patches)?.concat())
}

/// The same, as slices of the mail and of the patches: nothing is copied.
///
/// # Errors
/// [`PatchError`]: patches overlap; the mail is then to be left as it came.
pub fn pieces<'p>(raw: &'p [u8], patches: &'p [Patch]) -> Result<Vec<&'p [u8]>, PatchError> {
    let mut ordered: Vec<&Patch> = patches.iter().collect();
    ordered.sort_by_key(|patch| (patch.at.start, patch.at.end));
    let mut pieces = Vec::with_capacity(patches.len() * 2 + 2);
    let mut at = 0;
    for patch in ordered {
        pieces.push(raw.get(at..patch.at.start).ok_or(PatchError)?);
        pieces.push(&patch.with);
        at = patch.at.end.max(patch.at.start);
    }
    pieces.push(raw.get(at..).ok_or(PatchError)?);
    Ok(pieces)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patch(at: Range<usize>, with: &str) -> Patch {
        Patch { at, with: with.into() }
    }

    #[test]
    fn patches_and_nothing_else() {
        assert_eq!(apply(b"abcdef", &[]).unwrap(), b"abcdef");
        assert_eq!(apply(b"abcdef", &[patch(4..5, ""), patch(0..0, "x"), patch(0..0, "y"), patch(1..2, "BB")]).unwrap(), b"xyaBBcdf");
        assert_eq!(apply(b"abc", &[patch(0..2, ""), patch(1..3, "")]), Err(PatchError));
        assert_eq!(apply(b"abc", &[patch(2..9, "")]), Err(PatchError));
    }
}
