//! Programs, executed on the engine, with the power cut at a few places.
#![no_main]

use harness::fuzzing::power_cut;
use harness::program::{TextProgram, crossover_text, mutate_text};
use libfuzzer_sys::{fuzz_crossover, fuzz_mutator, fuzz_target};

fuzz_target!(|program: TextProgram| power_cut::run(&program.0));

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    mutate_text(data, size, max_size, u64::from(seed))
});

fuzz_crossover!(|data1: &[u8], data2: &[u8], out: &mut [u8], seed: u32| {
    crossover_text(data1, data2, out, u64::from(seed))
});
