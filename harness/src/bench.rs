//! The figures of docs/performance.md: how fast programs are executed, and crash states recovered
//! and judged, on one core. A second is one of processor time, user and system.

use crate::campaign;
use crate::clock::ProcessorTime;
use crate::cuts::{Judge, Plan, Totals};
use crate::execution::{Executor, Manner};
use crate::images::Images;
use crate::program::Program;
use machine::Block;
use machine::choosers::Dice;
use std::fs;
use std::rc::Rc;

/// Programs whose crash states are compared with the floor.
const FLOOR_PROGRAMS: usize = 40;

/// What was measured.
#[derive(Clone, Copy, Debug, Default)]
pub struct Figures {
    /// Programs executed in a second, cuts off.
    pub programs_per_second: f64,
    /// Decisions taken in a second, cuts off.
    pub decisions_per_second: f64,
    /// Operations of a program on average.
    pub operations_per_program: f64,
    /// Decisions of a program on average.
    pub decisions_per_program: f64,
    /// Crash states recovered and judged in a second of a campaign, execution included.
    pub crash_states_per_second: f64,
    /// Recoveries run in a second of a campaign: the other states were known to recover alike.
    pub recoveries_per_second: f64,
    /// Programs in a second of a campaign.
    pub campaign_programs_per_second: f64,
    /// Time to hash and copy once what each crash state touches, over the time that judging takes.
    pub floor_ratio: f64,
    /// The most memory that the process had.
    pub peak_rss_bytes: u64,
}

/// Measures for about `seconds` each part.
///
/// # Errors
/// A sentence, if a program cannot be executed.
pub fn run(seconds: f64, seed: u64) -> Result<Figures, String> {
    let mut figures = Figures::default();
    execution(seconds, seed, &mut figures)?;
    judging(seconds, seed, &mut figures)?;
    floor(seed, &mut figures)?;
    figures.peak_rss_bytes = peak_rss_bytes();
    Ok(figures)
}

/// Programs of the size that the figures are defined for: three tasks.
fn programs(seed: u64, count: usize) -> Vec<Rc<Program>> {
    let all = (0..).map(|index| campaign::program(seed, index));
    all.filter(|program| program.tasks.len() == 3).take(count).map(Rc::new).collect()
}

fn execution(seconds: f64, seed: u64, figures: &mut Figures) -> Result<(), String> {
    let programs = programs(seed, 512);
    let (mut images, mut executor) = (Images::default(), Executor::new());
    // Once over everything: images are made and buffers have their size.
    for program in &programs {
        executor.execute(&mut images, program, Manner::default())?;
    }
    let (mut executed, mut decisions, mut operations) = (0_u64, 0_u64, 0_u64);
    let clock = ProcessorTime::start();
    while clock.seconds() < seconds {
        for program in &programs {
            let done = executor.execute(&mut images, program, Manner::default())?;
            executed += 1;
            decisions += done.decisions;
            operations += done.operations;
        }
    }
    let spent = clock.seconds();
    figures.programs_per_second = executed as f64 / spent;
    figures.decisions_per_second = decisions as f64 / spent;
    figures.operations_per_program = operations as f64 / executed as f64;
    figures.decisions_per_program = decisions as f64 / executed as f64;
    Ok(())
}

fn judging(seconds: f64, seed: u64, figures: &mut Figures) -> Result<(), String> {
    let (mut images, mut executor) = (Images::default(), Executor::new());
    let (mut judge, plan) = (Judge::default(), Plan::campaign());
    let mut totals = Totals::default();
    let mut count = 0;
    let clock = ProcessorTime::start();
    while clock.seconds() < seconds {
        let program = Rc::new(campaign::program(seed, count));
        let executed = executor.execute(&mut images, &program, Manner::default())?;
        count += 1;
        let plan = campaign::plan(seed, count - 1, &plan);
        if plan.cuts_max == 0 {
            continue;
        }
        let mut dice = Dice::new(count - 1);
        totals.add(&judge.judge(&executor, &executed, &program, &plan, &mut dice).0);
    }
    let spent = clock.seconds();
    figures.crash_states_per_second = totals.crash_states as f64 / spent;
    figures.recoveries_per_second = totals.recoveries as f64 / spent;
    figures.campaign_programs_per_second = count as f64 / spent;
    Ok(())
}

fn floor(seed: u64, figures: &mut Figures) -> Result<(), String> {
    let (mut images, mut executor) = (Images::default(), Executor::new());
    let (mut judge, plan) = (Judge::default(), Plan::campaign());
    let (mut ours, mut floor) = (0.0, 0.0);
    for (index, program) in programs(seed, FLOOR_PROGRAMS).iter().enumerate() {
        let executed = executor.execute(&mut images, program, Manner::default())?;
        let clock = ProcessorTime::start();
        judge.judge(&executor, &executed, program, &plan, &mut Dice::new(index as u64));
        ours += clock.seconds();
        let mut touched: Vec<Vec<Block>> = Vec::new();
        let mut dice = Dice::new(index as u64);
        judge.footprints(&executor, &executed, program, &plan, &mut dice, &mut |blocks| {
            touched.push(blocks);
        });
        let clock = ProcessorTime::start();
        let mut copy = [0_u8; machine::BLOCK_BYTES];
        let mut sum = 0_u64;
        for block in touched.iter().flatten() {
            copy.copy_from_slice(std::hint::black_box(block.bytes()));
            sum ^= u64::from(blake3::hash(std::hint::black_box(&copy)).as_bytes()[0]);
        }
        std::hint::black_box(sum);
        floor += clock.seconds();
    }
    figures.floor_ratio = if ours > 0.0 { floor / ours } else { 0.0 };
    Ok(())
}

/// The high-water mark of resident memory, as Linux tells it; 0 elsewhere.
pub fn peak_rss_bytes() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmHWM:"));
    let kib = line.and_then(|line| line.split_whitespace().nth(1));
    kib.and_then(|kib| kib.parse::<u64>().ok()).map_or(0, |kib| kib * 1024)
}
