//! A mail's data on its way in: a mail up to `inspect_limit` whole, in the buffer that it was read into; of a larger one the
//! header, and the rest block by block, for the next hop at once.
//!
//! There is no queue: a mail is here from the upstream's 354 to the next hop's reply, and a crash leaves nothing behind. All
//! mails together have a bounded share of memory. A mail over a bound is read to its end, dropped, and reported as a [`Refusal`].

use tokio::time::Instant;

use super::connection::{Connection, ConnectionError};
use crate::{
    limits as bounds,
    message::header,
    service::memory::MemoryShare,
    smtp::{
        codec::{
            data::{self, LineEndings},
            passage::Passage,
        },
        config::{Config, Deadlines},
    },
};

/// Why a mail was not taken. Its octets are read to the end of data all the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It is larger than `size_limit`: 552.
    TooLarge,
    /// Its header block is larger than [`bounds::HEADER_BLOCK`], or than `inspect_limit`.
    HeaderTooLarge,
    /// Its share of the memory budget is used up; it may be sent again.
    MemoryFull,
}

/// What has come of a mail once it is known how it goes on.
#[derive(Debug, PartialEq, Eq)]
pub enum Arrived {
    /// All of it, dots unstuffed.
    Whole(Vec<u8>),
    /// The beginning of a mail that is large, or was announced as such: its header, and perhaps a part of its body. The rest
    /// comes by [`Incoming::more`] and [`Incoming::next`].
    Beginning {
        /// The octets so far, dots unstuffed.
        data: Vec<u8>,
        /// Where the body starts.
        body: usize,
    },
}

/// One mail on its way in.
#[derive(Debug)]
pub struct Incoming {
    passage: Passage,
    /// The mail's share of the hop's memory.
    memory: MemoryShare,
    has_ended: bool,
    /// Octets up to which a mail is kept and inspected, and those that MAIL announced (RFC 1870).
    inspect_limit: usize,
    announced: usize,
    size_limit: usize,
    deadlines: Deadlines,
    /// When all of it must have come.
    last: Instant,
}

impl Incoming {
    /// A mail of which nothing has come, and whose MAIL `announced` so many octets. It takes its memory from this share.
    #[must_use]
    pub fn new(config: &Config, announced: usize, memory: MemoryShare) -> Self {
        Self {
            passage: Passage::new(config.bare_line_endings),
            memory,
            has_ended: false,
            inspect_limit: config.inspect_limit,
            announced,
            size_limit: config.size_limit,
            deadlines: config.deadlines,
            last: Instant::now() + config.deadlines.data,
        }
    }

    /// Octets of the mail so far.
    #[must_use]
    pub const fn size(&self) -> usize {
        self.passage.size()
    }

    /// Its line ends so far.
    #[must_use]
    pub const fn line_endings(&self) -> LineEndings {
        self.passage.line_endings()
    }

    /// Whether the end of data has come.
    #[must_use]
    pub const fn has_ended(&self) -> bool {
        self.has_ended
    }

    /// Whether it is larger than mails may be.
    #[must_use]
    pub const fn is_too_large(&self) -> bool {
        self.size() > self.size_limit
    }

    /// Reads a mail to its end or, where it is large, until its header is there; a mail that is refused to its end. Not
    /// cancel-safe: the mail's octets so far are lost, so a session that gives this up must end.
    ///
    /// # Errors
    /// Where the connection ends, nothing comes for `data_block`, or the data takes longer than `data`.
    pub async fn arrive(&mut self, connection: &mut Connection) -> Result<Result<Arrived, Refusal>, ConnectionError> {
        let arrived = self.beginning(connection).await?;
        if arrived.is_err() {
            self.skip(connection).await?;
        }
        Ok(arrived)
    }

    async fn beginning(&mut self, connection: &mut Connection) -> Result<Result<Arrived, Refusal>, ConnectionError> {
        let is_announced = self.announced > self.inspect_limit;
        let (mut searched, mut dots) = (0, Dots::default());
        let lines = loop {
            let wire = connection.input();
            if !wire.is_empty() && self.memory.grow_to(wire.len()).is_err() {
                return Ok(Err(Refusal::MemoryFull));
            }
            if let Some(end) = data::end(wire, searched) {
                self.has_ended = true;
                break end;
            }
            let has_header = is_announced && header_ends(wire, searched);
            // The last two octets may belong to the end of data.
            searched = wire.len().saturating_sub(2);
            if has_header || (searched > self.inspect_limit && searched - dots.of(wire) > self.inspect_limit) {
                break memchr::memrchr(b'\n', wire).map_or(0, |feed| feed + 1);
            }
            // As much again, but not far past what is kept.
            let room = wire.len().min(self.inspect_limit.saturating_sub(wire.len()));
            self.fill(connection, room).await?;
        };
        let wire = connection.take(lines, if self.has_ended { data::END.len() } else { 0 });
        let data = self.passage.unstuffed(wire);
        if self.is_too_large() {
            return Ok(Err(Refusal::TooLarge));
        }
        if self.has_ended && !is_announced && data.len() <= self.inspect_limit {
            return Ok(Ok(Arrived::Whole(data)));
        }
        let body = header::end(&data).or_else(|| self.has_ended.then_some(data.len()));
        let Some(body) = body.filter(|end| *end <= bounds::HEADER_BLOCK.min(self.inspect_limit)) else {
            return Ok(Err(Refusal::HeaderTooLarge));
        };
        let room = self.memory.grow_to(bounds::STREAMED);
        Ok(room.map(|()| Arrived::Beginning { data, body }).map_err(|_| Refusal::MemoryFull))
    }

    /// Takes the next block of a large mail from what has come of it; returns how many octets of that it is made of. None where
    /// no whole line has come.
    pub fn next(&mut self, input: &[u8]) -> usize {
        // From here on a block of it is in memory.
        self.memory.shrink_to(bounds::STREAMED);
        let (taken, end) = self.passage.next(input);
        self.has_ended = end.is_some();
        taken
    }

    /// The block as it goes over the wire, dots stuffed, of the same input.
    #[must_use]
    pub fn block<'i>(&'i self, input: &'i [u8]) -> [&'i [u8]; 2] {
        self.passage.block(input)
    }

    /// Reads more of a large mail. Cancel-safe.
    ///
    /// # Errors
    /// As [`Incoming::arrive`].
    pub async fn more(&self, connection: &mut Connection) -> Result<(), ConnectionError> {
        self.fill(connection, bounds::BLOCK).await
    }

    /// Reads the rest of the mail and drops it.
    ///
    /// # Errors
    /// As [`Incoming::arrive`].
    pub async fn skip(&mut self, connection: &mut Connection) -> Result<(), ConnectionError> {
        self.memory.shrink_to(bounds::STREAMED);
        loop {
            if self.has_ended {
                return Ok(());
            }
            let (taken, end) = self.passage.read(connection.input(), &mut |_| {});
            connection.skip(taken);
            self.has_ended = end.is_some();
            if taken == 0 {
                self.more(connection).await?;
            }
        }
    }

    async fn fill(&self, connection: &mut Connection, octets: usize) -> Result<(), ConnectionError> {
        connection.more(self.last.min(Instant::now() + self.deadlines.data_block), octets).await
    }
}

/// The stuffed dots of a mail of which more and more comes.
#[derive(Default)]
struct Dots {
    counted: usize,
    dots: usize,
}

impl Dots {
    /// How many there are in what has come by now. Each octet is looked at once.
    fn of(&mut self, wire: &[u8]) -> usize {
        self.dots += usize::from(self.counted == 0 && wire.starts_with(b"."));
        let new = wire.get(self.counted.saturating_sub(1)..).unwrap_or_default();
        self.dots += memchr::memmem::find_iter(new, b"\n.").count();
        self.counted = wire.len();
        self.dots
    }
}

/// Whether the header has come to its end, where it had not in the first octets up to two behind `searched`.
fn header_ends(wire: &[u8], searched: usize) -> bool {
    let new = wire.get(searched.saturating_sub(1)..).unwrap_or_default();
    memchr::memmem::find(new, b"\r\n\r\n").is_some() || (searched == 0 && header::end(wire).is_some())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// However the octets come, it is found what one look at all of them finds.
        #[test]
        fn dots_and_the_end_of_the_header_are_found_in_any_pieces(
            lines in proptest::collection::vec("(\\.{0,2}a{0,2}\r?\n|\r\n)", 0..12),
            cut in 1_usize..6,
        ) {
            let wire = lines.concat().into_bytes();
            let (mut dots, mut searched, mut ends_at) = (Dots::default(), 0, None);
            for come in (0..wire.len()).step_by(cut).skip(1).chain([wire.len()]) {
                let so_far = &wire[..come];
                if ends_at.is_none() && header_ends(so_far, searched) {
                    ends_at = Some(come);
                }
                searched = so_far.len().saturating_sub(2);
                let stuffed = so_far.split_inclusive(|byte| *byte == b'\n').filter(|line| line.starts_with(b".")).count();
                prop_assert_eq!(dots.of(so_far), stuffed);
                prop_assert_eq!(ends_at.is_some(), header::end(so_far).is_some());
            }
        }
    }
}
