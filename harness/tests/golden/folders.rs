//! Folders that outlive a version of the command: findings, which many nights share, and campaigns,
//! which go on where they were. A folder that is not understood any more would begin anew, and what
//! it knew would be lost.

use super::{root, trial};
use harness::corpus::{Corpus, STATE, State};
use harness::findings::{self, PROGRAM};
use harness::program::strict;
use libtest_mimic::Trial;
use serde_json::Value;
use std::fs;
use std::path::Path;

pub fn trials() -> Vec<Trial> {
    vec![trial("findings-v1", findings_are_read), trial("campaign-v1", a_campaign_goes_on)]
}

fn findings_are_read() {
    let folder = root().join("findings-v1");
    let directories = fs::read_dir(&folder).expect("the folder is readable").count();
    let entries = findings::list(&folder).expect("the folder is readable");
    assert!(directories > 0 && entries.len() == directories, "each directory is a finding");
    for entry in entries {
        let read = serde_json::to_value(&entry.record).expect("it is JSON");
        keeps(&read_json(&entry.folder.join("finding.json")), &read);
        let program = fs::read_to_string(entry.folder.join(PROGRAM));
        let program = program.expect("the file is readable");
        assert_eq!(strict(&program).map(|it| it.to_string()), Ok(program));
    }
}

fn a_campaign_goes_on() {
    let folder = tempfile::tempdir().expect("there is room");
    let file = root().join("campaign-v1").join(STATE);
    fs::copy(&file, folder.path().join(STATE)).expect("copied");
    let golden = read_json(&file);
    let words = |key: &str| {
        let words = golden[key].as_array().expect("a list").iter();
        words.map(|word| word.as_str().expect("a word").to_string()).collect()
    };
    let campaign = State {
        seed: golden["seed"].as_u64().expect("a number"),
        defects: words("defects"),
        knobs: words("knobs"),
        ..State::default()
    };
    let same = Corpus::open(folder.path(), campaign.clone()).expect("it is the same");
    same.save(&campaign).expect("written");
    keeps(&golden, &read_json(&folder.path().join(STATE)));
}

fn read_json(file: &Path) -> Value {
    let text = fs::read_to_string(file).expect("the file is readable");
    serde_json::from_str(&text).expect("it is JSON")
}

/// Whatever was written is still there; there may be more.
fn keeps(written: &Value, read: &Value) {
    match (written, read) {
        (Value::Object(written), Value::Object(read)) => {
            for (key, value) in written {
                keeps(value, read.get(key).unwrap_or_else(|| panic!("`{key}` is lost")));
            }
        }
        _ => assert_eq!(written, read),
    }
}
