//! Properties of programs that must hold for all of them: texts round-trip, repair never fails,
//! mutation keeps programs valid, and everything is deterministic in its seed.

use arbitrary::{Arbitrary, Unstructured};
use harness::program::{
    Comment, CutSpec, Dice, KeptSpec, Move, Place, Program, Rest, Schedule, Source, SwarmMask,
    TextProgram, crossover, crossover_text, generate, lenient, mutate, mutate_text, strict,
};
use proptest::collection::vec;
use proptest::prelude::*;

const GOLDEN: &str = include_str!("../../corpus/golden/program-v1/every-form.pf");

fn drawn(seed: u64) -> Program {
    let mut dice = Dice::new(seed);
    let mask = SwarmMask::draw(&mut dice);
    generate(&mut dice, &mask)
}

/// A program with the parts that generators leave out.
fn decorated(seed: u64) -> Program {
    let mut program = drawn(seed);
    let mut dice = Dice::new(!seed);
    let mut moves = Vec::new();
    for _ in 0..dice.below(8) {
        moves.push(match dice.below(3) {
            0 => Move::Run { who: "flusher".into(), steps: 1 + dice.below(99) },
            1 => Move::Complete { request: dice.below(99) },
            _ => Move::Choose { label: "cache.version".into(), n: 4, chosen: dice.below(4) },
        });
    }
    program.schedule = Some(Schedule { moves });
    let block = |dice: &mut Dice| KeptSpec {
        device: dice.below(2) as u8,
        block: dice.bits(),
        version: dice.below(3),
        sectors: dice.chance(1, 2).then(|| dice.below(256) as u8),
    };
    let mut cut = CutSpec::at(dice.bits());
    cut.rest = dice.pick(&[Rest::Lost, Rest::Kept]);
    cut.kept = (0..dice.below(5)).map(|_| block(&mut dice)).collect();
    cut.inside_recovery = dice.chance(1, 2).then(|| dice.bits());
    cut.kept_inside = (0..dice.below(3)).map(|_| block(&mut dice)).collect();
    program.cut = Some(cut);
    program.choices = (0..dice.below(100)).map(|_| dice.below(256) as u8).collect();
    for _ in 0..dice.below(6) {
        let task = Place::Task(dice.below(4) as u8);
        let place = dice.pick(&[
            Place::Head,
            Place::Setup,
            task,
            Place::Defects,
            Place::Cut,
            Place::RecoveryCut,
            Place::Choices,
            Place::End,
        ]);
        let text = dice.pick(&["", "why", "  twice", "é # é", "tab\there "]).to_owned();
        program.comments.push(Comment { place, item: dice.below(12), text });
    }
    program.fixup();
    program
}

/// The program is canonical: its text says exactly it, to both parsers.
fn check_canonical(program: &Program) {
    let text = program.to_string();
    assert_eq!(strict(&text).as_ref(), Ok(program), "\n{text}");
    let repaired = lenient(text.as_bytes());
    assert_eq!((repaired.skipped, repaired.repaired), (0, 0), "\n{text}");
    assert_eq!(&repaired.program, program);
}

fn config() -> ProptestConfig {
    ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn generated_programs_round_trip(seed: u64) {
        check_canonical(&drawn(seed));
        check_canonical(&decorated(seed));
    }

    #[test]
    fn arbitrary_programs_round_trip(bytes in vec(any::<u8>(), 0..600)) {
        let program = Program::arbitrary(&mut Unstructured::new(&bytes)).expect("never fails");
        check_canonical(&program);
    }

    #[test]
    fn any_bytes_are_repaired(bytes in vec(any::<u8>(), 0..600)) {
        check_canonical(&lenient(&bytes).program);
    }

    #[test]
    fn damaged_texts_are_repaired(seed: u64, hits in vec(any::<(u16, u8)>(), 1..8)) {
        let text = if seed % 4 == 0 { GOLDEN.to_owned() } else { decorated(seed).to_string() };
        let mut bytes = text.into_bytes();
        for (at, byte) in hits {
            let at = usize::from(at) % bytes.len();
            match byte % 4 {
                0 => bytes[at] = byte,
                1 if bytes.len() > 1 => { bytes.remove(at); }
                2 => bytes.insert(at, b' '),
                _ => bytes.truncate(at.max(1)),
            }
        }
        check_canonical(&lenient(&bytes).program);
        // Strict never panics either, and its error lies within the text.
        if let Ok(text) = str::from_utf8(&bytes)
            && let Err(error) = strict(text)
        {
            prop_assert!(error.span.end <= text.len());
            prop_assert!(text.get(error.span.clone()).is_some(), "the span splits a character");
        }
    }

    #[test]
    fn words_in_any_order_are_repaired(words in vec(0usize..WORDS.len(), 0..80)) {
        let text: String = words.iter().map(|&word| WORDS[word]).collect();
        check_canonical(&lenient(text.as_bytes()).program);
    }

    #[test]
    fn mutation_keeps_programs_valid(seed: u64, rounds in 1u64..40) {
        let mut program = decorated(seed);
        for round in 0..rounds {
            mutate(&mut program, seed ^ round, false);
            check_canonical(&program);
        }
    }

    #[test]
    fn shrinking_ends(seed: u64) {
        let mut program = decorated(seed);
        let before = program.to_string().len();
        for round in 0..2000 {
            mutate(&mut program, seed.wrapping_add(round), true);
        }
        check_canonical(&program);
        prop_assert!(program.to_string().len() < before);
        prop_assert_eq!(program.operation_count(), 0);
    }

    #[test]
    fn crossover_keeps_programs_valid(a: u64, b: u64, seed: u64) {
        let child = crossover(&decorated(a), &decorated(b), seed);
        check_canonical(&child);
        prop_assert_eq!(&crossover(&decorated(a), &decorated(b), seed), &child);
    }

    #[test]
    fn mutation_is_deterministic(seed: u64) {
        let (mut a, mut b) = (decorated(seed), decorated(seed));
        mutate(&mut a, seed, false);
        mutate(&mut b, seed, false);
        prop_assert_eq!(a, b);
    }

    #[test]
    fn mutated_texts_fit(seed: u64, max in 0usize..3000, stale: bool) {
        let mut data = decorated(seed).to_string().into_bytes();
        let mut size = data.len();
        if stale {
            data.extend_from_slice(b"end\n  write f 0 4K\n\xff garbage");
            size = data.len();
        }
        data.resize(size.max(max), 0);
        let new = mutate_text(&mut data, size, max, seed);
        prop_assert!(new <= max);
        if new > 0 {
            let text = str::from_utf8(&data[..new]).expect("the text is whole");
            let program = strict(text).expect("the text is valid");
            prop_assert_eq!(program.to_string() + "end\n", text);
        } else {
            prop_assert!(max < "powerfail 1\nend\n".len(), "some text fits into {max} bytes");
        }
    }

    #[test]
    fn crossed_texts_fit(a: u64, b: u64, seed: u64, max in 16usize..3000) {
        let mut out = vec![0; max];
        let (a, b) = (decorated(a).to_string(), decorated(b).to_string());
        let new = crossover_text(a.as_bytes(), b.as_bytes(), &mut out, seed);
        prop_assert!(0 < new && new <= max);
        strict(str::from_utf8(&out[..new]).expect("the text is whole")).expect("it is valid");
    }
}

/// Pieces of text that meet in ways no generator thinks of.
const WORDS: &[&str] = &[
    "\n",
    "\n",
    "\n  ",
    "\n  ",
    " ",
    "powerfail 1\n",
    "image ",
    "blocks=1",
    "leaf=",
    "mount ",
    "defect ",
    "fault write nth=",
    "setup",
    "task ",
    "a ",
    "after",
    "expect ",
    "violation ",
    "schedule",
    "run ",
    "decide x 1 ",
    "cut after=",
    "recovery-cut after=3",
    "tear ",
    "keep ",
    "v1 ",
    "choices ",
    "end",
    "write ",
    "dwrite ",
    "from ",
    "clone ",
    "to ",
    "f ",
    "g ",
    "9M ",
    "0 ",
    "4K ",
    "sync ",
    "fill=",
    "tag=7",
    "# ",
    "é",
    "\u{85}",
    "18446744073709551616 ",
];

#[test]
fn a_text_program_shows_its_text() {
    let program = TextProgram::arbitrary_take_rest(Unstructured::new(GOLDEN.as_bytes()))
        .expect("never fails");
    assert_eq!(format!("{program:?}"), format!("\n{GOLDEN}"));
}

#[test]
fn an_empty_input_becomes_a_program() {
    let mut data = [0; 4096];
    let size = mutate_text(&mut data, 0, 4096, 7);
    let program = lenient(&data[..size]).program;
    assert!(program.operation_count() > 10);
}
