//! The `powerfail` command: parses the line, calls the library, prints, and exits with 0 as
//! expected, 1 for a violation or an unexpected verdict, 2 for bad usage or input, 3 if the
//! environment lacks something.

use clap::{Parser, Subcommand, ValueEnum};
use harness::commands::{self, Exit};
use std::process::ExitCode;

/// Tasks of a campaign make and drop small things all the time; see docs/performance.md.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Finds crash-consistency bugs: concurrent programs on a storage engine, controlled interleavings,
/// power cuts, and an oracle.
#[derive(Parser)]
#[command(name = "powerfail", version, about, propagate_version = true)]
struct Line {
    /// How results are printed.
    #[arg(long, global = true, value_enum, default_value_t = Format::Text)]
    format: Format,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people.
    Text,
    /// One JSON document on standard output.
    Json,
}

#[derive(Subcommand)]
enum Verb {
    /// Run a campaign of generated programs from an empty corpus.
    Run(commands::run::Arguments),
    /// Run program files as they say and compare with what they expect.
    Replay(commands::replay::Arguments),
    /// Replay the regression corpus, with the defects of each file and without.
    Regress(commands::regress::Arguments),
    /// Find the smallest program that shows the same violation as a finding.
    Minimize(commands::minimize::Arguments),
    /// Tell the story of a finding: who did what, which choice decided, what would be allowed.
    Explain(commands::explain::Arguments),
    /// Write the story of a finding as a page or as a trace.
    Report(commands::report::Arguments),
    /// Run every schedule of a program within a preemption bound, and judge every crash state.
    Explore(commands::explore::Arguments),
    /// List the findings of a folder: how often, and when they were seen.
    Findings(commands::findings::Arguments),
    /// Explore each program of a folder and compare with what it says is reachable.
    Litmus(commands::litmus::Arguments),
    /// Find the fewest programs of a corpus folder that cover what all of it covers.
    Prune(commands::prune::Arguments),
    /// Run programs on a directory of a mounted file system and compare with the oracle.
    Conform(commands::conform::Arguments),
    /// Switch on each historical defect and see whether it is found.
    Defects(commands::defects::Arguments),
    /// Make an image file.
    Mkfs(commands::image::MkfsArguments),
    /// Check an image file.
    Fsck(commands::image::FsckArguments),
    /// Show what is in an image file.
    Dump(commands::image::DumpArguments),
    /// Measure speed and memory.
    Bench(commands::bench::Arguments),
}

fn main() -> ExitCode {
    let line = Line::parse();
    let json = line.format == Format::Json;
    let result = match line.verb {
        Verb::Run(arguments) => commands::run::run(&arguments, json),
        Verb::Replay(arguments) => commands::replay::run(&arguments, json),
        Verb::Regress(arguments) => commands::regress::run(&arguments, json),
        Verb::Minimize(arguments) => commands::minimize::run(&arguments, json),
        Verb::Explain(arguments) => commands::explain::run(&arguments, json),
        Verb::Report(arguments) => commands::report::run(&arguments, json),
        Verb::Explore(arguments) => commands::explore::run(&arguments, json),
        Verb::Findings(arguments) => commands::findings::run(&arguments, json),
        Verb::Litmus(arguments) => commands::litmus::run(&arguments, json),
        Verb::Prune(arguments) => commands::prune::run(&arguments, json),
        Verb::Conform(arguments) => commands::conform::run(&arguments, json),
        Verb::Defects(arguments) => commands::defects::run(&arguments, json),
        Verb::Mkfs(arguments) => commands::image::mkfs(&arguments, json),
        Verb::Fsck(arguments) => commands::image::fsck(&arguments, json),
        Verb::Dump(arguments) => commands::image::dump(&arguments),
        Verb::Bench(arguments) => commands::bench::run(&arguments, json),
    };
    match result {
        Ok(Exit::Expected) => ExitCode::SUCCESS,
        Ok(Exit::Violation) => ExitCode::from(1),
        Err(failure) => {
            commands::complain(&failure);
            ExitCode::from(failure.code())
        }
    }
}
