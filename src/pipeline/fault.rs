//! Faults for tests: a point at which the handling of a mail panics, in the program as it is shipped.

/// A point at which a test can make the pipeline panic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultPoint {
    /// While the header is read, before anything is decided.
    Header,
    /// While the sender's identity is looked up.
    Identity,
    /// While the body is read, on a thread of the reading pool.
    Body,
    /// While the edits are made.
    Edits,
    /// While the mail is delivered, after the decision.
    Delivery,
}

impl FaultPoint {
    const NAMES: [(Self, &'static str); 5] = [
        (Self::Header, "header"),
        (Self::Identity, "identity"),
        (Self::Body, "body"),
        (Self::Edits, "edits"),
        (Self::Delivery, "delivery"),
    ];

    /// Reads a point's name, as in `identity`.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::NAMES.iter().find(|(_, known)| *known == name).map(|(point, _)| *point)
    }
}

/// Panics where the test asked for this point.
///
/// # Panics
/// At the point that was asked for, always.
pub fn strike(asked: Option<FaultPoint>, here: FaultPoint) {
    assert!(asked != Some(here), "a test asked for a fault here");
}
