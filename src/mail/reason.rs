//! The closed vocabularies of a decision: its checks, its verdict and its actions.

use crate::vocabulary::vocabulary;

vocabulary! {
    /// A check, in the order in which checks are made.
    Reason {
        Size = "size", "The mail is small enough to be inspected.";
        Author = "author", "The mail has one From address that every reader agrees on.";
        Sender = "sender", "An allowlist entry names the From address.";
        Expiry = "expiry", "The entry has not expired.";
        Lists = "lists", "The mail came through no mailing list.";
        Recipients = "recipients", "Every recipient is one that the entry names.";
        Identity = "identity", "The sender is proven as the entry requires.";
        Freshness = "freshness", "The signature, or the covered Date, is not older than the entry allows.";
        Addressees = "addressees", "The mail is meant for its recipients: the covered To names them, or it was delivered straight.";
        Coverage = "coverage", "The proof covers the fields that decide how the mail is read, or the signed body tells the same.";
        Subject = "subject", "The Subject is covered by the proof.";
        Reading = "reading", "No part of the mail can be read in two ways.";
        Kind = "kind", "The mail is of a kind that the entry grants.";
        OneTimeLink = "one_time_link", "A link fits one of the entry's shapes.";
        OtherLinks = "other_links", "Every other link points where the entry says.";
        Attachments = "attachments", "The mail has no part that cannot be looked into.";
        Replay = "replay", "The same signed mail has not been exempted for another recipient before.";
        Limit = "limit", "The recipient has not had too many exemptions in this hour.";
        Edit = "edit", "The mail can be changed as the entry's actions say.";
        Audit = "audit", "The decision is on record before it takes effect.";
        Busy = "busy", "The sender could be looked up and the mail read within the limits on work at once.";
        Budget = "budget", "The mail was read within its share of processor time.";
        Fault = "fault", "Nothing went wrong while deciding.";
    }
}

vocabulary! {
    /// The verdict about a mail.
    VerdictKind {
        Act = "act", "It is exempted, or would be where the entry only observes.";
        NearMiss = "near_miss", "Nothing; but it is a proven mail of an entry's sender and fails by little.";
        Pass = "pass", "Nothing.";
    }
}

vocabulary! {
    /// What the hop does to an exempted mail, in the order in which it is done.
    Action {
        Unwrap = "unwrap", "Puts the original in the place of each link that an earlier scanner wrapped.";
        Guard = "guard", "Puts a guard link in the one-time link's place.";
        Tag = "tag", "Adds the token that the scanner's rule looks for.";
    }
}
