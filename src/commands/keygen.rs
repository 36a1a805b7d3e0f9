//! `keygen`: keys and tokens, and their rotation.

use std::{
    fs::{self, Permissions},
    io::{self, Write as _},
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::Path,
    thread,
};

use anyhow::{Context as _, anyhow, bail};
use base64::{Engine as _, engine::general_purpose::STANDARD};

use super::{Answer, printable};
use crate::{
    cli::{Keygen, Rotation},
    edit::{
        tag::Key,
        token::{Token, TokenFile},
    },
    limits,
    mail::counted,
    settings::users,
};

pub(super) fn keygen(arguments: &Keygen) -> anyhow::Result<Answer> {
    let mut random = [0_u8; 32];
    aws_lc_rs::rand::fill(&mut random).map_err(|_| anyhow!("the system gives no random numbers"))?;
    let mut out = io::stdout().lock();
    let Some(path) = &arguments.out else {
        let fresh = if arguments.token { Token::drawn(&random).expose().to_owned() } else { STANDARD.encode(random) };
        writeln!(out, "{fresh}")?;
        return Ok(Answer::Yes);
    };
    let named = || path.display().to_string();
    // A link stays, and leads to the new file.
    let target = fs::canonicalize(path).unwrap_or_else(|_| path.clone());
    let _lock = lock(folder(&target)).with_context(named)?;
    let old = text(&target).with_context(named)?;
    let (new, told) = if arguments.token {
        rotate(&old, arguments, Token::drawn(&random)).with_context(named)?
    } else {
        on_top(&old, &STANDARD.encode(random)).with_context(named)?
    };
    let is_new = !target.exists();
    if new != old {
        replace(&target, &new).with_context(|| format!("{} cannot be written", path.display()))?;
    }
    let readers = fs::metadata(&target).ok().filter(|_| is_new).map(|about| readers(about.gid())).unwrap_or_default();
    writeln!(out, "{}: {told}{readers}", printable(&path.display().to_string()))?;
    Ok(Answer::Yes)
}

/// Makes the token and the key of a hop in a folder, where they are not there.
pub(super) fn make_missing(folder: &Path) -> anyhow::Result<()> {
    for (name, token) in [("tag.token", true), ("tag.key", false)] {
        let out = folder.join(name);
        if !out.exists() {
            keygen(&Keygen { token, out: Some(out), step: Rotation::default(), now: false })?;
        }
    }
    Ok(())
}

/// The folder of a file.
fn folder(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// From reading a file until it is replaced, no other `keygen` changes one in its folder: each would put its own in the place of
/// the other's. The lock is on the folder, because the file is another one each time, and ends with this value.
fn lock(folder: &Path) -> anyhow::Result<fs::File> {
    let open = fs::File::open(folder).with_context(|| format!("its folder {} cannot be opened", folder.display()))?;
    for _ in 0..limits::KEYGEN_TRIES {
        match open.try_lock() {
            Ok(()) => return Ok(open),
            Err(fs::TryLockError::WouldBlock) => thread::sleep(limits::KEYGEN_PAUSE),
            Err(fs::TryLockError::Error(error)) => return Err(error).context("its folder cannot be locked"),
        }
    }
    bail!("another program holds a lock on its folder {}; try again once it is done", folder.display())
}

/// The text of a file that is to be changed; empty where there is none. What is no small text file is an error.
fn text(path: &Path) -> anyhow::Result<String> {
    let about = match fs::metadata(path) {
        Ok(about) => about,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(String::new()),
        Err(error) => return Err(error).context("it cannot be read"),
    };
    if !about.is_file() || about.len() > limits::SETTINGS_FILE {
        bail!("it is no file of keys or tokens, and is left as it is; name another file");
    }
    match fs::read_to_string(path) {
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            bail!("it is no file of keys or tokens, and is left as it is; name another file")
        }
        read => read.context("it cannot be read"),
    }
}

/// What an option makes of a token file, and a line for people about it.
fn rotate(old: &str, arguments: &Keygen, fresh: Token) -> anyhow::Result<(String, String)> {
    let mut file = TokenFile::parse(old)?;
    let told = if arguments.step.stage {
        file.stage(fresh)?;
        "a new token is staged, and no mail carries it yet. `firstclick setup SCANNER` prints it; once the scanner's rule takes it, --activate"
            .to_owned()
    } else if arguments.step.activate {
        file.activate()?;
        format!("the staged token is the one that is written now; {} below it until --retire", counted(file.older(), "older token"))
    } else if arguments.step.retire {
        match file.retire() {
            0 => "there is no older token".to_owned(),
            gone => {
                let them = if gone == 1 { "it" } else { "them" };
                format!("{} taken out; take {them} out of the scanner's rule, too", counted(gone, "older token"))
            }
        }
    } else if arguments.now {
        file.replace(fresh);
        "a new token, which mails carry at once: until the scanner's rule takes it (`firstclick setup SCANNER`), their links are opened"
            .to_owned()
    } else {
        file.begin(fresh)?;
        "a new token".to_owned()
    };
    Ok((file.text(), told))
}

/// Who may read a new file, for people.
fn readers(group: u32) -> String {
    match group {
        0 => "; let the user that firstclick runs as read the file (chgrp)".to_owned(),
        group => format!("; group {} may read it", users::name_of_group(group)),
    }
}

/// A key file with a new key on top, and a line for people about it. Older keys go on verifying until they are removed.
fn on_top(old: &str, fresh: &str) -> anyhow::Result<(String, String)> {
    let keys: Vec<&str> = old.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')).collect();
    if !keys.iter().all(|line| Key::parse(line).is_some()) {
        bail!("it is no key file, and is left as it is; name another file, or give --token for a file of tokens");
    }
    let told = match keys.len() {
        0 => "a new key".to_owned(),
        1 => "a new key on top of the older one, which stays".to_owned(),
        more => format!("a new key on top of {more} older ones, which stay"),
    };
    Ok((format!("{fresh}\n{old}"), told))
}

/// Puts a new file in the place of another in one step, so that no reader sees half of it. It keeps its owner and who may read
/// it; a new one only its owner may read, and the group of its folder, which in /etc/firstclick is the service's.
pub(super) fn replace(path: &Path, text: &str) -> io::Result<()> {
    let folder = folder(path);
    let mut file = tempfile::Builder::new().prefix(".firstclick-").tempfile_in(folder)?;
    file.write_all(text.as_bytes())?;
    if let Ok(about) = fs::metadata(path) {
        let own = file.as_file().metadata()?;
        if (own.uid(), own.gid()) != (about.uid(), about.gid()) {
            std::os::unix::fs::chown(file.path(), Some(about.uid()), Some(about.gid()))?;
        }
        file.as_file().set_permissions(about.permissions())?;
    } else {
        let group = fs::metadata(folder)?.gid();
        // Who is not in that group cannot give it the file, and gives it to his own.
        let _ = std::os::unix::fs::chown(file.path(), None, Some(group));
        file.as_file().set_permissions(Permissions::from_mode(0o640))?;
    }
    file.as_file().sync_all()?;
    file.persist(path)?;
    fs::File::open(folder)?.sync_all()
}
