//! What a file of the regression corpus must keep: it is replayed as it says, and shows what its
//! `expect` line says; where it switches a defect on, the engine without the defect passes.
//!
//! `cargo test` and `powerfail regress` ask the same of the same files.

use crate::program::{Program, lenient, strict};
use crate::replay::replay;
use crate::session::Session;

/// Replays a text.
///
/// # Errors
/// What is not as it must be, in words.
pub fn check(text: &str) -> Result<(), String> {
    let program = strict(text).map_err(|error| error.to_string())?;
    let printed = program.to_string();
    if strict(&printed).as_ref() != Ok(&program) || lenient(text.as_bytes()).program != program {
        return Err("the file is not read the same by both parsers and printed back".to_string());
    }
    let replayed = replay(&mut Session::default(), &program)?;
    if replayed.as_expected {
        return passes_without_its_defects(&program);
    }
    let why = replayed.wrong.map_or(String::new(), |wrong| format!("\n  {wrong}"));
    let strayed = match replayed.divergences {
        0 => String::new(),
        count => format!("\n  the recorded schedule did not fit at {count} places"),
    };
    Err(format!("expected {}, found {}{why}{strayed}", replayed.expected, replayed.found))
}

/// What a defect breaks, the engine without it keeps: with the same schedule and cut, as far as
/// they fit, and wherever else the power is cut.
fn passes_without_its_defects(program: &Program) -> Result<(), String> {
    if program.defects.is_empty() {
        return Ok(());
    }
    let mut clean = program.clone();
    clean.defects.clear();
    clean.expect = None;
    for cut in [program.cut.clone(), None] {
        clean.cut = cut;
        let replayed = replay(&mut Session::default(), &clean)?;
        if let Some(wrong) = replayed.wrong {
            return Err(format!("without its defect it shows {}: {wrong}", replayed.found));
        }
    }
    Ok(())
}
