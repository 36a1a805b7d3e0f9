//! Closed vocabularies: enums whose every value has a stable code and a sentence for people.
//!
//! The codes are a contract: they stand in audit records, in `explain` and in docs/reasons.md, and are never renamed.

/// Makes such an enum: `Variant = "code", "Sentence.";` for each value.
macro_rules! vocabulary {
    ($(#[$about:meta])* $name:ident { $($variant:ident = $code:literal, $says:literal;)* }) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum $name { $(#[doc = $says] $variant,)* }

        impl $name {
            /// Every value there is, in the order in which they are written.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The stable code.
            #[must_use]
            pub const fn code(self) -> &'static str {
                match self { $(Self::$variant => $code,)* }
            }

            /// What it says, in one sentence.
            #[must_use]
            pub const fn says(self) -> &'static str {
                match self { $(Self::$variant => $says,)* }
            }
        }
    };
}

pub(crate) use vocabulary;
