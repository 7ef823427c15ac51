//! A crash state written down: what a finding keeps so that it replays.
//!
//! Promises that text and value convert into each other without loss, and that the text names
//! requests, so that a person can look them up in the log: `0:17=w12.0@2` is block 17 of device 0
//! as block 0 of request 12 left it, which was the second pending version; `0:17=durable` the block
//! without any of them; `0:17=w12.0@2/01+durable/fe` the first sector of one and the rest of the
//! other, masks in hexadecimal.
//!
//! Must never fail on a log that has changed: see [`super::CrashState::with_selection`].

use std::fmt;
use std::str::FromStr;

use smallvec::SmallVec;

use super::versions::{Ages, Options};
use super::{DeviceId, RequestId};
use crate::block::SECTORS_PER_BLOCK;

/// The blocks of a crash state that might have been otherwise, in the order in which they were
/// read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection(pub Vec<Kept>);

/// What one block kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// The device.
    pub device: DeviceId,
    /// The block.
    pub block: u64,
    /// Where sectors come from: masks (bit 0 is the first sector) that do not overlap.
    pub sources: SmallVec<[(u8, Source); 1]>,
}

/// A version of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// What is durable at the cut.
    Durable,
    /// A pending version.
    Pending {
        /// The request that wrote it.
        request: RequestId,
        /// The index of the block in the request.
        index: u32,
        /// The how many'th pending version it was, from 1: used where the request is not found.
        age: u16,
    },
}

impl Selection {
    pub(super) fn push(&mut self, device: DeviceId, block: u64, options: &Options, ages: &Ages) {
        let mut sources: SmallVec<[(u8, Source); 1]> = SmallVec::new();
        for (sector, age) in ages.iter().enumerate() {
            let source = match usize::from(*age).checked_sub(1) {
                None => Source::Durable,
                Some(at) => {
                    let (version, _) = &options.pending[at];
                    let (request, index) = (version.request, version.index);
                    Source::Pending { request, index, age: *age }
                }
            };
            match sources.iter_mut().find(|(_, known)| *known == source) {
                Some((mask, _)) => *mask |= 1 << sector,
                None => sources.push((1 << sector, source)),
            }
        }
        debug_assert_eq!(sources.iter().fold(0, |all, (mask, _)| all | mask), u8::MAX);
        self.0.push(Kept { device, block, sources });
    }
}

impl Kept {
    /// The version of each sector among those that a cut has.
    pub(super) fn ages(&self, options: &Options) -> Ages {
        let mut ages = [0; SECTORS_PER_BLOCK];
        for (mask, source) in &self.sources {
            let age = match *source {
                Source::Durable => 0,
                Source::Pending { request, index, age } => {
                    let mut pending = options.pending.iter();
                    let same = pending.position(|(v, _)| v.request == request && v.index == index);
                    same.map_or(age.min(options.pending.len() as u16), |at| at as u16 + 1)
                }
            };
            for (sector, target) in ages.iter_mut().enumerate() {
                if mask >> sector & 1 == 1 {
                    *target = age;
                }
            }
        }
        ages
    }
}

impl fmt::Display for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}=", self.device, self.block)?;
        for (at, (mask, source)) in self.sources.iter().enumerate() {
            if at > 0 {
                f.write_str("+")?;
            }
            match source {
                Source::Durable => f.write_str("durable")?,
                Source::Pending { request, index, age } => {
                    write!(f, "w{}.{index}@{age}", request.0)?;
                }
            }
            if *mask != u8::MAX {
                write!(f, "/{mask:02x}")?;
            }
        }
        Ok(())
    }
}

/// A text that is not a [`Kept`]; holds the part that was not understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected DEVICE:BLOCK=SOURCE with SOURCE as durable or wN.N@N, found {0:?}")]
pub struct ParseKeptError(pub String);

impl FromStr for Kept {
    type Err = ParseKeptError;

    fn from_str(text: &str) -> Result<Kept, ParseKeptError> {
        let wrong = || ParseKeptError(text.to_owned());
        let (place, sources) = text.split_once('=').ok_or_else(wrong)?;
        let (device, block) = place.split_once(':').ok_or_else(wrong)?;
        let device = DeviceId(device.parse().map_err(|_| wrong())?);
        let block = block.parse().map_err(|_| wrong())?;
        let sources = sources.split('+').map(parse_source).collect::<Result<_, _>>()?;
        Ok(Kept { device, block, sources })
    }
}

fn parse_source(text: &str) -> Result<(u8, Source), ParseKeptError> {
    let wrong = || ParseKeptError(text.to_owned());
    let (version, mask) = match text.split_once('/') {
        Some((version, mask)) => (version, u8::from_str_radix(mask, 16).map_err(|_| wrong())?),
        None => (text, u8::MAX),
    };
    if version == "durable" {
        return Ok((mask, Source::Durable));
    }
    let version = version.strip_prefix('w').ok_or_else(wrong)?;
    let (request, rest) = version.split_once('.').ok_or_else(wrong)?;
    let (index, age) = rest.split_once('@').ok_or_else(wrong)?;
    let request = RequestId(request.parse().map_err(|_| wrong())?);
    let index = index.parse().map_err(|_| wrong())?;
    let age = age.parse().map_err(|_| wrong())?;
    Ok((mask, Source::Pending { request, index, age }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_value_convert_without_loss() {
        for text in ["0:17=durable", "3:0=w12.0@2", "0:17=w12.7@2/01+durable/7e+w3.0@1/80"] {
            let kept: Kept = text.parse().unwrap();
            assert_eq!(kept.to_string(), text);
        }
    }

    #[test]
    fn what_is_no_selection_is_refused() {
        for text in ["", "0:1", "0:1=", "x:1=durable", "0:1=w1", "0:1=w1.0", "0:1=durable/xyz"] {
            assert!(text.parse::<Kept>().is_err(), "{text}");
        }
        assert_eq!("300:1=durable".parse::<Kept>(), Err(ParseKeptError("300:1=durable".into())));
    }
}
