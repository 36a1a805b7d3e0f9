//! Faults that a test can set: what becomes of a mail whose handling panics is tested on the program as it is shipped.

/// Where a panic strikes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultPoint {
    /// Reading the header, before anything is decided.
    Header,
    /// Finding out who sent the mail.
    Identity,
    /// Reading the body, on the threads that read.
    Body,
    /// Making the edits.
    Edits,
    /// Handing the mail on, once it is decided.
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

    /// Reads the name of a point.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::NAMES.iter().find(|(_, known)| *known == name).map(|(point, _)| *point)
    }
}

/// Panics where the point that was asked for is this one.
///
/// # Panics
/// That is what it is for.
pub fn strike(asked: Option<FaultPoint>, here: FaultPoint) {
    assert!(asked != Some(here), "a test asked for a fault here");
}
