//! A mail's data on its way to the next hop: whole, or block by block while the upstream still sends it.
//!
//! Until the final dot is sent, or the last octet of those that BDAT counts, the next hop has no mail. A mail's pieces are slices of what came in and of what the edits put in
//! between, so that it is copied into the socket's buffer only, unless dots have to be stuffed.

use std::io::IoSlice;

use super::{
    connection::WriteError,
    next_hop::{HopError, LAST_WORDS, NextHop, Sent},
};
use crate::smtp::codec::{data::END, reply::Reply, stuffing::Stuffing};

/// A next hop that said 354 and waits for a mail's data. Dropped, it closes the connection, and the next hop has nothing.
#[derive(Debug)]
pub struct Sending(pub(super) NextHop);

impl NextHop {
    /// Sends a whole mail, which holds CRLF line ends only, by DATA or BDAT; see [`Sent`]. Dropped half-way it closes the
    /// connection, and the next hop may have the mail.
    pub async fn mail(self, pieces: &[&[u8]]) -> Sent {
        if self.takes_chunks() {
            return self.chunk(pieces).await;
        }
        match self.data().await {
            Ok(sending) => sending.mail(pieces).await,
            Err(sent) => sent,
        }
    }

    /// Sends a whole mail in one chunk (RFC 3030 section 2). The connection goes on only where it was accepted: whether a next hop
    /// that refuses BDAT reads the octets behind it as a mail or as commands, nobody knows.
    async fn chunk(mut self, pieces: &[&[u8]]) -> Sent {
        let last_line_end: &[u8] = if ends_its_last_line(pieces) { b"" } else { b"\r\n" };
        let size = pieces.iter().map(|piece| piece.len()).sum::<usize>() + last_line_end.len();
        let command = format!("BDAT {size} LAST\r\n");
        if !self.is_quiet() {
            return Sent::NotSent(HopError::Broken("connection closed, or a reply too many".into()));
        }
        let (pool, address) = (self.home.clone(), self.key().address);
        let reply = match Sending(self).end(&[&[command.as_bytes()], pieces, &[last_line_end]].concat()).await {
            Sent::Replied { reply, hop } if reply.is_accepted() => return Sent::Replied { reply, hop },
            Sent::Replied { reply, .. } => reply,
            sent => return sent,
        };
        if !reply.is_refused() {
            return Sent::Replied { reply, hop: None };
        }
        if let Some(pool) = pool {
            pool.takes_no_chunks(address);
        }
        tracing::warn!(next_hop = %address, code = reply.code(), "next hop: BDAT was refused, mails go by DATA until the next reload");
        Sent::Replied { reply: if is_about_the_command(&reply) { send_again() } else { reply }, hop: None }
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
    pub async fn finish(self, wire: &[&[u8]]) -> Sent {
        self.end(&[wire, &[END]].concat()).await
    }

    /// Sends octets of which the last one ends the mail, and reads the reply.
    async fn end(mut self, wire: &[&[u8]]) -> Sent {
        match self.block(wire).await {
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
        match self.0.connection.reply(LAST_WORDS).await {
            Ok(reply) if reply.code() >= 400 => Sent::Replied { reply, hop: None },
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
    ends_its_last_line(pieces) && pieces.iter().all(|piece| !piece.starts_with(b".") && memchr::memmem::find(piece, b"\n.").is_none())
}

/// Whether a mail is empty, or its last line has its end.
fn ends_its_last_line(pieces: &[&[u8]]) -> bool {
    pieces.iter().rfind(|piece| !piece.is_empty()).is_none_or(|last| last.ends_with(b"\r\n"))
}

/// Whether a reply to BDAT refuses the command, and no mail (RFC 5321 section 4.2.4).
const fn is_about_the_command(reply: &Reply) -> bool {
    matches!(reply.code(), 500..=504 | 555)
}

/// The reply for the upstream to a mail that its next try brings by DATA.
fn send_again() -> Reply {
    Reply::new(451, "4.5.1 the next hop does not take BDAT, send the mail again")
}

/// Octets of stuffed lines that are written at once: most mails fit.
const BUFFER: usize = 64 * 1024;
