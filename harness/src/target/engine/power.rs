//! The engine under power cuts: how it is made, mounted and unmounted, and what is seen of it
//! after a cut.
//!
//! It promises to know programs by their knobs and names alone. What it must never know: which of
//! what is seen is allowed.

use super::{EngineTarget, EngineWorker, ended, errno};
use crate::knobs;
use crate::program::{ImageKnobs, Program};
use crate::seen::{FileSeen, Seen};
use crate::target::ordinary::NEW_FILE;
use crate::target::{Performed, PowerTarget, Stage, TargetError, Unseen};
use engine::defects::{Defect, Defects};
use engine::options::{ImageOptions, MountOptions};
use engine::{Error, Fs};
use machine::cell::{Cell, RefCell};
use machine::disk::Op;
use machine::{Machine, Stopped, Task};
use oracle::operation::{BLOCK_BYTES, Errno, OpId, PathId, TaskIndex, Value};
use oracle::{DeviceError, DeviceErrorPlace, Oracle, Promises};
use smallvec::SmallVec;

impl PowerTarget for EngineTarget {
    fn sites() -> Option<Vec<&'static str>> {
        Some(engine::sites::names())
    }

    fn devices(image: &ImageKnobs) -> Result<Vec<u64>, String> {
        let options = options(image);
        options.check().map_err(|error| error.to_string())?;
        Ok(options.devices().into_iter().collect())
    }

    fn format(task: &Task, image: &ImageKnobs) -> Result<Option<u64>, TargetError> {
        mkfs(task, &options(image)).map(Some).map_err(told)
    }

    fn new(program: &Program, stage: Stage) -> Result<Self, String> {
        let mut options = knobs::mount_options(&program.mount);
        if stage == Stage::Recovery {
            (options.flusher, options.committer, options.reclaimer) = (0, 0, 0);
        }
        Ok(EngineTarget {
            options,
            defects: defects(program)?,
            promises: promises(program),
            fs: RefCell::new(None),
            maps: RefCell::default(),
            inos: RefCell::default(),
            told: Cell::new(0),
        })
    }

    fn mount(&self, task: &Task) -> Result<(), TargetError> {
        let fs = Fs::mount(task, &self.options, self.defects).map_err(told)?;
        *self.fs.borrow_mut() = Some(fs);
        Ok(())
    }

    fn worker<'w>(&self, task: &'w Task, _who: TaskIndex) -> EngineWorker<'w> {
        let (files, submitted, done) = (SmallVec::new(), SmallVec::new(), SmallVec::new());
        EngineWorker { task, files, submitted, done }
    }

    fn watch(&self) {
        if let Some(fs) = self.fs() {
            fs.watch();
        }
    }

    fn unmount(&self, task: &Task, _program: &Program) -> Performed {
        self.maps.borrow_mut().clear();
        let Some(fs) = self.fs() else { return Performed::Done(Err(Errno::EBADF)) };
        let unmounted = fs.unmount(task).map(|()| Value::Unit);
        Performed::Done(unmounted.map_err(|error| errno(&error)))
    }

    fn abandon(&self) {
        self.maps.borrow_mut().clear();
        if let Some(fs) = self.fs.borrow_mut().take() {
            fs.abandon();
        }
    }

    fn reap(&self, worker: &mut EngineWorker<'_>) -> Result<(), Stopped> {
        for (id, operation, io) in std::mem::take(&mut worker.submitted) {
            let outcome = ended(worker.task, &operation, &io)?;
            worker.done.push((id, outcome));
        }
        Ok(())
    }

    fn note_failures(&self, machine: &Machine, oracle: &mut Oracle) {
        let disk = machine.disk();
        let failed = disk.failed();
        for failure in failed.iter().skip(self.told.get()) {
            let logged = disk.log().get(failure.request);
            let note = logged.map(|logged| logged.note);
            let write = logged.is_some_and(|logged| logged.request.op() == Op::Write);
            let file = match note {
                Some(note) if note.what == "data" => self.path_of(note.tag),
                _ => None,
            };
            let place = match file {
                Some(file) => DeviceErrorPlace::File(file),
                None if note.is_some_and(|note| note.what == "buffer") => DeviceErrorPlace::Nodes,
                None => DeviceErrorPlace::Unknown,
            };
            // Data are lost at that moment; what follows from failed metadata, until now.
            let at = if file.is_some() { failure.moment } else { machine.now() };
            let at = oracle::Moment(at.0);
            oracle.note_device_error(at, DeviceError { write, place });
        }
        self.told.set(failed.len());
    }

    fn size(&self, task: &Task, program: &Program, path: PathId) -> Result<Option<u64>, Stopped> {
        let Some(fs) = self.fs() else { return Ok(None) };
        let stat = fs.open(task, program.path_name(path)).and_then(|file| file.stat(task));
        match stat {
            Ok(stat) => Ok(Some(stat.size)),
            Err(Error::Stopped) => Err(Stopped),
            Err(_) => Ok(None),
        }
    }

    fn check(&self, task: &Task) -> Result<Option<TargetError>, TargetError> {
        let report = engine::check(task).map_err(told)?;
        let first = report.problems.first();
        Ok(first.map(|problem| TargetError::new(problem.kind.name(), problem.to_string())))
    }

    /// Reads by block: blocks are shared, and remember what they hash to.
    fn look(&self, task: &Task, program: &Program) -> Result<Seen, Unseen> {
        let fs = self.mounted();
        let failed = |what| move |error: Error| Unseen::Failed(what, told(error));
        let mut seen = Seen::default();
        for name in fs.list(task).map_err(failed("list the names"))? {
            let Some(index) = program.paths.iter().position(|path| *path == name) else {
                return Err(Unseen::Ghost(name.to_string()));
            };
            let file = fs.open(task, &name).map_err(failed("open a file"))?;
            let stat = file.stat(task).map_err(failed("stat a file"))?;
            let count = stat.size.div_ceil(BLOCK_BYTES);
            let mut blocks = Vec::with_capacity(count as usize);
            for block in 0..count {
                blocks.push(file.read_block(task, block).map_err(|error| errno(&error)));
            }
            let path = PathId(index as u8);
            seen.push(FileSeen { path, size: stat.size, nlink: stat.nlink, blocks });
        }
        for node in 0..program.image.buffers {
            let versions = fs.node_read(task, node).map(|halves| halves.map(OpId));
            seen.nodes.push(versions.map_err(|error| errno(&error)));
        }
        Ok(seen)
    }

    fn free_blocks(&self, task: &Task) -> Result<Option<u64>, TargetError> {
        Ok(Some(self.mounted().statfs(task).map_err(told)?.free))
    }

    fn exercise(&self, task: &Task, _program: &Program) -> Result<Option<u64>, TargetError> {
        work(&self.mounted(), task).map_err(told)?;
        self.free_blocks(task)
    }
}

impl EngineTarget {
    fn mounted(&self) -> Fs {
        self.fs().expect("it is mounted")
    }
}

/// The options of a base image: anonymous memory holds the poison already, and only what is not
/// poison takes memory.
fn options(image: &ImageKnobs) -> ImageOptions {
    ImageOptions { poison: false, ..knobs::image_options(image) }
}

/// Makes the image and mounts it once, to count what is free.
///
/// # Errors
/// Those of the engine.
pub fn mkfs(task: &Task, options: &ImageOptions) -> engine::Result<u64> {
    engine::mkfs::mkfs(task, options)?;
    let fs = Fs::mount(task, &MountOptions::default(), Defects::NONE)?;
    let free = fs.statfs(task)?.free;
    fs.abandon();
    Ok(free)
}

/// The defects that a program switches on.
fn defects(program: &Program) -> Result<Defects, String> {
    let mut set = Defects::NONE;
    for name in &program.defects {
        set = set.with(Defect::by_name(name).map_err(|error| error.to_string())?);
    }
    Ok(set)
}

/// What the engine promises on an image of these knobs.
fn promises(program: &Program) -> Promises {
    let promises = if program.image.datacow { Promises::strict() } else { Promises::in_place() };
    Promises { bare_nodes: program.image.buffers, ..promises }
}

/// New operations, and the deletion of everything.
fn work(fs: &Fs, task: &Task) -> Result<(), Error> {
    // A full device refuses new data, which is no fault, but must let itself be emptied.
    let is_full = match make_new(fs, task) {
        Ok(()) => false,
        Err(Error::NoSpace { .. }) => true,
        Err(error) => return Err(error),
    };
    delete_all(fs, task)?;
    if is_full {
        make_new(fs, task)?;
        delete_all(fs, task)?;
    }
    Ok(())
}

/// Makes a new file and reads it back.
fn make_new(fs: &Fs, task: &Task) -> Result<(), Error> {
    let file = fs.create(task, NEW_FILE)?;
    let content = [0x5a_u8; 700];
    file.write(task, 100, &content, engine::Sync::None)?;
    file.fsync(task)?;
    let mut back = [0_u8; 800];
    let count = file.read(task, 0, &mut back)?;
    if count != 800 || back[..100] != [0; 100] || back[100..] != content {
        return Err(Error::Bug("a new file does not read back"));
    }
    Ok(())
}

/// Unlinks every name and makes that durable.
fn delete_all(fs: &Fs, task: &Task) -> Result<(), Error> {
    for name in fs.list(task)? {
        fs.unlink(task, &name)?;
    }
    fs.sync(task)
}

/// An error of the engine, with what tells errors of one kind apart: the structure, not the place.
fn told(error: Error) -> TargetError {
    let cause = match &error {
        Error::Corrupt { structure, what, .. } => format!("{structure}: {what}"),
        Error::Io { what, .. } => (*what).to_string(),
        Error::NoSpace { .. } => "no space".to_string(),
        Error::Refused(errno) => errno.name().to_string(),
        Error::Bug(what) => (*what).to_string(),
        other => other.to_string(),
    };
    TargetError::new(cause, error.to_string())
}
