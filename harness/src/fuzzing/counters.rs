//! The counters that libFuzzer reads besides its own: one byte a feature, in the section where it
//! looks for them (`FuzzerExtraCounters.cpp`, Linux only).
//!
//! One of the rooms with `unsafe`. The argument: the attribute only names the section of a static
//! whose bytes are atomic, so that libFuzzer may clear them between two inputs; it clears whole
//! machine words, hence the alignment. Nothing else is ever put into that section.

use super::feedback::FEATURES;
use std::sync::atomic::{AtomicU8, Ordering};

const _: () = assert!(FEATURES % 8 == 0, "libFuzzer clears machine words");

#[repr(C, align(4096))]
struct Counters([AtomicU8; FEATURES]);

#[used]
#[unsafe(link_section = "__libfuzzer_extra_counters")]
static COUNTERS: Counters = Counters([const { AtomicU8::new(0) }; FEATURES]);

/// Tells libFuzzer that this input shows the feature: a set, not a count.
pub(super) fn show(feature: u16) {
    COUNTERS.0[usize::from(feature)].store(1, Ordering::Relaxed);
}
