//! Inputs of the fuzz target `image`: bytes that are damage to one of its images. They are its seed
//! corpus, and a corpus that grew from them must not become other damage.

use super::{compare, files, makes, name, root, trial};
use arbitrary::{Arbitrary, Unstructured};
use harness::fuzzing::image::{Damage, Damages, Images};
use libtest_mimic::Trial;
use std::fs;
use std::mem::discriminant;
use std::path::Path;

/// The images that are damaged.
const IMAGES: u8 = 4;

/// The folder of the newest encoding.
const NEWEST: &str = "damage-v1";

/// What the dictionary of fuzzers has, and, each with each image, the seeds: damage of every kind,
/// of every width, to superblocks (the first two blocks) and to others.
const KINDS: [(&str, Damage); 10] = [
    ("set-8", Damage::Set { block: 0, offset: 40, width: 8, value: u64::MAX }),
    ("set-4", Damage::Set { block: 3, offset: 48, width: 4, value: 0x8000_0000 }),
    ("set-2", Damage::Set { block: 5, offset: 80, width: 2, value: 0x7fff }),
    ("set-1", Damage::Set { block: 7, offset: 8, width: 1, value: 0 }),
    ("add-8", Damage::Add { block: 1, offset: 32, width: 8, delta: 1 }),
    ("add-1", Damage::Add { block: 4, offset: 60, width: 1, delta: -1 }),
    ("copy", Damage::Copy { source: 6, target: 2 }),
    ("copy-super", Damage::Copy { source: 0, target: 1 }),
    ("fill", Damage::Fill { block: 3, byte: 0xff }),
    ("truncate", Damage::Truncate { device: 0, blocks: 40 }),
];

/// Damage that a hash notices, unless it is repaired.
const NOTICED: Damage = Damage::Add { block: 4, offset: 60, width: 1, delta: -1 };

pub fn trials() -> Vec<Trial> {
    if makes() {
        for (name, damages) in seeds() {
            let file = root().join(NEWEST).join(format!("{name}.bin"));
            if !file.exists() {
                fs::write(file, bytes(&damages)).expect("it is written");
            }
        }
    }
    let all = files("damage", "bin").into_iter();
    let mut trials: Vec<Trial> =
        all.map(|file| trial(name(&file), move || is_read_the_same(&file))).collect();
    trials.push(trial("every_damage_is_golden", every_damage));
    trials.push(trial("the_dictionary_of_damage", the_dictionary));
    trials
}

fn is_read_the_same(file: &Path) {
    let bytes = fs::read(file).expect("the file is readable");
    let input = Unstructured::new(&bytes);
    let damages = Damages::arbitrary_take_rest(input).expect("any bytes are damage");
    let mut images = Images::new().expect("the images can be made");
    let answer = images.try_damage(&damages).unwrap_or_else(|found| panic!("{}", found.message));
    let Damages { image, reseal, list } = &damages;
    let mut told = format!("image {image}, resealed {reseal}\n");
    list.iter().for_each(|damage| told += &format!("{damage:?}\n"));
    compare(file, &format!("{told}\n{answer:?}\n"));
}

/// The seeds: no damage, each kind, all of them one after the other, and one without the repair.
fn seeds() -> Vec<(String, Damages)> {
    let mut seeds = Vec::new();
    for image in 0..IMAGES {
        let mut add = |name: &str, reseal: bool, list: Vec<Damage>| {
            seeds.push((format!("image-{image}-{name}"), Damages { image, reseal, list }));
        };
        add("none", true, Vec::new());
        for (name, damage) in KINDS {
            add(name, true, vec![damage]);
        }
        add("all", true, KINDS.map(|(_, damage)| damage).to_vec());
        add("noticed", false, vec![NOTICED]);
    }
    seeds
}

/// The bytes that are read as this damage.
fn bytes(damages: &Damages) -> Vec<u8> {
    let mut bytes = vec![damages.image, if damages.reseal { 0 } else { 7 }];
    damages.list.iter().for_each(|damage| bytes.extend(one(*damage)));
    bytes
}

fn one(damage: Damage) -> Vec<u8> {
    let place = |block: u16, offset: u16, width: u8| {
        let [a, b] = block.to_le_bytes();
        let [c, d] = offset.to_le_bytes();
        [a, b, c, d, width.trailing_zeros() as u8]
    };
    match damage {
        Damage::Set { block, offset, width, value } => {
            [&[0][..], &place(block, offset, width), &value.to_le_bytes()].concat()
        }
        Damage::Add { block, offset, width, delta } => {
            [&[6][..], &place(block, offset, width), &delta.to_le_bytes()].concat()
        }
        Damage::Copy { source, target } => {
            [&[12][..], &source.to_le_bytes(), &target.to_le_bytes()].concat()
        }
        Damage::Fill { block, byte } => [&[14][..], &block.to_le_bytes(), &[byte]].concat(),
        Damage::Truncate { device, blocks } => [&[15, device][..], &blocks.to_le_bytes()].concat(),
    }
}

/// The table above, as bytes, is what is in the folder; and no byte means damage that it lacks.
fn every_damage() {
    let kinds = KINDS.map(|(_, damage)| discriminant(&damage));
    for kind in 0..=u8::MAX {
        let mut bytes = [0; 32];
        bytes[2] = kind;
        let damages = Damages::arbitrary_take_rest(Unstructured::new(&bytes));
        let first = damages.expect("any bytes are damage").list[0];
        assert!(kinds.contains(&discriminant(&first)), "no golden input has {first:?}");
    }
    for (name, damages) in seeds() {
        let bytes = bytes(&damages);
        let read = Damages::arbitrary_take_rest(Unstructured::new(&bytes));
        assert_eq!(read.as_ref(), Ok(&damages), "{name}");
        let kept = fs::read(root().join(NEWEST).join(format!("{name}.bin")));
        assert_eq!(kept.ok(), Some(bytes), "{name}.bin");
    }
}

/// The dictionary has each kind of damage, so that a fuzzer can put one in whole.
fn the_dictionary() {
    let line = |(_, damage): (&str, Damage)| {
        let bytes: String = one(damage).iter().map(|byte| format!("\\x{byte:02X}")).collect();
        format!("\"{bytes}\"\n")
    };
    let lines = KINDS.map(line).concat();
    let committed = fs::read_to_string(root().join("../../fuzz/options/image.dict"));
    let committed = committed.unwrap_or_default();
    assert!(committed == lines, "fuzz/options/image.dict should be\n{lines}");
}
