//! One part of several into which a search is split, so that machines that know nothing of each
//! other search all of it together.

use std::fmt;
use std::str::FromStr;

/// The part `index` of `count`; people count from 1, as in `2/8`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shard {
    index: u64,
    count: u64,
}

impl Shard {
    /// Everything.
    pub const WHOLE: Shard = Shard { index: 0, count: 1 };

    /// Whether it is everything.
    pub fn is_whole(self) -> bool {
        self.count == 1
    }

    /// Whether the unit of this number is of this part: each unit is of exactly one.
    pub fn owns(self, unit: u64) -> bool {
        unit % self.count == self.index
    }
}

impl Default for Shard {
    fn default() -> Self {
        Shard::WHOLE
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.index + 1, self.count)
    }
}

impl FromStr for Shard {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is not of the form I/N with I from 1 to N");
        let (index, count) = text.split_once('/').ok_or_else(wrong)?;
        let index: u64 = index.parse().map_err(|_| wrong())?;
        let count: u64 = count.parse().map_err(|_| wrong())?;
        if index == 0 || index > count {
            return Err(wrong());
        }
        Ok(Shard { index: index - 1, count })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_unit_is_of_one_shard() {
        let shards: Vec<Shard> = ["1/3", "2/3", "3/3"].map(|text| text.parse().unwrap()).into();
        for unit in 0..20 {
            assert_eq!(shards.iter().filter(|shard| shard.owns(unit)).count(), 1);
            assert!(Shard::WHOLE.owns(unit));
        }
        assert_eq!(shards[1].to_string(), "2/3");
    }

    #[test]
    fn what_is_no_shard_is_refused() {
        for text in ["", "1", "0/2", "3/2", "0/0", "1/x", "-1/2", "1/2/3"] {
            assert!(text.parse::<Shard>().is_err(), "{text}");
        }
    }
}
