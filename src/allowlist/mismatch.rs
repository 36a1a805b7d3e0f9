//! Why a link does not fit a shape, in the words of `explain`, without a secret.

use std::fmt;

/// Why a link does not fit a shape.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Mismatch {
    /// Pieces that two programs could read differently.
    Ambiguous,
    Host,
    Scheme(&'static str),
    Port,
    /// How many segments there are, and how many the shape has.
    Length(usize, usize),
    /// Which segment, and what the shape has there.
    Segment(usize, String),
    /// A field that the shape does not have: its name where it is a word.
    Undeclared(String),
    Twice(String),
    Missing(String),
    Value(String, String),
    Fragment,
    /// The bound on work, [`limits::SHAPE_WORK`](crate::limits::SHAPE_WORK), was reached.
    Bound,
}

impl Mismatch {
    /// How far the link fits, 0 to 63: of several shapes the one with the highest rank is shown.
    pub(super) const fn rank(&self) -> usize {
        match self {
            Self::Ambiguous | Self::Host => 0,
            Self::Scheme(_) | Self::Port => 1,
            Self::Length(..) => 2,
            Self::Segment(at, _) => 3 + if *at < 50 { *at } else { 50 },
            Self::Fragment => 60,
            Self::Undeclared(_) | Self::Twice(_) | Self::Missing(_) => 61,
            Self::Value(..) => 62,
            Self::Bound => 63,
        }
    }
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ambiguous => {
                f.write_str("a piece of the link is encoded twice, or holds a control character, a backslash or a delimiter")
            }
            Self::Host => f.write_str("the host is another"),
            Self::Scheme(scheme) => write!(f, "the scheme is not {scheme}"),
            Self::Port => f.write_str("the port is another"),
            Self::Length(found, wanted) => write!(f, "the path has {found} segments, not {wanted}"),
            Self::Segment(at, wanted) => write!(f, "segment {} of the path is not {wanted:?}", at + 1),
            Self::Undeclared(key) => write!(f, "the shape has no query field {key}"),
            Self::Twice(key) => write!(f, "the query field {key} is there twice"),
            Self::Missing(key) => write!(f, "the query field {key} is not there"),
            Self::Value(key, wanted) => write!(f, "the query field {key} is not {wanted:?}"),
            Self::Fragment => f.write_str("the part behind # is another"),
            Self::Bound => f.write_str("it takes more work than one link may"),
        }
    }
}
