//! Where a mail waits while the hop has it: in memory up to `inspect_limit`, in a file without a name past it.
//!
//! There is no queue: a mail is here from the upstream's 354 to the next hop's reply, and a crash leaves nothing behind.
//! All mails together have a bounded share of memory. What is too much is read to its true end, dropped, and told as a
//! [`Refusal`].

use std::{io, path::PathBuf, sync::Arc};

use tokio::{
    fs::File,
    io::{AsyncSeekExt as _, AsyncWriteExt as _},
    sync::{OwnedSemaphorePermit, Semaphore},
};

use crate::{limits as bounds, message::header};

/// The memory that all mails share.
#[derive(Clone, Debug)]
pub struct MemoryBudget(Arc<Semaphore>);

impl MemoryBudget {
    /// SpoolLimits for so many octets.
    #[must_use]
    pub fn of(octets: usize) -> Self {
        Self(Arc::new(Semaphore::new((octets / bounds::MEMORY_STEP).max(1))))
    }
}

/// Why a mail was not kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It is larger than `size_limit`.
    TooLarge,
    /// Its header block is larger than [`bounds::HEADER_BLOCK`], or than `inspect_limit`.
    HeaderTooLarge,
    /// All mails together take too much memory.
    MemoryFull,
    /// The temporary file could not be written.
    Disk(String),
}

/// How much a mail may take, and where.
#[derive(Clone, Debug)]
pub struct SpoolLimits {
    /// Octets that stay in memory.
    pub in_memory: usize,
    /// Octets in all.
    pub most: usize,
    /// Where files without a name are made.
    pub temporary: PathBuf,
    /// What all mails share.
    pub memory: MemoryBudget,
}

/// One mail on its way through.
#[derive(Debug)]
pub struct Spool {
    limits: SpoolLimits,
    /// The whole mail, or the header block of a large one.
    head: Vec<u8>,
    /// The body of a large one.
    file: Option<File>,
    /// What waits for the file.
    pending: Vec<u8>,
    size: usize,
    share: Option<OwnedSemaphorePermit>,
    refusal: Option<Refusal>,
}

impl Spool {
    /// An empty mail.
    #[must_use]
    pub const fn new(limits: SpoolLimits) -> Self {
        Self { limits, head: Vec::new(), file: None, pending: Vec::new(), size: 0, share: None, refusal: None }
    }

    /// Takes the next octets. What is too much is forgotten and remembered as a refusal.
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

    /// Whether the body goes to a file.
    fn is_large(&self) -> bool {
        self.file.is_some() || !self.pending.is_empty()
    }

    /// The body moves out; the header block stays, because that is what is judged and edited.
    fn outgrow(&mut self, bytes: &[u8]) {
        self.head.extend_from_slice(bytes);
        let Some(end) = header::end(&self.head).filter(|end| *end <= bounds::HEADER_BLOCK) else {
            return self.refuse(Refusal::HeaderTooLarge);
        };
        self.pending = self.head.split_off(end);
        self.head.shrink_to_fit();
        self.share = None;
        self.reserve(self.head.len());
    }

    fn reserve(&mut self, octets: usize) -> bool {
        let wanted = octets.div_ceil(bounds::MEMORY_STEP).max(1);
        let held = self.share.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        if wanted <= held {
            return true;
        }
        let more = u32::try_from(wanted - held).unwrap_or(u32::MAX);
        if let Ok(permit) = Arc::clone(&self.limits.memory.0).try_acquire_many_owned(more) {
            match &mut self.share {
                Some(share) => share.merge(permit),
                None => self.share = Some(permit),
            }
            true
        } else {
            self.refuse(Refusal::MemoryFull);
            false
        }
    }

    fn refuse(&mut self, refusal: Refusal) {
        self.refusal = Some(refusal);
        self.head = Vec::new();
        self.pending = Vec::new();
        self.file = None;
        self.share = None;
    }

    /// Writes what waits for the file; called between two reads of the network.
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

    /// The end has come: what is still in memory and belongs to the file is written, and the file is wound back.
    ///
    /// # Errors
    /// Why the mail was not kept.
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

    /// Octets in all.
    #[must_use]
    pub const fn size(&self) -> usize {
        self.size
    }
}

/// Octets that a mail's memory starts with: most mails fit, and none is copied while it grows.
const USUAL: usize = 16 * 1024;

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt as _;

    use super::*;

    fn limits(in_memory: usize, most: usize, memory: usize) -> SpoolLimits {
        SpoolLimits { in_memory, most, temporary: std::env::temp_dir(), memory: MemoryBudget::of(memory) }
    }

    async fn held(limits: SpoolLimits, mail: &[u8], piece: usize) -> Result<Vec<u8>, Refusal> {
        let mut spool = Spool::new(limits);
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
                assert!(held(limits(1_000, 1 << 20, 1 << 20), mail, piece).await.as_deref() == Ok(mail), "{size} by {piece}");
            }
        }
    }

    #[tokio::test]
    async fn too_much_is_refused_and_room_comes_back() {
        let mail = [b"a: b\r\n\r\n".to_vec(), vec![b'x'; 100_000]].concat();
        assert_eq!(held(limits(1_000, 50_000, 1 << 20), &mail, 100).await, Err(Refusal::TooLarge));
        assert_eq!(held(limits(1_000, 1 << 20, 1 << 20), &vec![b'x'; 5_000], 100).await, Err(Refusal::HeaderTooLarge));
        let full = SpoolLimits { temporary: "/nowhere".into(), ..limits(1_000, 1 << 20, 1 << 20) };
        assert!(matches!(held(full, &mail, 100).await, Err(Refusal::Disk(_))));

        let shared = limits(1 << 20, 1 << 20, bounds::MEMORY_STEP * 4);
        let mut first = Spool::new(shared.clone());
        first.push(&mail);
        assert_eq!(held(shared.clone(), &mail, 1_000).await, Err(Refusal::MemoryFull));
        drop(first);
        assert!(held(shared, &mail, 1_000).await.is_ok());
    }
}
