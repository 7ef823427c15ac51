//! `powerfail bench`: speed and memory.

use super::{Exit, Failure, print_json, say};
use crate::bench;
use clap::Args;
use serde::Serialize;

/// What is measured.
#[derive(Args, Debug)]
pub struct Arguments {
    /// Seconds for each part.
    #[arg(long, value_name = "N", default_value_t = 5.0)]
    seconds: f64,
    /// What the programs are derived from.
    #[arg(long, value_name = "S", default_value_t = 1)]
    seed: u64,
}

#[derive(Serialize)]
struct Document {
    programs_per_second: f64,
    decisions_per_second: f64,
    crash_states_per_second: f64,
    floor_ratio: f64,
    peak_rss_bytes: u64,
    operations_per_program: f64,
    decisions_per_program: f64,
    recoveries_per_second: f64,
    campaign_programs_per_second: f64,
}

/// Measures and prints.
///
/// # Errors
/// If a program cannot be executed: a bug of ours.
pub fn run(arguments: &Arguments, json: bool) -> Result<Exit, Failure> {
    if !(0.01..=3600.0).contains(&arguments.seconds) {
        return Err(Failure::Input(format!("failed to measure {} seconds", arguments.seconds)));
    }
    let figures = bench::run(arguments.seconds, arguments.seed).map_err(Failure::Input)?;
    let document = Document {
        programs_per_second: figures.programs_per_second,
        decisions_per_second: figures.decisions_per_second,
        crash_states_per_second: figures.crash_states_per_second,
        floor_ratio: figures.floor_ratio,
        peak_rss_bytes: figures.peak_rss_bytes,
        operations_per_program: figures.operations_per_program,
        decisions_per_program: figures.decisions_per_program,
        recoveries_per_second: figures.recoveries_per_second,
        campaign_programs_per_second: figures.campaign_programs_per_second,
    };
    if json {
        print_json(&document);
        return Ok(Exit::Expected);
    }
    say(&format!("programs executed, cuts off   {:>10.0} /s", document.programs_per_second));
    say(&format!("decisions                     {:>10.0} /s", document.decisions_per_second));
    say(&format!("operations of a program       {:>10.1}", document.operations_per_program));
    say(&format!("decisions of a program        {:>10.1}", document.decisions_per_program));
    say(&format!("crash states in a campaign    {:>10.0} /s", document.crash_states_per_second));
    say(&format!("recoveries in a campaign      {:>10.0} /s", document.recoveries_per_second));
    let programs = document.campaign_programs_per_second;
    say(&format!("programs in a campaign        {programs:>10.0} /s"));
    say(&format!("floor / cost of judging       {:>10.2}", document.floor_ratio));
    let mebibytes = document.peak_rss_bytes as f64 / f64::from(1 << 20);
    say(&format!("peak memory                   {mebibytes:>10.1} MiB"));
    Ok(Exit::Expected)
}
