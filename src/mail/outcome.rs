//! The outcome of a mail, once it was decided about.

use serde::{Deserialize, Serialize};

use crate::vocabulary::{Code, vocabulary};

vocabulary! {
    /// Whether the next hop has the mail.
    Delivery {
        Accepted = "accepted", "The next hop said 250.";
        Deferred = "deferred", "It said 4xx; the upstream tries again.";
        Refused = "refused", "It said 5xx.";
        LeftToMta = "left_to_mta", "The milter's MTA has it; what becomes of it stands in the MTA's log, under the queue id.";
        Unknown = "unknown", "The next hop may have the mail or not: the connection broke after the mail was sent, or the session was cut. The upstream was told to try again, or heard nothing.";
    }
}

/// The outcome of a mail.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// Whether the next hop accepted, deferred or refused it, or whether that is unknown.
    pub delivery: Code<Delivery>,
    /// The next hop as the configuration names it; empty where none was reached.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub next_hop: String,
    /// The next hop's last reply, or the hop's own, on one line.
    #[serde(default)]
    pub reply: String,
    /// The id under which the next hop queued the mail, where its reply names one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue_id: Option<String>,
    /// From the end of the upstream's data to the reply, in milliseconds.
    #[serde(default)]
    pub latency_ms: u64,
}

impl Outcome {
    /// The outcome of a mail that was not sent to a next hop.
    #[must_use]
    pub fn of_the_hop(delivery: Delivery, reply: impl Into<String>) -> Self {
        Self { delivery: delivery.into(), next_hop: String::new(), reply: reply.into(), queue_id: None, latency_ms: 0 }
    }

    /// The outcome of a mail whose session ended first, cut at the end of a drain or by a panic: `unknown, cancelled`.
    #[must_use]
    pub fn cancelled() -> Self {
        Self::of_the_hop(Delivery::Unknown, "cancelled")
    }
}
