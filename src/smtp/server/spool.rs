//! Where a mail waits while the hop has it: in memory up to `inspect_limit`, in a file without a name past it.
//!
//! There is no queue: a mail is here from the upstream's 354 to the next hop's reply, and a crash leaves nothing behind. All
//! mails together have a bounded share of memory. A mail over a bound is read to its end, dropped, and reported as a [`Refusal`].

use std::{io, path::PathBuf};

use tokio::{
    fs::File,
    io::{AsyncSeekExt as _, AsyncWriteExt as _},
};

use crate::{limits as bounds, message::header, service::memory::MemoryShare};

/// Why a mail was not kept. Its octets are read to the end of data all the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It is larger than `size_limit`: 552.
    TooLarge,
    /// Its header block is larger than [`bounds::HEADER_BLOCK`], or than `inspect_limit`.
    HeaderTooLarge,
    /// Its share of the memory budget is used up; it may be sent again.
    MemoryFull,
    /// The temporary file could not be written; the error of the system.
    Disk(String),
}

/// Where a mail is kept, and how large it may be.
#[derive(Clone, Debug)]
pub struct SpoolLimits {
    /// Octets that stay in memory.
    pub in_memory: usize,
    /// Octets of the whole mail.
    pub most: usize,
    /// The folder of the files without a name.
    pub temporary: PathBuf,
}

/// One mail while the hop has it.
#[derive(Debug)]
pub struct Spool {
    limits: SpoolLimits,
    /// The whole mail, or the header block of a large one.
    head: Vec<u8>,
    /// The body of a large mail.
    file: Option<File>,
    /// Octets that wait to be written to the file.
    pending: Vec<u8>,
    size: usize,
    /// The mail's share of the hop's memory.
    memory: MemoryShare,
    refusal: Option<Refusal>,
}

impl Spool {
    /// A spool without octets, which takes its memory from this share.
    #[must_use]
    pub const fn new(limits: SpoolLimits, memory: MemoryShare) -> Self {
        Self { limits, head: Vec::new(), file: None, pending: Vec::new(), size: 0, memory, refusal: None }
    }

    /// Takes the next octets. Past a bound they are dropped, and [`Spool::close`] returns the refusal.
    pub fn push(&mut self, bytes: &[u8]) {
        self.size = self.size.saturating_add(bytes.len());
        if self.refusal.is_some() {
            return;
        }
        if self.size > self.limits.most {
            return self.refuse(Refusal::TooLarge);
        }
        if self.is_large() {
            self.pending.extend_from_slice(bytes);
            return;
        }
        if self.head.len() + bytes.len() > self.limits.in_memory {
            return self.outgrow(bytes);
        }
        if self.reserve(self.head.len() + bytes.len()) {
            if self.head.is_empty() {
                self.head.reserve(USUAL);
            }
            self.head.extend_from_slice(bytes);
        }
    }

    /// Whether the body is kept in a file.
    fn is_large(&self) -> bool {
        self.file.is_some() || !self.pending.is_empty()
    }

    /// Moves the body to the file; the header block stays in memory, because it is judged and edited.
    fn outgrow(&mut self, bytes: &[u8]) {
        self.head.extend_from_slice(bytes);
        let Some(end) = header::end(&self.head).filter(|end| *end <= bounds::HEADER_BLOCK) else {
            return self.refuse(Refusal::HeaderTooLarge);
        };
        self.pending = self.head.split_off(end);
        self.head.shrink_to_fit();
        self.memory.shrink_to(self.head.len());
        self.reserve(self.head.len());
    }

    fn reserve(&mut self, octets: usize) -> bool {
        let room = self.memory.grow_to(octets).is_ok();
        if !room {
            self.refuse(Refusal::MemoryFull);
        }
        room
    }

    fn refuse(&mut self, refusal: Refusal) {
        self.refusal = Some(refusal);
        self.head = Vec::new();
        self.pending = Vec::new();
        self.file = None;
        self.memory.shrink_to(0);
    }

    /// Writes what waits for the file; called between two reads of the network. Not cancel-safe.
    pub async fn settle(&mut self) {
        if self.pending.len() >= bounds::SPILL {
            self.spill().await;
        }
    }

    async fn spill(&mut self) {
        if let Err(error) = self.write_pending().await {
            self.refuse(Refusal::Disk(error.to_string()));
        }
    }

    async fn write_pending(&mut self) -> io::Result<()> {
        if self.file.is_none() {
            self.file = Some(File::from_std(tempfile::tempfile_in(&self.limits.temporary)?));
        }
        if let Some(file) = &mut self.file {
            file.write_all(&self.pending).await?;
            self.pending.clear();
        }
        Ok(())
    }

    /// Ends the mail: writes what waits for the file, and rewinds it.
    ///
    /// # Errors
    /// [`Refusal`]: the mail was not kept.
    pub async fn close(&mut self) -> Result<(), Refusal> {
        if self.is_large() {
            self.spill().await;
            if let Some(file) = &mut self.file {
                let wound = async {
                    file.flush().await?;
                    file.rewind().await
                };
                if let Err(error) = wound.await {
                    self.refuse(Refusal::Disk(error.to_string()));
                }
            }
            self.pending = Vec::new();
        }
        self.refusal.clone().map_or(Ok(()), Err)
    }

    /// The mail, or the header block of a large one.
    #[must_use]
    pub fn head(&self) -> &[u8] {
        &self.head
    }

    /// The mail, or the header block of a large one, and the file that holds the body of a large one.
    pub const fn parts(&mut self) -> (&[u8], Option<&mut File>) {
        (self.head.as_slice(), self.file.as_mut())
    }

    /// Octets received of the whole mail.
    #[must_use]
    pub const fn size(&self) -> usize {
        self.size
    }
}

/// Octets of memory that a mail starts with: most mails fit, and none is copied while it grows.
const USUAL: usize = 16 * 1024;

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt as _;

    use super::*;
    use crate::{mail::Protocol, service::memory::MemoryBudget};

    fn limits(in_memory: usize, most: usize) -> SpoolLimits {
        SpoolLimits { in_memory, most, temporary: std::env::temp_dir() }
    }

    fn share(budget: &MemoryBudget) -> MemoryShare {
        budget.share(Protocol::Smtp, None, 0)
    }

    async fn held(limits: SpoolLimits, mail: &[u8], piece: usize) -> Result<Vec<u8>, Refusal> {
        held_in(&MemoryBudget::new(1 << 20, &[Protocol::Smtp]), limits, mail, piece).await
    }

    async fn held_in(budget: &MemoryBudget, limits: SpoolLimits, mail: &[u8], piece: usize) -> Result<Vec<u8>, Refusal> {
        let mut spool = Spool::new(limits, share(budget));
        for bytes in mail.chunks(piece) {
            spool.push(bytes);
            spool.settle().await;
        }
        spool.close().await?;
        assert_eq!(spool.size(), mail.len());
        let (head, file) = spool.parts();
        let mut all = head.to_vec();
        if let Some(file) = file {
            file.read_to_end(&mut all).await.unwrap();
        }
        Ok(all)
    }

    #[tokio::test]
    async fn a_mail_comes_out_as_it_went_in() {
        let mail = [b"a: b\r\n\r\n".to_vec(), b"0123456789\r\n".repeat(40_000)].concat();
        for size in [8, 9, 1_000, 100_000, mail.len()] {
            let mail = mail.get(..size).unwrap();
            for piece in [1_000, 65_536] {
                assert!(held(limits(1_000, 1 << 20), mail, piece).await.as_deref() == Ok(mail), "{size} by {piece}");
            }
        }
    }

    #[tokio::test]
    async fn too_much_is_refused_and_room_comes_back() {
        let mail = [b"a: b\r\n\r\n".to_vec(), vec![b'x'; 100_000]].concat();
        assert_eq!(held(limits(1_000, 50_000), &mail, 100).await, Err(Refusal::TooLarge));
        assert_eq!(held(limits(1_000, 1 << 20), &vec![b'x'; 5_000], 100).await, Err(Refusal::HeaderTooLarge));
        let full = SpoolLimits { temporary: "/nowhere".into(), ..limits(1_000, 1 << 20) };
        assert!(matches!(held(full, &mail, 100).await, Err(Refusal::Disk(_))));

        let budget = MemoryBudget::new(bounds::MEMORY_STEP * 4, &[Protocol::Smtp]);
        let mut first = Spool::new(limits(1 << 20, 1 << 20), share(&budget));
        first.push(&mail);
        assert_eq!(held_in(&budget, limits(1 << 20, 1 << 20), &mail, 1_000).await, Err(Refusal::MemoryFull));
        drop(first);
        assert!(held_in(&budget, limits(1 << 20, 1 << 20), &mail, 1_000).await.is_ok());
    }
}
