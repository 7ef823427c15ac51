//! The text of programs: no bytes make a parser panic, and what is printed is read back the same.
#![no_main]

use harness::program::{lenient, mutate_text, strict};
use libfuzzer_sys::{fuzz_mutator, fuzz_target, fuzzer_mutate};

fuzz_target!(|data: &[u8]| {
    let repaired = lenient(data).program;
    let text = repaired.to_string();
    assert_eq!(strict(&text).as_ref(), Ok(&repaired), "a repaired program is valid:\n{text}");
    if let Ok(text) = std::str::from_utf8(data)
        && let Ok(program) = strict(text)
    {
        assert_eq!(program, repaired, "both parsers read valid text alike:\n{text}");
    }
});

// Half by bytes, which find the parser's corners, half by operations, which keep it a program.
fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    if seed % 2 == 0 {
        fuzzer_mutate(data, size, max_size)
    } else {
        mutate_text(data, size, max_size, u64::from(seed))
    }
});
