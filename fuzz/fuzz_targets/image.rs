//! Damaged images: mount, check and recovery end in an answer or a clear error.
#![no_main]

use harness::fuzzing::image::{self, Damages};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|damages: Damages| image::run(&damages));
