//! The numbered guarantees. `docs/guarantees.md` states each at length; a test compares the two.
//!
//! *Promises*: a number never changes its meaning; new guarantees take new numbers.
//! *Must never know*: how a guarantee is checked.

/// How strong the reason is to expect a guarantee, strongest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Tier {
    /// Without it the store is corrupt or leaks data.
    Consistency = 0,
    /// POSIX, or the Linux manual page of the call, says so.
    Posix = 1,
    /// A rename shows the old or the new binding.
    RenameAtomicity = 2,
    /// What Linux file systems document and applications rely on.
    LinuxPractice = 3,
    /// Metadata operations survive in the order in which they were made.
    OrderedMetadata = 4,
}

impl Tier {
    /// The name as in the documents.
    pub const fn name(self) -> &'static str {
        match self {
            Tier::Consistency => "consistency",
            Tier::Posix => "POSIX",
            Tier::RenameAtomicity => "rename atomicity",
            Tier::LinuxPractice => "documented Linux practice",
            Tier::OrderedMetadata => "ordered metadata",
        }
    }
}

/// The number of a guarantee: `G-4` is `GuaranteeId(4)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GuaranteeId(pub u8);

impl std::fmt::Display for GuaranteeId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "G-{}", self.0)
    }
}

/// One line of the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Guarantee {
    /// Its number.
    pub id: GuaranteeId,
    /// Its tier.
    pub tier: Tier,
    /// Its title, as in the documents.
    pub title: &'static str,
}

macro_rules! guarantees {
    ($($name:ident = $number:literal, $tier:ident, $title:literal;)*) => {
        impl GuaranteeId {
            $(#[doc = $title] pub const $name: GuaranteeId = GuaranteeId($number);)*
        }

        /// All guarantees in the order of their numbers.
        pub const GUARANTEES: &[Guarantee] = &[
            $(Guarantee {
                id: GuaranteeId($number), tier: Tier::$tier, title: $title,
            },)*
        ];
    };
}

guarantees! {
    NO_POISON = 1, Consistency, "Blocks that nobody wrote are never shown";
    NO_FOREIGN_DATA = 2, Consistency, "A file never shows bytes of another file";
    READABLE = 3, Consistency, "Everything that recovery shows can be read";
    SOUND_NAMES = 4, Consistency, "A name leads to a file that was created by that name";
    DATA_ATOM = 5, Consistency, "A block or sector is a version, never a mixture";
    LIVE_DATA = 6, Posix, "A read returns what was current during the read";
    RESULTS = 7, Posix, "Results and error numbers are those of some order of the calls";
    LIVE_SIZE = 8, Posix, "Sizes and the end of a file are those of some order of the calls";
    LIVE_NAMES = 9, Posix, "A list shows the names that were there during the list";
    REMAP = 10, Posix, "Dedupe never changes content, and shares only what is equal";
    FSYNC_DATA = 11, Posix, "What fsync or fdatasync covered survives";
    FSYNC_SIZE = 12, Posix, "The size that fsync or fdatasync covered survives";
    SYNC_WRITE = 13, Posix, "A synchronous write survives when it has returned";
    RANGE_SYNC = 14, Posix, "What msync or a range fsync covered survives";
    UNSYNCED = 15, Consistency, "What was not made durable is there, or not, or in whole blocks";
    SYNC = 16, LinuxPractice, "What sync covered survives, names too";
    FSYNC_NAME = 17, LinuxPractice, "The name of a file that was fsynced survives";
    HOLES_SAFE = 18, Posix, "Data is never reported as a hole";
    HOLES_EXACT = 19, LinuxPractice, "Blocks that were never written are holes";
    ERROR_REPORTED = 20, LinuxPractice, "A task that is told of no error has lost nothing";
    MOUNTS = 21, Consistency, "Every crash state mounts";
    CHECKS = 22, Consistency, "A recovered image passes the full check";
    REPEATABLE = 23, Consistency, "Recovery that is cut and repeated shows the same";
    USABLE = 24, Consistency, "A recovered file system takes new operations";
    NO_LEAK = 25, Consistency, "Nothing leaks";
    PROGRESS = 26, Consistency, "Every operation ends";
    AFTER = 27, Posix, "What a program's own lines demand holds";
    BARE_NODES = 28, Consistency, "Bare nodes show their last change, and keep what sync covered";
}

/// The guarantee of that number; `None` if there is none.
pub fn guarantee(id: GuaranteeId) -> Option<&'static Guarantee> {
    GUARANTEES.iter().find(|guarantee| guarantee.id == id)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Both lists are compared as (number, tier, title), so that neither can be changed alone.
    #[test]
    fn the_document_lists_the_same_guarantees() {
        let document = include_str!("../../docs/guarantees.md");
        let written: Vec<(String, String, String)> = document
            .lines()
            .filter(|line| line.starts_with("| G-"))
            .map(|line| {
                let mut cells = line.split('|').skip(1).map(|cell| cell.trim().to_owned());
                let mut next = || cells.next().unwrap_or_default();
                (next(), next(), next())
            })
            .collect();
        let coded: Vec<(String, String, String)> = GUARANTEES
            .iter()
            .map(|g| (g.id.to_string(), g.tier.name().to_owned(), g.title.to_owned()))
            .collect();
        assert_eq!(written, coded);
        for (index, guarantee) in GUARANTEES.iter().enumerate() {
            assert_eq!(usize::from(guarantee.id.0), index + 1, "numbers are consecutive");
            let section = format!("## {} {}", guarantee.id, guarantee.title);
            assert!(document.contains(&section), "no section {section:?}");
        }
    }
}
