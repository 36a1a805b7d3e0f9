//! A large mail: over `inspect_limit`, so that its header alone decides. It goes to the next hop while it comes in, and nothing
//! but a block of it is kept.
//!
//! The next hop hears DATA before the upstream's end of data, so all that may refuse the mail by its header is looked at first.
//! What refuses it later cuts the next hop's connection: without the final dot nothing is delivered. Once octets are sent they
//! cannot go to another next hop.

use std::sync::Arc;

use super::{
    Greeted, OpenTransaction, Session,
    data::{Kept, refusal_of_lines, refused_by_bounds, refused_for},
};
use crate::{
    clock::Stopwatch,
    mail::{Delivery, Held, Outcome},
    pipeline::Ready,
    smtp::{
        client::{connection::WriteError, next_hop::Sent, sending::Sending},
        codec::reply::Reply,
        config::Config,
        server::{
            connection::ConnectionError,
            incoming::{Incoming, Refusal},
            received::Body,
        },
    },
};

/// The beginning of a large mail, and its rest on the way in.
pub(super) struct Beginning {
    /// The header, and a part of the body.
    pub(super) data: Vec<u8>,
    /// Where the body starts.
    pub(super) body: usize,
    pub(super) incoming: Incoming,
}

/// What ends the sending of a large mail.
enum End {
    /// The next hop has said what becomes of it, or has closed the connection. Timed from the upstream's end of data.
    NextHop(Sent, Stopwatch),
    /// The hop refuses it, and the next hop's connection is cut.
    Refused(Reply),
    /// The upstream broke off, and the next hop's connection is cut.
    Upstream(ConnectionError),
}

impl End {
    fn early(sent: Sent) -> Self {
        Self::NextHop(sent, Stopwatch::start())
    }
}

impl Session {
    /// Decides about a large mail by its header, and sends it on as it comes in. Returns the reply for the upstream, once the end
    /// of data has come.
    ///
    /// # Errors
    /// The upstream broke off; the next hop has nothing.
    pub(super) async fn stream(
        &mut self,
        greeted: &Greeted,
        open: &OpenTransaction,
        id: &str,
        mail: Beginning,
    ) -> Result<Reply, ConnectionError> {
        let Beginning { data, body, mut incoming } = mail;
        let (header, rest) = data.split_at_checked(body).unwrap_or((&data, &[]));
        let kept = Kept { id, data: header, held: Held::Header, line_endings: incoming.line_endings() };
        let decided = match refused_so_far(&incoming, &self.snapshot.config).map_or(Ok(()), Err) {
            Ok(()) => self.decide(greeted, open, kept, incoming.size()).await.map_err(refused_by_bounds),
            Err(reply) => Err(reply),
        };
        let mut ready = match decided {
            Ok(ready) => ready,
            Err(reply) => {
                incoming.skip(&mut self.connection).await?;
                return Ok(self.refuse_mail(open, id, incoming.size(), reply));
            }
        };
        let (name, sending) = match self.pieces(greeted, open, (id, header), &ready, Body::Elsewhere) {
            Ok((received, mut pieces)) => {
                pieces.insert(0, &received);
                pieces.push(rest);
                self.begin(&pieces).await
            }
            Err(reply) => {
                self.relay.abandon();
                (Arc::from(""), Err(End::Refused(reply)))
            }
        };
        // From here on the mail needs a block's memory.
        drop(data);
        let end = match sending {
            Ok(sending) => self.pass_on(sending, &mut incoming, &mut ready).await,
            Err(end) => end,
        };
        let (answer, outcome) = match end {
            End::NextHop(sent, watch) => {
                let (reply, outcome) = self.relay.sent(&name, sent, watch);
                (Ok(reply), outcome)
            }
            End::Refused(reply) => {
                let delivery = if reply.is_refused() { Delivery::Refused } else { Delivery::Deferred };
                let outcome = Outcome::of_the_hop(delivery, reply.to_string());
                (Ok(reply), outcome)
            }
            End::Upstream(error) => {
                let outcome = Outcome::of_the_hop(Delivery::Deferred, format!("the upstream broke off in the data: {error}"));
                (Err(error), outcome)
            }
        };
        // Whoever is refused hears so at the end of his data.
        let answer = match answer {
            Ok(reply) => incoming.skip(&mut self.connection).await.map(|()| reply),
            Err(error) => Err(error),
        };
        ready.received(incoming.size());
        ready.finish(outcome).await;
        answer
    }

    /// Sends DATA and the beginning of a mail; returns the next hop's name, too.
    async fn begin(&mut self, pieces: &[&[u8]]) -> (Arc<str>, Result<Sending, End>) {
        let (name, sending) = self.relay.data().await;
        let begun = match sending {
            Ok(mut sending) => match sending.beginning(pieces).await {
                Ok(()) => Ok(sending),
                Err(error) => Err(End::early(sending.last_words(error).await)),
            },
            Err(sent) => Err(End::early(sent)),
        };
        (name, begun)
    }

    /// Sends the rest of a mail on as it comes in, and the final dot once the upstream's has come.
    async fn pass_on(&mut self, mut sending: Sending, incoming: &mut Incoming, ready: &mut Ready) -> End {
        while !incoming.has_ended() {
            let taken = incoming.next(self.connection.input());
            ready.received(incoming.size());
            if let Some(reply) = refused_so_far(incoming, &self.snapshot.config) {
                self.connection.skip(taken);
                return End::Refused(reply);
            }
            if taken > 0 {
                let sent = sending.block(&incoming.block(self.connection.input())).await;
                self.connection.skip(taken);
                if let Err(error) = sent {
                    return End::early(sending.last_words(error).await);
                }
                continue;
            }
            tokio::select! {
                () = sending.interrupted() => return End::early(sending.last_words(WriteError::Interrupted).await),
                more = incoming.more(&mut self.connection) => if let Err(error) = more {
                    return End::Upstream(error);
                }
            }
        }
        let watch = Stopwatch::start();
        End::NextHop(sending.finish(&[]).await, watch)
    }
}

/// The reply that refuses a mail for what has come of it.
fn refused_so_far(incoming: &Incoming, config: &Config) -> Option<Reply> {
    if incoming.is_too_large() {
        return Some(refused_for(Refusal::TooLarge, config));
    }
    refusal_of_lines(incoming.line_endings(), config)
}
