//! What a judge found to be impossible, and which guarantee that breaks.
//!
//! *Promises*: kinds have stable kebab-case names, since findings and corpora hold them.
//! *Must never know*: how the violation was reached (schedule, cut).
use crate::guarantee::GuaranteeId;
use crate::operation::{OpId, PathId};
use smallvec::SmallVec;

macro_rules! kinds {
    ($($variant:ident $name:literal $doc:literal,)*) => {
        /// The kind of a violation.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[non_exhaustive]
        pub enum Kind {
            $(#[doc = $doc] $variant,)*
        }

        impl Kind {
            /// All kinds.
            pub const ALL: &[Kind] = &[$(Kind::$variant,)*];

            /// The kebab-case name.
            pub const fn name(self) -> &'static str {
                match self { $(Kind::$variant => $name,)* }
            }
        }
    };
}

kinds! {
    Poison "poison" "A block that nobody wrote is shown.",
    ForeignData "foreign-data" "Bytes that were written to another file.",
    StaleData "stale-data" "Bytes that had been overwritten, cut off, or freed.",
    LostData "lost-data" "Bytes that were durable are gone.",
    TornData "torn-data" "A mixture of versions finer than the promised atom.",
    CorruptData "corrupt-data" "Bytes that nobody wrote.",
    Unreadable "unreadable" "Reading fails though no device error was injected.",
    WrongResult "wrong-result" "A result or error number that no order of the calls gives.",
    WrongSize "wrong-size" "A size that no order of the calls gives.",
    WrongLinks "wrong-links" "A link count that does not fit the names.",
    LostName "lost-name" "A name that must be there is not.",
    GhostName "ghost-name" "A name that cannot be there is.",
    WrongDedupe "wrong-dedupe" "Dedupe shared what was different, or refused what was equal.",
    HiddenData "hidden-data" "A hole map hides data.",
    FalseData "false-data" "A hole map shows a never-written block as data.",
    LostError "lost-error" "A task lost data and was told of no error.",
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// A kind name that does not exist.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown kind of violation {0:?}")]
pub struct UnknownKind(pub String);

impl std::str::FromStr for Kind {
    type Err = UnknownKind;

    fn from_str(text: &str) -> Result<Kind, UnknownKind> {
        let found = Kind::ALL.iter().find(|kind| kind.name() == text);
        found.copied().ok_or_else(|| UnknownKind(text.to_owned()))
    }
}

/// Something that no allowed behaviour shows.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{kind} ({guarantee}): {message}")]
pub struct Violation {
    /// The guarantee that is broken.
    pub guarantee: GuaranteeId,
    /// What was found.
    pub kind: Kind,
    /// One sentence for a reader, naming path, block, operations and what was allowed.
    pub message: String,
    /// The path concerned.
    pub path: Option<PathId>,
    /// The 4 KiB block of the file concerned.
    pub block: Option<u64>,
    /// The operations whose bytes or results were shown; the call itself when live.
    pub shown: SmallVec<[OpId; 4]>,
    /// The operations whose bytes were allowed, or that made durable what was lost.
    pub allowed: SmallVec<[OpId; 4]>,
}

impl Violation {
    pub(crate) fn new(guarantee: GuaranteeId, kind: Kind, message: String) -> Violation {
        Violation {
            guarantee,
            kind,
            message,
            path: None,
            block: None,
            shown: SmallVec::new(),
            allowed: SmallVec::new(),
        }
    }

    pub(crate) fn on(mut self, path: PathId) -> Violation {
        self.path = Some(path);
        self
    }

    pub(crate) fn by(mut self, op: OpId) -> Violation {
        self.shown.push(op);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_kinds_are_read_back() {
        for &kind in Kind::ALL {
            assert_eq!(kind.name().parse(), Ok(kind));
        }
        assert!("no-such-kind".parse::<Kind>().is_err());
    }
}
