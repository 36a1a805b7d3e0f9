//! A mail's data on its way to the next hop: pieces in memory, then a file, stuffed by [`Stuffing`].
//!
//! The pieces are slices of what came in and of what the edits put in between, so that a mail is copied once, into the
//! socket's buffer.

use tokio::{
    fs::File,
    io::{self, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    time::timeout,
};

use crate::smtp::{codec::stuffing::Stuffing, config::Deadlines};

/// What is sent: the pieces in order, then what is left of the file. All of it holds CRLF line ends only.
#[derive(Debug)]
pub struct Outgoing<'a> {
    /// The pieces in memory, in order: the hop's own fields, the edited header, and the body of a small mail.
    pub pieces: Vec<&'a [u8]>,
    /// The body of a mail over `inspect_limit`, from the file's position on.
    pub file: Option<&'a mut File>,
}

/// How much of a mail was written before an error.
#[derive(Debug)]
pub(super) enum Written {
    /// All of it, the final dot included.
    Whole,
    /// Less than the final dot, for certain: the next hop has no mail.
    NotTheEnd(io::Error),
    /// Perhaps the final dot: the next hop may have the mail.
    PerhapsTheEnd(io::Error),
}

impl Outgoing<'_> {
    /// Writes the mail and the final dot. Each write has the deadline `data_block`.
    pub(super) async fn write(self, to: &mut (impl AsyncWrite + Unpin), deadlines: &Deadlines) -> Written {
        let mut out = Stuffing::default();
        for piece in self.pieces {
            // A large piece goes in parts, so that the buffer stays small.
            for part in piece.chunks(BUFFER) {
                out.push(part);
                if out.ready().len() >= BUFFER
                    && let Err(error) = send(&mut out, to, deadlines).await
                {
                    return Written::NotTheEnd(error);
                }
            }
        }
        if let Some(file) = self.file {
            let mut block = vec![0; BUFFER];
            loop {
                let read = match file.read(&mut block).await {
                    Ok(0) => break,
                    Ok(read) => read,
                    Err(error) => return Written::NotTheEnd(error),
                };
                out.push(block.get(..read).unwrap_or_default());
                if let Err(error) = send(&mut out, to, deadlines).await {
                    return Written::NotTheEnd(error);
                }
            }
        }
        out.finish();
        match send(&mut out, to, deadlines).await {
            Ok(()) => Written::Whole,
            Err(error) => Written::PerhapsTheEnd(error),
        }
    }
}

/// Octets that are written at once: most mails fit.
const BUFFER: usize = 64 * 1024;

/// Writes what is ready, within the deadline `data_block`.
async fn send(out: &mut Stuffing, to: &mut (impl AsyncWrite + Unpin), deadlines: &Deadlines) -> io::Result<()> {
    let write = async {
        to.write_all(out.ready()).await?;
        to.flush().await
    };
    let written = timeout(deadlines.data_block, write).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
    out.written();
    written
}
