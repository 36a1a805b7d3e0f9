//! The facts about a sender in an entry's file, key by key with positions: an admin's file, a service of the catalogue and a
//! product are read by the same code, so that the same mistakes are found in each and the lint checks all of them.

use super::{
    Problems,
    schema::{self, Found, Section},
};
use crate::recognition::Kind;

/// A list of strings with their places.
pub(super) type List = Found<Vec<Found<String>>>;

/// The kind with this code, as in `magic_link`.
pub(super) fn kind(code: &str) -> Option<Kind> {
    Kind::ALL.iter().copied().find(|kind| kind.code() == code)
}

/// The facts about a sender, as they were written.
#[derive(Clone, Debug, Default)]
pub(super) struct Written {
    pub(super) from: Option<List>,
    pub(super) never: Option<List>,
    /// Shapes by kind; a kind that is not named is not in it.
    pub(super) links: Vec<(Kind, List)>,
    pub(super) other_links: Option<List>,
    pub(super) signed_by: Option<List>,
    pub(super) envelope: Option<List>,
    pub(super) reader: Option<Found<String>>,
    pub(super) several_readers: Option<Found<bool>>,
    pub(super) lists: Option<Found<bool>>,
}

impl Written {
    /// Takes the keys out of a file.
    pub(super) fn read(root: &mut Section<'_, '_>, problems: &mut Problems) -> Self {
        Self {
            from: list(root, "from", problems),
            // These two may be empty: that takes away what the catalogue has.
            never: root.strings("never", problems),
            links: links(root, problems),
            other_links: root.strings("other_links", problems),
            signed_by: list(root, "signed_by", problems),
            envelope: list(root, "envelope", problems),
            reader: root.string("reader", problems),
            several_readers: root.flag("several_readers", problems),
            lists: root.flag("lists", problems),
        }
    }

    /// What is written here, and for the keys that are not, what is written there; `[links]` kind by kind.
    pub(super) fn over(self, there: &Self) -> Self {
        let or = |here: Option<List>, there: &Option<List>| here.or_else(|| there.clone());
        let mut links = self.links;
        for (kind, list) in &there.links {
            if !links.iter().any(|(own, _)| own == kind) {
                links.push((*kind, list.clone()));
            }
        }
        links.sort_by_key(|(kind, _)| Kind::ALL.iter().position(|known| known == kind));
        Self {
            from: or(self.from, &there.from),
            never: or(self.never, &there.never),
            links,
            other_links: or(self.other_links, &there.other_links),
            signed_by: or(self.signed_by, &there.signed_by),
            envelope: or(self.envelope, &there.envelope),
            reader: self.reader.or_else(|| there.reader.clone()),
            several_readers: self.several_readers.or_else(|| there.several_readers.clone()),
            lists: self.lists.or_else(|| there.lists.clone()),
        }
    }

    /// Every list of texts, for a change in all of them.
    fn lists_mut(&mut self) -> impl Iterator<Item = &mut List> {
        let own = [&mut self.from, &mut self.never, &mut self.other_links, &mut self.signed_by, &mut self.envelope];
        own.into_iter().flatten().chain(self.links.iter_mut().map(|(_, list)| list))
    }

    /// The texts of all lists, with their positions.
    pub(super) fn texts(&self) -> impl Iterator<Item = &Found<String>> {
        let own = [&self.from, &self.never, &self.other_links, &self.signed_by, &self.envelope];
        own.into_iter().flatten().chain(self.links.iter().map(|(_, list)| list)).flat_map(|list| &list.value)
    }

    /// Puts a host, and what of a path belongs to it, in the place of `{host}`.
    pub(super) fn with_host(mut self, host: &str) -> Self {
        for item in self.lists_mut().flat_map(|list| &mut list.value) {
            // A bare host means any page; behind a path that is `/*`.
            item.value =
                if item.value == "{host}" && host.contains('/') { format!("{host}/*") } else { item.value.replace("{host}", host) };
        }
        self
    }

    /// Puts each tenant in the place of `{tenant}` in addresses and domains; shapes and other links keep it.
    pub(super) fn with_tenants(mut self, tenants: &[String]) -> Self {
        for list in [&mut self.from, &mut self.never, &mut self.signed_by, &mut self.envelope].into_iter().flatten() {
            let expand = |item: Found<String>| -> Vec<Found<String>> {
                if !item.value.contains(TENANT) {
                    return vec![item];
                }
                tenants.iter().map(|tenant| Found { value: item.value.replace(TENANT, tenant), ..item.clone() }).collect()
            };
            list.value = std::mem::take(&mut list.value).into_iter().flat_map(expand).collect();
        }
        self
    }

    /// The shapes with their kinds.
    pub(super) fn shapes(&self) -> impl Iterator<Item = (Kind, &Found<String>)> {
        self.links.iter().flat_map(|(kind, list)| list.value.iter().map(|item| (*kind, item)))
    }
}

/// The placeholder for the part of a name that belongs to the company, where other customers have names too.
pub(super) const TENANT: &str = "{tenant}";

/// Takes a list of strings that must not be empty where it is there.
pub(super) fn list(root: &mut Section<'_, '_>, key: &'static str, problems: &mut Problems) -> Option<List> {
    let found = root.strings(key, problems)?;
    if found.value.is_empty() {
        problems.add(found.place, found.key, "the list is empty; take the key out or write something into it");
        return None;
    }
    Some(found)
}

fn links(root: &mut Section<'_, '_>, problems: &mut Problems) -> Vec<(Kind, List)> {
    if let Some(found) = root.any("links")
        && let Some(old) = found.value.as_array()
    {
        let first = old.first().and_then(|item| item.get_ref().as_str()).unwrap_or("login.acme.example/reset/*");
        let shape = first.replacen('*', "{token}", 1).replace('*', "{word}");
        problems.add(
            found.place,
            "links",
            format!(
                "one-time links are a table of kinds now; write\n[links]\npassword_reset = [{shape:?}]\nbehind all other keys (kinds: {})",
                codes()
            ),
        );
        return Vec::new();
    }
    let mut table = root.section("links", problems);
    let action = table.any(Kind::Action.code()).filter(|found| matches!(found.value.as_str(), Some("tag" | "guard" | "unwrap")));
    let kinds = Kind::ALL.iter().copied().filter(|kind| action.is_none() || *kind != Kind::Action);
    let found = kinds.filter_map(|kind| Some((kind, list(&mut table, kind.code(), problems)?))).collect();
    table.finish(problems);
    if let Some(found) = action {
        problems.add_misplaced(found.place, found.key, "action", "`action` belongs to no section: put it above [links]".into());
    }
    found
}

/// The names of all kinds, for messages.
pub(super) fn codes() -> String {
    Kind::ALL.iter().map(|kind| kind.code()).collect::<Vec<_>>().join(", ")
}

/// Reads kinds; another word is noted with the nearest.
pub(super) fn kinds(list: Option<List>, known: &[Kind], problems: &mut Problems) -> Vec<Kind> {
    let codes: Vec<&str> = known.iter().map(|kind| kind.code()).collect();
    let mut kinds = Vec::new();
    for item in list.into_iter().flat_map(|list| list.value) {
        if let Some(kind) = known.iter().find(|kind| kind.code() == item.value) {
            kinds.push(*kind);
        } else {
            let near = schema::nearest(&item.value, &codes).map(|near| format!("; did you mean {near:?}?")).unwrap_or_default();
            problems.add(item.place, item.key, format!("found {:?}, expected one of {}{near}", item.value, codes.join(", ")));
        }
    }
    kinds
}
