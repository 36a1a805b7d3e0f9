//! Whether one of `other_links` takes links that look like a shape's: such a link, where it fits no shape, leaves as it stands.

use super::placeholder::{Part, Placeholder};
use super::shape::{Atom, FragmentShape, OtherLink, PathEnd, Piece, Reach, Scheme, Shape};

impl OtherLink {
    /// Whether links like this shape's would be taken: those that differ from it below its own literal path, or in their query.
    #[must_use]
    pub fn covers_like(&self, shape: &Shape) -> bool {
        self.has_host_of(shape) && self.has_port_of(shape) && self.has_path_of(shape)
    }

    fn has_host_of(&self, shape: &Shape) -> bool {
        let (own, theirs) = (&self.host.key, &shape.host.key);
        match (self.reach, self.host.is_literal(), shape.host.is_literal()) {
            (Reach::Itself, true, true) | (Reach::Itself, false, false) => own == theirs,
            // A host with a placeholder is known by what stands behind it.
            (Reach::Itself, true, false) => own.is_below(theirs),
            (Reach::Itself, false, true) | (Reach::Below, _, true) => theirs.is_below(own),
            (Reach::Below, _, false) => theirs.is_within(own),
        }
    }

    fn has_port_of(&self, shape: &Shape) -> bool {
        let usual = if shape.scheme == Scheme::Https { 443 } else { 80 };
        self.port.unwrap_or(usual) == shape.port.unwrap_or(usual)
    }

    fn has_path_of(&self, shape: &Shape) -> bool {
        let Some(path) = &self.path else { return true };
        // A page that a program in the browser shows for another fragment is another one.
        if matches!(&shape.fragment, Some(FragmentShape::Path(segments, _)) if segments.len() > 1) {
            return false;
        }
        for (at, (own, theirs)) in path.segments.iter().zip(&shape.path).enumerate() {
            if theirs.placeholders().any(Placeholder::is_secret) {
                // What stands in front of the token is the same: whatever comes here is below the shape's own path.
                return (at > 0 && path.end == PathEnd::Open) || may_be_same(own, theirs);
            }
            if !may_be_same(own, theirs) {
                return false;
            }
        }
        match path.end {
            PathEnd::Open => path.segments.len() <= shape.path.len(),
            PathEnd::Here => path.segments.len() == shape.path.len(),
        }
    }
}

/// Whether a text can fit both.
fn may_be_same(left: &Piece, right: &Piece) -> bool {
    match (left.literal(), right.literal()) {
        (Some(left), Some(right)) => left == right,
        (Some(text), None) => may_fit(text, right),
        (None, Some(text)) => may_fit(text, left),
        (None, None) => true,
    }
}

/// Whether a text may fit a piece with placeholders, by its placeholder or by its literal start.
fn may_fit(text: &str, piece: &Piece) -> bool {
    match piece.0.as_slice() {
        [Atom::Hole(Placeholder::Tenant | Placeholder::Email)] => true,
        [Atom::Hole(placeholder)] => placeholder.fits(text, Part::Segment),
        [Atom::Literal(start), ..] => text.starts_with(&**start),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_covers_links_like_a_shapes() {
        for (other, shape, covers) in [
            ("login.acme.example/password/reset/v2/*", "login.acme.example/password/reset/{token}", true),
            ("login.acme.example/password/*", "login.acme.example/password/reset/{token}", true),
            ("login.acme.example/*", "login.acme.example/password/reset/{token}", true),
            ("login.acme.example", "login.acme.example/password/reset/{token}", true),
            ("*.acme.example", "login.acme.example/password/reset/{token}", true),
            ("{id}.acme.example/password/*", "login.acme.example/password/reset/{token}", true),
            ("login.acme.example/password/reset/{word}/*", "login.acme.example/password/reset/{token}", true),
            ("login.acme.example/reset", "login.acme.example/reset?t={token}", true),
            ("login.acme.example/reset/*", "login.acme.example/reset?t={token}", true),
            ("claude.ai/magic-link", "claude.ai/magic-link#{token}", true),
            ("app.acme.example/u/*", "app.acme.example/u/{id}/reset/{token}", true),
            ("us02web.zoom.us", "us{id}web.zoom.us/activate?code={token}", true),
            ("login.acme.example/help/*", "login.acme.example/password/reset/{token}", false),
            ("login.acme.example/", "login.acme.example/password/reset/{token}", false),
            ("login.acme.example/password/reset/help", "login.acme.example/password/reset/{token}", false),
            ("login.acme.example/reset/help", "login.acme.example/reset?t={token}", false),
            ("www.acme.example", "login.acme.example/password/reset/{token}", false),
            ("*.login.acme.example", "login.acme.example/password/reset/{token}", false),
            ("login.acme.example:8443", "login.acme.example/password/reset/{token}", false),
            ("app.acme.example/u/help/*", "app.acme.example/u/{id}/reset/{token}", false),
            ("acme.slack.com/help/*", "{tenant}.slack.com/z-app-{token}", false),
            ("acme.slack.com/*", "{tenant}.slack.com/z-app-{token}", true),
            ("app.acme.example/", "app.acme.example/#/verify/{token}", false),
        ] {
            assert_eq!(OtherLink::parse(other).unwrap().covers_like(&Shape::parse(shape).unwrap()), covers, "{other} {shape}");
        }
    }
}
