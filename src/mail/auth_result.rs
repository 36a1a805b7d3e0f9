//! Results of authentication (RFC 8601 section 2.7).

use crate::vocabulary::vocabulary;

vocabulary! {
    /// The result of a method, by the words of RFC 8601 section 2.7.
    AuthResult {
        Pass = "pass", "It holds.";
        Fail = "fail", "It does not hold.";
        SoftFail = "softfail", "SPF only: probably not.";
        Neutral = "neutral", "There is no statement.";
        None = "none", "Nothing to check.";
        Policy = "policy", "The method's owner does not accept it.";
        TempError = "temperror", "It could not be found out now.";
        PermError = "permerror", "It can never be found out.";
    }
}

#[expect(clippy::derivable_impls, reason = "the macro writes the variants")]
impl Default for AuthResult {
    fn default() -> Self {
        Self::None
    }
}

impl AuthResult {
    /// Reads a result's word in an Authentication-Results field, in any case.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|known| known.code().eq_ignore_ascii_case(word))
    }
}
