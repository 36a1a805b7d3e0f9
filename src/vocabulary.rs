//! Closed vocabularies: enums whose every value has a stable code and a sentence for people.
//!
//! The codes are a contract: they stand in records, metrics, `explain` and docs/reasons.md, and are never renamed. What reads
//! records reads them as [`Code`], so that a code of a later version is read as what it is.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A closed set of values with stable codes.
pub trait Vocabulary: Copy + 'static {
    /// Every value there is, in the order in which they are written.
    const ALL: &'static [Self];

    /// The stable code, as in `near_miss`.
    fn code(self) -> &'static str;

    /// The value with this code; none where this version has no such code.
    #[must_use]
    fn of(code: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|known| known.code() == code)
    }
}

/// A code as a record holds it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Code<T> {
    /// One that this version knows.
    Known(T),
    /// One that a later version wrote.
    Later(String),
}

impl<T: Vocabulary> Code<T> {
    /// The code, as it was read or as it will be written.
    #[must_use]
    pub fn code(&self) -> &str {
        match self {
            Self::Known(value) => value.code(),
            Self::Later(code) => code,
        }
    }

    /// The value, where this version knows it.
    #[must_use]
    pub const fn known(&self) -> Option<T> {
        match self {
            Self::Known(value) => Some(*value),
            Self::Later(_) => None,
        }
    }
}

impl<T> From<T> for Code<T> {
    fn from(value: T) -> Self {
        Self::Known(value)
    }
}

impl<T: Vocabulary> fmt::Display for Code<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

impl<T: Vocabulary> Serialize for Code<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.code())
    }
}

impl<'de, T: Vocabulary> Deserialize<'de> for Code<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let code = String::deserialize(deserializer)?;
        Ok(T::of(&code).map_or(Self::Later(code), Self::Known))
    }
}

/// Makes such an enum: `Variant = "code", "Sentence.";` for each value.
macro_rules! vocabulary {
    ($(#[$about:meta])* $name:ident { $($variant:ident = $code:literal, $says:literal;)* }) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum $name { $(#[doc = $says] $variant,)* }

        impl $name {
            /// Every value there is, in the order in which they are written.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The stable code, as in `near_miss`.
            #[must_use]
            pub const fn code(self) -> &'static str {
                match self { $(Self::$variant => $code,)* }
            }

            /// The value in one sentence, for people.
            #[must_use]
            pub const fn says(self) -> &'static str {
                match self { $(Self::$variant => $says,)* }
            }
        }

        impl $crate::vocabulary::Vocabulary for $name {
            const ALL: &'static [Self] = Self::ALL;

            fn code(self) -> &'static str {
                Self::code(self)
            }
        }
    };
}

pub(crate) use vocabulary;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::VerdictKind;

    #[test]
    fn codes_of_later_versions_are_read_and_written_as_they_are() {
        let read: Vec<Code<VerdictKind>> = serde_json::from_str(r#"["near_miss","mauve"]"#).unwrap();
        assert_eq!(read, [Code::Known(VerdictKind::NearMiss), Code::Later("mauve".into())]);
        assert_eq!(serde_json::to_string(&read).unwrap(), r#"["near_miss","mauve"]"#);
        assert_eq!((VerdictKind::of("pass"), VerdictKind::of("mauve")), (Some(VerdictKind::Pass), None));
    }
}
