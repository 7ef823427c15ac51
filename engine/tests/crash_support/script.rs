//! Scripts: operations as text, one a line, executed on a mounted engine beside the model.
//!
//! Numbers are blocks. Every write fills its blocks with the number of its line, so that a block
//! tells who wrote it.

use super::model::{Cell, Model};
use engine::error::Result;
use engine::{File, Fs, Span, Sync};
use machine::disk::{Op, Rule};
use machine::{BLOCK_BYTES, Task};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

const BLOCK: u64 = BLOCK_BYTES as u64;

/// A script being executed: open files, and the model of what it does.
pub struct Player {
    fs: Fs,
    files: RefCell<BTreeMap<String, File>>,
    model: Rc<RefCell<Model>>,
}

/// One line.
struct Line<'a> {
    words: Vec<&'a str>,
    fill: u8,
}

impl Line<'_> {
    fn word(&self, index: usize) -> &str {
        self.words.get(index).unwrap_or_else(|| panic!("{:?} has too few words", self.words))
    }

    fn number(&self, index: usize) -> u64 {
        self.word(index).parse().unwrap_or_else(|_| panic!("{:?} is no number", self.word(index)))
    }

    /// The blocks that words `index` and `index + 1` name.
    fn blocks(&self, index: usize) -> std::ops::Range<usize> {
        let start = self.number(index) as usize;
        start..start + self.number(index + 1) as usize
    }

    fn span(&self, index: usize) -> Span {
        let blocks = self.blocks(index);
        Span::new(blocks.start as u64 * BLOCK, blocks.end as u64 * BLOCK)
    }
}

impl Player {
    pub fn new(fs: &Fs, model: &Rc<RefCell<Model>>) -> Player {
        Player { fs: fs.clone(), files: RefCell::default(), model: model.clone() }
    }

    /// Executes the lines of a script; `first` is the fill of the first.
    pub fn play(&self, task: &Task, script: &str, first: u8) -> Result<()> {
        let lines = script.lines().map(str::trim).filter(|line| !line.is_empty());
        for (number, line) in lines.enumerate() {
            let words: Vec<&str> = line.split_whitespace().collect();
            self.line(task, &Line { words, fill: first + number as u8 })?;
        }
        Ok(())
    }

    fn file(&self, task: &Task, name: &str) -> Result<File> {
        let known = self.files.borrow().get(name).cloned();
        match known {
            Some(file) => Ok(file),
            None => {
                let file = self.fs.open(task, name.trim_end_matches('\''))?;
                self.files.borrow_mut().insert(name.to_string(), file.clone());
                Ok(file)
            }
        }
    }

    fn line(&self, task: &Task, line: &Line<'_>) -> Result<()> {
        let began = task.machine().tick();
        match line.word(0) {
            "sync" => return self.sync(task),
            "sync_maybe" => {
                return match self.sync(task) {
                    Err(error) if !error.is_stopped() => Ok(()),
                    other => other,
                };
            }
            "commit" => return self.fs.commit(task),
            "eio" => {
                // The nth write from here on fails, or all of a kind.
                let rule = Rule::nth(Op::Write, line.number(1) as u32);
                task.machine().disk_mut().fail(rule);
                return Ok(());
            }
            _ => {}
        }
        // A prime names another open file of the same name.
        let name = line.word(1).trim_end_matches('\'').to_string();
        let mut model = self.model.borrow_mut();
        let known = model.entry(name.clone()).or_default();
        let (mut exists, mut blocks) = (known.exists(), known.blocks());
        let persists = apply(&mut exists, &mut blocks, line);
        if line.word(0) == "clone" {
            let target = line.word(3).to_string();
            let source = known.blocks();
            let (from, to) = (line.number(2) as usize, line.number(4) as usize);
            let len = line.number(5) as usize;
            let known = model.entry(target).or_default();
            let mut blocks = known.blocks();
            blocks.resize(blocks.len().max(to + len), None);
            blocks[to..to + len].clone_from_slice(&source[from..from + len]);
            known.change(began, true, blocks);
        } else if !persists {
            known.change(began, exists, blocks);
        }
        let done = model.entry(name.clone()).or_default().done();
        drop(model);
        match self.perform(task, line) {
            // It may fail, but success is a promise.
            Err(error) if line.word(0) == "fsync_maybe" && !error.is_stopped() => {
                self.model.borrow_mut().entry(name).or_default().lose();
                return Ok(());
            }
            other => other?,
        }
        let returned = task.machine().tick();
        let mut model = self.model.borrow_mut();
        let known = model.entry(name).or_default();
        if persists {
            let blocks = (line.word(0) == "fsync_range").then(|| line.blocks(2));
            known.persist(returned, done, blocks);
        } else if line.word(0) == "clone" {
            model.entry(line.word(3).to_string()).or_default().finish();
        } else {
            known.finish();
        }
        Ok(())
    }

    /// What others do at the same time need not be durable.
    fn sync(&self, task: &Task) -> Result<()> {
        let done: BTreeMap<String, usize> =
            self.model.borrow().iter().map(|(name, file)| (name.clone(), file.done())).collect();
        self.fs.sync(task)?;
        let returned = task.machine().tick();
        for (name, state) in done {
            self.model.borrow_mut().entry(name).or_default().persist(returned, state, None);
        }
        Ok(())
    }

    fn perform(&self, task: &Task, line: &Line<'_>) -> Result<()> {
        let name = line.word(1);
        match line.word(0) {
            "create" => {
                let file = self.fs.create(task, name)?;
                self.files.borrow_mut().insert(name.to_string(), file);
                return Ok(());
            }
            "unlink" => {
                self.files.borrow_mut().remove(name);
                return self.fs.unlink(task, name);
            }
            // The file stays open, under its name with a prime.
            "unlink_open" => {
                let file = self.file(task, name)?;
                self.files.borrow_mut().insert(format!("{name}'"), file);
                self.files.borrow_mut().remove(name);
                return self.fs.unlink(task, name);
            }
            _ => {}
        }
        let file = self.file(task, name)?;
        match line.word(0) {
            "write" => {
                let span = line.span(2);
                file.write(task, span.start, &vec![line.fill; span.len() as usize], Sync::None)?;
            }
            "dwrite" => {
                let span = line.span(2);
                let bytes = vec![line.fill; span.len() as usize];
                file.direct_write(task, span.start, &bytes, Sync::None)?;
            }
            "owrite" => {
                let span = line.span(2);
                file.write(task, span.start, &vec![line.fill; span.len() as usize], Sync::Data)?;
            }
            "wb" => match file.writeback(task) {
                // What the device failed is for fsync to report.
                Err(error) if !error.is_stopped() => {}
                other => other?,
            },
            "fsync" | "fsync_maybe" => file.fsync(task)?,
            "fdatasync" => file.fdatasync(task)?,
            "fsync_range" => file.fsync_range(task, line.span(2))?,
            "fsync_fails" => assert!(file.fsync(task).is_err(), "fsync reports the lost write"),
            "open" => {}
            "trunc" => file.truncate(task, line.number(2) * BLOCK)?,
            "punch" => file.punch(task, line.span(2))?,
            "falloc" => file.fallocate(task, line.span(2), false)?,
            "clone" => {
                let target = self.file(task, line.word(3))?;
                let (from, len) = (line.number(2) * BLOCK, line.number(5) * BLOCK);
                file.clone_range(task, from, &target, line.number(4) * BLOCK, len)?;
            }
            other => panic!("{other:?} is no operation"),
        }
        Ok(())
    }
}

/// What an operation does to the model of its file; whether it persists instead.
fn apply(exists: &mut bool, blocks: &mut Vec<Cell>, line: &Line<'_>) -> bool {
    match line.word(0) {
        "create" => *exists = true,
        "unlink" | "unlink_open" => {
            *exists = false;
            blocks.clear();
        }
        "write" | "dwrite" | "owrite" => {
            let range = line.blocks(2);
            blocks.resize(blocks.len().max(range.end), None);
            blocks[range].fill(Some(line.fill));
        }
        "trunc" => blocks.resize(line.number(2) as usize, None),
        "punch" => {
            let range = line.blocks(2);
            let end = range.end.min(blocks.len());
            blocks[range.start.min(end)..end].fill(None);
        }
        "falloc" => {
            let end = line.blocks(2).end;
            blocks.resize(blocks.len().max(end), None);
        }
        "fsync" | "fsync_maybe" | "fdatasync" | "fsync_range" => return true,
        _ => {}
    }
    false
}

/// What a mounted file system shows of a file: its blocks, or `None` if there is no such name.
pub fn look(task: &Task, fs: &Fs, name: &str) -> Result<Option<Vec<Cell>>, String> {
    let file = match fs.open(task, name) {
        Ok(file) => file,
        Err(error) if error.errno() == engine::Errno::ENOENT => return Ok(None),
        Err(error) => return Err(format!("{name}: failed to open: {error}")),
    };
    let size = file.stat(task).map_err(|error| format!("{name}: failed to stat: {error}"))?.size;
    let mut cells = Vec::new();
    for index in 0..size.div_ceil(BLOCK) {
        let content = file.read_block(task, index);
        let content = content.map_err(|error| format!("{name}: block {index}: {error}"))?;
        let Some(content) = content else {
            cells.push(None);
            continue;
        };
        let bytes = content.bytes();
        if bytes.iter().any(|byte| *byte != bytes[0]) {
            return Err(format!("{name}: block {index} is of no operation: {:?}", &bytes[..16]));
        }
        cells.push(Some(bytes[0]).filter(|fill| *fill != 0));
    }
    Ok(Some(cells))
}
