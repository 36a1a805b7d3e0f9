//! Which tables of an HTML part are open, and whether text that stands there is in a cell.
//!
//! Browsers ignore a cell's tags outside of a table, and move what stands in a table and in none of its cells to the front
//! of it (WHATWG HTML section 13.2.6.4.9). End tags are taken from what lies between two tokens, as the tokenizer reports
//! those alone whose start tag it has open.

use std::ops::Range;

use super::html_elements::{is_cell, is_table_piece};

/// The tables that are open; for each, whether one of its cells is.
#[derive(Clone, Debug, Default)]
pub(super) struct Tables {
    cells: Vec<bool>,
    /// Up to where the source was read.
    read: usize,
}

impl Tables {
    /// What is open inside of a conditional comment: it may stand in a table, and in a cell of it.
    pub(super) fn around() -> Self {
        Self { cells: vec![true], read: 0 }
    }

    /// Reads the end tags in front of a token that stands at `token`.
    pub(super) fn reach(&mut self, source: &str, token: Range<usize>) {
        let gap = source.get(self.read..token.start).unwrap_or_default();
        self.read = self.read.max(token.end);
        for at in memchr::memchr_iter(b'<', gap.as_bytes()) {
            let Some(tag) = gap.get(at + 1..).and_then(|rest| rest.strip_prefix('/')) else { continue };
            let name = tag.bytes().take(LONGEST).take_while(u8::is_ascii_alphanumeric).count();
            let name = tag.get(..name).unwrap_or_default().to_ascii_lowercase();
            if name == "table" {
                self.cells.pop();
            } else if is_table_piece(&name)
                && let Some(cell) = self.cells.last_mut()
            {
                *cell = false;
            }
        }
    }

    /// Takes a start tag in. False where a table starts in another one and outside of its cells, which ends that one.
    pub(super) fn start(&mut self, name: &str) -> bool {
        if name == "table" {
            let nested = !self.is_outside_of_cells();
            self.cells.push(false);
            return nested;
        }
        if is_table_piece(name)
            && let Some(cell) = self.cells.last_mut()
        {
            *cell = is_cell(name);
        }
        true
    }

    /// Whether a table is open here.
    pub(super) const fn is_open(&self) -> bool {
        !self.cells.is_empty()
    }

    /// Whether text would stand in a table and in none of its cells.
    pub(super) fn is_outside_of_cells(&self) -> bool {
        self.cells.last() == Some(&false)
    }
}

/// Letters of a tag's name that are looked at.
const LONGEST: usize = 16;
