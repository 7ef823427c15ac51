//! What a swarm mask tries, in words for people.
//!
//! Promises to name what a generator heeds, and nothing else of the mask. Must never know what a
//! program made of it.

use super::generate::DRAWN_CHOOSERS;
use super::options::{Group, KNOBS, Knob};
use super::{Kind, SwarmMask};

/// The words for a mask.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Emphasis {
    /// How programs are built, such as "3 tasks" or "faults".
    pub shape: Vec<String>,
    /// Kinds that are drawn much more often than others.
    pub often: Vec<String>,
    /// All other kinds that take part.
    pub kinds: Vec<String>,
    /// Keys of the knobs of image and mount that may differ from their defaults.
    pub knobs: Vec<String>,
    /// Choosers that take part.
    pub choosers: Vec<String>,
}

impl SwarmMask {
    /// What it tries.
    pub fn emphasis(&self) -> Emphasis {
        let (often, kinds): (Vec<Kind>, Vec<Kind>) =
            Kind::all().filter(|&kind| self.allows(kind)).partition(|&kind| self.focuses(kind));
        let names = |kinds: Vec<Kind>| kinds.into_iter().map(Kind::name).collect();
        let is_on = |index: usize, knob: &Knob| {
            self.knobs >> index & 1 == 1 && knob.group != Group::Machine
        };
        let knobs = KNOBS.iter().enumerate().filter(|(index, knob)| is_on(*index, knob));
        let choosers = DRAWN_CHOOSERS.into_iter().filter(|&chooser| self.allows_chooser(chooser));
        let word = |index: u64| {
            let chooser = Knob::find(Group::Machine, b"chooser");
            chooser.map_or_else(String::new, |(_, knob)| knob.text(index).into_owned())
        };
        Emphasis {
            shape: self.shape(),
            often: names(often),
            kinds: names(kinds),
            knobs: knobs.map(|(_, knob)| knob.key.to_string()).collect(),
            choosers: choosers.map(|chooser| word(chooser as u64)).collect(),
        }
    }

    fn shape(&self) -> Vec<String> {
        let count = |count: u8, what: &str| match count {
            1 => format!("1 {what}"),
            _ => format!("{count} {what}s"),
        };
        let on = [
            (self.homes, "own files"),
            (self.faults, "faults"),
            (self.sync_writes, "O_DSYNC"),
            (self.equal_fills, "equal fills"),
            (self.sub_blocks, "sub-blocks"),
            (self.nodes, "bare nodes"),
            (self.layouts, "layouts"),
        ];
        let on = on.into_iter().filter(|(is_on, _)| *is_on).map(|(_, what)| what.to_string());
        [count(self.tasks, "task"), count(self.paths, "file")].into_iter().chain(on).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::program::ChooserKind;

    #[test]
    fn a_mask_is_told_in_words() {
        let knob = |key: &[u8]| 1 << Knob::find(Group::Mount, key).expect("it is there").0;
        let mut mask = SwarmMask {
            kinds: 0,
            focus: 1 << Kind::Store as u64,
            knobs: knob(b"delalloc") | knob(b"fsync"),
            choosers: 1 << ChooserKind::Pct as u8 | 1 << ChooserKind::Bytes as u8,
            tasks: 3,
            paths: 1,
            ..SwarmMask::everything()
        };
        (mask.nodes, mask.layouts, mask.equal_fills) = (false, false, false);
        [Kind::Store, Kind::Mmap, Kind::Fsync].into_iter().for_each(|kind| mask.allow(kind));
        let words = |list: &[&str]| list.iter().map(|word| word.to_string()).collect();
        let expected = Emphasis {
            shape: words(&["3 tasks", "1 file", "O_DSYNC", "sub-blocks"]),
            often: words(&["store"]),
            kinds: words(&["mmap", "fsync"]),
            knobs: words(&["delalloc", "fsync"]),
            choosers: words(&["pct"]),
        };
        assert_eq!(mask.emphasis(), expected, "`bytes` is for fuzzers");
    }
}
