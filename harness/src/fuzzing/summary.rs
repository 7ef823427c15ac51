//! What a fuzz target did, printed when the process ends.
//!
//! It promises that the counts come out whether libFuzzer ends by itself or a finding ends it: they
//! live in a thread-local, whose destructor runs at `exit`, and [`print`](Summary::print) may come
//! before an abort. It must never know a clock: libFuzzer's own statistics tell rates.

use super::feedback::Seen;
use crate::cuts::Totals;
use std::fmt;

/// Counts of one process.
#[derive(Default)]
pub struct Summary {
    /// Programs executed, or images damaged.
    pub programs: u64,
    /// Operations performed.
    pub operations: u64,
    /// Decisions taken.
    pub decisions: u64,
    /// What was judged.
    pub totals: Totals,
    /// Inputs that could not be executed, with the last reason.
    pub refused: (u64, Option<String>),
    /// Interleaving pairs and state classes.
    pub seen: Seen,
    /// Whether it was printed.
    printed: bool,
}

impl Summary {
    /// Prints the counts to standard error, once.
    pub fn print(&mut self) {
        if self.programs > 0 && !self.printed {
            eprint!("{self}");
        }
        self.printed = true;
    }

    /// Lets the counts go without a word.
    pub fn quiet(&mut self) {
        self.printed = true;
    }
}

impl Drop for Summary {
    fn drop(&mut self) {
        self.print();
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Totals { cuts, crash_states, recoveries, .. } = self.totals;
        writeln!(f, "powerfail::programs:            {}", self.programs)?;
        writeln!(f, "powerfail::operations:          {}", self.operations)?;
        writeln!(f, "powerfail::decisions:           {}", self.decisions)?;
        writeln!(f, "powerfail::cuts:                {cuts}")?;
        writeln!(f, "powerfail::crash_states:        {crash_states}")?;
        writeln!(f, "powerfail::recoveries:          {recoveries}")?;
        writeln!(f, "powerfail::interleaving_pairs:  {}", self.seen.interleaving_pairs())?;
        writeln!(f, "powerfail::state_classes:       {}", self.seen.state_classes())?;
        let (refused, reason) = &self.refused;
        if let Some(reason) = reason {
            writeln!(f, "powerfail::refused:             {refused}, the last because: {reason}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_count_is_on_a_line_of_its_own() {
        let mut summary = Summary::default();
        (summary.programs, summary.operations) = (3, 90);
        summary.totals.crash_states = 1234;
        summary.refused = (1, Some("the image is too small".to_string()));
        let text = summary.to_string();
        assert_eq!(text.lines().count(), 9);
        assert!(text.lines().all(|line| line.starts_with("powerfail::")));
        assert!(text.contains("powerfail::crash_states:        1234\n"));
        assert!(text.ends_with("1, the last because: the image is too small\n"));
        summary.quiet();
    }
}
