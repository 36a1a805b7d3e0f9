//! The text of an exported file: Windows `PowerShell` writes UTF-16, others UTF-8 with or without a mark.

use encoding_rs::{Encoding, UTF_8, UTF_16BE, UTF_16LE};

/// The text of a file.
///
/// # Errors
/// It is in no encoding that can be told for sure.
pub(super) fn text(bytes: &[u8]) -> Result<String, String> {
    let (encoding, octets) = Encoding::for_bom(bytes).unwrap_or((UTF_8, 0));
    if ![UTF_8, UTF_16LE, UTF_16BE].contains(&encoding) {
        return Err(format!("it is written in {}", encoding.name()));
    }
    let text = encoding.decode_without_bom_handling_and_without_replacement(bytes.get(octets..).unwrap_or_default());
    let text = text.ok_or_else(|| format!("it is no {}: write it with `-Encoding utf8`", encoding.name()))?;
    if text.contains('\0') {
        return Err("it holds NUL: it may be UTF-16 without its mark; write it with `-Encoding utf8`".into());
    }
    Ok(text.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_windows_writes_is_read_and_what_is_unclear_is_not() {
        let wide = |text: &str, to: fn(u16) -> [u8; 2]| text.encode_utf16().flat_map(to).collect::<Vec<u8>>();
        for bytes in [
            "[\"ü\"]".as_bytes().to_vec(),
            "\u{feff}[\"ü\"]".as_bytes().to_vec(),
            wide("\u{feff}[\"ü\"]", u16::to_le_bytes),
            wide("\u{feff}[\"ü\"]", u16::to_be_bytes),
        ] {
            assert_eq!(text(&bytes).as_deref(), Ok("[\"ü\"]"));
        }
        for bytes in [wide("[]", u16::to_le_bytes), b"[\"\xfc\"]".to_vec(), b"\xff\xfe\x00\xd8".to_vec(), b"\xff\xfea".to_vec()] {
            assert!(text(&bytes).is_err(), "{bytes:?}");
        }
    }
}
