//! The kinds of one-time links.

use serde::{Deserialize, Deserializer, de};

use crate::vocabulary::{Vocabulary as _, vocabulary};

vocabulary! {
    /// The purpose of a one-time link.
    Kind {
        PasswordReset = "password_reset", "Choose a new password, or unlock the account.";
        Invite = "invite", "Set the first password, or join.";
        EmailVerify = "email_verify", "Confirm an address or activate an account.";
        MagicLink = "magic_link", "Sign in.";
        Action = "action", "Approve, decline, vote, unsubscribe: whatever a visit carries out by itself. Entries name the shapes of such links; recognition never says so of a mail, as no words tell them from links that only lead to a page.";
    }
}

impl Kind {
    /// The kinds that recognition knows, in the order in which ties are broken.
    pub const RECOGNISED: [Self; 4] = [Self::PasswordReset, Self::Invite, Self::EmailVerify, Self::MagicLink];
}

/// For the data files, where an unknown kind is a mistake.
impl<'de> Deserialize<'de> for Kind {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let code = String::deserialize(deserializer)?;
        Self::of(&code).ok_or_else(|| de::Error::custom(format!("{code:?} is no kind")))
    }
}
