//! Bring your own engine: a small log-structured store under power cuts.
//!
//! Without a verb it runs a campaign from an empty corpus; `--fixed` runs the store without its
//! bug; `replay FILE` replays a finding. `docs/your-own-engine.md` leads through it.

mod store;

use harness::commands::own;
use std::process::ExitCode;
use store::LogStore;

fn main() -> ExitCode {
    let (flags, arguments): (Vec<String>, Vec<String>) =
        std::env::args().partition(|argument| argument == "--fixed");
    match flags.is_empty() {
        true => own::main::<LogStore<false>>(arguments),
        false => own::main::<LogStore<true>>(arguments),
    }
}
