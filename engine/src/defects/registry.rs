//! What a defect is called and said to be, and the set of those that a mount has.
//!
//! Promises: names lead back to their defects; without the cargo feature `defects` the set has no
//! content. It must never know the catalogue beyond its names.

use super::Defect;
use crate::error::{Error, Result};
use std::fmt;

/// What a defect is about; the chapters of the catalogue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// Extent maps, ordered extents, the log and its replay.
    Fsync,
    /// The lifetime of tree-node buffers.
    MetadataBuffer,
    /// Clone and dedupe.
    Remap,
    /// Direct IO, mappings, allocation, conversion and sizes.
    DirectIo,
    /// Hole punching against page faults; user buffers that are mappings.
    PunchFault,
    /// Barriers, superblocks and the publication of the log.
    Durability,
}

impl Family {
    /// Every family, in the order of the catalogue.
    pub const ALL: [Family; 6] = [
        Family::Fsync,
        Family::MetadataBuffer,
        Family::Remap,
        Family::DirectIo,
        Family::PunchFault,
        Family::Durability,
    ];

    /// The name by which a person selects it.
    pub const fn name(self) -> &'static str {
        match self {
            Family::Fsync => "fsync",
            Family::MetadataBuffer => "metadata-buffer",
            Family::Remap => "remap",
            Family::DirectIo => "direct-io",
            Family::PunchFault => "punch-fault",
            Family::Durability => "durability",
        }
    }

    /// The family of a name.
    pub fn by_name(name: &str) -> Option<Family> {
        Family::ALL.into_iter().find(|family| family.name() == name)
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What a person should know about a defect.
#[derive(Clone, Copy, Debug)]
pub struct Description {
    /// The name on a command line and in a program.
    pub name: &'static str,
    /// Its chapter.
    pub family: Family,
    /// What it changes in the engine.
    pub change: &'static str,
    /// What breaks, and how that shows.
    pub breaks: &'static str,
    /// Where it comes from: the commit, the test or the thread.
    pub source: &'static str,
}

impl Defect {
    /// The name on a command line and in a program.
    pub const fn name(self) -> &'static str {
        self.description().name
    }

    /// Its chapter.
    pub const fn family(self) -> Family {
        self.description().family
    }

    /// The defect of a name.
    ///
    /// # Errors
    /// `BadInput` if there is none.
    pub fn by_name(name: &str) -> Result<Defect> {
        let found = Defect::ALL.iter().find(|defect| defect.name() == name);
        found.copied().ok_or_else(|| Error::bad_input("a defect", name))
    }
}

impl fmt::Display for Defect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

const _: () = assert!(Defect::ALL.len() <= 128, "a set of defects is one u128");

/// Which defects a mount has; none, unless the feature `defects` is compiled in.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Defects {
    #[cfg(feature = "defects")]
    bits: u128,
}

impl Defects {
    /// The clean engine.
    pub const NONE: Defects = Defects {
        #[cfg(feature = "defects")]
        bits: 0,
    };

    /// Whether a defect is on.
    #[cfg(feature = "defects")]
    #[inline]
    pub const fn has(self, defect: Defect) -> bool {
        self.bits & (1 << defect as u8) != 0
    }

    /// Whether a defect is on: never, this engine is built without them.
    #[cfg(not(feature = "defects"))]
    #[inline]
    pub const fn has(self, _: Defect) -> bool {
        false
    }

    /// The set with one more defect.
    #[cfg(feature = "defects")]
    #[must_use]
    pub const fn with(self, defect: Defect) -> Defects {
        Defects { bits: self.bits | 1 << defect as u8 }
    }

    /// Whether the engine is the clean one.
    pub fn is_empty(self) -> bool {
        self == Defects::NONE
    }

    /// The defects that are on, in the order of the catalogue.
    pub fn iter(self) -> impl Iterator<Item = Defect> {
        Defect::ALL.iter().copied().filter(move |&defect| self.has(defect))
    }
}

#[cfg(feature = "defects")]
impl FromIterator<Defect> for Defects {
    fn from_iter<I: IntoIterator<Item = Defect>>(defects: I) -> Defects {
        defects.into_iter().fold(Defects::NONE, Defects::with)
    }
}

impl fmt::Debug for Defects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter().map(Defect::name)).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn names_are_unique_kebab_case_and_lead_back() {
        let mut seen = BTreeSet::new();
        for &defect in Defect::ALL {
            let name = defect.name();
            assert!(seen.insert(name), "{name} is there twice");
            let legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
            assert!(name.chars().all(legal), "{name} is kebab-case");
            assert_eq!(Defect::by_name(name), Ok(defect));
        }
        assert_eq!(
            Defect::by_name("no-such").unwrap_err().to_string(),
            "a defect cannot be no-such"
        );
        for family in Family::ALL {
            assert_eq!(Family::by_name(family.name()), Some(family));
        }
    }

    #[test]
    fn descriptions_are_sentences() {
        for &defect in Defect::ALL {
            let about = defect.description();
            for text in [about.change, about.breaks, about.source] {
                assert!(text.ends_with('.') && text.len() > 5, "{defect}: {text}");
            }
        }
    }

    #[cfg(feature = "defects")]
    #[test]
    fn a_set_holds_what_was_put_in() {
        let set: Defects = [Defect::CloneBeyondEofGapNotZeroed].into_iter().collect();
        assert!(set.has(Defect::CloneBeyondEofGapNotZeroed) && !set.is_empty());
        assert!(!set.has(Defect::DedupeEofTailUnaligned));
        assert_eq!(format!("{set:?}"), r#"{"clone-beyond-eof-gap-not-zeroed"}"#);
        assert!(Defects::NONE.is_empty() && Defects::NONE.iter().next().is_none());
    }

    #[cfg(not(feature = "defects"))]
    #[test]
    fn the_clean_engine_has_no_room_for_defects() {
        assert_eq!(size_of::<Defects>(), 0);
        assert!(Defect::ALL.iter().all(|&defect| !Defects::NONE.has(defect)));
    }
}
