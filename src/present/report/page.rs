//! Puts style, script and data into the one page.

use sha2::{Digest, Sha256};

use crate::present::report::PageData;

const PAGE: &str = include_str!("page.html");
const STYLE: &str = include_str!("page.css");
const SCRIPTS: [&str; 3] = [include_str!("data.js"), include_str!("draw.js"), include_str!("boards.js")];

pub fn page(data: &PageData) -> serde_json::Result<String> {
    let script = SCRIPTS.concat();
    let json = serde_json::to_string(data)?.replace('<', "\\u003c");
    let policy = format!(
        "default-src 'none'; script-src 'sha256-{}'; style-src 'sha256-{}'; base-uri 'none'; form-action 'none'",
        base64(&Sha256::digest(&script)),
        base64(&Sha256::digest(STYLE)),
    );
    // The data comes last, so that `{{…}}` inside it is not replaced.
    let mut page =
        PAGE.replace("{{policy}}", &policy).replace("{{style}}", STYLE).replace("{{script}}", &script);
    if let Some(at) = page.find("{{data}}") {
        page.replace_range(at..at + "{{data}}".len(), &json);
    }
    Ok(page)
}

/// Encodes base64 with padding (RFC 4648).
fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let bits =
            chunk.iter().fold(0u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for place in 0..4 {
            let letter = LETTERS[(bits >> (18 - 6 * place)) as usize & 63];
            text.push(if place <= chunk.len() { char::from(letter) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_agrees_with_the_rfc() {
        for (bytes, text) in
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")]
        {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
    }
}
