//! Why a signature is no proof, and why nothing could be found out: two closed vocabularies with a sentence each.

macro_rules! says {
    ($(#[$about:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident = $text:literal,)+ }) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name {
            $($(#[$doc])* $variant,)+
        }

        impl $name {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$variant,)+];

            /// One clause for people.
            #[must_use]
            pub const fn says(self) -> &'static str {
                match self {
                    $(Self::$variant => $text,)+
                }
            }
        }
    };
}

says! {
    /// Why a signature is no proof even where it verifies, or why it does not verify.
    Weakness {
        /// Its `d=` cannot speak for the author, so it was not looked up.
        NotTheAuthors = "it cannot speak for the author, so nobody looked it up",
        /// Not a tag list as RFC 6376 sections 3.2 and 3.5 want it, or two readers would read it differently.
        Malformed = "it is not written as RFC 6376 wants it, or can be read in two ways",
        /// Its domain or selector is no plain name.
        Name = "its domain or selector is no plain name",
        /// `a=rsa-sha1` (RFC 8301 section 3.1).
        Sha1 = "it uses rsa-sha1",
        /// `l=`: text can be appended (RFC 6376 section 8.2).
        BodyLength = "it has an l= tag, so text can be appended",
        /// From is not among the signed fields (RFC 6376 section 5.4).
        FromUnsigned = "it does not cover From",
        /// Subject is not among the signed fields.
        SubjectUnsigned = "it does not cover Subject",
        /// Past its `x=`, or `t=` lies in the future.
        OutOfTime = "it is expired or from the future",
        /// The body is not the one that was signed (RFC 6376 section 6.1.3).
        BodyHash = "the body hash does not verify",
        /// The header is not the one that was signed, or not by this key.
        Forged = "it does not verify",
        /// No answer about its key in time (RFC 6376 section 6.1.2).
        NoAnswer = "DNS gave no answer about its key",
        /// There is no key under its name.
        KeyMissing = "there is no key under its name",
        /// Several texts under the key's name: which one counts is not defined (RFC 6376 section 3.6.2.2).
        KeySeveral = "several records stand under its key's name",
        /// Its key's record cannot be read, or is larger than a key needs.
        KeyRecord = "its key's record cannot be read, or is too large",
        /// An empty `p=` (RFC 6376 section 3.6.1).
        KeyRevoked = "its key is revoked",
        /// `t=y`: to be treated as if there were no signature (RFC 6376 section 3.6.1).
        TestingKey = "its key is marked as a test (t=y)",
        /// `s=` names neither email nor `*` (RFC 6376 section 3.6.1).
        KeyService = "its key is for another service than mail (s=)",
        /// `h=` leaves sha256 out (RFC 6376 section 3.6.1).
        KeyHash = "its key does not allow its hash (h=)",
        /// `k=` is of another kind than `a=` (RFC 6376 section 6.1.2).
        KeyType = "its key is of another type than its a= (k=)",
        /// `t=s`, and `i=` lies below `d=` (RFC 6376 section 3.6.1).
        KeyStrict = "its i= lies below its d=, which its key forbids (t=s)",
        /// The upstream reports a signature, and none in the mail fits.
        NoField = "no DKIM-Signature in the mail fits what the upstream says of it",
        /// More than one field fits the upstream's report, and they do not agree on what counts, or one that may be meant cannot
        /// be read.
        Unclear = "more than one DKIM-Signature may be the one that the upstream means",
        /// The newest ARC-Message-Signature does not cover the sender's signature.
        Unsealed = "the seal does not cover the sender's DKIM-Signature",
    }
}

says! {
    /// What kept an identity from being found out.
    Trouble {
        /// Past the bound of mails that are asked about at one time, of the hop or of one client network.
        Busy = "too many mails are being looked up at this time, of all or of this mail's network, so this one was not",
        /// The peer is not in `trusted_upstreams`.
        NobodyVouches = "the peer is not among trusted_upstreams, so nobody vouches for the mail",
        /// No field that may be trusted.
        NoResults = "no Authentication-Results of a listed authserv_id stands above the upstream's own Received",
        /// One field stands where anybody may have put it.
        ResultsBelow = "the Authentication-Results stand below the upstream's own Received, where a sender may have put them; results = \"below_received\" in [identity] believes them, where the upstream removes those that come in",
        /// One field stands where it may be trusted, and another one where only a client can have put it; or two contradict.
        ResultsTwice = "Authentication-Results of a listed authserv_id stand more than once, so some are forged",
        /// The field is not well-formed.
        ResultsOdd = "the Authentication-Results of a listed authserv_id are not well-formed",
    }
}

impl From<Trouble> for String {
    fn from(trouble: Trouble) -> Self {
        trouble.says().into()
    }
}
