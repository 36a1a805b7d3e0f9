//! The built-in products: software that companies run themselves, whose links have one shape wherever it stands. Each is a
//! file of `config/products/`; `{host}` in it is where an admin's copy stands.

use include_dir::{Dir, include_dir};

use super::{
    Advice,
    catalogue::{self, Evidence, Fact, Visit},
    lint,
    schema::{Document, Environment, Found, Problems},
    written::Written,
};
use crate::{message::Domain, recognition::Kind};

static PRODUCTS: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/config/products");

/// One product.
#[derive(Clone, Debug)]
pub struct Product {
    /// The name by which allowlist files call it: the file's name.
    pub name: String,
    /// What people call it.
    pub title: String,
    /// What is known of its mails, as written.
    pub(super) written: Written,
    /// What a visit of a link does, where it is known.
    pub visit: Vec<(Kind, Visit)>,
    /// What an admin should know.
    pub notes: String,
    /// What each fact rests on.
    pub evidence: Vec<Evidence>,
}

impl Product {
    /// One-time links, as shapes with `{host}`.
    #[must_use]
    pub fn links(&self) -> Vec<(Kind, String)> {
        self.written.shapes().map(|(kind, item)| (kind, item.value.clone())).collect()
    }

    /// Other links, with `{host}`.
    #[must_use]
    pub fn other_links(&self) -> Vec<String> {
        catalogue::texts(self.written.other_links.as_ref())
    }

    /// Whether no evidence shows its links: From is the admin's own.
    #[must_use]
    pub fn is_draft(&self) -> bool {
        !catalogue::is_proven(&self.evidence, Fact::Links)
    }
}

/// All products, by name. What is wrong with a file is noted; the tests hold that nothing is.
#[must_use]
pub fn all(problems: &mut Problems) -> Vec<Product> {
    let mut products: Vec<Product> = PRODUCTS.files().filter_map(|file| read(file, problems)).collect();
    products.sort_by(|left, right| left.name.cmp(&right.name));
    products
}

/// One product.
#[must_use]
pub fn find(name: &str) -> Option<Product> {
    read(PRODUCTS.get_file(format!("{name}.toml"))?, &mut Problems::default())
}

/// The names, for messages.
#[must_use]
pub fn names() -> Vec<&'static str> {
    let mut names: Vec<&str> = PRODUCTS.files().filter_map(|file| file.path().file_stem()?.to_str()).collect();
    names.sort_unstable();
    names
}

/// What the lint says of the products, as if one stood on a host of the company.
#[must_use]
pub fn advice(problems: &mut Problems) -> Vec<Advice> {
    let mut advice = Vec::new();
    for product in all(problems) {
        lint::written(&product.written.with_host("sso.corp.example"), &mut advice);
    }
    advice
}

/// Reads where a product stands: a host, perhaps with a port and a path.
pub(super) fn place(found: &Found<String>, problems: &mut Problems) -> Option<String> {
    let text = found.value.strip_prefix("https://").unwrap_or(&found.value).trim_end_matches('/');
    let (authority, path) = text.split_once('/').unwrap_or((text, ""));
    let (host, port) = authority.split_once(':').map_or((authority, None), |(host, port)| (host, Some(port)));
    let is_host = Domain::parse(host).is_ok_and(|domain| domain.registered().is_some());
    let is_port = port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port > 0));
    let is_path = !path.contains(['?', '#', '*', '{', '}', '\\', '%']) && !path.chars().any(char::is_whitespace);
    if is_host && is_port && is_path {
        return Some(text.to_owned());
    }
    problems.add(
        found.place.clone(),
        &found.key,
        format!(
            "found {:?}, expected where the product stands: a host, perhaps with a port and a path, as in \"sso.corp.example\"",
            found.value
        ),
    );
    None
}

fn read(file: &include_dir::File<'_>, problems: &mut Problems) -> Option<Product> {
    let name = file.path().file_stem()?.to_str()?.to_owned();
    let document = Document::parse(&format!("products/{name}.toml"), file.contents_utf8()?, Environment::None, problems);
    let mut root = document.root();
    let title = root.string("title", problems);
    let written = Written::read(&mut root, problems);
    let visit = catalogue::read_visit(&mut root, problems);
    let notes = root.string("notes", problems).map(|found| found.value).unwrap_or_default();
    let evidence = catalogue::read_evidence(&mut root, problems);
    root.finish(problems);
    Some(Product { name, title: title?.value, written, visit, notes, evidence })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::allowlist::{OtherLink, Shape};

    #[test]
    fn every_file_reads() {
        let mut problems = Problems::default();
        let products = all(&mut problems);
        assert_eq!(problems, Problems::default(), "{problems}");
        assert!(products.len() >= 40, "{}", products.len());
        for product in &products {
            for host in ["sso.corp.example", "sso.corp.example:8443/app"] {
                let placed = product.written.clone().with_host(host);
                for (_, item) in placed.shapes() {
                    assert!(Shape::parse(&item.value).is_ok(), "{}: {}: {:?}", product.name, item.value, Shape::parse(&item.value));
                }
                for item in placed.other_links.iter().flat_map(|list| &list.value) {
                    assert!(OtherLink::parse(&item.value).is_ok(), "{}: {}", product.name, item.value);
                }
            }
        }
    }

    #[test]
    fn where_a_product_stands() {
        let place = |text: &str| {
            let found = Found { value: text.to_owned(), place: super::super::SourceSpan::file("x"), key: "host".into() };
            place(&found, &mut Problems::default())
        };
        assert_eq!(place("sso.corp.example"), Some("sso.corp.example".into()));
        assert_eq!(place("https://sso.corp.example:8443/auth/"), Some("sso.corp.example:8443/auth".into()));
        for odd in
            ["", "*.corp.example", "com", "http://sso.corp.example", "sso.corp.example:0", "sso.corp.example/a?b", "{tenant}.corp.example"]
        {
            assert_eq!(place(odd), None, "{odd}");
        }
    }
}
