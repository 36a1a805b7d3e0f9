//! Users and groups as the system knows them: passwd(5) and group(5), and where a name stands in neither, what `getent` and `id`
//! say of it.

use std::{fs, process::Command, sync::OnceLock};

use rustix::process::{Gid, getegid, geteuid, getgroups};

/// A user, with all groups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// The name; the number, where there is no name.
    pub name: String,
    /// The user's number (uid).
    pub uid: u32,
    /// The number of the primary group (gid).
    pub gid: u32,
    /// The numbers of all groups, the primary one too.
    pub groups: Vec<u32>,
}

impl User {
    /// The user with this name, or with this number.
    #[must_use]
    pub fn find(name: &str) -> Option<Self> {
        let line = line("passwd", name)?;
        let mut fields = line.split(':');
        let name = fields.next()?.to_owned();
        let (uid, gid) = (fields.nth(1)?.parse().ok()?, fields.next()?.parse().ok()?);
        let mut groups = vec![gid];
        for line in fs::read_to_string("/etc/group").unwrap_or_default().lines() {
            let fields: Vec<&str> = line.split(':').collect();
            if let [_, _, number, members] = fields[..]
                && members.split(',').any(|member| member == name)
            {
                groups.extend(number.parse::<u32>().ok());
            }
        }
        // Groups of a directory service, which no file names.
        if let Ok(said) = Command::new("id").args(["-G", "--", &name]).output() {
            let said = String::from_utf8(said.stdout).unwrap_or_default();
            groups.extend(said.split_whitespace().filter_map(|number| number.parse::<u32>().ok()));
        }
        groups.sort_unstable();
        groups.dedup();
        Some(Self { name, uid, gid, groups })
    }

    /// The user that this process runs as.
    #[must_use]
    pub fn current() -> Self {
        let (uid, gid) = (geteuid().as_raw(), getegid().as_raw());
        let mut groups: Vec<u32> = getgroups().unwrap_or_default().into_iter().map(Gid::as_raw).collect();
        groups.push(gid);
        Self { name: name_of_user(uid), uid, gid, groups }
    }
}

/// The user of whom this process was told that the service runs as it: a fact of the process, as its own user is.
static OF_THE_SERVICE: OnceLock<u32> = OnceLock::new();

/// Says that the service runs as this user. Only the first counts.
pub fn the_service_runs_as(user: &User) {
    let _ = OF_THE_SERVICE.set(user.uid);
}

/// Whether this process was told that the service runs as this user.
#[must_use]
pub fn is_the_services(user: &User) -> bool {
    OF_THE_SERVICE.get() == Some(&user.uid)
}

/// The number of a user, by name or number.
#[must_use]
pub fn number_of_user(name: &str) -> Option<u32> {
    name.parse().ok().or_else(|| line("passwd", name)?.split(':').nth(2)?.parse().ok())
}

/// The number of a group, by name or number.
#[must_use]
pub fn number_of_group(name: &str) -> Option<u32> {
    name.parse().ok().or_else(|| line("group", name)?.split(':').nth(2)?.parse().ok())
}

/// The name of a user; the number, where there is none.
#[must_use]
pub fn name_of_user(uid: u32) -> String {
    name_of("passwd", uid)
}

/// The name of a group; the number, where there is none.
#[must_use]
pub fn name_of_group(gid: u32) -> String {
    name_of("group", gid)
}

fn name_of(database: &str, number: u32) -> String {
    let number = number.to_string();
    line(database, &number).and_then(|line| Some(line.split(':').next()?.to_owned())).unwrap_or(number)
}

/// The line of a user or a group, by name or number.
fn line(database: &str, wanted: &str) -> Option<String> {
    let text = fs::read_to_string(format!("/etc/{database}")).unwrap_or_default();
    let fits = |line: &&str| {
        let mut fields = line.split(':');
        fields.next() == Some(wanted) || fields.nth(1) == Some(wanted)
    };
    if let Some(line) = text.lines().find(fits) {
        return Some(line.to_owned());
    }
    let said = Command::new("getent").args([database, "--", wanted]).output().ok()?;
    String::from_utf8(said.stdout).ok()?.lines().next().map(str::to_owned)
}
