//! What fuzz targets are made of: the targets themselves are glue in `fuzz/`.
//!
//! - [`feedback`] turns an execution into coarse features: interleavings and state classes;
//! - `counters` shows them to libFuzzer, in builds for it only;
//! - [`power_cut`] runs a program, judges its cuts and shows what it found;
//! - [`image`] damages valid images and asks that everything ends in an answer or an error;
//! - [`summary`] counts, and prints the counts when the process ends.
//!
//! What it must never know: how bytes become programs ([`crate::program`] does), and what is
//! allowed (the oracle does).

#[cfg(fuzzing)]
mod counters;
pub mod feedback;
pub mod image;
pub mod power_cut;
pub mod summary;
