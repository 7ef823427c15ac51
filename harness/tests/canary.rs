//! The canaries of `ci/canary` are one defect of each family, each with its name.

use engine::defects::{Defect, Family};

#[test]
fn there_is_a_canary_of_each_family() {
    let script = include_str!("../../ci/canary");
    let (_, list) = script.split_once("canaries=(\n").expect("the list is there");
    let (list, _) = list.split_once("\n)").expect("it ends");
    let mut families = Vec::new();
    for line in list.lines() {
        let (family, defect) = line.trim().trim_matches('"').split_once(' ').expect("two words");
        let defect = Defect::by_name(defect).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(defect.family().name(), family, "the family of {defect}");
        families.push(family);
    }
    let all: Vec<&str> = Family::ALL.iter().map(|family| family.name()).collect();
    families.sort_unstable();
    let mut wanted = all;
    wanted.sort_unstable();
    assert_eq!(families, wanted);
}
