//! Every bound of programs, in one place: what the text accepts, and what generators draw.
//!
//! The strict parser refuses what lies outside, the lenient parser and [`super::Program::fixup`]
//! bring it inside, generators and mutators stay well within. Nothing here may be lowered: a
//! program that was valid once stays valid.

/// The newest version of the text that this code reads, and the one that it writes.
pub const VERSION: u32 = 1;

/// Names of files in a program.
pub const PATHS_MAX: usize = 4;
/// Names of mappings in a program.
pub const MAPS_MAX: usize = 3;
/// Concurrent tasks.
pub const TASKS_MAX: usize = 4;
/// Operations in `setup`.
pub const SETUP_OPS_MAX: usize = 32;
/// Operations in one task.
pub const TASK_OPS_MAX: usize = 32;
/// Operations in `setup` and all tasks together: the oracle keeps sets of them in 64 bits.
pub const TOTAL_OPS_MAX: usize = 64;
/// Lines in `after`.
pub const AFTER_LINES_MAX: usize = 64;
/// Defects switched on at once.
pub const DEFECTS_MAX: usize = 16;
/// Injected faults.
pub const FAULTS_MAX: usize = 8;
/// The highest position at which a fault may be injected.
pub const FAULT_NTH_MAX: u64 = 1 << 16;
/// Letters in a name of a file, mapping, task, actor, label, defect or kind.
pub const NAME_BYTES_MAX: usize = 40;
/// Any offset, length or size, and the end of any range, in bytes.
pub const FILE_BYTES_MAX: u64 = 4 << 20;
/// Bytes of choices.
pub const CHOICES_BYTES_MAX: usize = 4096;
/// Moves of a recorded schedule.
pub const MOVES_MAX: usize = 16384;
/// Steps of one run, alternatives of one decision, versions of one block.
pub const COUNT_MAX: u64 = u32::MAX as u64;
/// Blocks listed by one cut.
pub const KEPT_MAX: usize = 4096;
/// Preemption bound of an expected verdict.
pub const PREEMPTIONS_MAX: u64 = 64;
/// The highest guarantee number.
pub const GUARANTEE_MAX: u64 = 999;
/// The highest number of a bare node.
pub const NODE_MAX: u64 = 7;
/// The highest device number.
pub const DEVICE_MAX: u64 = 7;
/// The highest operation number that a line may refer to.
pub const OP_ID_MAX: u64 = (TOTAL_OPS_MAX + AFTER_LINES_MAX) as u64;

/// Bytes of choices that one line of the text holds.
pub const CHOICES_LINE_BYTES: usize = 32;

/// Generated files stay below this many bytes.
pub const DRAWN_FILE_BYTES_MAX: u64 = 96 << 10;
/// Generated ranges begin, mostly, within this many blocks: the smaller, the more they conflict.
pub const DRAWN_BLOCKS_HOT: u32 = 4;
/// Operations that a generated program has in its tasks together, at least.
pub const DRAWN_TASK_OPS_MIN: u32 = 16;
/// Operations that a generated program has in its tasks together, at most.
pub const DRAWN_TASK_OPS_MAX: u32 = 28;
/// Bytes of choices that a generator keeps.
pub const DRAWN_CHOICES_MAX: usize = 512;
/// Mutations stacked in one call.
pub const MUTATIONS_MAX: u32 = 4;
