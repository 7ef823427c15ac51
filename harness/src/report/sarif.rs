//! SARIF 2.1.0: a result for each file that shows something wrong, with the guarantee as its rule.
//!
//! What a file expects is no news: its result is of level "note". What it does not expect is an
//! error; so is a violation that did not show.

use super::Outcome;
use oracle::GUARANTEES;
use serde_json::{Value, json};
use std::path::Path;

/// The schema that documents name. Nobody fetches it.
const SCHEMA: &str = "https://json.schemastore.org/sarif-2.1.0.json";

/// The document.
pub fn sarif(outcomes: &[Outcome]) -> String {
    let rules: Vec<Value> = GUARANTEES.iter().map(rule).collect();
    let results: Vec<Value> = outcomes.iter().filter_map(result).collect();
    let driver = json!({
        "name": "powerfail",
        "semanticVersion": env!("CARGO_PKG_VERSION"),
        "rules": rules,
    });
    let document = json!({
        "$schema": SCHEMA,
        "version": "2.1.0",
        "runs": [{ "tool": { "driver": driver }, "results": results }],
    });
    serde_json::to_string_pretty(&document).unwrap_or_default()
}

fn rule(guarantee: &oracle::Guarantee) -> Value {
    json!({
        "id": guarantee.id.to_string(),
        "shortDescription": { "text": guarantee.title },
        "properties": { "tier": guarantee.tier.name() },
    })
}

fn result(outcome: &Outcome) -> Option<Value> {
    let level = if outcome.as_expected { "note" } else { "error" };
    let location = json!({
        "physicalLocation": {
            "artifactLocation": { "uri": uri(&outcome.file) },
            "region": { "startLine": 1 },
        },
    });
    let Some((kind, number)) = &outcome.wrong else {
        let text = format!("expected {}, found {}", outcome.expected, outcome.found);
        return (!outcome.as_expected).then(|| {
            json!({
                "level": level,
                "message": { "text": text },
                "locations": [location],
            })
        });
    };
    let message = outcome.message.clone().unwrap_or_else(|| outcome.found.clone());
    let index = GUARANTEES.iter().position(|it| u16::from(it.id.0) == *number);
    let mut result = json!({
        "ruleId": format!("G-{number}"),
        "level": level,
        "message": { "text": format!("{kind}: {message}") },
        "locations": [location],
        "partialFingerprints": { "powerfail/v1": format!("{kind} G-{number}") },
    });
    if let (Some(index), Some(result)) = (index, result.as_object_mut()) {
        result.insert("ruleIndex".to_string(), json!(index));
    }
    Some(result)
}

/// A path as a reference: what may not stand in one is escaped.
fn uri(path: &Path) -> String {
    let mut out = String::new();
    for byte in path.display().to_string().bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => {
                out.push(char::from(byte));
            }
            b'\\' => out.push('/'),
            other => out.push_str(&format!("%{other:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_have_no_spaces() {
        assert_eq!(uri(Path::new("a b/c#1.pf")), "a%20b/c%231.pf");
    }
}
