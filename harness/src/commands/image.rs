//! `powerfail mkfs`, `fsck`, `dump`: the engine on image files.
//!
//! `fsck` and `dump` map the file read-only: a damaged image is never written. With a log device
//! the image is two files, the second named like the first with `.log` added.

use super::{Exit, Failure, print_json, say};
use clap::Args;
use engine::options::ImageOptions;
use machine::choosers::RoundRobin;
use machine::disk::{BlockSource, Disk};
use machine::medium::{Medium, MediumError};
use machine::{Config, End, Kind, Machine, Task};
use serde::Serialize;
use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::rc::Rc;

/// Steps after which reading an image counts as endless.
const STEPS_MAX: u64 = 200_000_000;

/// What image is made.
#[derive(Args, Debug)]
pub struct MkfsArguments {
    /// The file; it must not be there.
    file: PathBuf,
    /// Options as in the `image` line of programs, e.g. `blocks=4096 datasum=off`.
    #[arg(value_name = "KEY=VALUE")]
    options: Vec<String>,
    /// Replace the file if it is there.
    #[arg(long)]
    force: bool,
}

/// What image is checked.
#[derive(Args, Debug)]
pub struct FsckArguments {
    /// The file.
    file: PathBuf,
}

/// What image is shown.
#[derive(Args, Debug)]
pub struct DumpArguments {
    /// The file.
    file: PathBuf,
}

/// Makes an image file.
///
/// # Errors
/// Bad options, a file that is there or cannot be made.
pub fn mkfs(arguments: &MkfsArguments, json: bool) -> Result<Exit, Failure> {
    let mut options = ImageOptions { poison: false, ..ImageOptions::default() };
    for word in &arguments.options {
        let (key, value) = word.split_once('=').ok_or_else(|| {
            Failure::Input(format!("failed to read option {word:?}: expected KEY=VALUE"))
        })?;
        options.set(key, value).map_err(|error| Failure::Input(error.to_string()))?;
    }
    options.check().map_err(|error| Failure::Input(format!("failed to make an image: {error}")))?;
    let devices = options.devices();
    let path = |device| device_path(&arguments.file, device);
    // Nothing is made unless all of it can be.
    let is_there = |path: &PathBuf| path.symlink_metadata().is_ok();
    let taken = (0..devices.len()).map(path).find(is_there).filter(|_| !arguments.force);
    if let Some(taken) = taken {
        let name = taken.display();
        return Err(Failure::Input(format!(
            "failed to make the image: {name} exists (--force replaces it)"
        )));
    }
    let mut media = Vec::new();
    for (device, blocks) in devices.into_iter().enumerate() {
        let medium = Medium::create(&path(device), blocks)
            .map_err(|error| Failure::Input(format!("failed to make the image: {error}")))?;
        media.push(Rc::new(RefCell::new(medium)));
    }
    let free = crate::images::format(&media, &options).map_err(Failure::Input)?;
    #[derive(Serialize)]
    struct Made<'a> {
        file: &'a Path,
        blocks: u64,
        free_blocks: u64,
    }
    let made = Made { file: &arguments.file, blocks: options.blocks, free_blocks: free };
    if json {
        print_json(&made);
    } else {
        let name = arguments.file.display();
        say(&format!("{name}: {} blocks of 4 KiB, {free} free", made.blocks));
    }
    Ok(Exit::Expected)
}

fn device_path(file: &Path, device: usize) -> PathBuf {
    if device == 0 {
        return file.to_owned();
    }
    let mut name = file.as_os_str().to_owned();
    name.push(".log");
    PathBuf::from(name)
}

#[derive(Serialize)]
struct Checked {
    file: PathBuf,
    clean: bool,
    problems: Vec<String>,
    /// Problems that are not listed.
    more_problems: u64,
}

/// Checks an image file without writing to it; exit 1 if there are problems.
///
/// # Errors
/// A file that cannot be opened, or is damaged beyond reading.
pub fn fsck(arguments: &FsckArguments, json: bool) -> Result<Exit, Failure> {
    let name = arguments.file.display();
    let report = on_image(&arguments.file, engine::check)?
        .map_err(|error| Failure::Input(format!("failed to check {name}: {error}")))?;
    let problems: Vec<String> = report.problems.iter().map(ToString::to_string).collect();
    let clean = problems.is_empty();
    let checked =
        Checked { file: arguments.file.clone(), clean, problems, more_problems: report.dropped };
    if json {
        print_json(&checked);
    } else if checked.clean {
        say(&format!("{name}: clean"));
    } else {
        let count = checked.problems.len() as u64 + report.dropped;
        say(&format!("{name}: {count} problem{}", if count == 1 { "" } else { "s" }));
        checked.problems.iter().for_each(|problem| say(&format!("  {problem}")));
        if report.dropped > 0 {
            say(&format!("  and {} more", report.dropped));
        }
    }
    Ok(if checked.clean { Exit::Expected } else { Exit::Violation })
}

/// Shows what is in an image file, damage included; exit 1 if there is any.
///
/// # Errors
/// A file that cannot be opened, or is damaged beyond reading.
pub fn dump(arguments: &DumpArguments) -> Result<Exit, Failure> {
    let all = &engine::dump::Section::ALL;
    let dumped =
        on_image(&arguments.file, |task| engine::dump::dump(task, all, &mut |line| say(&line)))?;
    let name = arguments.file.display();
    let damaged =
        dumped.map_err(|error| Failure::Input(format!("failed to read all of {name}: {error}")))?;
    Ok(if damaged == 0 { Exit::Expected } else { Exit::Violation })
}

/// Runs `body` as a task of a machine with the image as its disk, mapped read-only.
fn on_image<T: 'static>(
    file: &Path,
    body: impl FnOnce(&Task) -> T + 'static,
) -> Result<T, Failure> {
    let mut bases: Vec<Rc<dyn BlockSource>> = Vec::new();
    for device in 0..2 {
        let path = device_path(file, device);
        if device > 0 && !path.exists() {
            break;
        }
        match Medium::open(&path, true) {
            Ok(medium) => bases.push(Rc::new(medium)),
            // A file that only has the name of a log: the superblock knows whether one is missing.
            Err(MediumError::Length { .. } | MediumError::NotAFile { .. }) if device > 0 => break,
            Err(error) => {
                return Err(Failure::Input(format!("failed to open the image: {error}")));
            }
        }
    }
    let config = Config { steps_max: STEPS_MAX, ..Config::default() };
    let machine = Machine::new(config, Disk::new(bases), Box::new(RoundRobin));
    let slot = Rc::new(RefCell::new(None));
    let inside = slot.clone();
    let run = move |task: &Task| {
        *inside.borrow_mut() = Some(body(task));
        Ok(())
    };
    machine.spawn("image", Kind::Foreground, Box::new(run));
    let end = machine.run();
    let result = slot.borrow_mut().take();
    match (end, result) {
        (End::Done, Some(result)) => Ok(result),
        _ => {
            let fault = machine.faults().first().map_or(String::new(), ToString::to_string);
            Err(Failure::Input(format!("failed to read {}: {fault}", file.display())))
        }
    }
}
