//! `keygen`: keys and tokens, and their rotation.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

use anyhow::{Context as _, anyhow};
use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};

use super::Answer;
use crate::cli::Keygen;

pub(super) fn keygen(arguments: &Keygen) -> anyhow::Result<Answer> {
    let mut random = [0_u8; 32];
    aws_lc_rs::rand::fill(&mut random).map_err(|_| anyhow!("the system gives no random numbers"))?;
    let fresh = if arguments.token {
        format!("fc-{}", URL_SAFE_NO_PAD.encode(random.get(..24).unwrap_or_default()))
    } else {
        STANDARD.encode(random)
    };
    match &arguments.out {
        None => writeln!(io::stdout().lock(), "{fresh}")?,
        Some(path) => {
            let older = put_on_top(path, &fresh).with_context(|| format!("{} cannot be written", path.display()))?;
            let what = if arguments.token { "token" } else { "key" };
            writeln!(io::stdout().lock(), "{}", told(path, what, older))?;
        }
    }
    Ok(Answer::Yes)
}

/// Puts a new line on top of a file; older ones go on verifying until they are removed. The new file replaces the old one in one
/// step, so that a reader never sees half of it, and only its owner and group may read it. Returns the number of older lines.
fn put_on_top(path: &Path, fresh: &str) -> io::Result<usize> {
    let older = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(error),
    };
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o640).open(&beside)?;
    file.write_all(format!("{fresh}\n{older}").as_bytes())?;
    file.sync_all()?;
    if let Ok(about) = fs::metadata(path) {
        // A rotation keeps who may read the file.
        fs::set_permissions(&beside, about.permissions())?;
        let _ = std::os::unix::fs::chown(&beside, None, Some(std::os::unix::fs::MetadataExt::gid(&about)));
    }
    fs::rename(&beside, path)?;
    Ok(older.lines().filter(|line| !line.trim().is_empty() && !line.starts_with('#')).count())
}

/// A line for people about what was written.
fn told(path: &Path, what: &str, older: usize) -> String {
    let path = path.display();
    match older {
        0 => format!("{path}: a new {what}; let the user that firstclick runs as read the file (chgrp)"),
        1 => format!("{path}: a new {what} on top of the older one, which stays"),
        _ => format!("{path}: a new {what} on top of {older} older ones, which stay"),
    }
}
