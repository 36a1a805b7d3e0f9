//! Regular files alone: the one way in which files that others can put something else in the place of are opened.
//!
//! A FIFO would be waited for until somebody writes, a device may have no end, and a folder is no file. So nothing is waited for,
//! and what is no regular file by its open handle is an error that a person must mend.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read as _, Seek as _, SeekFrom},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

use rustix::{fs::OFlags, io::Errno};

/// Opens a file for reading.
///
/// # Errors
/// Of the system; [`io::ErrorKind::InvalidInput`] for what is no regular file.
pub fn open(path: &Path) -> io::Result<File> {
    open_with(File::options().read(true), path)
}

/// Opens a file as the options say.
///
/// # Errors
/// As [`open`].
pub fn open_with(options: &mut OpenOptions, path: &Path) -> io::Result<File> {
    let flags = i32::try_from((OFlags::NONBLOCK | OFlags::NOCTTY).bits()).unwrap_or_default();
    let file = match options.custom_flags(flags).open(path) {
        // A FIFO that nobody reads, a socket.
        Err(error) if error.raw_os_error() == Some(Errno::NXIO.raw_os_error()) => return Err(no_file()),
        file => file?,
    };
    if file.metadata()?.is_file() { Ok(file) } else { Err(no_file()) }
}

fn no_file() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "it is no regular file")
}

/// The last octets of a file, so many at most, whatever its length is said to be; and whether they are all of it.
///
/// # Errors
/// Of the system.
pub fn end(file: &mut File, most: u64) -> io::Result<(bool, Vec<u8>)> {
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(most)))?;
    let mut end = Vec::new();
    file.take(most).read_to_end(&mut end)?;
    Ok((most >= length, end))
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::net::UnixListener};

    use rustix::fs::{CWD, FileType, Mode, mknodat};
    use tempfile::TempDir;

    use super::*;

    #[test]
    fn what_is_no_regular_file_is_neither_waited_for_nor_read() {
        let folder = TempDir::new().unwrap();
        let at = |name: &str| folder.path().join(name);
        mknodat(CWD, at("fifo"), FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
        let _socket = UnixListener::bind(at("socket")).unwrap();
        fs::create_dir(at("folder")).unwrap();
        std::os::unix::fs::symlink("/dev/zero", at("device")).unwrap();
        for name in ["fifo", "socket", "folder", "device"] {
            let error = open(&at(name)).unwrap_err();
            assert_eq!(error.to_string(), "it is no regular file", "{name}");
            let lock = open_with(File::options().create(true).truncate(false).write(true), &at(name)).unwrap_err();
            let append = open_with(File::options().create(true).read(true).append(true), &at(name)).unwrap_err();
            for error in [error, lock, append] {
                assert_eq!(crate::remedy::Remedy::of(&error), crate::remedy::Remedy::Mend, "{name}: {error}");
            }
        }
        fs::write(at("file"), "12345").unwrap();
        let mut file = open(&at("file")).unwrap();
        assert_eq!(end(&mut file, 2).unwrap(), (false, b"45".to_vec()));
        assert_eq!(end(&mut file, 9).unwrap(), (true, b"12345".to_vec()));
        assert_eq!(open(&at("none")).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
