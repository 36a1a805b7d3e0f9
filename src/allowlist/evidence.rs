//! The header as a check may see it: through the proof that is relied on (design: R1).
//!
//! A check that needs a header field asks [`Evidence::field`], and gets values only of fields that the proof covers. What
//! stands outside can be had by [`Evidence::uncovered`] alone, and may only make things worse.

use crate::{
    identity::proof::{Coverage, Seen},
    message::header::Headers,
};

/// What a mail's header proves.
#[derive(Clone, Copy, Debug)]
pub struct Evidence<'m> {
    headers: &'m Headers<'m>,
    coverage: &'m Coverage,
    by: &'m str,
}

impl<'m> Evidence<'m> {
    /// The header of a mail, seen through what a proof covers. `by` names the proof, for people.
    #[must_use]
    pub const fn new(headers: &'m Headers<'m>, coverage: &'m Coverage, by: &'m str) -> Self {
        Self { headers, coverage, by }
    }

    /// The fields of a name, as far as they are evidence.
    #[must_use]
    pub fn field(&self, name: &str) -> Seen<'m> {
        self.coverage.of(self.headers, name)
    }

    /// Whether the proof covers at least one field of a name.
    #[must_use]
    pub fn mentions(&self, name: &str) -> bool {
        match self.coverage {
            Coverage::Whole => true,
            Coverage::Fields(names) => names.iter().any(|covered| covered.eq_ignore_ascii_case(name)),
        }
    }

    /// The values of fields of a name that the proof does not cover, where it does not cover all of them: no evidence, only a
    /// reason to refuse.
    pub fn uncovered(&self, name: &'m str) -> impl Iterator<Item = Vec<u8>> + 'm {
        let bare = matches!(self.field(name), Seen::Bare(_));
        let headers = self.headers;
        headers.named(name).filter(move |_| bare).map(move |field| headers.unfolded(field))
    }

    /// What proves it, for people: `the DKIM signature of bank.test (s1)`.
    #[must_use]
    pub const fn by(&self) -> &'m str {
        self.by
    }
}
