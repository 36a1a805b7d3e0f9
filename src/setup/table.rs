//! The table of docs/scanners.md, written from the files of `config/scanners/`.
