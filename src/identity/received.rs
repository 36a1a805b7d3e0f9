//! The client's address in the Received field that a trusted upstream wrote.
//!
//! RFC 5321 section 4.4 puts the connection's address behind the client's own words (its HELO), and each MTA in its own way.
//! HELO, the envelope, an ident answer and a certificate's names are the client's choice, so the field is taken apart by its
//! grammar, never searched: `from`, one word, comments, `by`. Only the comment in which the MTA writes the connection counts, and
//! where a second one looks like it, or anything else is odd, there is no client.

use std::net::IpAddr;

use crate::{
    limits,
    message::header::{self, Headers},
};

/// The client's address by the topmost Received field; none where the field leaves any doubt.
pub(super) fn client(headers: &Headers<'_>) -> Option<IpAddr> {
    let field = headers.named("Received").next()?;
    let text = unfolded(headers.value(field))?;
    read(&text).map(|address| address.to_canonical())
}

/// The host that wrote a Received field, by its `by` clause; none where the field leaves any doubt.
pub(super) fn written_by(value: &[u8]) -> Option<String> {
    let text = unfolded(value)?;
    let pieces = pieces(&text)?;
    let mut by = pieces.iter().enumerate().skip(1).filter(|(at, piece)| *at != 1 && is_word(Some(piece), "by"));
    let (Some((at, _)), None) = (by.next(), by.next()) else { return None };
    match pieces.get(at + 1) {
        Some(Piece::Word(host)) => Some(host.to_ascii_lowercase()),
        _ => None,
    }
}

fn unfolded(value: &[u8]) -> Option<String> {
    if value.len() > limits::RECEIVED_VALUE {
        return None;
    }
    Some(std::str::from_utf8(value).ok()?.chars().filter(|letter| !matches!(letter, '\r' | '\n')).collect())
}

/// One piece of the field at its top level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Piece<'r> {
    Word(&'r str),
    /// The text between the parentheses.
    Comment(&'r str),
}

/// Takes the field apart. None for a quoted string, a parenthesis that does not
/// match, a control character.
fn pieces(text: &str) -> Option<Vec<Piece<'_>>> {
    let mut pieces = Vec::new();
    let mut rest = text;
    loop {
        rest = rest.trim_start_matches([' ', '\t']);
        match rest.bytes().next() {
            None => return Some(pieces),
            // One stands in front of the date. It is kept, so that what a client wrote behind one of its own is seen.
            Some(b';') => {
                let (mark, after) = rest.split_at_checked(1)?;
                pieces.push(Piece::Word(mark));
                rest = after;
            }
            Some(b'(') => {
                let (comment, after) = rest.split_at_checked(header::comment(rest)?)?;
                pieces.push(Piece::Comment(comment.strip_prefix('(')?.strip_suffix(')')?));
                rest = after;
            }
            Some(b'<') => {
                // A path: its quoted local part may hold anything, so it is skipped as what it is.
                let end = path(rest)?;
                let (word, after) = rest.split_at_checked(end)?;
                pieces.push(Piece::Word(word));
                rest = after;
            }
            Some(_) => {
                let end = rest.find([' ', '\t', '(', ')', ';', '"', '<']).unwrap_or(rest.len());
                let (word, after) = rest.split_at_checked(end)?;
                if word.is_empty() || !word.bytes().all(|byte| byte.is_ascii_graphic()) {
                    return None;
                }
                pieces.push(Piece::Word(word));
                rest = after;
            }
        }
    }
}

/// Octets of `<...>`, quoted strings inside it respected.
fn path(text: &str) -> Option<usize> {
    let (mut quoted, mut escaped) = (false, false);
    for (at, letter) in text.char_indices() {
        match letter {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => quoted = !quoted,
            '>' if !quoted => return Some(at + 1),
            _ => {}
        }
    }
    None
}

fn read(text: &str) -> Option<IpAddr> {
    let pieces = pieces(text)?;
    let [Piece::Word(from), Piece::Word(helo), rest @ ..] = pieces.as_slice() else { return None };
    if !from.eq_ignore_ascii_case("from") {
        return None;
    }
    let by = rest.iter().position(|piece| matches!(piece, Piece::Word(_)))?;
    let (comments, clauses) = rest.split_at_checked(by)?;
    if !is_word(clauses.first(), "by") || clauses.iter().skip(1).any(|piece| is_word(Some(piece), "by")) {
        return None;
    }
    let comments: Vec<&str> =
        comments.iter().filter_map(|piece| if let Piece::Comment(text) = piece { Some(*text) } else { None }).collect();
    let exim = clauses.iter().any(|piece| matches!(piece, Piece::Comment(text) if text.starts_with("Exim ")));
    // A client that could write a whole comment into its HELO could write the rest of a field too: what looks like the
    // connection behind `by` means that it did. Exchange writes its own address there.
    let forged = |piece: &Piece<'_>| matches!(piece, Piece::Comment(text) if standard(text).is_some());
    if clauses.iter().any(forged) || clauses.iter().filter(|piece| is_word(Some(piece), ";")).count() > 1 {
        return None;
    }
    let more = |skip: usize| comments.iter().skip(skip).any(|text| standard(text).or_else(|| bare(text)).is_some());
    let address = match comments.first() {
        // qmail, notqmail: `from NAME (HELO WORD) (IP)`.
        Some(first) if first.starts_with("HELO ") => {
            let address = bare(comments.get(1)?)?;
            return (!more(2)).then_some(address);
        }
        // Exim: `from [IP] (helo=WORD)`, `from [IP]`.
        None if exim => bracketed(helo)?,
        Some(first) if exim && is_pairs(first) => bracketed(helo)?,
        // Exim: `from NAME ([IP]:PORT helo=WORD ident=WORD)`.
        Some(first) if exim && first.starts_with('[') => {
            let (address, pairs) = first.split_once(' ').unwrap_or((first, ""));
            if !(pairs.is_empty() || is_pairs(pairs)) {
                return None;
            }
            bracketed(address)?
        }
        // Postfix, Sendmail, OpenSMTPD, Haraka, Gmail, Courier: `from HELO (NAME [IP])`.
        // Exchange, qmail where HELO is the client's name: `from WORD (IP)`.
        Some(first) => standard(first).or_else(|| bare(first))?,
        None => return None,
    };
    (!more(1)).then_some(address)
}

fn is_word(piece: Option<&Piece<'_>>, word: &str) -> bool {
    matches!(piece, Some(Piece::Word(found)) if found.eq_ignore_ascii_case(word))
}

/// `[IP]`, or `[IP]:PORT` (RFC 5321 section 4.1.3).
fn bracketed(text: &str) -> Option<IpAddr> {
    let (literal, behind) = text.strip_prefix('[')?.split_once(']')?;
    let port = behind.is_empty()
        || behind.strip_prefix(':').is_some_and(|port| !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()));
    if port { ip(literal) } else { None }
}

/// An address, with RFC 5321's prefix or without.
fn ip(literal: &str) -> Option<IpAddr> {
    match literal.split_at_checked(5) {
        Some((prefix, rest)) if prefix.eq_ignore_ascii_case("IPv6:") => rest.parse().ok().filter(IpAddr::is_ipv6),
        _ => literal.parse().ok(),
    }
}

/// TCP-info (RFC 5321 section 4.4): `NAME [IP]` or `[IP]`; Sendmail's `(may be forged)` behind it. An ident answer in
/// front of the name is the client's word and makes it none.
fn standard(comment: &str) -> Option<IpAddr> {
    let mut words = comment.split([' ', '\t']).filter(|word| !word.is_empty());
    let first = words.next()?;
    let address = match bracketed(first) {
        Some(address) => address,
        None if is_host(first) => bracketed(words.next()?)?,
        None => return None,
    };
    let tail: Vec<&str> = words.collect();
    (tail.is_empty() || tail == ["(may", "be", "forged)"]).then_some(address)
}

/// A comment that is nothing but an address: Exchange, qmail. qmail puts an ident answer in front, which makes it none.
fn bare(comment: &str) -> Option<IpAddr> {
    comment.parse().ok()
}

/// A host's name as MTAs write it: `unknown` or `<unknown>` (`OpenSMTPD`) where there is none, Gmail's with a dot.
fn is_host(word: &str) -> bool {
    let word = word.strip_prefix('<').and_then(|word| word.strip_suffix('>')).unwrap_or(word);
    !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_'))
}

/// Exim's `helo=WORD ident=WORD port=NUMBER`.
fn is_pairs(text: &str) -> bool {
    text.split([' ', '\t'])
        .filter(|word| !word.is_empty())
        .all(|word| ["helo=", "ident=", "port="].iter().any(|name| word.starts_with(name)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn client_of(received: &str) -> Option<String> {
        client(&Headers::read(format!("Received: {received}; Wed, 25 Nov 2026 14:00:00 +0000\r\n\r\n").as_bytes())).map(|ip| ip.to_string())
    }

    #[test]
    fn what_mtas_write() {
        for (mta, received, address) in [
            (
                "Postfix",
                "from a.test (b.test [192.0.2.10])\r\n\tby mx.corp.example (Postfix) with ESMTP id 4Xy\r\n\tfor <bob@corp.example>",
                "192.0.2.10",
            ),
            (
                "Postfix",
                "from a.test (unknown [IPv6:2001:db8::1])\r\n\t(using TLSv1.3 with cipher TLS_AES_256_GCM_SHA384 (256/256 bits)\r\n\t key-exchange X25519 server-signature RSA-PSS (2048 bits))\r\n\t(No client certificate requested)\r\n\tby mx.corp.example (Postfix) with ESMTPS id 4Xy",
                "2001:db8::1",
            ),
            ("Postfix", "from [192.0.2.66] (unknown [192.0.2.10])\r\n\tby mx.corp.example (Postfix) with ESMTP", "192.0.2.10"),
            (
                "Postfix",
                "from a.test (b.test [192.0.2.10])\r\n\t(Client CN \"x [192.0.2.66]\", Issuer \"y\" (not verified))\r\n\tby mx.corp.example (Postfix) with ESMTPS",
                "192.0.2.10",
            ),
            ("Postfix", "from by (unknown [192.0.2.10]) by mx.corp.example (Postfix) with SMTP", "192.0.2.10"),
            (
                "Postfix",
                "from a.test (b.test [192.0.2.10]) by mx.corp.example (Postfix) with ESMTP for <\"bob+[192.0.2.66]\"@corp.example>",
                "192.0.2.10",
            ),
            ("Sendmail", "from a.test (b.test [192.0.2.10])\r\n\tby mx.corp.example (8.17.1/8.17.1) with ESMTP id x", "192.0.2.10"),
            (
                "Sendmail",
                "from a.test (b.test [192.0.2.10] (may be forged))\r\n\tby mx.corp.example (8.17.1/8.17.1) with ESMTP id x",
                "192.0.2.10",
            ),
            ("Sendmail", "from a.test ([192.0.2.10])\r\n\tby mx.corp.example (8.17.1/8.17.1) with ESMTP id x", "192.0.2.10"),
            (
                "Exim",
                "from [192.0.2.10] (helo=a.test)\r\n\tby mx.corp.example with esmtp (Exim 4.96)\r\n\t(envelope-from <x@a.test>)\r\n\tid 1abc",
                "192.0.2.10",
            ),
            ("Exim", "from [192.0.2.10] (helo=[192.0.2.66])\r\n\tby mx.corp.example with esmtp (Exim 4.96)\r\n\tid 1abc", "192.0.2.10"),
            ("Exim", "from b.test ([192.0.2.10] helo=[192.0.2.66])\r\n\tby mx.corp.example with esmtp (Exim 4.96)", "192.0.2.10"),
            (
                "Exim",
                "from b.test ([192.0.2.10]:2525 helo=a.test ident=joe)\r\n\tby mx.corp.example with esmtps  (TLS1.3) tls TLS_AES_256_GCM_SHA384\r\n\t(Exim 4.96)",
                "192.0.2.10",
            ),
            ("Exim", "from b.test ([2001:db8::1])\r\n\tby mx.corp.example with esmtp (Exim 4.96)", "2001:db8::1"),
            ("Exim", "from [192.0.2.10] (port=1234 helo=a.test)\r\n\tby mx.corp.example with esmtp (Exim 4.96)", "192.0.2.10"),
            ("Exim", "from [192.0.2.10]\r\n\tby mx.corp.example with smtp (Exim 4.96)", "192.0.2.10"),
            ("qmail", "from unknown (HELO a.test) (192.0.2.10)\r\n  by mx.corp.example with SMTP", "192.0.2.10"),
            ("notqmail", "from unknown (HELO [192.0.2.66]) (192.0.2.10)\r\n  by mx.corp.example with SMTP", "192.0.2.10"),
            ("qmail", "from a.test (192.0.2.10)\r\n  by mx.corp.example with SMTP", "192.0.2.10"),
            ("OpenSMTPD", "from a.test (b.test [192.0.2.10])\r\n\tby mx.corp.example (OpenSMTPD) with ESMTP id 7", "192.0.2.10"),
            (
                "OpenSMTPD",
                "from a.test (<unknown> [192.0.2.10])\r\n\tby mx.corp.example (OpenSMTPD) with ESMTPS id 7 (TLSv1.3:TLS_AES_256_GCM_SHA384:256:NO)",
                "192.0.2.10",
            ),
            (
                "Haraka",
                "from a.test (b.test [192.0.2.10])\r\n\tby mx.corp.example (Haraka/3.0.3) with ESMTP id 1\r\n\tenvelope-from <x@a.test>",
                "192.0.2.10",
            ),
            (
                "Exchange",
                "from a.test (192.0.2.10) by\r\n mx.corp.example (10.0.0.5) with Microsoft SMTP Server (version=TLS1_2,\r\n cipher=TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384) id 15.1.1",
                "192.0.2.10",
            ),
            ("Exchange", "from [192.0.2.66] (192.0.2.10) by mx.corp.example (10.0.0.5) with Microsoft SMTP Server", "192.0.2.10"),
            (
                "Gmail",
                "from mail.bank.test (mail.bank.test. [192.0.2.10])\r\n        by mx.google.com with ESMTPS id x-1\r\n        for <bob@corp.example>\r\n        (version=TLS1_3 cipher=TLS_AES_256_GCM_SHA384 bits=256/256)",
                "192.0.2.10",
            ),
            (
                "Courier",
                "from a.test (b.test [::ffff:192.0.2.10])\r\n  (TLS: TLSv1.3,256bits)\r\n  by mx.corp.example with ESMTPS",
                "192.0.2.10",
            ),
        ] {
            assert_eq!(client_of(received).as_deref(), Some(address), "{mta}: {received}");
        }
    }

    #[test]
    fn where_there_is_doubt_there_is_no_client() {
        for received in [
            "by mx.corp.example (Postfix) with ESMTP",
            "from a.test by mx.corp.example (Postfix) with ESMTP ([192.0.2.66])",
            // An unknown MTA, whose HELO is an address.
            "from [192.0.2.66] by mx.corp.example with ESMTP",
            "from [192.0.2.66] (helo=a.test) by mx.corp.example with ESMTP",
            // A HELO that holds a field of its own.
            "from a.test (x [192.0.2.66]) (b.test [192.0.2.10]) by mx.corp.example with ESMTP",
            "from a.test (x [192.0.2.66]) by mx.corp.example (b.test [192.0.2.10]) by mx.corp.example with ESMTP",
            "from a.test ([192.0.2.66]) by x; (b.test [192.0.2.10]) by mx.corp.example with ESMTP",
            "from a.test ([192.0.2.66]) by x; y (b.test) by mx.corp.example with ESMTP",
            "from a.test ([192.0.2.66]) by x; y",
            "from a.test (192.0.2.66) by x (b.test [192.0.2.10]) with ESMTP",
            "from a.test (x [192.0.2.66]) by x with ESMTP (b.test [192.0.2.10])",
            "from unknown (HELO x) (192.0.2.66) (192.0.2.10) by mx.corp.example with SMTP",
            "from unknown (HELO x) by mx.corp.example with SMTP",
            "from unknown (HELO x (192.0.2.66)) by mx.corp.example with SMTP",
            // Words besides the HELO.
            "from a b (b.test [192.0.2.10]) by mx.corp.example with ESMTP",
            "from a \"x\" (b.test [192.0.2.10]) by mx.corp.example with ESMTP",
            // An ident answer.
            "from a.test (joe@b.test [192.0.2.10]) by mx.corp.example (8.17.1/8.17.1) with ESMTP",
            "from unknown (HELO x) (joe@192.0.2.10) by mx.corp.example with SMTP",
            // Comments that do not match, or say more.
            "from a.test (b.test [192.0.2.10] by mx.corp.example with ESMTP",
            "from a.test b.test [192.0.2.10]) by mx.corp.example with ESMTP",
            "from a.test (b.test [192.0.2.10] x) by mx.corp.example with ESMTP",
            "from a.test (b.test [192.0.2.10][192.0.2.66]) by mx.corp.example with ESMTP",
            "from a.test (b.test [192.0.2.10.1]) by mx.corp.example with ESMTP",
            "from a.test (b.test [IPv6:192.0.2.10]) by mx.corp.example with ESMTP",
            "from a.test (b.test\u{a0}[192.0.2.10]) by mx.corp.example with ESMTP",
            "from a.test (envelope-from <[192.0.2.66]@x>) by mx.corp.example with ESMTP",
            "from a.test (b.test [192.0.2.10])",
            "",
        ] {
            assert_eq!(client_of(received), None, "{received}");
        }
        assert_eq!(client_of(&format!("from a.test (b.test [192.0.2.10]) by {}", "x".repeat(limits::RECEIVED_VALUE))), None);
        assert_eq!(client(&Headers::read(b"From: a@b\r\n\r\n")), None);
    }

    proptest! {
        #[test]
        fn nothing_panics(text in "(from |by |\\(|\\)|\\[|\\]|<|>|\"|\\\\|192.0.2.1| |\t|;|HELO |helo=|x|é){0,30}", bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _ = read(&text);
            let _ = client(&Headers::read(&[b"Received: ", bytes.as_slice()].concat()));
        }

        #[test]
        fn no_helo_names_a_client(helo in "[a-z0-9.()\\[\\]<>\"= ;-]{1,40}( |\\(|\\[|\\))(192.0.2.66)(\\)|\\])?") {
            let found = client_of(&format!("from {helo} (unknown [192.0.2.10])\r\n\tby mx.corp.example (Postfix) with ESMTP"));
            prop_assert!(found.as_deref() != Some("192.0.2.66"), "{helo}");
        }
    }
}
