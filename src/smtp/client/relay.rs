//! A session's side towards the next hop: its connection, taken when it is needed and given back after each mail.
//!
//! Commands go on as they come, so that the next hop's refusals are the upstream's. After a mail that was accepted the connection
//! waits in the pool for whoever comes next; one that may not wait there stays with its session. A connection that was closed
//! between two mails is replaced by a new one, once, because nothing of the next mail was accepted on it; never within one.

use std::{sync::Arc, time::Duration};

use tokio_rustls::rustls::ClientConfig;

use super::{
    next_hop::{HopError, NextHop, Sent, Step},
    pool::Pool,
    route::{Parked, Route},
    sending::Sending,
};
use crate::{
    clock::Stopwatch,
    mail::{Delivery, Outcome},
    smtp::{
        codec::{attributes::Attributes, command::PathCommand, extensions::Extensions, reply::Reply},
        config::Config,
    },
};

/// Where the mails of one transaction go, by one snapshot of the configuration.
#[derive(Clone, Copy)]
pub(crate) struct Destination<'a> {
    /// The next hops and the deadlines.
    pub(crate) config: &'a Config,
    /// The TLS configuration for them; none where the admin wants no TLS.
    pub(crate) tls: Option<&'a Arc<ClientConfig>>,
    /// The next hops in their order, and which could not be reached lately.
    pub(crate) route: &'a Route,
    /// Where connections wait that were opened by this configuration.
    pub(crate) pool: &'a Arc<Pool>,
}

/// A session's connection to a next hop, where it has one.
#[derive(Debug, Default)]
pub(crate) struct Relay(Option<Connected>);

#[derive(Debug)]
struct Connected {
    hop: NextHop,
    transaction: Transaction,
}

/// The state of the transaction on a connection (RFC 5321 section 3.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Transaction {
    /// No transaction.
    None,
    /// The next hop has accepted MAIL on a connection that others used, and was asked for no recipient yet: a new
    /// connection may still take its place.
    Replaceable,
    /// The next hop has accepted MAIL, and perhaps recipients.
    Open,
    /// MAIL was sent and nothing will follow: RSET goes before the next MAIL. It is sent after a refused MAIL, too, where it does
    /// no harm.
    Abandoned,
}

/// Where a connection comes from that a transaction begins on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Origin {
    /// It was opened for this transaction: an error is about the next hop, and is not tried again.
    New,
    /// The session had it. The next hop may have closed it meanwhile, so a new one may replace it.
    Kept,
    /// Others have used it: it waited in the pool, for this mail or for one of this session's before. Whatever has become of it is
    /// not this mail's, so a new one may replace it.
    Shared,
}

impl Transaction {
    const fn is_open(self) -> bool {
        matches!(self, Self::Replaceable | Self::Open)
    }
}

/// A transaction, and recipients of it that came in one group.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Group<'a> {
    /// The client, for XFORWARD where the next hop announces it.
    pub(crate) client: &'a Attributes,
    /// MAIL with the reverse-path and its parameters as received.
    pub(crate) mail: &'a PathCommand,
    /// RCPT commands, in their order.
    pub(crate) recipients: &'a [PathCommand],
}

/// The outcome of MAIL.
#[derive(Debug)]
pub(crate) enum MailOutcome {
    /// The next hop has replied. The transaction is open where it accepted MAIL.
    Replied {
        /// The reply to MAIL.
        mail: Reply,
        /// The replies to the recipients, in their order.
        recipients: Vec<Reply>,
    },
    /// No reply came; this one goes to the upstream instead.
    Failed(Reply),
    /// A new connection's next hop does not announce what the upstream was offered in its reply to EHLO.
    Changed,
}

impl Relay {
    /// What the next hop announces: on the session's connection, or as it was heard a moment ago, or on a connection that is opened
    /// to ask; see [`Extensions::of_an_unknown_next_hop`] where it cannot be reached.
    pub(crate) async fn extensions(&mut self, to: Destination<'_>) -> Extensions {
        self.abandon();
        if self.0.is_none()
            && let Some(extensions) = to.pool.announced()
        {
            return extensions;
        }
        let Ok((connected, _)) = self.checkout(to, Parked::Wanted(to.pool), Extensions::default()).await else {
            return Extensions::of_an_unknown_next_hop();
        };
        let extensions = connected.hop.extensions();
        self.0 = Some(connected);
        extensions
    }

    /// Takes a connection for a transaction: the session's own, one that waits in the pool, or a new one. Only a new one may not
    /// announce what was `offered`.
    async fn checkout(&mut self, to: Destination<'_>, parked: Parked<'_>, offered: Extensions) -> Result<(Connected, Origin), HopError> {
        if let Some(connected) = self.0.take() {
            let hop = &connected.hop;
            if hop.suits(to.config) && to.pool.is_home_of(hop) && hop.extensions().covers(offered) {
                let origin = if hop.is_shared() { Origin::Shared } else { Origin::Kept };
                return Ok((connected, origin));
            }
            // It was opened by a configuration that a reload has replaced, or the session has heard of another next hop.
            connected.hop.leave().await;
        }
        let mut hop = to.route.find(to.config, to.tls, parked, offered).await?;
        let origin = if hop.is_shared() { Origin::Shared } else { Origin::New };
        if origin == Origin::New {
            tracing::debug!(next_hop = &**hop.name(), tls = hop.is_encrypted(), "next hop: connected");
            to.pool.learn(&hop);
        }
        hop.home = Some(Arc::clone(to.pool));
        Ok((Connected { hop, transaction: Transaction::None }, origin))
    }

    /// Gives a connection back whose mail was accepted: to the pool, or to the session where it may not wait there.
    fn release(&mut self, mut hop: NextHop) {
        let home = hop.home.take();
        let left = match &home {
            Some(pool) => pool.park(hop),
            None => Some(hop),
        };
        self.0 = left.map(|mut hop| {
            hop.home = home;
            Connected { hop, transaction: Transaction::None }
        });
    }

    /// Begins a transaction. `announced` are the extensions in the hop's reply to the upstream's EHLO.
    pub(crate) async fn begin(&mut self, to: Destination<'_>, announced: Extensions, group: Group<'_>) -> MailOutcome {
        self.begin_on(to, Parked::Wanted(to.pool), announced, group).await
    }

    async fn begin_on(&mut self, to: Destination<'_>, mut parked: Parked<'_>, announced: Extensions, group: Group<'_>) -> MailOutcome {
        loop {
            let (connected, origin) = match self.checkout(to, parked, announced).await {
                Ok(found) => found,
                Err(error) => return MailOutcome::Failed(failed(&error)),
            };
            if !connected.hop.extensions().covers(announced) {
                // Else every session would be offered the same again.
                to.pool.forget();
                self.0 = Some(connected);
                return MailOutcome::Changed;
            }
            match start(connected, origin, group).await {
                Ok((connected, mail, recipients)) => {
                    self.0 = Some(connected);
                    return MailOutcome::Replied { mail, recipients };
                }
                // Nothing of this mail has been accepted on it.
                Err(error) if is_its_past(origin, &error) => {
                    to.pool.replaced();
                    parked = Parked::Unwanted(to.pool);
                }
                Err(error) => return MailOutcome::Failed(failed(&error)),
            }
        }
    }

    /// Sends RCPT for more recipients of the open transaction, and returns the next hop's replies in their order, none after 421.
    /// Where the connection, and with it the transaction, is lost: the reply for those without one, too.
    pub(crate) async fn recipients(&mut self, to: Destination<'_>, announced: Extensions, group: Group<'_>) -> (Vec<Reply>, Option<Reply>) {
        let Some(Connected { hop, transaction }) = self.open_transaction() else { return (Vec::new(), Some(lost())) };
        let patience = if transaction == Transaction::Replaceable { patience_with_shared(&hop) } else { hop.deadlines.reply };
        let steps: Vec<Step<'_>> = group.recipients.iter().map(Step::Recipient).collect();
        let (replies, hop) = tell(hop, &steps, patience).await;
        let may_be_its_past = match &hop {
            Ok(_) => replies.iter().any(is_enough),
            Err(error) => replies.iter().any(is_enough) || (replies.is_empty() && is_its_past(Origin::Shared, error)),
        };
        if transaction == Transaction::Replaceable && may_be_its_past {
            to.pool.replaced();
            drop(hop);
            return match self.begin_on(to, Parked::Unwanted(to.pool), announced, group).await {
                MailOutcome::Replied { mail, recipients } if mail.is_accepted() => (recipients, None),
                // The upstream was told that MAIL is accepted.
                MailOutcome::Replied { .. } | MailOutcome::Failed(_) | MailOutcome::Changed => (Vec::new(), Some(lost())),
            };
        }
        match hop {
            Ok(hop) => {
                self.0 = Some(Connected { hop, transaction: Transaction::Open });
                (replies, None)
            }
            Err(error) => (replies, Some(failed(&error))),
        }
    }

    /// The connection on which a transaction is open.
    fn open_transaction(&mut self) -> Option<Connected> {
        self.0.take_if(|connected| connected.transaction.is_open())
    }

    /// Sends DATA in the open transaction; returns the next hop's name, and the way for the mail. Dropped half-way it closes the
    /// connection.
    pub(crate) async fn data(&mut self) -> (Arc<str>, Result<Sending, Sent>) {
        match self.open_transaction() {
            None => (Arc::from(""), Err(closed())),
            Some(Connected { hop, .. }) => (Arc::clone(hop.name()), hop.data().await),
        }
    }

    /// Sends the whole mail of the open transaction, by DATA or BDAT; returns the same as [`Relay::sent`]. Dropped half-way it closes the
    /// connection.
    pub(crate) async fn deliver(&mut self, pieces: &[&[u8]], watch: Stopwatch) -> (Reply, Outcome) {
        let (name, sent) = match self.open_transaction() {
            None => (Arc::from(""), closed()),
            Some(Connected { hop, .. }) => (Arc::clone(hop.name()), hop.mail(pieces).await),
        };
        self.sent(&name, sent, watch)
    }

    /// Takes back what is left of a connection on which a mail was sent. Returns the reply for the upstream, and the outcome for
    /// the record, whose latency is counted from the start of `watch`.
    pub(crate) fn sent(&mut self, name: &str, sent: Sent, watch: Stopwatch) -> (Reply, Outcome) {
        let (delivery, reply) = match sent {
            Sent::Replied { reply, hop } => {
                let delivery = match reply.code() {
                    200..=299 => Delivery::Accepted,
                    500.. => Delivery::Refused,
                    _ => Delivery::Deferred,
                };
                match hop {
                    Some(hop) if delivery == Delivery::Accepted => self.release(hop),
                    Some(hop) => self.0 = Some(Connected { hop, transaction: Transaction::Abandoned }),
                    None => {}
                }
                (delivery, reply)
            }
            Sent::NotSent(error) => {
                tracing::warn!(next_hop = name, error = error.without_words(), "next hop: the mail was not sent");
                (Delivery::Deferred, if matches!(error, HopError::TimedOut) { timed_out() } else { lost() })
            }
            Sent::Unknown(error) => {
                tracing::error!(
                    next_hop = name,
                    error = error.without_words(),
                    "next hop: it may have the mail; the upstream is told to send it again"
                );
                let reply = match error {
                    HopError::UnexpectedReply(_) => unexpected_reply(),
                    HopError::TimedOut => Reply::new(451, "4.4.2 the next hop timed out after the mail was sent, send it again"),
                    _ => Reply::new(451, "4.4.2 connection to the next hop lost after the mail was sent, send it again"),
                };
                (Delivery::Unknown, reply)
            }
        };
        let queue_id = reply.queue_id().map(str::to_owned);
        let latency_ms = u64::try_from(watch.elapsed().as_millis()).unwrap_or(u64::MAX);
        let outcome = Outcome { delivery: delivery.into(), next_hop: name.to_owned(), reply: reply.to_string(), queue_id, latency_ms };
        (reply, outcome)
    }

    /// Abandons the open transaction, where there is one: the next hop gets RSET before the next MAIL.
    pub(crate) fn abandon(&mut self) {
        if let Some(connected) = self.0.as_mut().filter(|connected| connected.transaction.is_open()) {
            connected.transaction = Transaction::Abandoned;
            connected.hop.is_given_up();
        }
    }

    /// Closes the connection with QUIT, where there is one.
    pub(crate) async fn close(&mut self) {
        if let Some(connected) = self.0.take() {
            connected.hop.quit().await;
        }
    }
}

/// RSET where a transaction was abandoned, XFORWARD where the next hop announces it, then MAIL and RCPT. Returns the replies to
/// MAIL and to each RCPT.
async fn start(connected: Connected, origin: Origin, group: Group<'_>) -> Result<(Connected, Reply, Vec<Reply>), HopError> {
    let Connected { mut hop, transaction } = connected;
    let is_used = hop.is_used();
    hop.begins_transaction();
    let mut commands = Vec::with_capacity(3 + group.recipients.len());
    if transaction != Transaction::None {
        commands.push(Step::Reset);
    }
    if !hop.extensions().forwarded().is_empty() {
        commands.push(Step::Forward(group.client));
    }
    let before = commands.len();
    commands.push(Step::Mail(group.mail));
    commands.extend(group.recipients.iter().map(Step::Recipient));
    let patience = if origin == Origin::Shared { patience_with_shared(&hop) } else { hop.deadlines.reply };
    let (replies, hop) = tell(hop, &commands, patience).await;
    let hop = hop?;
    // A next hop that closes a session that it has had enough of replies 421, and means the session, not this mail.
    let about_session = if is_used { replies.len() } else { before };
    if replies.iter().take(about_session).any(|reply| reply.code() == 421) {
        return Err(HopError::Broken("closed with 421".into()));
    }
    // It may have had enough of a connection that others used, or answer one of their commands late.
    let mut told = replies.iter().skip(before);
    if origin == Origin::Shared && (told.next().is_some_and(|mail| !mail.is_accepted()) || told.any(is_enough)) {
        return Err(HopError::Broken("refused on a connection that others used".into()));
    }
    // The next hop would go on with what it was told of the client before.
    if is_used && replies.iter().take(before).any(|reply| !reply.is_accepted()) {
        return Err(HopError::Broken("the client of another mail stands".into()));
    }
    let mut replies = replies.into_iter().skip(before);
    let mail = replies.next().ok_or_else(|| HopError::Broken("connection closed".into()))?;
    let transaction = match origin {
        _ if !mail.is_accepted() => Transaction::Abandoned,
        Origin::Shared if group.recipients.is_empty() => Transaction::Replaceable,
        Origin::New | Origin::Kept | Origin::Shared => Transaction::Open,
    };
    Ok((Connected { hop, transaction }, mail, replies.collect()))
}

/// Whether an error before a mail may be about what a connection was used for before, so that a new one is tried.
fn is_its_past(origin: Origin, error: &HopError) -> bool {
    match origin {
        Origin::New => false,
        Origin::Kept => matches!(error, HopError::Broken(_)),
        Origin::Shared => matches!(error, HopError::Broken(_) | HopError::TimedOut),
    }
}

/// Time for each reply on a connection that others used: it may have been frozen since, and what a new one says is told.
fn patience_with_shared(hop: &NextHop) -> Duration {
    hop.deadlines.connect.min(hop.deadlines.reply)
}

/// Whether a reply to RCPT may be about the connection: it has carried as many mails or recipients as the
/// next hop takes on one, or the next hop closes it.
fn is_enough(reply: &Reply) -> bool {
    matches!(reply.code(), 421 | 452)
}

/// Sends commands, with this patience for each reply; logs why there are no replies.
async fn tell(hop: NextHop, commands: &[Step<'_>], patience: Duration) -> (Vec<Reply>, Result<NextHop, HopError>) {
    let name = Arc::clone(hop.name());
    let (replies, hop) = hop.commands(commands, patience).await;
    if let Err(error) = &hop {
        tracing::warn!(next_hop = &*name, error = error.without_words(), "next hop: no replies");
    }
    (replies, hop)
}

/// A mail was not sent because no transaction is open.
fn closed() -> Sent {
    Sent::NotSent(HopError::Broken("connection closed".into()))
}

/// The reply for the upstream when a transaction that was open at the next hop is lost.
pub(crate) fn lost() -> Reply {
    Reply::new(451, "4.4.2 connection to the next hop lost, send the mail again")
}

fn timed_out() -> Reply {
    Reply::new(451, "4.4.2 the next hop timed out, send the mail again")
}

fn unexpected_reply() -> Reply {
    Reply::new(451, "4.5.0 unexpected reply from the next hop, send the mail again")
}

/// The reply for the upstream to an error between the hops: always 451, because no mail was refused.
fn failed(error: &HopError) -> Reply {
    match error {
        // A next hop that refuses the whole session refuses no mail in particular: whatever its code, the upstream keeps its
        // mails and tries again.
        HopError::Refused(reply) => Reply::new(451, format!("4.4.1 the next hop refused the session: {reply}")),
        HopError::Unreachable(_) => Reply::new(451, "4.4.1 the next hop cannot be reached, try again later"),
        HopError::TimedOut => Reply::new(451, "4.4.1 the next hop timed out, try again later"),
        HopError::Broken(_) => Reply::new(451, "4.4.2 connection to the next hop lost, try again later"),
        HopError::UnexpectedReply(_) => unexpected_reply(),
        HopError::Tls(_) => Reply::new(451, "4.7.4 the next hop cannot be reached by TLS, try again later"),
    }
}
