//! Mutation and crossover of texts in buffers of bytes, as libFuzzer asks for them.
//!
//! The text ends with `end`, because libFuzzer may leave bytes of an older, longer text behind it.

use super::dice::{Dice, Source};
use super::mutate::any_slot;
use super::{Program, SwarmMask, crossover, generate, lenient, mutate};

/// Mutates the text in `data[..size]` in place, and returns its new size, at most `max_size`. With
/// `max_size < size` it shrinks, as libFuzzer's minimizer asks. Returns 0 if nothing fits.
pub fn mutate_text(data: &mut [u8], size: usize, max_size: usize, seed: u64) -> usize {
    let size = size.min(data.len());
    let max_size = max_size.min(data.len());
    let mut dice = Dice::new(seed);
    let mut program = lenient(&data[..size]).program;
    let shrink = max_size < size;
    if program.operation_count() == 0 && !shrink {
        let mask = SwarmMask::draw(&mut dice);
        program = generate(&mut dice, &mask);
    } else {
        mutate(&mut program, dice.bits(), shrink);
    }
    write_fitting(program, &mut data[..max_size], &mut dice)
}

/// Writes a text made of two into `out`, and returns its size; 0 if nothing fits.
pub fn crossover_text(a: &[u8], b: &[u8], out: &mut [u8], seed: u64) -> usize {
    let mut dice = Dice::new(seed);
    let (a, b) = (lenient(a).program, lenient(b).program);
    // libFuzzer calls crossover as often as mutation, which finds more: half of the calls mutate.
    let crossed = dice.chance(1, 2);
    let mut child = if crossed { crossover(&a, &b, dice.bits()) } else { a };
    if !crossed || dice.chance(1, 3) {
        mutate(&mut child, dice.bits(), false);
    }
    write_fitting(child, out, &mut dice)
}

/// Drops what is least needed until the text fits: comments, then hints, then operations.
fn write_fitting(mut program: Program, out: &mut [u8], dice: &mut Dice) -> usize {
    let mut text = String::with_capacity(1024);
    let mut level = 0;
    loop {
        text.clear();
        program.print_into(&mut text);
        text.push_str("end\n");
        if text.len() <= out.len() {
            out[..text.len()].copy_from_slice(text.as_bytes());
            return text.len();
        }
        level += 1;
        match level {
            1 => program.comments.clear(),
            2 => program.choices.truncate(out.len() / 8),
            3 => (program.schedule, program.cut) = (None, None),
            _ => match any_slot(&program, dice) {
                Some(slot) => drop(program.remove_operation(slot)),
                None if program == Program::default() => return 0,
                None => program = Program::default(),
            },
        }
        program.fixup();
    }
}
