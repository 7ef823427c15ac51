//! Independent pieces of work on several threads, with the answers in the order of the pieces.
//!
//! Promises that what a piece is answered depends on it alone, if its work shares nothing. It must
//! never know what the work is.

use std::marker::Sync;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Does the work for every piece; one that was not begun before the stop has no answer.
pub fn in_order<Piece: Sync, Answer: Send>(
    pieces: &[Piece],
    jobs: usize,
    stop: &AtomicBool,
    work: &(dyn Fn(usize, &Piece) -> Answer + Sync),
) -> Vec<Option<Answer>> {
    let next = AtomicUsize::new(0);
    let answers = Mutex::new(pieces.iter().map(|_| None).collect::<Vec<_>>());
    let worker = || {
        while !stop.load(Ordering::Relaxed) {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(piece) = pieces.get(index) else { return };
            let answer = work(index, piece);
            if let Ok(mut answers) = answers.lock() {
                answers[index] = Some(answer);
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..jobs.max(1) {
            scope.spawn(worker);
        }
    });
    answers.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_come_in_the_order_of_the_pieces() {
        let (pieces, stop) = ([3, 1, 2], AtomicBool::new(false));
        let answers = in_order(&pieces, 3, &stop, &|index, piece| (index, piece * 10));
        assert_eq!(answers, [Some((0, 30)), Some((1, 10)), Some((2, 20))]);
    }

    #[test]
    fn what_was_not_begun_has_no_answer() {
        let stop = AtomicBool::new(false);
        let work = |_: usize, piece: &i32| {
            stop.store(*piece == 1, Ordering::Relaxed);
            *piece
        };
        assert_eq!(in_order(&[0, 1, 2], 1, &stop, &work), [Some(0), Some(1), None]);
    }
}
