//! All that two programs could read differently in a mail.
//!
//! A flaw is a value and not an error: the mail is relayed as it came, and `allowlist` decides that it passes. The codes are a
//! contract: they stand in audit records and are never renamed.

use std::fmt;

use crate::vocabulary::vocabulary;

vocabulary! {
    /// One thing that two programs could read differently.
    Flaw {
        BareLineEnding = "bare-line-ending", "The mail holds a CR or LF that stands alone; some programs end a line there.";
        HeaderControl = "header-control", "A header field holds a NUL or another control character.";
        HeaderEightBit = "header-eight-bit", "A header field holds bytes that are not UTF-8.";
        HeaderFoldFirst = "header-fold-first", "The mail starts with a folded line, which some programs drop and others read.";
        HeaderNameFolded = "header-name-folded", "A header field's name and its colon stand on different lines.";
        HeaderNameSpace = "header-name-space", "A header field's name has a space or a control character before the colon.";
        HeaderWithoutColon = "header-without-colon", "A line of the header has no colon; some programs start the body there.";
        HeaderBlankFold = "header-blank-fold", "A line of the header is only white space; some programs start the body there.";
        HeaderTooMany = "header-too-many", "The mail has more header fields than can be judged.";
        HeaderWithoutEnd = "header-without-end", "No blank line ends the header.";
        SingletonRepeated = "singleton-repeated", "A header field that may stand once stands twice (RFC 5322 section 3.6).";
        FromMissing = "from-missing", "There is no From address.";
        FromRepeated = "from-repeated", "There are several From fields.";
        FromMany = "from-many", "The From field names several addresses.";
        FromGroup = "from-group", "The From field uses group syntax.";
        FromRoute = "from-route", "The From address has a source route.";
        FromSyntax = "from-syntax", "The From field is not one plain address with a name (RFC 5322 section 3.4).";
        FromEncoded = "from-encoded", "The name in From is encoded and hides address characters.";
        FromDomain = "from-domain", "The From address's domain is not a plain domain name.";
        FromDisagrees = "from-disagrees", "Another reader finds another From address.";
        MimeVersion = "mime-version", "MIME fields stand there without MIME-Version 1.0 (RFC 2045 section 4).";
        ContentType = "content-type", "A Content-Type or its boundary can be read in more than one way.";
        TransferEncoding = "transfer-encoding", "A Content-Transfer-Encoding is unknown or its content is malformed.";
        Charset = "charset", "A charset is unknown or its text is malformed.";
        TreeShape = "tree-shape", "A multipart is unterminated, lacks its delimiter or its part headers do not end.";
        TreeLimit = "tree-limit", "The mail has more parts, or deeper ones, than can be judged.";
        TreeOutside = "tree-outside", "Text that could be shown stands outside every part.";
        TextPacked = "text-packed", "A text part holds a file as uuencode, yEnc and their like or in armour, which some programs unpack.";
        MimeUnsigned = "mime-unsigned", "The signature leaves the MIME fields out, and the signed body could be read otherwise under other ones.";
        Sealed = "sealed", "The mail is signed or encrypted as a whole (S/MIME, PGP) or holds a TNEF part.";
        HtmlAmbiguous = "html-ambiguous", "The HTML can be read in more than one way.";
        HtmlActive = "html-active", "The HTML holds a form, frame, refresh, base, script or data address.";
        LinkAmbiguous = "link-ambiguous", "A link's host as written is not the host that a browser would visit.";
        LinkLimit = "link-limit", "The mail has more links, or a longer one, than can be judged.";
    }
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

/// The flaws of one mail, each once, in the order of [`Flaw::ALL`]: one bit for each.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Flaws(u64);

impl Flaws {
    /// Adds a flaw; a second time changes nothing.
    pub fn add(&mut self, flaw: Flaw) {
        self.0 |= 1 << flaw as u32;
    }

    /// Adds all flaws of another set.
    pub fn join(&mut self, other: Self) {
        self.0 |= other.0;
    }

    /// Whether the mail has no flaw.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether the mail has this flaw.
    #[must_use]
    pub const fn has(self, flaw: Flaw) -> bool {
        self.0 & (1 << flaw as u32) != 0
    }

    /// The flaws, in the order of [`Flaw::ALL`].
    pub fn iter(self) -> impl Iterator<Item = Flaw> {
        Flaw::ALL.iter().copied().filter(move |flaw| self.has(*flaw))
    }
}

impl fmt::Debug for Flaws {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

const _: () = assert!(Flaw::ALL.len() <= 64);
