//! The pieces of configuration of `docs/policy.md`, with what stands there for keys and addresses replaced.

use std::path::Path;

/// What the page has in place of a peer's key.
const KEY: &str = "key = \"12D3KooW…\"";
const ENCRYPTION: &str = "encryption = \"X25…\"";

/// A fenced block of configuration, and the heading that it stands under.
#[derive(Debug, Clone)]
pub struct Piece {
    pub heading: String,
    pub text: String,
}

impl Piece {
    /// The node whose file it belongs into, where its first line names one.
    pub fn node(&self) -> Option<&str> {
        self.text.lines().next()?.strip_prefix("# ")
    }
}

/// All pieces of the page, in order.
pub fn pieces() -> Vec<Piece> {
    let page = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/policy.md")).unwrap();
    let (mut pieces, mut heading, mut block) = (Vec::new(), String::new(), None::<String>);
    for line in page.lines() {
        match &mut block {
            Some(text) if line == "```" => {
                pieces.push(Piece { heading: heading.clone(), text: std::mem::take(text) });
                block = None;
            }
            Some(text) => *text += &format!("{line}\n"),
            None if line.starts_with("```toml") => block = Some(String::new()),
            None if line.starts_with("```") => block = None,
            None => heading = line.strip_prefix('#').map_or(heading, |rest| rest.trim_matches(['#', ' ']).to_owned()),
        }
    }
    pieces
}

/// The text with each peer's and origin's own key, address and encryption key: `of` says them by its name.
pub fn filled(text: &str, of: impl Fn(&str) -> (String, String, String)) -> String {
    let mut name = String::new();
    let mut lines = Vec::new();
    for line in text.lines() {
        name = line.strip_prefix("name = ").map_or(name, |quoted| quoted.trim_matches('"').to_owned());
        lines.push(if line == KEY {
            format!("key = {:?}", of(&name).0)
        } else if line == ENCRYPTION {
            format!("encryption = {:?}", of(&name).2)
        } else if line.starts_with("addresses = ") {
            assert_eq!(line, format!("addresses = [\"/dns/relay.{name}.example/tcp/4747\"]"), "whose address is it?");
            format!("addresses = [{:?}]", of(&name).1)
        } else {
            line.to_owned()
        });
    }
    lines.join("\n") + "\n"
}
