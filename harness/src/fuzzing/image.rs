//! The target `image`: arbitrary damage to valid images. Check, dump, mount, reading, writing and
//! unmounting end in an answer or a clear error, whatever the damage.
//!
//! *Verified*: no panic, no deadlock, no loop beyond a bound of steps, and no error that says the
//! engine has a bug. *Not verified, because* damage may change what is true: whether the answer is
//! the right one. Memory is bounded by libFuzzer's limit.

mod valid;

use super::summary::Summary;
use arbitrary::{Arbitrary, Unstructured};
use engine::defects::Defects;
use engine::options::MountOptions;
use engine::{Error, Fs};
use machine::choosers::RoundRobin;
use machine::disk::BlockSource;
use machine::{BLOCK_BYTES, Block, Config, End, Kind, Machine, Task};
use std::cell::{Cell, RefCell};
use std::mem::ManuallyDrop;
use std::rc::Rc;
use valid::{Blocks, Place, Valid, images, overwrite};

/// Damages of one input at most.
const DAMAGES_MAX: usize = 16;

/// Steps after which what runs on a damaged image counts as endless.
const STEPS_MAX: u64 = 200_000;

/// Blocks read from the start of each file, and from its end: its size may be damaged.
const BLOCKS_READ_MAX: u64 = 32;

/// Files that are looked at.
const FILES_MAX: usize = 64;

/// One piece of damage. Blocks count among those in use, and bytes among those before the zeros at
/// the end of a block, so that little is wasted on what nobody reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Damage {
    /// A number of 1, 2, 4 or 8 bytes becomes another.
    Set {
        /// Which block.
        block: u16,
        /// Which byte of it.
        offset: u16,
        /// Bytes of the number.
        width: u8,
        /// The number.
        value: u64,
    },
    /// A number of 1, 2, 4 or 8 bytes becomes larger or smaller.
    Add {
        /// Which block.
        block: u16,
        /// Which byte of it.
        offset: u16,
        /// Bytes of the number.
        width: u8,
        /// What is added, around the end.
        delta: i8,
    },
    /// A block holds what another one holds.
    Copy {
        /// Which block is copied.
        source: u16,
        /// Which block is lost.
        target: u16,
    },
    /// A block holds one byte only.
    Fill {
        /// Which block.
        block: u16,
        /// The byte.
        byte: u8,
    },
    /// A device ends earlier.
    Truncate {
        /// Which device.
        device: u8,
        /// Blocks that are left, at least one.
        blocks: u16,
    },
}

/// What an input does to an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damages {
    /// Which of the valid images.
    pub image: u8,
    /// Whether the hashes above the damage are repaired.
    pub reseal: bool,
    /// The damage, in order.
    pub list: Vec<Damage>,
}

impl<'a> Arbitrary<'a> for Damages {
    fn arbitrary(u: &mut Unstructured<'a>) -> arbitrary::Result<Self> {
        let image = u.arbitrary()?;
        // Most damage must get past the hashes.
        let reseal = u.arbitrary::<u8>()? % 8 != 7;
        let mut list = Vec::new();
        while !u.is_empty() && list.len() < DAMAGES_MAX {
            list.push(u.arbitrary()?);
        }
        Ok(Damages { image, reseal, list })
    }
}

impl<'a> Arbitrary<'a> for Damage {
    fn arbitrary(u: &mut Unstructured<'a>) -> arbitrary::Result<Self> {
        const WIDTHS: [u8; 4] = [1, 2, 4, 8];
        Ok(match u.int_in_range(0..=15)? {
            0..=5 => Damage::Set {
                block: u.arbitrary()?,
                offset: u.arbitrary()?,
                width: *u.choose(&WIDTHS)?,
                value: u.arbitrary()?,
            },
            6..=11 => Damage::Add {
                block: u.arbitrary()?,
                offset: u.arbitrary()?,
                width: *u.choose(&WIDTHS)?,
                delta: u.arbitrary()?,
            },
            12 | 13 => Damage::Copy { source: u.arbitrary()?, target: u.arbitrary()? },
            14 => Damage::Fill { block: u.arbitrary()?, byte: u.arbitrary()? },
            _ => Damage::Truncate { device: u.arbitrary()?, blocks: u.arbitrary()? },
        })
    }
}

impl Damage {
    fn apply(self, valid: &Valid, devices: &mut [Blocks]) {
        let place = |index: u16| valid.used[usize::from(index) % valid.used.len()];
        match self {
            Damage::Set { block, offset, width, value } => {
                let bytes = &value.to_le_bytes()[..usize::from(width)];
                let place = place(block);
                overwrite(devices, place, within(devices, place, offset, width), bytes);
            }
            Damage::Add { block, offset, width, delta } => {
                let place = place(block);
                let offset = within(devices, place, offset, width);
                let mut number = [0; 8];
                let width = usize::from(width);
                if let Some(content) = content(devices, place) {
                    number[..width].copy_from_slice(&content.bytes()[offset..offset + width]);
                }
                let sum = u64::from_le_bytes(number).wrapping_add_signed(i64::from(delta));
                overwrite(devices, place, offset, &sum.to_le_bytes()[..width]);
            }
            Damage::Copy { source, target } => {
                if let Some(content) = content(devices, place(source)) {
                    overwrite(devices, place(target), 0, content.bytes());
                }
            }
            Damage::Fill { block, byte } => {
                overwrite(devices, place(block), 0, &[byte; BLOCK_BYTES]);
            }
            Damage::Truncate { device, blocks } => {
                let device = usize::from(device) % devices.len();
                devices[device].0.truncate(usize::from(blocks).max(1));
            }
        }
    }
}

fn content(devices: &[Blocks], place: Place) -> Option<Block> {
    devices[usize::from(place.device)].0.get(place.block as usize).cloned()
}

/// An offset below the zeros at the end of the block, with room for a number.
fn within(devices: &[Blocks], place: Place, offset: u16, width: u8) -> usize {
    let bytes = content(devices, place).map_or(0, |content| {
        content.bytes().iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1)
    });
    (usize::from(offset) % bytes.max(1)).min(BLOCK_BYTES - usize::from(width))
}

/// What became of a damaged image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// Whether the full check came to an end, and found nothing.
    pub clean: bool,
    /// Whether it mounted.
    pub mounted: bool,
    /// Whether everything that was then tried worked.
    pub usable: bool,
}

/// What no damage may lead to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The key that makes two the same bug.
    pub signature: String,
    /// For a reader.
    pub message: String,
}

/// Damages images and uses them.
pub struct Images {
    /// Fibres are not to be unwound when the process ends.
    machine: ManuallyDrop<Machine>,
    valid: Vec<Valid>,
    summary: Summary,
}

impl Images {
    /// Makes the valid images.
    ///
    /// # Errors
    /// A sentence, if that fails.
    pub fn new() -> Result<Images, String> {
        let disk = machine::io::no_disk();
        let machine = Machine::new(Config::default(), disk, Box::new(RoundRobin));
        let machine = ManuallyDrop::new(machine);
        Ok(Images { machine, valid: images()?, summary: Summary::default() })
    }

    /// Uses an image with this damage.
    ///
    /// # Errors
    /// What was found: a fault of the machine, or an error that says the engine has a bug.
    pub fn try_damage(&mut self, damages: &Damages) -> Result<Answer, Found> {
        let valid = &self.valid[usize::from(damages.image) % self.valid.len()];
        let mut devices = valid.devices.clone();
        for damage in &damages.list {
            damage.apply(valid, &mut devices);
        }
        if damages.reseal {
            valid.reseal(&mut devices);
        }
        self.summary.programs += 1;
        self.use_image(devices)
    }

    fn use_image(&mut self, devices: Vec<Blocks>) -> Result<Answer, Found> {
        let machine = &*self.machine;
        machine.reset(Config { steps_max: STEPS_MAX, ..Config::default() });
        let sources = devices.into_iter().map(|device| Rc::new(device) as Rc<dyn BlockSource>);
        machine.disk_mut().reset(sources);
        let session = Rc::new(Session::default());
        let inside = session.clone();
        let body = move |task: &Task| {
            inside.use_it(task);
            Ok(())
        };
        machine.spawn("user", Kind::Foreground, Box::new(body));
        let end = machine.run();
        let fault = machine.faults().first().cloned();
        machine.stop();
        if let Some(fs) = session.fs.take() {
            fs.abandon();
        }
        match (fault, session.bug.take()) {
            (Some(fault), _) => Err(Found {
                signature: format!("{} image {}", fault.kind.name(), fault.key),
                message: fault.to_string(),
            }),
            (None, Some(bug)) => Err(Found { signature: format!("bug image {bug}"), message: bug }),
            (None, None) if end == End::Stopped => Err(Found {
                signature: "stopped image".to_string(),
                message: "the machine stopped and says no reason".to_string(),
            }),
            (None, None) => Ok(session.answer.get()),
        }
    }
}

/// One use of an image.
#[derive(Default)]
struct Session {
    fs: RefCell<Option<Fs>>,
    answer: Cell<Answer>,
    bug: RefCell<Option<String>>,
}

impl Session {
    fn use_it(&self, task: &Task) {
        let clean = self.keep(engine::check(task)).is_some_and(|report| report.is_clean());
        let mut answer = Answer { clean, ..Answer::default() };
        let all = &engine::dump::Section::ALL;
        self.keep(engine::dump::dump(task, all, &mut |_line| {}));
        if let Some(fs) = self.keep(Fs::mount(task, &MountOptions::default(), Defects::NONE)) {
            answer.mounted = true;
            *self.fs.borrow_mut() = Some(fs.clone());
            let read = self.keep(self.read_all(task, &fs)).is_some();
            let written = self.keep(write_all(task, &fs)).is_some();
            let ended = self.keep(fs.unmount(task)).is_some();
            answer.usable = read && written && ended;
        }
        self.answer.set(answer);
    }

    /// The value, or nothing; an error that a damaged image does not explain is kept.
    fn keep<T>(&self, result: Result<T, Error>) -> Option<T> {
        if let Err(error @ Error::Bug(_)) = &result {
            self.bug.borrow_mut().get_or_insert(error.to_string());
        }
        result.ok()
    }

    /// Reads what can be read. A file that cannot be read does not hide the others.
    fn read_all(&self, task: &Task, fs: &Fs) -> Result<(), Error> {
        let mut result = Ok(());
        for name in fs.list(task)?.iter().take(FILES_MAX) {
            let read = read_file(task, fs, name);
            if let Err(error) = read {
                self.keep::<()>(Err(error.clone()));
                result = Err(error);
            }
        }
        result
    }
}

fn read_file(task: &Task, fs: &Fs, name: &str) -> Result<(), Error> {
    let file = fs.open(task, name)?;
    let blocks = file.stat(task)?.size.div_ceil(BLOCK_BYTES as u64);
    let last = blocks.saturating_sub(BLOCKS_READ_MAX).max(BLOCKS_READ_MAX.min(blocks));
    for block in (0..blocks.min(BLOCKS_READ_MAX)).chain(last..blocks) {
        file.read_block(task, block)?;
    }
    file.holes(task)?;
    Ok(())
}

/// Changes everything: a new file, each old one written, made durable and removed.
fn write_all(task: &Task, fs: &Fs) -> Result<(), Error> {
    let names = fs.list(task)?;
    let file = fs.create(task, "powerfail-new")?;
    file.write(task, 100, &[0x5a; 5000], engine::Sync::None)?;
    file.fsync(task)?;
    for name in names.iter().take(FILES_MAX) {
        let file = fs.open(task, name)?;
        file.write(task, 4000, &[0x5a; 200], engine::Sync::None)?;
        file.fsync(task)?;
        drop(file);
        fs.unlink(task, name)?;
    }
    fs.sync(task)
}

thread_local! {
    static TARGET: RefCell<Option<Images>> = const { RefCell::new(None) };
}

/// The body of the fuzz target. Ends the process at a finding.
pub fn run(damages: &Damages) {
    TARGET.with_borrow_mut(|target| {
        let target = target.get_or_insert_with(|| match Images::new() {
            Ok(images) => images,
            Err(what) => {
                eprintln!("{what}");
                std::process::abort();
            }
        });
        if let Err(Found { signature, message }) = target.try_damage(damages) {
            eprintln!("{damages:#?}\n{message}\nDEDUP_TOKEN: {signature}");
            target.summary.print();
            std::process::abort();
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use machine::choosers::Dice;

    fn damages(image: u8, reseal: bool, list: &[Damage]) -> Damages {
        Damages { image, reseal, list: list.to_vec() }
    }

    #[test]
    fn undamaged_images_are_valid() {
        let mut images = Images::new().expect("the programs are valid");
        for image in 0..images.valid.len() as u8 {
            let answer = images.try_damage(&damages(image, true, &[])).expect("no fault");
            assert!(answer.mounted && answer.usable, "image {image}: {answer:?}");
            assert!(images.valid[usize::from(image)].used.len() > 4, "hashes were found");
        }
    }

    /// Damage is noticed by a hash before anything looks at it; resealed, some is met by the code
    /// behind the hash, and some, as of file data, is as good as what was there.
    #[test]
    fn resealing_gets_damage_past_the_hashes() {
        let mut images = Images::new().expect("the programs are valid");
        let count = images.valid[0].used.len() as u16;
        let mut usable = [0, 0];
        for (block, offset) in (2..count).flat_map(|block| [6, 40, 90].map(|at| (block, at))) {
            let damage = Damage::Add { block, offset, width: 1, delta: 1 };
            for reseal in [false, true] {
                let answer = images.try_damage(&damages(0, reseal, &[damage])).expect("no fault");
                usable[usize::from(reseal)] += u32::from(answer.usable);
                assert!(reseal || !answer.clean || answer.usable, "unnoticed damage in {block}");
            }
        }
        assert!(usable[0] < usable[1], "resealed damage goes further: {usable:?}");
    }

    #[test]
    fn damage_ends_in_an_answer_or_an_error() {
        let mut images = Images::new().expect("the programs are valid");
        let mut dice = Dice::new(5);
        let mut answers = [0; 3];
        for _ in 0..400 {
            let bytes: Vec<u8> = (0..40).map(|_| dice.below(256) as u8).collect();
            let damages = Damages::arbitrary_take_rest(Unstructured::new(&bytes))
                .expect("any bytes are damage");
            let answer = images
                .try_damage(&damages)
                .unwrap_or_else(|what| panic!("{damages:#?}\n{}", what.message));
            answers[0] += u32::from(!answer.mounted);
            answers[1] += u32::from(answer.mounted && !answer.usable);
            answers[2] += u32::from(answer.usable);
        }
        assert!(answers.iter().all(|&count| count > 0), "all answers occur: {answers:?}");
    }
}
