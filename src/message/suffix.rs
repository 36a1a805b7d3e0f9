//! The list of public suffixes, asked here alone: its search is code, and each place that asked for itself would hold another half a
//! megabyte of it.

/// The public suffix of a host.
#[inline(never)]
#[must_use]
pub fn suffix(host: &str) -> Option<psl::Suffix<'_>> {
    psl::suffix(host.as_bytes())
}

/// The part of a host that somebody registered.
#[inline(never)]
#[must_use]
pub fn registered(host: &str) -> Option<&str> {
    psl::domain_str(host)
}
