//! Pages, traces, JUnit and SARIF: that they are well-formed, need nothing else, and hold what
//! matters. One finding of each family of defects stands for its family.

use harness::explain::{Explanation, LaneKind, explain};
use harness::program::strict;
use harness::report::{Outcome, chrome_trace, html, junit, sarif};
use harness::target::engine::EngineTarget;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;
use tempfile::TempDir;

/// A small finding of each family.
const FAMILIES: [(&str, &str); 6] = [
    ("fsync", "fast-fsync-skips-dio-io-wait"),
    ("metadata-buffer", "eb-attach-private-unlocked"),
    ("remap", "remap-dst-pagecache-stale"),
    ("direct-io", "osync-dio-isize-after-sync"),
    ("punch-fault", "mkwrite-takes-iolock"),
    ("durability", "fsync-elides-flush"),
];

fn path(name: &str) -> String {
    format!("{}/../corpus/regress/defects/{name}.pf", env!("CARGO_MANIFEST_DIR"))
}

fn explained(name: &str) -> Explanation {
    let text = fs::read_to_string(path(name)).expect("the corpus has it");
    let program = strict(&text).expect("it parses");
    let story = explain::<EngineTarget>(&program, name);
    story.expect("it can be executed").expect("it shows something wrong")
}

/// Demands that every element is closed in its order, and every attribute quoted.
fn well_formed(page: &str) {
    const VOID: [&str; 3] = ["meta", "br", "!doctype"];
    let mut open: Vec<String> = Vec::new();
    let mut rest = page;
    while let Some(start) = rest.find('<') {
        assert!(!rest[..start].contains('>'), "a bare > before {:?}", &rest[start..][..20]);
        let end = start + rest[start..].find('>').expect("a tag ends");
        let tag = &rest[start + 1..end];
        rest = &rest[end + 1..];
        assert_eq!(tag.matches('"').count() % 2, 0, "quotes in <{tag}>");
        let name = tag.trim_start_matches('/').split([' ', '/', '\n']).next().unwrap_or_default();
        let name = name.to_ascii_lowercase();
        if tag.starts_with('/') {
            assert_eq!(open.pop().as_deref(), Some(&name[..]), "</{name}>");
        } else if !tag.ends_with('/') && !VOID.contains(&&name[..]) {
            if name == "style" || name == "script" {
                let closing = format!("</{name}>");
                let end = rest.find(&closing).expect("it is closed");
                rest = &rest[end + closing.len()..];
            } else {
                open.push(name);
            }
        }
    }
    assert!(open.is_empty(), "not closed: {open:?}");
}

fn self_contained(page: &str) {
    for word in ["http:", "https:", " src=", "@import", "<link", "<iframe", "fetch("] {
        assert!(!page.contains(word), "the page has {word:?}");
    }
    for (word, inside) in [("url(", "url(#"), ("href=", "href=\"#")] {
        for (at, _) in page.match_indices(word) {
            assert!(page[at..].starts_with(inside), "{:?}", &page[at..][..20]);
        }
    }
}

#[test]
fn pages_of_every_family_say_what_matters() {
    for (family, name) in FAMILIES {
        let story = explained(name);
        assert_eq!(story.defects[0].family, family, "{name}");
        let page = html(&story).expect("it is written");
        well_formed(&page);
        self_contained(&page);
        assert!(page.len() < 150_000, "{name}: {} bytes", page.len());
        for lane in story.lanes.iter().filter(|lane| lane.kind == LaneKind::Disk) {
            let drawn = format!(">{}</text>", lane.name);
            assert!(page.contains("class=\"lane\"") && page.contains(&drawn), "{name}");
        }
        for step in &story.steps {
            let lane = format!(">{}</text>", story.lane_name(step.lane));
            assert!(page.contains(&lane), "{name}: no lane {lane}");
        }
        assert!(page.contains("class=\"mark cut\""), "{name}: the end is marked");
        assert_eq!(page.contains("power cut</text>"), story.cut.is_some(), "{name}");
        let blocks = story.files.iter().any(|file| !file.blocks.is_empty());
        assert_eq!(page.contains("<table class=\"blocks\">"), blocks, "{name}");
        let requests = page.matches("<g class=\"request").count();
        assert!(requests <= story.requests.len(), "{name}");
        for words in ["prefers-color-scheme: dark", "@media print", "powerfail replay "] {
            assert!(page.contains(words), "{name}: no {words}");
        }
        assert!(page.contains(&format!("defect {name}\n")), "{name}: the program is there");
    }
}

/// Those that docs/reading-a-finding.md shows: one of each family.
#[test]
fn committed_pages_are_pages() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/findings");
    for (family, _) in FAMILIES {
        let page = fs::read_to_string(folder.join(format!("{family}.html"))).expect("it is there");
        well_formed(&page);
        self_contained(&page);
        assert!(page.len() < 150_000 && page.contains(&format!("({family}; ")), "{family}");
    }
}

#[test]
fn words_of_programs_are_escaped() {
    let mut story = explained("mkwrite-takes-iolock");
    story.file = "<b onclick=\"x\">'&.pf".to_string();
    story.finding.message = vec!["<script>".to_string()];
    let page = html(&story).expect("it is written");
    well_formed(&page);
    assert!(!page.contains("<b onclick") && page.matches("<script>").count() == 1);
}

#[test]
fn traces_open_and_close_every_span() {
    for (_, name) in FAMILIES {
        let story = explained(name);
        let trace: Value = serde_json::from_str(&chrome_trace(&story)).expect("it is JSON");
        let events = trace["traceEvents"].as_array().expect("a list");
        let mut open: BTreeMap<String, i64> = BTreeMap::new();
        let mut names = 0;
        for event in events {
            let text = |key: &str| event[key].as_str().unwrap_or_default().to_string();
            assert!(event["pid"].is_u64() && event["tid"].is_u64(), "{event}");
            match &text("ph")[..] {
                "M" => names += usize::from(text("name") == "thread_name"),
                "b" => *open.entry(text("cat") + &text("id")).or_default() += 1,
                "e" => *open.entry(text("cat") + &text("id")).or_default() -= 1,
                "X" => assert!(event["dur"].as_u64() > Some(0), "{event}"),
                "i" | "C" => assert!(event["ts"].is_u64(), "{event}"),
                other => panic!("a phase {other:?}"),
            }
        }
        assert!(open.values().all(|count| *count == 0), "{name}: {open:?}");
        assert_eq!(names, story.lanes.len(), "{name}");
        let spans =
            |cat: &str| events.iter().filter(|it| it["cat"] == cat && it["ph"] != "e").count();
        assert_eq!(spans("operation"), story.operations.len(), "{name}");
        assert_eq!(spans("request"), story.requests.len(), "{name}");
        assert_eq!(spans("lock"), story.locks.len(), "{name}");
    }
}

fn outcomes() -> [Outcome; 3] {
    let outcome = |file: &str, as_expected, wrong: Option<(&str, u16)>| Outcome {
        file: file.into(),
        as_expected,
        expected: "pass".to_string(),
        found: "what it shows".to_string(),
        wrong: wrong.map(|(kind, number)| (kind.to_string(), number)),
        message: wrong.map(|_| "a <message> & more".to_string()),
    };
    [
        outcome("a/fine.pf", true, None),
        outcome("a/known.pf", true, Some(("lost-data", 11))),
        outcome("a b/wrong.pf", false, Some(("poison", 1))),
    ]
}

#[test]
fn junit_fails_what_is_not_as_expected() {
    let text = junit("replay", &outcomes()).expect("it is written");
    assert!(text.contains("tests=\"3\"") && text.contains("failures=\"1\""), "{text}");
    assert!(text.contains("<testcase name=\"wrong\" classname=\"a b\">"), "{text}");
    assert!(text.contains("a &lt;message&gt; &amp; more"), "{text}");
    assert!(!text.contains("timestamp"), "{text}");
    well_formed(text.split_once("?>").expect("a declaration").1);
}

#[test]
fn sarif_names_rules_by_their_place() {
    let document: Value = serde_json::from_str(&sarif(&outcomes())).expect("it is JSON");
    assert_eq!(document["version"], "2.1.0");
    let run = &document["runs"][0];
    let rules = &run["tool"]["driver"]["rules"];
    let results = run["results"].as_array().expect("a list");
    assert_eq!(results.len(), 2, "what is fine is no result");
    for result in results {
        let index = result["ruleIndex"].as_u64().expect("a place") as usize;
        assert_eq!(rules[index]["id"], result["ruleId"]);
        assert!(result["message"]["text"].is_string());
    }
    assert_eq!((&results[0]["level"], &results[1]["level"]), (&"note".into(), &"error".into()));
    let place = &results[1]["locations"][0]["physicalLocation"];
    assert_eq!(place["artifactLocation"]["uri"], "a%20b/wrong.pf");
}

fn powerfail(words: &[&str]) -> (i32, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_powerfail")).args(words).output().expect("runs");
    let said = [output.stdout, output.stderr].concat();
    (output.status.code().expect("no signal"), String::from_utf8(said).expect("UTF-8"))
}

#[test]
fn the_command_writes_what_it_is_asked_for() {
    let folder = TempDir::new().expect("a folder");
    let out = |name: &str| folder.path().join(name).to_str().expect("UTF-8").to_string();
    let file = path("mkwrite-takes-iolock");
    let (page, trace) = (out("it.html"), out("it.json"));
    let (code, said) = powerfail(&["report", &file, "--html", &page, "--chrome-trace", &trace]);
    assert_eq!((code, said), (1, format!("{page}\n{trace}\n")));
    assert!(Path::new(&page).exists() && Path::new(&trace).exists());
    let (code, said) = powerfail(&["report", "--format", "json", &file]);
    let story: Value = serde_json::from_str(&said).expect("it is JSON");
    assert_eq!((code, &story["finding"]["kind"]), (1, &"lock-order".into()));
    let (junit, sarif) = (out("it.xml"), out("it.sarif"));
    let (code, _) = powerfail(&["replay", &file, "--junit", &junit, "--sarif", &sarif]);
    assert_eq!(code, 0);
    assert!(fs::read_to_string(&junit).expect("written").contains("failures=\"0\""));
    assert!(fs::read_to_string(&sarif).expect("written").contains("lock-order"));
}

/// Each finding that a campaign keeps has its page beside it, and the list says where.
#[test]
fn a_folder_of_findings_has_the_page_of_each() {
    let folder = TempDir::new().expect("a folder");
    let root = folder.path().to_str().expect("UTF-8");
    let defect = "super-no-preflush";
    let words = ["run", "--defect", defect, "--seed", "5", "--first", "--out", root];
    let (code, said) = powerfail(&words);
    assert_eq!(code, 1, "{said}");
    let (code, listed) = powerfail(&["findings", root, "--format", "json"]);
    let listed: Value = serde_json::from_str(&listed).expect("it is JSON");
    assert_eq!((code, listed.as_array().map(Vec::len)), (1, Some(1)), "{listed}");
    let [file, page] = ["file", "report"].map(|key| listed[0][key].as_str().expect("a path"));
    let again = folder.path().join("again.html");
    powerfail(&["report", file, "--html", again.to_str().expect("UTF-8")]);
    let read = |path: &Path| fs::read_to_string(path).expect("it is there");
    assert!(read(Path::new(page)) == read(&again), "the page that `report` makes");
    let (_, listed) = powerfail(&["findings", root]);
    assert!(listed.contains(page), "{listed}");
}

#[test]
fn bad_input_is_refused_in_a_sentence() {
    let folder = TempDir::new().expect("a folder");
    let fine = folder.path().join("fine.pf");
    fs::write(&fine, "powerfail 1\nsetup\n  create f\n").expect("written");
    let fine = fine.to_str().expect("UTF-8");
    let file = path("mkwrite-takes-iolock");
    for (words, wanted) in [
        (vec!["explain", fine], "fine.pf: it shows nothing wrong"),
        (vec!["explain", "/nonexistent/it.pf"], "failed to read /nonexistent/it.pf"),
        (vec!["report", &file], "say where to, with --html OUT"),
        (vec!["report", &file, "--html", "/nonexistent/it"], "failed to write /nonexistent/it"),
        (vec!["replay", &file, "--junit", "/nonexistent/it"], "failed to write /nonexistent/it"),
    ] {
        let (code, said) = powerfail(&words);
        assert!(code == 2 && said.contains(wanted), "{code}: {said}");
    }
}
