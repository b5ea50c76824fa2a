//! Puts style, script and data into the one page.

use base64::prelude::{BASE64_STANDARD, Engine as _};
use sha2::{Digest, Sha256};

use crate::present::report::PageData;

const PAGE: &str = include_str!("page.html");
const STYLE: &str = include_str!("page.css");
const SCRIPTS: [&str; 4] = [
    include_str!("data.js"),
    include_str!("draw.js"),
    include_str!("boards.js"),
    include_str!("waterfall.js"),
];

pub fn page(data: &PageData) -> serde_json::Result<String> {
    let script = SCRIPTS.concat();
    let json = serde_json::to_string(data)?.replace('<', "\\u003c");
    let policy = format!(
        "default-src 'none'; script-src 'sha256-{}'; style-src 'sha256-{}'; base-uri 'none'; form-action 'none'",
        BASE64_STANDARD.encode(Sha256::digest(&script)),
        BASE64_STANDARD.encode(Sha256::digest(STYLE)),
    );
    // The data comes last, so that `{{…}}` inside it is not replaced.
    let mut page =
        PAGE.replace("{{policy}}", &policy).replace("{{style}}", STYLE).replace("{{script}}", &script);
    if let Some(at) = page.find("{{data}}") {
        page.replace_range(at..at + "{{data}}".len(), &json);
    }
    Ok(page)
}
