//! Content-Type values that every program splits alike.

/// Whether a Content-Type value is what RFC 2045 section 5.1 allows and nothing that readers split differently:
/// no comments, no repeated parameter, no RFC 2231 form of `boundary` or `charset`, no encoded word.
pub(super) fn is_plain_content_type(value: &[u8]) -> bool {
    let Ok(value) = std::str::from_utf8(value) else { return false };
    let mut pieces = Vec::new();
    let (mut piece, mut quoted, mut escaped) = (String::new(), false, false);
    for letter in value.chars() {
        match letter {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            '(' | ')' if !quoted => return false,
            ';' if !quoted => {
                pieces.push(std::mem::take(&mut piece));
                continue;
            }
            _ => {}
        }
        piece.push(letter);
    }
    if quoted || escaped {
        return false;
    }
    // One trailing semicolon is common and read alike by all.
    if !piece.trim().is_empty() {
        pieces.push(piece);
    }
    let mut pieces = pieces.iter().map(|piece| piece.trim());
    let Some((kind, subtype)) = pieces.next().and_then(|first| first.split_once('/')) else { return false };
    if !is_token(kind) || !is_token(subtype) {
        return false;
    }
    let mut seen: Vec<String> = Vec::new();
    pieces.all(|parameter| {
        let Some((name, value)) = parameter.split_once('=') else { return false };
        let name = name.to_ascii_lowercase();
        let stem = name.split('*').next().unwrap_or_default().to_owned();
        let matters = matches!(stem.as_str(), "boundary" | "charset" | "start" | "type");
        let inside = value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
        let plain_value = match inside {
            Some(inside) if stem == "boundary" => is_boundary(inside),
            Some(inside) => !matters || !inside.contains(['"', '\\']) && inside.trim() == inside,
            None => is_token(value),
        };
        let repeated = seen.contains(&name);
        seen.push(name.clone());
        is_token(&name) && !repeated && (!matters || name == stem) && (!matters || !value.contains("=?")) && (plain_value || !matters)
    })
}

/// Whether a text is a boundary by RFC 2046 section 5.1.1.
fn is_boundary(text: &str) -> bool {
    (1..=70).contains(&text.len())
        && !text.ends_with(' ')
        && !text.starts_with(' ')
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"'()+_,-./:=? ".contains(&byte))
}

/// Whether a text is a token by RFC 2045 section 5.1.
fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic() && !b"()<>@,;:\\\"/[]?=".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_types_that_all_read_alike() {
        for plain in [
            "text/plain",
            "text/html; charset=utf-8",
            "TEXT/HTML; CHARSET=\"utf-8\"",
            "multipart/alternative; boundary=\"=_3cfb\"",
            "multipart/mixed; boundary=abc;",
            "application/pdf; name*=utf-8''a.pdf",
            "multipart/related; type=\"text/html\"; boundary=\"a b\"",
        ] {
            assert!(is_plain_content_type(plain.as_bytes()), "{plain}");
        }
        for odd in [
            "text",
            "multipart/mixed; boundary=a; boundary=b",
            "multipart/mixed; boundary*0=a; boundary*1=b",
            "multipart/mixed; boundary*=utf-8''a",
            "multipart/mixed; boundary=foo,faa",
            "text/plain (comment)",
            "multipart/mixed; boundary=\"a \"",
            "multipart/mixed; boundary==?US-ASCII?Q?foo?=",
            "multipart/mixed; boundary=\"\"",
            "multipart/mixed; boundary=\"foo",
            "multipart/mixed; boundary =foo",
            "multipart/mixed boundary=foo",
            "text/html, text/plain",
            "multipart/mixed; boundary=foo foo",
        ] {
            assert!(!is_plain_content_type(odd.as_bytes()), "{odd}");
        }
    }
}
