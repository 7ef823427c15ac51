//! A simple minimizer: operations are dropped for as long as the disagreement persists.

use super::script::Script;
use super::session::Disagreement;
use crate::target::kernel::KernelError;

/// Executions that one disagreement is worth.
const EXECUTIONS_MAX: u32 = 300;

/// The smallest script found, with what it shows. `same` executes a script and returns what was
/// found if it is the same disagreement.
pub(super) fn minimize(
    mut script: Script,
    mut found: Disagreement,
    same: &mut dyn FnMut(&Script) -> Result<Option<Disagreement>, KernelError>,
) -> Result<(Script, Disagreement), KernelError> {
    let mut left = EXECUTIONS_MAX;
    let mut chunk = script.slots().len().div_ceil(2);
    while chunk > 0 {
        let mut dropped = false;
        let mut start = 0;
        loop {
            let slots = script.slots();
            let Some(slots) = slots.get(start..).filter(|slots| !slots.is_empty()) else { break };
            if left == 0 {
                return Ok((script, found));
            }
            left -= 1;
            let less = script.without(&slots[..chunk.min(slots.len())]);
            match same(&less)? {
                Some(again) => {
                    (script, found) = (less, again);
                    dropped = true;
                }
                None => start += chunk,
            }
        }
        if chunk > 1 {
            chunk /= 2;
        } else if !dropped {
            break;
        }
    }
    Ok((script, found))
}

#[cfg(test)]
mod tests {
    use super::*;
    use oracle::operation::Operation;

    #[test]
    fn what_matters_is_left() {
        let (script, wanted) = (0..)
            .map(|index| Script::draw(1, index))
            .find_map(|script| {
                let fsyncs = fsyncs(&script);
                (fsyncs > 1).then_some((script, fsyncs))
            })
            .expect("some program has two fsyncs");
        let found = Disagreement {
            operation: "fsync f".to_owned(),
            kind: "wrong-result".to_owned(),
            guarantee: "G-7".to_owned(),
            message: String::new(),
        };
        let mut same = |script: &Script| Ok((fsyncs(script) >= wanted).then(|| found.clone()));
        let (small, _) = minimize(script, found.clone(), &mut same).expect("nothing fails here");
        assert_eq!((small.slots().len(), fsyncs(&small)), (wanted, wanted));
    }

    fn fsyncs(script: &Script) -> usize {
        let all = script.setup().chain(script.interleaved());
        all.filter(|step| matches!(step.operation, Operation::Fsync { .. })).count()
    }
}
