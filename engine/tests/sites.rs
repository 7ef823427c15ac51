//! The list of sites is what the sources declare.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// What stands before the name of a site in the sources.
const DECLARATION: &str = "Site::new(\"";

/// Names of sites of the machine at which no task makes a step.
const NO_STEPS: &[&str] = &["operation.begin", "task.start"];

fn declared(folder: &Path, names: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).expect("the folder is readable") {
        let path = entry.expect("the entry is readable").path();
        if path.is_dir() {
            declared(&path, names);
            continue;
        }
        let text = fs::read_to_string(&path).expect("it is a source");
        for after in text.split(DECLARATION).skip(1) {
            let name = after.split('"').next().expect("a literal ends");
            names.insert(name.to_string());
        }
        if path.ends_with("buffers/steps.rs") {
            let rows = text.lines().filter(|line| line.trim_end().ends_with("\";"));
            names.extend(rows.filter_map(|row| row.split('"').nth(1)).map(str::to_string));
        }
    }
}

#[test]
fn every_site_of_the_sources_is_listed_and_no_other() {
    let engine = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut names = BTreeSet::new();
    declared(&engine.join("src"), &mut names);
    declared(&engine.join("../machine/src"), &mut names);
    names.retain(|name| !name.starts_with("test.") && !NO_STEPS.contains(&name.as_str()));
    let listed: Vec<String> = engine::sites::names().into_iter().map(str::to_string).collect();
    assert_eq!(listed, names.into_iter().collect::<Vec<String>>());
}
