//! Whom files and folders let in: the part of a path that is closed to the user of this process, with the line that opens it, and
//! what is open to more than it should be.

use std::{
    fs::{self, Metadata},
    io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use rustix::fs::{Access, access};

use super::{
    Advice, Problems, Settings, Severity, SourceSpan, files,
    keys::{KEYS, Key, Kind},
    users::{self, User},
};

/// An error of the system about a file, which names what is closed where that is why.
pub(super) fn explained(path: &Path, want: Access, error: io::Error) -> io::Error {
    if error.kind() != io::ErrorKind::PermissionDenied {
        return error;
    }
    let what = closed(path, want).unwrap_or_else(|| {
        format!("{error}; the mode of each folder is right, so look at access lists (getfacl), SELinux, AppArmor and links in the path")
    });
    io::Error::new(io::ErrorKind::PermissionDenied, what)
}

/// The first part of a path that this process may not use as it wants, and how root opens it.
pub(super) fn closed(path: &Path, want: Access) -> Option<String> {
    let whole = std::path::absolute(path).ok()?;
    let mut parts: Vec<&Path> = whole.ancestors().collect();
    parts.reverse();
    let last = parts.pop()?;
    let user = User::current();
    for folder in parts {
        // A file in a folder's place is no question of who may do what.
        if folder.is_file() {
            return None;
        }
        if access(folder, Access::EXEC_OK).is_err_and(|error| error == rustix::io::Errno::ACCESS) {
            return Some(told(folder, Access::EXEC_OK, &user));
        }
    }
    access(last, want).is_err_and(|error| error == rustix::io::Errno::ACCESS).then(|| told(last, want, &user))
}

fn told(path: &Path, want: Access, user: &User) -> String {
    let Ok(about) = fs::metadata(path) else { return format!("{} is closed to user {}", path.display(), user.name) };
    let shown = path.display();
    let what = if about.is_dir() { "the folder " } else { "" };
    let held = held(&about);
    let closed = format!("{what}{shown} ({held}) is closed to user {}", user.name);
    if !may_be_the_services(user) {
        // Giving it to this user would take it from the one that the service runs as.
        return format!("{closed}: call it by sudo, or, if firstclick runs as {0}, name it: sudo firstclick check --as {0}", user.name);
    }
    if path.starts_with("/root") || path.starts_with("/home") {
        return format!("{closed}: keep what the service needs elsewhere, as in /etc/firstclick");
    }
    let bits = match (want.contains(Access::WRITE_OK), about.is_dir(), want.contains(Access::READ_OK)) {
        (true, true, _) => return format!("{closed}: chown {} {shown} && chmod u+rwx {shown}", user.name),
        (true, false, _) => return format!("{closed}: chown {} {shown} && chmod u+rw {shown}", user.name),
        (false, true, true) => "g+rx",
        (false, true, false) => "g+x",
        (false, false, _) => "g+r",
    };
    let group = users::name_of_group(user.gid);
    if about.uid() == user.uid {
        return format!("{closed}: chmod {} {shown}", bits.replace('g', "u"));
    }
    if user.groups.contains(&about.gid()) {
        return format!("{closed}: chmod {bits} {shown}");
    }
    if about.gid() != 0 && about.mode() & 0o070 != 0 {
        // Another group has it, perhaps the one that somebody else reads it by: that must not be taken away.
        let theirs = users::name_of_group(about.gid());
        return format!("{closed}: usermod --append --groups {theirs} {}, and restart the service", user.name);
    }
    format!("{closed}: chgrp {group} {shown} && chmod {bits} {shown}")
}

/// Whether the service may run as a user: one of the system's own, one whom a unit runs as, one who was named. A person's account
/// is none.
fn may_be_the_services(user: &User) -> bool {
    user.uid < PERSONS || std::env::var_os("NOTIFY_SOCKET").is_some() || users::is_the_services(user)
}

/// The least id of a person's account (Debian policy 9.2.2).
const PERSONS: u32 = 1_000;

/// Mode, owner and group, as `ls -l` has them, with the mode in octal.
fn held(about: &Metadata) -> String {
    format!("{:04o} {}:{}", about.mode() & 0o7777, users::name_of_user(about.uid()), users::name_of_group(about.gid()))
}

/// Whether a key names a file that holds a secret.
fn is_secret(key: &Key) -> bool {
    key.kind == Kind::File && (key.name() == "key" || key.name().ends_with("_file"))
}

impl Settings {
    /// What the keys of files or folders name.
    fn named(&self, wanted: impl Fn(&Key) -> bool) -> impl Iterator<Item = (&'static Key, PathBuf)> {
        // The defaults of a section that is not written are nobody's.
        let there = |key: &Key| key.section().is_empty() || self.written.has_section(key.section());
        let keys = KEYS.iter().filter(move |key| matches!(key.kind, Kind::File | Kind::Folder) && there(key) && wanted(key));
        keys.filter_map(|key| Some((key, self.written.path(key)?)))
    }

    /// What is open to more than it should be: keys that everybody reads, lists that others write.
    pub(super) fn too_open(&self, config: &Path, advice: &mut Vec<Advice>) {
        let warn =
            |path: &Path, key: &str, what: String| Advice::new(Severity::Warning, SourceSpan::file(path.display().to_string()), key, what);
        for (key, path) in self.named(is_secret) {
            let Ok(about) = fs::metadata(&path) else { continue };
            let (mode, shown) = (about.mode(), path.display());
            let who = match (mode & 0o006, mode & 0o020) {
                (0, 0) => continue,
                (0, _) => format!("group {} can write this secret", users::name_of_group(about.gid())),
                (0o004, _) => "everybody on this machine can read this secret".into(),
                _ => "everybody on this machine can change this secret".into(),
            };
            advice.push(warn(&path, key.path, format!("{who} ({}): chmod g-w,o-rwx {shown}", held(&about))));
        }
        let folder = config.parent().map(Path::to_owned);
        let entries = self.allow.iter().flat_map(|folder| files::entries(folder));
        for path in [Some(config.to_owned()), folder, self.allow.clone()].into_iter().flatten().chain(entries) {
            let Ok(about) = fs::metadata(&path) else { continue };
            // In a folder with the sticky bit nobody replaces what is another's.
            if about.mode() & 0o002 != 0 && about.mode() & 0o1000 == 0 {
                let what =
                    format!("everybody on this machine can change what is exempted ({}): chmod o-w {}", held(&about), path.display());
                advice.push(warn(&path, "", what));
            }
        }
    }

    /// What the user of this process, as which the service runs, could rewrite of its own orders.
    #[must_use]
    pub fn rewritable(&self, config: &Path) -> Vec<Advice> {
        let user = User::current().name;
        let folder = config.parent().map(Path::to_owned);
        let paths = [Some(config.to_owned()), folder, self.allow.clone()].into_iter().flatten();
        let can_write = paths.filter(|path| access(path, Access::WRITE_OK).is_ok());
        can_write
            .map(|path| {
                let about = fs::metadata(&path).map(|about| held(&about)).unwrap_or_default();
                let what = format!(
                    "user {user} can rewrite it ({about}), and with it what is exempted, should somebody take over the service: chown root {path} && chmod g-w,o-w {path}",
                    path = path.display()
                );
                Advice::new(Severity::Warning, SourceSpan::file(path.display().to_string()), "", what)
            })
            .collect()
    }

    /// Which of these files, that are written under a key's folder, this process may not read and write.
    #[must_use]
    pub fn closed_files(config: &Path, key: &str, files: &[PathBuf]) -> Problems {
        let mut problems = Problems::default();
        for what in files.iter().filter_map(|file| closed(file, Access::READ_OK | Access::WRITE_OK)) {
            problems.add(SourceSpan::file(config.display().to_string()), key, what);
        }
        problems
    }

    /// Folders that cannot be used as they must, and a socket that cannot be given away: what only the system of today shows.
    #[must_use]
    pub fn obstacles(&self, config: &Path) -> Problems {
        let mut problems = Problems::default();
        let place = SourceSpan::file(config.display().to_string());
        // A store that cannot be used is a warning of its own.
        for (key, folder) in self.named(|key| key.kind == Kind::Folder && !matches!(key.path, "allow" | "guard.store")) {
            if let Some(what) = unusable(&folder) {
                problems.add(place.clone(), key.path, what);
            }
        }
        if let Some(owner) = self.milter.as_ref().and_then(|milter| milter.socket_owner.as_ref()) {
            let user = User::current();
            if user.uid != 0 && (owner.user != user.uid || !user.groups.contains(&owner.group)) {
                let (wanted, group) = (users::name_of_user(owner.user), users::name_of_group(owner.group));
                let what = if owner.user == user.uid {
                    format!(
                        "cannot give the socket to group {group}: user {} is not in it; `usermod --append --groups {group} {}`, or SupplementaryGroups={group} in the unit, where this is not seen",
                        user.name, user.name
                    )
                } else {
                    format!("cannot give the socket to user {wanted}: only root could; write {}:{group}", user.name)
                };
                problems.add(place, "milter.socket_owner", what);
            }
        }
        problems
    }
}

/// Why nothing can be written into a folder; one that is not there is made, where the one above it allows that.
fn unusable(folder: &Path) -> Option<String> {
    let all = Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK;
    let shown = folder.display();
    match fs::metadata(folder) {
        Ok(about) if !about.is_dir() => Some(format!("{shown} is a file and must be a folder; take it away, or name another")),
        Ok(_) => match access(folder, all) {
            Ok(()) => None,
            Err(rustix::io::Errno::ROFS) => Some(format!("{shown} is on a file system that is mounted read-only")),
            Err(error) => Some(closed(folder, all).unwrap_or_else(|| format!("{shown} cannot be written: {error}"))),
        },
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            let above = folder.ancestors().skip(1).find(|above| above.exists())?;
            if !above.is_dir() {
                return Some(format!("{} is a file and must be a folder, for {shown} to stand in it", above.display()));
            }
            let user = User::current().name;
            access(above, Access::WRITE_OK | Access::EXEC_OK)
                .is_err()
                .then(|| format!("{shown} is not there, and user {user} may not create it: mkdir -p {shown} && chown {user} {shown}"))
        }
        Err(error) => Some(closed(folder, all).unwrap_or_else(|| format!("{shown} cannot be used: {error}"))),
    }
}
