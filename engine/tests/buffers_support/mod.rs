//! The room of buffers on a machine of its own, and every schedule of a few tasks in it.

#![allow(dead_code, reason = "each test uses a part")]

use engine::buffers::{Buffers, Rules, Wait};
use engine::error::{Error, Result};
use engine::store::region::{block_of, decode, encode};
use machine::choosers::{Exhaustive, RoundRobin};
use machine::disk::{BlockSource, Note, Op, Request, Rule};
use machine::medium::Medium;
use machine::{Chooser, Config, DeviceId, Disk, End, Kind, Machine, Task};
use std::cell::RefCell;
use std::rc::Rc;

/// What one task does, by the operations of races.md §2.c on a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Do {
    /// `rd`
    Read(u8),
    /// `ra`
    Ahead(u8),
    /// `mod`, with the version to leave.
    Modify(u8, u16),
    /// `wb`
    Write,
    /// `ebrc`
    Reclaim(u8),
    /// `new`, with the version to leave.
    New(u8, u16),
    /// Find or make the buffer, and give it back unread.
    Touch(u8),
    /// `wb`, which must tell of a failed write.
    WriteFails,
    /// The device fails the next read, or write.
    Fail(Op),
}

/// What is explored.
pub struct Case {
    pub rules: Rules,
    pub setup: Vec<Do>,
    pub tasks: Vec<Vec<Do>>,
}

/// What exploring came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explored {
    /// The fewest preemptions that reach a fault, and the fault's key.
    pub fault: Option<(u32, String)>,
    pub schedules: u64,
}

impl Case {
    pub fn new(setup: &[Do], tasks: &[&[Do]]) -> Case {
        let tasks = tasks.iter().map(|task| task.to_vec()).collect();
        Case { rules: Rules::default(), setup: setup.to_vec(), tasks }
    }

    #[cfg(feature = "defects")]
    pub fn defect(mut self, name: &str) -> Case {
        let defect = engine::defects::Defect::by_name(name).expect("a defect");
        self.rules.defects = self.rules.defects.iter().chain([defect]).collect();
        self
    }

    pub fn fast(mut self) -> Case {
        self.rules.fast_path = true;
        self
    }

    pub fn hunk(mut self) -> Case {
        self.rules.hunk = true;
        self
    }

    /// Every schedule with at most `bound` preemptions, those with fewer first.
    pub fn explore(&self, bound: u32) -> Explored {
        let bench = Bench::new();
        let mut schedules = 0;
        for preemptions in 0..=bound {
            let mut chooser: Box<dyn Chooser> = Box::new(Exhaustive::new(preemptions));
            loop {
                let search = chooser.as_any().downcast_mut::<Exhaustive>();
                if !search.expect("it comes back").advance() {
                    break;
                }
                let (fault, spent) = bench.execute(self, chooser);
                chooser = spent;
                schedules += 1;
                if let Some(key) = fault {
                    return Explored { fault: Some((preemptions, key)), schedules };
                }
            }
        }
        Explored { fault: None, schedules }
    }
}

/// A machine with a disk of a few nodes.
pub struct Bench {
    pub machine: Machine,
    medium: Rc<RefCell<Medium>>,
}

impl Default for Bench {
    fn default() -> Self {
        Bench::new()
    }
}

impl Bench {
    pub fn new() -> Bench {
        let mut medium = Medium::anonymous(8, 0).expect("memory");
        for node in 0..4 {
            medium.write(block_of(node), &encode(node, 0)).expect("it has the block");
        }
        let medium = Rc::new(RefCell::new(medium));
        let disk = Disk::new(vec![medium.clone() as Rc<dyn BlockSource>]);
        let machine = Machine::new(Config::default(), disk, Box::new(RoundRobin));
        Bench { machine, medium }
    }

    pub fn reset(&self) {
        self.machine.reset(Config { steps_max: 20_000, ..Config::default() });
        self.machine.disk_mut().reset([self.medium.clone() as Rc<dyn BlockSource>]);
        self.machine.set_chooser(Box::new(RoundRobin));
    }

    /// One execution; the key of what was found.
    fn execute(
        &self,
        case: &Case,
        chooser: Box<dyn Chooser>,
    ) -> (Option<String>, Box<dyn Chooser>) {
        self.reset();
        let room = Buffers::new(&self.machine, 0, "buffer", case.rules);
        self.spawn("setup", &room, case.setup.clone(), Judge::Nothing);
        if let Some(key) = self.finish() {
            return (Some(format!("setup: {key}")), chooser);
        }
        self.machine.set_chooser(chooser);
        for (name, task) in ["a", "b", "c"].into_iter().zip(&case.tasks) {
            self.spawn(name, &room, task.clone(), Judge::Nothing);
        }
        let found = self.finish();
        let chooser = self.machine.set_chooser(Box::new(RoundRobin));
        if found.is_some() {
            return (found, chooser);
        }
        self.spawn("end", &room, last_of(case), Judge::Versions(written(case)));
        (self.finish(), chooser)
    }

    fn spawn(&self, name: &str, room: &Rc<Buffers>, list: Vec<Do>, judge: Judge) {
        let room = room.clone();
        let body = move |task: &Task| {
            for what in list {
                task.begin_operation();
                match perform(task, &room, what, &judge) {
                    Ok(()) | Err(Error::Io { .. }) => {}
                    Err(Error::Stopped) => return Err(machine::Stopped),
                    Err(error) => {
                        task.machine().invariant("result", &error.to_string());
                        return Err(machine::Stopped);
                    }
                }
            }
            Ok(())
        };
        self.machine.spawn(name, Kind::Foreground, Box::new(body));
    }

    /// Runs everything to its end; the key of what was found.
    fn finish(&self) -> Option<String> {
        if self.machine.run() == End::Done {
            self.machine.drain_disk();
        }
        self.machine.faults().first().map(|fault| fault.key.clone())
    }
}

/// What is demanded of reads.
enum Judge {
    Nothing,
    /// One of these versions of each node.
    Versions(Vec<(u8, Vec<u16>)>),
}

/// At the end: everything is written, reclaimed, and read back.
fn last_of(case: &Case) -> Vec<Do> {
    let mut list = vec![Do::Write];
    for (node, _) in written(case) {
        list.extend([Do::Reclaim(node), Do::Read(node)]);
    }
    list
}

/// The versions that each node may have in the end: any but the first, if it was ever modified.
fn written(case: &Case) -> Vec<(u8, Vec<u16>)> {
    let mut all: Vec<(u8, Vec<u16>)> = Vec::new();
    let fails = case.setup.iter().any(|what| matches!(what, Do::Fail(_)));
    for what in case.tasks.iter().flatten().chain(&case.setup) {
        let (node, version) = match *what {
            Do::Modify(node, version) | Do::New(node, version) => (node, Some(version)),
            Do::Read(node) | Do::Ahead(node) | Do::Reclaim(node) => (node, None),
            _ => continue,
        };
        let place = all.iter().position(|(other, _)| *other == node);
        let place = place.unwrap_or_else(|| {
            all.push((node, Vec::new()));
            all.len() - 1
        });
        all[place].1.extend(version);
    }
    for (_, versions) in &mut all {
        if versions.is_empty() || fails {
            versions.push(0);
        }
    }
    all
}

fn perform(task: &Task, room: &Rc<Buffers>, what: Do, judge: &Judge) -> Result<()> {
    match what {
        Do::Read(node) => {
            let versions = read(task, room, node)?;
            if let Judge::Versions(allowed) = judge {
                let (_, allowed) = allowed.iter().find(|(other, _)| *other == node).expect("it");
                if !versions.iter().all(|version| allowed.contains(version)) {
                    let what = format!("node {node} holds {versions:?}, not of {allowed:?}");
                    task.machine().invariant("lost-data", &what);
                }
            }
            Ok(())
        }
        Do::Ahead(node) => {
            let id = room.alloc(task, block_of(node))?;
            room.read(task, id, Wait::None)?;
            room.free(task, id)
        }
        Do::Modify(node, version) => {
            let id = room.alloc(task, block_of(node))?;
            if let Err(error) = room.read(task, id, Wait::Complete) {
                room.free(task, id)?;
                return Err(error);
            }
            let content = room.lock(task, id)?;
            room.modify(task, id, encode(node, version))?;
            drop(content);
            room.free(task, id)
        }
        Do::Write => room.write_all(task),
        Do::WriteFails => match room.write_all(task) {
            Ok(()) => Err(Error::Bug("a failed write was forgotten")),
            told => told,
        },
        Do::Reclaim(node) => room.release(task, block_of(node)).map(drop),
        Do::New(node, version) => {
            if let Some(old) = room.find(task, block_of(node))? {
                let content = room.lock(task, old)?;
                room.clean(task, old)?;
                drop(content);
                room.free_stale(task, old)?;
            }
            let id = room.alloc(task, block_of(node))?;
            let content = room.lock(task, id)?;
            room.init(task, id, encode(node, version))?;
            drop(content);
            room.free(task, id)
        }
        Do::Touch(node) => {
            let id = room.alloc(task, block_of(node))?;
            room.free(task, id)
        }
        Do::Fail(op) => {
            task.machine().disk_mut().fail(Rule::nth(op, 1));
            Ok(())
        }
    }
}

fn read(task: &Task, room: &Rc<Buffers>, node: u8) -> Result<[u16; 2]> {
    let id = room.alloc(task, block_of(node))?;
    if let Err(error) = room.read(task, id, Wait::Complete) {
        room.free(task, id)?;
        return Err(error);
    }
    let guard = room.lock(task, id)?;
    let content = room.content(task, id)?.expect("it was read");
    drop(guard);
    room.free(task, id)?;
    decode(node, &content)
}

/// A block straight from the medium.
pub fn read_raw(task: &Task, block: u64) -> machine::Block {
    let bio = task.submit(Request::read(DeviceId(0), block), Note::default()).expect("it runs");
    bio.wait(task).expect("it runs").expect("it is read")[0].clone()
}
