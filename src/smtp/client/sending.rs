//! A mail's data on its way to the next hop: whole, or block by block while the upstream still sends it.
//!
//! Until the final dot is sent the next hop has no mail. A mail's pieces are slices of what came in and of what the edits put in
//! between, so that it is copied into the socket's buffer only, unless dots have to be stuffed.

use std::io::IoSlice;

use tokio::time::timeout;

use super::{
    connection::WriteError,
    next_hop::{HopError, LAST_WORDS, NextHop, Sent},
};
use crate::smtp::codec::{data::END, stuffing::Stuffing};

/// A next hop that said 354 and waits for a mail's data. Dropped, it closes the connection, and the next hop has nothing.
#[derive(Debug)]
pub struct Sending(pub(super) NextHop);

impl NextHop {
    /// Sends DATA, a whole mail, and the final dot; see [`Sending::mail`].
    pub async fn mail(self, pieces: &[&[u8]]) -> Sent {
        match self.data().await {
            Ok(sending) => sending.mail(pieces).await,
            Err(sent) => sent,
        }
    }
}

impl Sending {
    /// Sends a whole mail, which holds CRLF line ends only, and the final dot; see [`Sent`]. Dropped half-way it closes the
    /// connection, and the next hop may have the mail.
    pub async fn mail(mut self, pieces: &[&[u8]]) -> Sent {
        if needs_no_stuffing(pieces) {
            return self.finish(pieces).await;
        }
        let mut out = Stuffing::default();
        match self.stuff(&mut out, pieces).await {
            Ok(()) => {
                out.end_line();
                self.finish(&[out.ready()]).await
            }
            Err(error) => self.last_words(error).await,
        }
    }

    /// Sends the beginning of a mail, up to the end of a line. Not cancel-safe, as [`Sending::block`].
    ///
    /// # Errors
    /// The next hop takes no more of it; [`Sending::last_words`] says why.
    pub async fn beginning(&mut self, pieces: &[&[u8]]) -> Result<(), WriteError> {
        if needs_no_stuffing(pieces) {
            return self.block(pieces).await;
        }
        let mut out = Stuffing::default();
        self.stuff(&mut out, pieces).await?;
        self.block(&[out.ready()]).await
    }

    /// Sends the next octets of a mail as they go over the wire, dots stuffed. Not cancel-safe: it is unknown how many were sent.
    ///
    /// # Errors
    /// As [`Sending::beginning`].
    pub async fn block(&mut self, wire: &[&[u8]]) -> Result<(), WriteError> {
        let mut slices: Vec<IoSlice<'_>> = wire.iter().map(|piece| IoSlice::new(piece)).collect();
        self.0.connection.write(&mut slices, self.0.deadlines.data_block).await
    }

    /// Resolves once the next hop says something, or closes the connection: it takes no more. Cancel-safe.
    pub async fn interrupted(&mut self) {
        self.0.connection.speaks().await;
    }

    /// Sends the last octets of a mail as they go over the wire, and the final dot.
    pub async fn finish(mut self, wire: &[&[u8]]) -> Sent {
        let slices = [wire, &[END]].concat();
        match self.block(&slices).await {
            Ok(()) => {}
            Err(WriteError::PerhapsTheEnd(error)) => return Sent::Unknown(HopError::Broken(error.to_string())),
            Err(error) => return self.last_words(error).await,
        }
        let Self(mut hop) = self;
        match hop.next_reply(hop.deadlines.final_reply).await {
            Ok(reply) if reply.is_final() => hop.replied(reply),
            Ok(reply) => Sent::Unknown(HopError::UnexpectedReply(reply)),
            Err(error) => Sent::Unknown(error),
        }
    }

    /// The refusal by which the next hop broke off before the final dot, where it said one.
    pub async fn last_words(mut self, error: WriteError) -> Sent {
        match timeout(LAST_WORDS, self.0.connection.reply()).await {
            Ok(Ok(reply)) if reply.code() >= 400 => Sent::Replied { reply, hop: None },
            _ => Sent::NotSent(HopError::Broken(error.to_string())),
        }
    }

    /// Stuffs a mail, and sends of it what is not left in the buffer.
    async fn stuff(&mut self, out: &mut Stuffing, pieces: &[&[u8]]) -> Result<(), WriteError> {
        for part in pieces.iter().flat_map(|piece| piece.chunks(BUFFER)) {
            out.push(part);
            if out.ready().len() >= BUFFER {
                self.block(&[out.ready()]).await?;
                out.written();
            }
        }
        Ok(())
    }
}

/// Whether pieces go over the wire as they are: no line starts with a dot, and the last one has its end.
fn needs_no_stuffing(pieces: &[&[u8]]) -> bool {
    let ends = pieces.iter().rfind(|piece| !piece.is_empty()).is_none_or(|last| last.ends_with(b"\r\n"));
    ends && pieces.iter().all(|piece| !piece.starts_with(b".") && memchr::memmem::find(piece, b"\n.").is_none())
}

/// Octets of stuffed lines that are written at once: most mails fit.
const BUFFER: usize = 64 * 1024;
