//! A session's side towards the next hop: its connection, opened when it is needed and used for one mail after another.
//!
//! Commands go on as they come, so that the next hop's refusals are the upstream's. A connection that went stale between
//! two mails is opened again, because nothing of the next mail was sent on it; never within one.

use super::{
    next_hop::{Extensions, HopError, NextHop, Sent},
    outgoing::Outgoing,
};
use crate::{
    audit::record::{Delivery, Outcome},
    clock::Stopwatch,
    smtp::{
        codec::{
            command::{Attributes, PathCommand, Protocol},
            reply::Reply,
        },
        server::{Server, Snapshot},
    },
};

/// A session's connection to the next hop.
#[derive(Default)]
pub(in crate::smtp) struct Relay {
    hop: Option<Hop>,
}

struct Hop {
    connection: NextHop,
    /// Whether it still holds a transaction that our side has given up.
    stale: bool,
    /// Whether it has heard a mail already; then it may have been closed meanwhile.
    used: bool,
}

/// Whether a transaction is open at the next hop.
pub(in crate::smtp) enum MailOutcome {
    /// It is, and these are the replies to the recipients that went along.
    Yes {
        /// The reply to MAIL.
        mail: Reply,
        /// Those to RCPT.
        recipients: Vec<Reply>,
    },
    /// It is not, for this reason.
    No(Reply),
    /// The next hop is another one by now, and cannot carry what was announced.
    Changed,
}

impl Relay {
    /// What the next hop announces. Where it is away nobody knows, and see [`Extensions::all`].
    pub(in crate::smtp) async fn extensions(&mut self, server: &Server, snapshot: &Snapshot) -> Extensions {
        self.give_up();
        self.connect(server, snapshot).await.map_or_else(|_| Extensions::all(), |hop| hop.connection.extensions().clone())
    }

    /// Whether commands may go in one breath.
    pub(in crate::smtp) fn takes_pipelines(&self) -> bool {
        self.hop.as_ref().is_some_and(|hop| hop.connection.extensions().pipelining)
    }

    async fn connect(&mut self, server: &Server, snapshot: &Snapshot) -> Result<&mut Hop, HopError> {
        if self.hop.as_ref().is_some_and(|hop| hop.connection.is_broken()) {
            self.hop = None;
        }
        if self.hop.is_none() {
            let connection = server.route.connect(&snapshot.config, snapshot.client_tls.as_ref()).await?;
            tracing::debug!(next_hop = connection.name(), tls = connection.is_encrypted(), "next hop: connected");
            self.hop = Some(Hop { connection, stale: false, used: false });
        }
        self.hop.as_mut().ok_or_else(|| HopError::Unreachable("no connection".into()))
    }

    /// Opens a transaction: MAIL, and the RCPTs that came in the same breath.
    pub(in crate::smtp) async fn open(
        &mut self,
        server: &Server,
        snapshot: &Snapshot,
        announced: &Extensions,
        client: Option<&Attributes>,
        mail: &PathCommand,
        recipients: &[PathCommand],
    ) -> MailOutcome {
        // A reload may have named another next hop; mails go there from now on.
        if self.hop.as_ref().is_some_and(|hop| !snapshot.config.next_hops.iter().any(|named| named == hop.connection.name())) {
            self.leave().await;
        }
        let fresh = self.hop.is_none();
        match self.connect(server, snapshot).await {
            Ok(hop) if fresh && !hop.connection.extensions().covers(announced) => return MailOutcome::Changed,
            Ok(_) => {}
            Err(error) => return MailOutcome::No(unreachable(&error)),
        }
        let mut replies = self.start(server, snapshot, client, mail, recipients).await;
        let may_be_stale = !fresh;
        if may_be_stale && matches!(replies, Err(HopError::Broken(_))) {
            // It was closed since the last mail, and nothing of this one has been accepted on it.
            self.hop = None;
            replies = match self.connect(server, snapshot).await {
                Ok(hop) if !hop.connection.extensions().covers(announced) => return MailOutcome::Changed,
                Ok(_) => self.start(server, snapshot, client, mail, recipients).await,
                Err(error) => Err(error),
            };
        }
        match replies {
            Ok(mut replies) if !replies.is_empty() => {
                let recipients = replies.split_off(1);
                match replies.pop() {
                    Some(mail) => MailOutcome::Yes { mail, recipients },
                    None => MailOutcome::No(unexpected_reply()),
                }
            }
            Ok(_) => MailOutcome::No(unexpected_reply()),
            Err(error) => MailOutcome::No(unreachable(&error)),
        }
    }

    /// RSET where something is open, XFORWARD where it is wanted, then MAIL and RCPT; the replies to the last two.
    async fn start(
        &mut self,
        server: &Server,
        snapshot: &Snapshot,
        client: Option<&Attributes>,
        mail: &PathCommand,
        recipients: &[PathCommand],
    ) -> Result<Vec<Reply>, HopError> {
        let Some(hop) = &mut self.hop else { return Err(HopError::Broken("the connection is gone".into())) };
        // After an error reply a session has still to be told RSET; telling it once too often costs nothing.
        let mut before = Vec::new();
        if hop.stale {
            before.push("RSET".to_owned());
        }
        if let Some(client) = client.filter(|_| hop.connection.extensions().xforward) {
            before.push(xforward(client));
        }
        let mut lines = before.clone();
        lines.push(mail.line("MAIL FROM"));
        lines.extend(recipients.iter().map(|recipient| recipient.line("RCPT TO")));
        hop.stale = true;
        let idle_before = std::mem::replace(&mut hop.used, true);
        let replies = self.tell(server, snapshot, &lines).await?;
        // A hop that has closed an idle session says 421 to whatever comes first, and means the session, not this mail.
        let about_session = if idle_before { before.len() + 1 } else { before.len() };
        if let Some(closing) = replies.iter().take(about_session).find(|reply| reply.code() == 421) {
            self.hop = None;
            return Err(HopError::Broken(closing.to_string()));
        }
        Ok(replies.into_iter().skip(before.len()).collect())
    }

    async fn tell(&mut self, server: &Server, snapshot: &Snapshot, lines: &[String]) -> Result<Vec<Reply>, HopError> {
        let hop = self.connect(server, snapshot).await?;
        let answer = hop.connection.commands(lines).await.and_then(|replies| match replies.iter().find(|reply| !reply.is_final()) {
            Some(odd) => Err(HopError::UnexpectedReply(odd.clone())),
            None => Ok(replies),
        });
        if let Err(error) = &answer {
            tracing::warn!(next_hop = hop.connection.name(), %error, "next hop");
            self.hop = None;
        }
        answer
    }

    /// One more recipient of the open transaction.
    ///
    /// # Errors
    /// The reply for the upstream where the connection, and with it the transaction, is gone.
    pub(in crate::smtp) async fn recipient(&mut self, server: &Server, snapshot: &Snapshot, line: &PathCommand) -> Result<Reply, Reply> {
        if self.hop.is_none() {
            return Err(broke_off());
        }
        match self.tell(server, snapshot, &[line.line("RCPT TO")]).await {
            Ok(replies) => replies.into_iter().next().ok_or_else(unexpected_reply),
            Err(error) => Err(unreachable(&error)),
        }
    }

    /// Hands a mail over and finds the words for the upstream.
    pub(in crate::smtp) async fn deliver(&mut self, mail: Outgoing<'_>, watch: Stopwatch) -> (Reply, Outcome) {
        let (name, sent) = match &mut self.hop {
            None => (String::new(), Sent::NotSent(HopError::Broken("the connection is gone".into()))),
            Some(hop) => (hop.connection.name().to_owned(), hop.connection.data(mail).await),
        };
        let (delivery, reply) = match sent {
            // A reply that belongs to no mail, as 354, is nothing that the upstream could use.
            Sent::Answered(reply) if !reply.is_final() => {
                self.hop = None;
                (Delivery::Unknown, unexpected_reply())
            }
            Sent::Answered(reply) if reply.is_accepted() => (Delivery::Accepted, reply),
            Sent::Answered(reply) if reply.is_refused() => (Delivery::Refused, reply),
            Sent::Answered(reply) => (Delivery::Deferred, reply),
            Sent::NotSent(error) => {
                tracing::warn!(next_hop = name, %error, "next hop");
                self.hop = None;
                (Delivery::Deferred, broke_off())
            }
            Sent::Unknown(error) => {
                tracing::error!(next_hop = name, %error, "next hop: it may have the mail; the upstream is told to send it again");
                self.hop = None;
                (Delivery::Unknown, Reply::new(451, "4.4.2 the next hop broke off after the mail was sent, send it again"))
            }
        };
        if let Some(hop) = &mut self.hop {
            hop.stale = delivery != Delivery::Accepted;
            if reply.code() == 421 || hop.connection.is_broken() {
                self.hop = None;
            }
        }
        let queue_id = reply.queue_id().map(str::to_owned);
        let latency_ms = u64::try_from(watch.elapsed().as_millis()).unwrap_or(u64::MAX);
        let outcome = Outcome { delivery, next_hop: name, reply: reply.to_string(), queue_id, latency_ms };
        (reply, outcome)
    }

    /// Gives up what the next hop was told; it hears RSET before it hears anything else.
    pub(in crate::smtp) fn give_up(&mut self) {
        if let Some(hop) = &mut self.hop {
            hop.stale |= hop.used;
        }
    }

    /// Gives the connection back.
    pub(in crate::smtp) async fn leave(&mut self) {
        if let Some(hop) = self.hop.take() {
            hop.connection.quit().await;
        }
    }
}

/// What the upstream hears when a transaction that was open at the next hop is gone.
pub(in crate::smtp) fn broke_off() -> Reply {
    Reply::new(451, "4.4.2 the next hop broke off, send the mail again")
}

fn unexpected_reply() -> Reply {
    Reply::new(451, "4.5.0 unexpected reply from the next hop, send the mail again")
}

fn xforward(client: &Attributes) -> String {
    let mut line = "XFORWARD".to_owned();
    let mut add = |name: &str, value: Option<String>| {
        line.push_str(&format!(" {name}={}", value.map_or_else(|| "[UNAVAILABLE]".to_owned(), |value| xtext(&value))));
    };
    add("NAME", client.name.clone());
    add(
        "ADDR",
        client.address.map(|address| match address.to_canonical() {
            std::net::IpAddr::V4(address) => address.to_string(),
            std::net::IpAddr::V6(address) => format!("IPV6:{address}"),
        }),
    );
    add("HELO", client.helo.clone());
    add("PROTO", client.protocol.map(|protocol| if protocol == Protocol::Smtp { "SMTP".into() } else { "ESMTP".into() }));
    line
}

/// RFC 3461 section 4.
fn xtext(value: &str) -> String {
    value
        .bytes()
        .map(
            |byte| {
                if byte.is_ascii_graphic() && byte != b'+' && byte != b'=' { char::from(byte).to_string() } else { format!("+{byte:02X}") }
            },
        )
        .collect()
}

fn unreachable(error: &HopError) -> Reply {
    match error {
        // A next hop that refuses the whole session refuses no mail in particular: whatever it says, the upstream keeps
        // its mails and tries again.
        HopError::Refused(reply) => Reply::new(451, format!("4.4.1 the next hop refused the session: {reply}")),
        HopError::Unreachable(_) | HopError::Silent => Reply::new(451, "4.4.1 the next hop cannot be reached, try again later"),
        HopError::Broken(_) => Reply::new(451, "4.4.2 the next hop broke off, try again later"),
        HopError::UnexpectedReply(_) => unexpected_reply(),
        HopError::Tls(_) => Reply::new(451, "4.7.4 the next hop cannot be reached by TLS, try again later"),
    }
}
