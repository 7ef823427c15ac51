//! Texts as people and fuzzers write them: valid ones that the printer would write otherwise, and
//! broken ones that the lenient parser makes programs of. The fuzz targets `power_cut` and
//! `program_text` read their inputs so: a corpus must not become other programs.

use super::{compare, files, name, trial};
use harness::program::{TextProgram, lenient, strict};
use libtest_mimic::Trial;
use std::fs;
use std::path::Path;

pub fn trials() -> Vec<Trial> {
    let all = files("text", "txt").into_iter();
    all.map(|file| trial(name(&file), move || is_read_the_same(&file))).collect()
}

fn is_read_the_same(file: &Path) {
    let bytes = fs::read(file).expect("the file is readable");
    let repaired = lenient(&bytes);
    let printed = repaired.program.to_string();
    assert_eq!(strict(&printed).as_ref(), Ok(&repaired.program), "it is a program");
    assert!(printed.as_bytes() != bytes, "a canonical text belongs to the programs");
    let is_valid = match std::str::from_utf8(&bytes).map(strict) {
        Ok(Ok(program)) => {
            assert_eq!(program, repaired.program, "both parsers read it alike");
            true
        }
        _ => false,
    };
    let input = arbitrary::Unstructured::new(&bytes);
    let input = <TextProgram as arbitrary::Arbitrary>::arbitrary_take_rest(input);
    assert_eq!(input.expect("any bytes are a program").0, repaired.program);
    let (skipped, mended) = (repaired.skipped, repaired.repaired);
    let told = match is_valid {
        true => "valid".to_string(),
        false => format!("not valid: {skipped} lines left out, {mended} values mended"),
    };
    compare(file, &format!("{told}\n\n{printed}"));
}
