//! Who mends what stands in the way: time, or a person.
//!
//! It decides the exit code of `run`, and with it whether systemd starts the service again. What a person must mend is a closed
//! list; all else counts as passing, as trying again costs little, and staying down costs mail.

use std::io;

use rustix::io::Errno;

/// Who mends what stands in the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Remedy {
    /// It may pass by itself: an address that is not there yet, a port or a lock that is held, a share that is not mounted, a disk
    /// or a table that is full.
    Wait,
    /// A person must mend it: what was written, or who may do what.
    Mend,
}

/// What no further try will change.
const LASTING: [Errno; 15] = [
    Errno::ACCESS,
    Errno::PERM,
    Errno::ROFS,
    Errno::NOTDIR,
    Errno::ISDIR,
    Errno::EXIST,
    Errno::LOOP,
    Errno::NAMETOOLONG,
    Errno::INVAL,
    Errno::NOTSOCK,
    Errno::AFNOSUPPORT,
    Errno::PROTONOSUPPORT,
    Errno::OPNOTSUPP,
    Errno::NOSYS,
    Errno::ILSEQ,
];

impl Remedy {
    /// By the system's error. One that is our own is about contents: a file that is no text, or no regular file.
    #[must_use]
    pub fn of(error: &io::Error) -> Self {
        let lasts = match error.raw_os_error() {
            Some(number) => LASTING.contains(&Errno::from_raw_os_error(number)),
            None => matches!(
                error.kind(),
                io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput | io::ErrorKind::NotADirectory | io::ErrorKind::PermissionDenied
            ),
        };
        if lasts { Self::Mend } else { Self::Wait }
    }

    /// For both: a person is needed where either needs one.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        if self == Self::Mend { self } else { other }
    }

    /// The exit code: 75 (sysexits.h: `EX_TEMPFAIL`), after which a service manager tries again, or 2, after which it does not.
    #[must_use]
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::Wait => 75,
            Self::Mend => 2,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_error_has_its_remedy() {
        for (errno, remedy) in [
            (Errno::ADDRNOTAVAIL, Remedy::Wait),
            (Errno::ADDRINUSE, Remedy::Wait),
            (Errno::NOENT, Remedy::Wait),
            (Errno::MFILE, Remedy::Wait),
            (Errno::NFILE, Remedy::Wait),
            (Errno::NOMEM, Remedy::Wait),
            (Errno::NOBUFS, Remedy::Wait),
            (Errno::NOSPC, Remedy::Wait),
            (Errno::DQUOT, Remedy::Wait),
            (Errno::IO, Remedy::Wait),
            (Errno::STALE, Remedy::Wait),
            (Errno::NOTCONN, Remedy::Wait),
            (Errno::HOSTDOWN, Remedy::Wait),
            (Errno::TIMEDOUT, Remedy::Wait),
            (Errno::NETDOWN, Remedy::Wait),
            (Errno::ACCESS, Remedy::Mend),
            (Errno::PERM, Remedy::Mend),
            (Errno::ROFS, Remedy::Mend),
            (Errno::NOTDIR, Remedy::Mend),
            (Errno::AFNOSUPPORT, Remedy::Mend),
        ] {
            assert_eq!(Remedy::of(&errno.into()), remedy, "{errno:?}");
        }
        assert_eq!(Remedy::of(&io::ErrorKind::InvalidData.into()), Remedy::Mend);
        assert_eq!(Remedy::of(&io::Error::other("cut off")), Remedy::Wait);
        assert_eq!((Remedy::Wait.exit_code(), Remedy::Mend.exit_code()), (75, 2));
        assert_eq!((Remedy::Wait.and(Remedy::Mend), Remedy::Mend.and(Remedy::Wait)), (Remedy::Mend, Remedy::Mend));
        assert_eq!(Remedy::Wait.and(Remedy::Wait), Remedy::Wait);
    }
}
