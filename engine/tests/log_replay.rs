//! What a mount does with a log: a good one is replayed once and gone, a damaged one is an error
//! that names it, and a full log is no reason for fsync to fail.

mod crash_support;

use crash_support::bench::{Bench, sources};
use crash_support::script::{Player, look};
use engine::check::ProblemKind;
use engine::defects::Defects;
use engine::dump::{Section, dump};
use engine::error::{Error, Result};
use engine::options::{ImageOptions, MountOptions};
use engine::{Fs, check};
use machine::choosers::RoundRobin;
use machine::medium::Medium;
use machine::{Block, Task};
use std::cell::RefCell;
use std::rc::Rc;

fn mount(task: &Task) -> Result<Fs> {
    let budgets = MountOptions { flusher: 0, committer: 0, reclaimer: 0, ..Default::default() };
    Fs::mount(task, &budgets, Defects::default())
}

/// Media of an image whose power was cut after `script`, with everything written that was
/// submitted.
fn cut_after(image: &ImageOptions, script: &'static str) -> Vec<Rc<RefCell<Medium>>> {
    let media = Bench::media(image);
    let bench = Bench::on(sources(&media), Box::new(RoundRobin));
    let played = bench.run(move |task| {
        let fs = mount(task)?;
        Player::new(&fs, &Rc::default()).play(task, script, 1)
    });
    played.expect("it runs");
    bench.settle(&media);
    media
}

fn lines(media: &[Rc<RefCell<Medium>>]) -> Vec<String> {
    let lines = Rc::new(RefCell::new(Vec::new()));
    let out = lines.clone();
    let bench = Bench::on(sources(media), Box::new(RoundRobin));
    let dumped =
        bench.run(move |task| dump(task, &Section::ALL, &mut |line| out.borrow_mut().push(line)));
    dumped.expect("a valid superblock");
    lines.take()
}

const SCRIPT: &str = "create f\nwrite f 0 3\nfsync f\npunch f 1 1\nfsync f\ncreate g\nfsync g";

#[test]
fn a_log_is_seen_by_check_and_dump_and_gone_after_a_mount() {
    for (logdev, log_trees) in [(false, 1), (false, 3), (true, 2)] {
        let image = ImageOptions { leaf: 4, logdev, log_trees, ..ImageOptions::default() };
        let media = cut_after(&image, SCRIPT);
        let before = Bench::on(sources(&media), Box::new(RoundRobin)).run(check).unwrap();
        let kinds: Vec<_> = before.problems.iter().map(|problem| problem.kind).collect();
        assert_eq!(kinds, [ProblemKind::LogLeft], "the log is there, and nothing is wrong with it");
        let text = lines(&media);
        for wanted in
            ["names of 16 in 1: f", "hole 16 at byte 4096: 1 blocks", "names of 17 in 1: g"]
        {
            assert!(text.iter().any(|line| line.trim() == wanted), "{wanted}: {text:#?}");
        }
        let bench = Bench::on(sources(&media), Box::new(RoundRobin));
        let seen = bench.run(|task| {
            let fs = mount(task)?;
            assert_eq!(check(task)?.problems, [], "replayed, committed and cleared");
            let seen = (look(task, &fs, "f"), look(task, &fs, "g"));
            fs.unmount(task)?;
            Ok(seen)
        });
        let f = vec![Some(2), None, Some(2)];
        assert_eq!(seen, Ok((Ok(Some(f)), Ok(Some(Vec::new())))));
        bench.settle(&media);
        assert!(lines(&media).contains(&"Log: empty".to_string()));
    }
}

#[test]
fn a_damaged_log_is_an_error_and_never_a_panic() {
    let image = ImageOptions { leaf: 4, log_trees: 2, ..ImageOptions::default() };
    let media = cut_after(&image, SCRIPT);
    let text = lines(&media);
    let at = text.iter().position(|line| line.starts_with("Log(")).expect("a log");
    let node_of = |line: &str| line.trim().strip_prefix("node ")?.split(':').next()?.parse().ok();
    let nodes: Vec<u64> = text[at..].iter().filter_map(|line| node_of(line)).collect();
    assert!(nodes.len() > 2, "{text:#?}");
    for block in nodes {
        let good = media[0].borrow().read(block);
        for (at, to) in [(0, 0), (6, 99), (40, 7), (200, 0xff), (4000, 1)] {
            let mut bytes = *good.bytes();
            bytes[at] ^= to | 1;
            media[0].borrow_mut().write(block, &Block::new(&bytes)).expect("a block");
            let bench = Bench::on(sources(&media), Box::new(RoundRobin));
            let error = bench.run(|task| mount(task).map(drop)).expect_err("a damaged log");
            assert!(matches!(error, Error::Corrupt { .. }), "{error}");
            assert_eq!(error.errno().name(), "EUCLEAN");
        }
        media[0].borrow_mut().write(block, &good).expect("a block");
    }
}

#[test]
fn a_full_log_is_committed_instead() {
    let image = ImageOptions { leaf: 4, logdev: true, blocks: 512, ..ImageOptions::default() };
    let media = Bench::media(&image);
    let bench = Bench::on(sources(&media), Box::new(RoundRobin));
    let synced = bench.run(|task| {
        let fs = mount(task)?;
        let player = Player::new(&fs, &Rc::default());
        player.play(task, "create f", 1)?;
        let mut generations = std::collections::BTreeSet::new();
        for _ in 0..150 {
            player.play(task, "write f 0 1\nfsync f", 1)?;
            generations.insert(fs.store().generation());
        }
        assert!(generations.len() > 1, "the log device has far fewer blocks");
        fs.unmount(task)?;
        assert_eq!(check(task)?.problems, []);
        Ok(())
    });
    assert_eq!(synced, Ok(()));
}

#[test]
fn an_fsync_writes_less_than_a_commit() {
    let image = ImageOptions::default();
    let media = Bench::media(&image);
    let bench = Bench::on(sources(&media), Box::new(RoundRobin));
    let counted = bench.run(|task| {
        let fs = mount(task)?;
        let player = Player::new(&fs, &Rc::default());
        player.play(task, "create f\nwrite f 0 4\nsync\nwrite f 0 1", 1)?;
        let before = task.machine().disk().log().requests().len();
        player.play(task, "fsync f", 1)?;
        let notes = |from: usize| -> Vec<&'static str> {
            let disk = task.machine().disk();
            disk.log().requests()[from..].iter().map(|logged| logged.note.what).collect()
        };
        let wrote = notes(before);
        assert_eq!(wrote, ["data", "log tree node", "log root", "flush", "super"]);
        let before = task.machine().disk().log().requests().len();
        player.play(task, "fsync f", 1)?;
        assert_eq!(notes(before), ["flush"], "B-4: nothing to log still needs the barrier");
        Ok(())
    });
    assert_eq!(counted, Ok(()));
}
