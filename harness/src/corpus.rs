//! The folder of a campaign that can be stopped and resumed: how far it is, and the programs that
//! showed something new.
//!
//! Programs of a campaign are a function of seed and number, so that the number of the next one is
//! all that resuming needs. The programs kept are for others: fuzz targets start from them, `prune`
//! makes them fewer.
//!
//! Promises: a file is complete or not there at all; a folder of another campaign is refused, not
//! overwritten. It must never know what is done with a program.

use crate::files::write_whole;
use crate::program::Program;
use serde::{Deserialize, Serialize};
use std::fs;
use std::path::{Path, PathBuf};

/// The file that says how far it is; all others are programs.
pub const STATE: &str = "campaign.json";

/// How far a campaign is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// What the programs are derived from.
    pub seed: u64,
    /// Defects switched on.
    pub defects: Vec<String>,
    /// Knobs that every program has, as they were given.
    pub knobs: Vec<String>,
    /// All programs before this one were executed.
    pub next: u64,
    /// Programs executed.
    pub programs: u64,
    /// Crash states judged.
    pub crash_states: u64,
    /// Milliseconds, all runs together.
    pub milliseconds: u64,
}

impl State {
    /// Whether both are of one campaign.
    fn is_of(&self, other: &State) -> bool {
        (self.seed, &self.defects, &self.knobs) == (other.seed, &other.defects, &other.knobs)
    }
}

/// The folder.
#[derive(Clone, Debug)]
pub struct Corpus {
    folder: PathBuf,
    state: State,
}

impl Corpus {
    /// Opens the folder of a campaign, which is made if it is not there. `campaign` says which.
    ///
    /// # Errors
    /// A sentence: the folder is of another campaign, or cannot be read or made.
    pub fn open(folder: &Path, campaign: State) -> Result<Self, String> {
        let name = folder.display();
        fs::create_dir_all(folder).map_err(|error| format!("failed to make {name}: {error}"))?;
        let path = folder.join(STATE);
        let state = match fs::read_to_string(&path) {
            Ok(text) => serde_json::from_str::<State>(&text)
                .map_err(|error| format!("{} is no campaign: {error}", path.display()))?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => campaign.clone(),
            Err(error) => return Err(format!("failed to read {}: {error}", path.display())),
        };
        if !state.is_of(&campaign) {
            let State { seed, defects, knobs, .. } = state;
            return Err(format!(
                "{name} is of another campaign: seed {seed}, defects {defects:?}, knobs {knobs:?}"
            ));
        }
        Ok(Corpus { folder: folder.to_path_buf(), state })
    }

    /// How far the campaign was when it was opened.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Keeps how far it is now: with what was done since it was opened.
    ///
    /// # Errors
    /// A sentence.
    pub fn save(&self, since: &State) -> Result<(), String> {
        let state = State {
            next: since.next.max(self.state.next),
            programs: self.state.programs + since.programs,
            crash_states: self.state.crash_states + since.crash_states,
            milliseconds: self.state.milliseconds + since.milliseconds,
            ..self.state.clone()
        };
        let text = serde_json::to_string_pretty(&state).map_err(|error| error.to_string())?;
        self.write(STATE, &(text + "\n"))
    }

    /// Keeps a program, under a name that is a function of its text.
    ///
    /// # Errors
    /// A sentence.
    pub fn keep(&self, program: &Program) -> Result<(), String> {
        let text = program.to_string();
        let hash = blake3::hash(text.as_bytes()).to_hex();
        self.write(&format!("{}.pf", &hash.as_str()[..16]), &text)
    }

    fn write(&self, name: &str, text: &str) -> Result<(), String> {
        let path = self.folder.join(name);
        write_whole(&path, text)
            .map_err(|error| format!("failed to write {}: {error}", path.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn campaign(seed: u64) -> State {
        State { seed, ..State::default() }
    }

    #[test]
    fn a_campaign_goes_on_where_it_was() {
        let folder = tempfile::tempdir().expect("there is room");
        let corpus = Corpus::open(folder.path(), campaign(3)).expect("it is new");
        let since =
            State { next: 40, programs: 41, crash_states: 7, milliseconds: 5, ..campaign(3) };
        corpus.save(&since).expect("written");
        let again = Corpus::open(folder.path(), campaign(3)).expect("it is the same");
        assert_eq!(again.state(), &since);
        again.save(&since).expect("written");
        let third = Corpus::open(folder.path(), campaign(3)).expect("it is the same");
        assert_eq!((third.state().next, third.state().programs), (40, 82));
    }

    #[test]
    fn another_campaign_is_refused_and_nothing_is_lost() {
        let folder = tempfile::tempdir().expect("there is room");
        let corpus = Corpus::open(folder.path(), campaign(3)).expect("it is new");
        corpus.save(&State { next: 9, ..campaign(3) }).expect("written");
        let refused = Corpus::open(folder.path(), campaign(4)).expect_err("it is another");
        assert!(refused.contains("seed 3"), "{refused}");
        let same = Corpus::open(folder.path(), campaign(3)).expect("it is there");
        assert_eq!(same.state().next, 9);
    }

    #[test]
    fn what_is_no_campaign_is_said() {
        let folder = tempfile::tempdir().expect("there is room");
        fs::write(folder.path().join(STATE), "{").expect("written");
        let refused = Corpus::open(folder.path(), campaign(1)).expect_err("it is broken");
        assert!(refused.contains("is no campaign"), "{refused}");
    }
}
