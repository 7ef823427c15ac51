//! A small language for histories, so that tests of the oracle are data.
//!
//! One event a line; `#` opens a comment where a line begins with it. Operations are numbered from
//! 1 in the order of their invocations. Paths are `f g h`, mappings `m n`, tasks `a b c`.
//!
//! ```text
//! a write f 0 8192        invoke, and return as it should
//! a( write f 0 4096       invoke
//! a)                      return; also `a) EIO`, `a) count 512`, `a) at 4096`, `a) differs`
//! a read f 0 8192 = #1 0  return these blocks
//! a stat f = 8192         return this size
//! a list = f g
//! a holes f = 4096 +8192  a hole up to 4096, then data up to 8192
//! ... !stale-data         the return is a violation of that kind
//! error write f           the device failed a write of f; also `read`, and without a path
//! cut                     later `ok` and `bad` lines judge a cut here
//! ok f:8192 #1 0 g:0      these names, sizes and blocks are allowed
//! bad lost-data f:4096 0  and these are that kind of violation
//! ```
//!
//! A block is `0` (zeros), `P` (poison), `X` (bytes of nobody), `=aa` (one byte) or `#n` (the bytes
//! that operation n would have there; `#n+4096` and `#n-4096`: from
//! another place of its stream); `#1/2048/#2` changes
//! at byte 2048. Blocks that are not named are zero.
use crate::common::{BLOCK, Shown};
use oracle::content;
use oracle::operation::*;
use oracle::{CallId, DeviceError, DeviceErrorPlace, Kind, Moment, Oracle, Promises, Violation};
use std::collections::BTreeMap;

/// Runs a script; panics with the line that does not hold.
pub struct Script {
    pub oracle: Oracle,
    now: u64,
    cut: u64,
    ops: Vec<(Operation, u64)>,
    maps: BTreeMap<MapId, Span>,
    sizes: BTreeMap<PathId, u64>,
    open: BTreeMap<String, (CallId, usize)>,
}

pub fn path(word: &str) -> PathId {
    PathId(word.bytes().next().map_or(0, |byte| byte.wrapping_sub(b'f')))
}

fn map(word: &str) -> MapId {
    MapId(word.bytes().next().map_or(0, |byte| byte.wrapping_sub(b'm')))
}

fn task(word: &str) -> TaskIndex {
    TaskIndex(word.as_bytes()[0] - b'a' + 1)
}

impl Script {
    pub fn new(promises: Promises) -> Script {
        let mut oracle = Oracle::new(promises);
        oracle.set_path_names(["f", "g", "h"]);
        Script {
            oracle,
            now: 0,
            cut: 0,
            ops: Vec::new(),
            maps: BTreeMap::new(),
            sizes: BTreeMap::new(),
            open: BTreeMap::new(),
        }
    }

    pub fn run(promises: Promises, text: &str) -> Script {
        let mut script = Script::new(promises);
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            if !line.is_empty() && !line.starts_with("# ") {
                script.line(line, &format!("line {}: {line}\n{text}", number + 1));
            }
        }
        script
    }

    fn tick(&mut self) -> Moment {
        self.now += 1;
        Moment(self.now)
    }

    fn line(&mut self, line: &str, context: &str) {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[0] {
            "cut" => self.cut = self.tick().0,
            "error" => {
                let place = words.get(2).map(|word| DeviceErrorPlace::File(path(word)));
                let at = self.tick();
                let place = place.unwrap_or(DeviceErrorPlace::Unknown);
                let error = DeviceError { write: words[1] == "write", place };
                self.oracle.note_device_error(at, error);
            }
            "ok" => {
                let verdict = self.judge(&words[1..]);
                assert!(verdict.is_ok(), "{verdict:?}\n{context}");
            }
            "bad" => {
                let kind: Kind = words[1].parse().expect(context);
                let found = self.judge(&words[2..]).expect_err(context);
                assert_eq!(found.kind, kind, "{found}\n{context}");
            }
            _ => self.event(&words, context),
        }
    }

    fn judge(&self, words: &[&str]) -> Result<(), Violation> {
        let mut shown = Shown { nlink: 1, ..Shown::default() };
        for word in words {
            if let Some((name, size)) = word.split_once(':') {
                shown.names.push(path(name));
                shown.files.insert(path(name), (size.parse().expect(word), Vec::new()));
            } else {
                let last = *shown.names.last().expect("a block follows its name");
                let blocks = &mut shown.files.get_mut(&last).expect("named").1;
                let number = blocks.len() as u64;
                blocks.push(self.block(word, number));
            }
        }
        self.oracle.judge(Moment(self.cut), &shown)
    }

    /// The bytes of a described block.
    pub fn block(&self, word: &str, number: u64) -> [u8; BLOCK] {
        let mut bytes = [0; BLOCK];
        let mut from = 0;
        for piece in word.split('/') {
            if from > 0 || !piece.chars().all(|c| c.is_ascii_digit()) || piece == "0" {
                self.piece(piece, number, from, &mut bytes);
            }
            from = piece.parse().unwrap_or(from);
        }
        bytes
    }

    fn piece(&self, piece: &str, number: u64, from: usize, bytes: &mut [u8; BLOCK]) {
        let out = &mut bytes[from..];
        if let Some(tag) = piece.strip_prefix('#') {
            let sign = tag.find(['+', '-']).unwrap_or(tag.len());
            let id: usize = tag[..sign].parse().expect(piece);
            let shift: i64 = tag[sign..].parse().unwrap_or(0);
            let (op, landed) = &self.ops[id - 1];
            let (fill, path, _) = content::stream(op).expect("an operation with data");
            let position = (number as usize * BLOCK + from) as i64 + shift - *landed as i64;
            content::fill(fill, OpId(id as u16), path, position as u64, out);
        } else if let Some(byte) = piece.strip_prefix('=') {
            out.fill(u8::from_str_radix(byte, 16).expect(piece));
        } else if piece == "P" {
            let poison = content::poison(0, 99);
            for (index, byte) in out.iter_mut().enumerate() {
                *byte = poison[(from + index) % 16];
            }
        } else if piece == "X" {
            out.iter_mut().enumerate().for_each(|(index, byte)| *byte = index as u8 | 1);
        } else if piece == "0" {
            out.fill(0);
        }
    }

    fn event(&mut self, words: &[&str], context: &str) {
        let expected = words.last().and_then(|word| word.strip_prefix('!'));
        let words = if expected.is_some() { &words[..words.len() - 1] } else { words };
        let (who, ends) = (words[0], words[0].ends_with(')'));
        let name = who.trim_end_matches(['(', ')']).to_owned();
        let result;
        let (call, index) = if ends {
            result = words[1..].to_vec();
            self.open.remove(&name).expect(context)
        } else {
            let split = words.iter().position(|&word| word == "=").unwrap_or(words.len());
            let failed = words[split - 1].chars().all(|c| c.is_ascii_uppercase());
            let split = if failed { split - 1 } else { split };
            let op = self.operation(&words[1..split], context);
            if let Operation::Mmap { map, span, .. } = op {
                self.maps.insert(map, span);
            }
            let landed = match op {
                Operation::Store { map, .. } => self.maps.get(&map).map_or(0, |span| span.offset),
                _ => 0,
            };
            self.ops.push((op.clone(), landed));
            let id = OpId(self.ops.len() as u16);
            let at = self.tick();
            let call = self.oracle.invoke(task(&name), id, &op, at);
            if who.ends_with('(') {
                self.open.insert(name, (call, self.ops.len() - 1));
                return;
            }
            result = words[split..].to_vec();
            (call, self.ops.len() - 1)
        };
        let outcome = self.outcome(index, &result);
        let at = self.tick();
        let verdict = self.oracle.complete(call, at, &outcome);
        match expected {
            None => assert!(verdict.is_ok(), "{verdict:?}\n{context}"),
            Some(kind) => {
                let found = verdict.expect_err(context);
                assert_eq!(found.kind.name(), kind, "{found}\n{context}");
            }
        }
    }

    /// The result that a line describes; by default what a sequential file system returns.
    fn outcome(&mut self, index: usize, words: &[&str]) -> Outcome {
        let op = self.ops[index].0.clone();
        let words = if words.first() == Some(&"=") { &words[1..] } else { words };
        let number = |word: &str| word.parse::<u64>().expect("a number");
        match (&op, words) {
            (_, ["EIO"]) => Err(Errno::EIO),
            (_, ["ENOENT"]) => Err(Errno::ENOENT),
            (_, ["EEXIST"]) => Err(Errno::EEXIST),
            (_, ["EINVAL"]) => Err(Errno::EINVAL),
            (_, ["EFAULT"]) => Err(Errno::EFAULT),
            (_, ["ENOSPC"]) => Err(Errno::ENOSPC),
            (_, ["EAGAIN"]) => Err(Errno::EAGAIN),
            (_, ["count", n]) => Ok(Value::Count(number(n))),
            (_, ["differs"]) => Ok(Value::Differs),
            (Operation::Append { path, len, .. }, rest) => {
                let size = self.sizes.entry(*path).or_default();
                let offset = rest.get(1).map_or(*size, |word| number(word));
                *size = offset + len;
                self.ops[index].1 = offset;
                Ok(Value::Appended { offset, len: *len })
            }
            (Operation::Stat { .. }, [size]) => Ok(Value::Stat { size: number(size), nlink: 1 }),
            (Operation::List, names) => Ok(Value::Names(names.iter().map(|n| path(n)).collect())),
            (Operation::Holes { .. }, ends) => Ok(Value::Holes(hole_runs(ends))),
            (Operation::Load { map, span }, blocks) => {
                let first = self.maps[map].offset + span.offset;
                Ok(Value::Bytes(self.bytes(Span::new(first, span.len), blocks)))
            }
            (
                Operation::Read { span, .. }
                | Operation::DirectRead { span, .. }
                | Operation::AsyncRead { span, .. },
                blocks,
            ) => Ok(Value::Bytes(self.bytes(*span, blocks))),
            (Operation::Dedupe { len, .. }, _) => Ok(Value::Count(*len)),
            (
                Operation::Write { span, path, .. }
                | Operation::DirectWrite { span, path, .. }
                | Operation::AsyncWrite { span, path, .. }
                | Operation::DirectWriteFrom { span, path, .. }
                | Operation::DirectReadInto { span, path, .. },
                _,
            ) => {
                let size = self.sizes.entry(*path).or_default();
                *size = span.end().max(*size);
                Ok(Value::Count(span.len))
            }
            _ => Ok(Value::Unit),
        }
    }

    /// The blocks of a range; a last word `short` and a number cuts them.
    fn bytes(&self, span: Span, words: &[&str]) -> Vec<u8> {
        let (blocks, len) = match words {
            [blocks @ .., "short", len] => (blocks, len.parse().expect("a number")),
            blocks => (blocks, span.len as usize),
        };
        let first = span.offset / BLOCK as u64;
        let mut all = Vec::new();
        for (index, word) in blocks.iter().enumerate() {
            all.extend(self.block(word, first + index as u64));
        }
        let skip = (span.offset % BLOCK as u64) as usize;
        all.resize(skip + len, 0);
        all.split_off(skip)
    }

    fn operation(&self, words: &[&str], context: &str) -> Operation {
        use Operation as Op;
        let number = |index: usize| words.get(index).expect(context).parse().expect(context);
        let span = |at: usize| Span::new(number(at), number(at + 1));
        let p = words.get(1).map_or(PathId(0), |word| path(word));
        let m = words.get(1).map_or(MapId(0), |word| map(word));
        let sync = if words.contains(&"sync") { Sync::Data } else { Sync::None };
        let keep_size = words.contains(&"keep");
        let byte = words.iter().find_map(|word| word.strip_prefix("fill="));
        let fill = byte.map_or(Fill::Tag, |b| Fill::Byte(u8::from_str_radix(b, 16).expect("hex")));
        let from = words.iter().position(|&word| word == "from" || word == "into");
        let via = from.map(|at| (map(words[at + 1]), number(at + 2)));
        match (words[0], via) {
            ("create", _) => Op::Create { path: p },
            ("unlink", _) => Op::Unlink { path: p },
            ("truncate", _) => Op::Truncate { path: p, size: number(2) },
            ("write", _) => Op::Write { path: p, span: span(2), fill, sync },
            ("append", _) => Op::Append { path: p, len: number(2), fill, sync },
            ("read", _) => Op::Read { path: p, span: span(2) },
            ("dwrite", Some((map, map_offset))) => {
                Op::DirectWriteFrom { path: p, span: span(2), map, map_offset, sync }
            }
            ("dwrite", None) => Op::DirectWrite { path: p, span: span(2), fill, sync },
            ("dread", Some((map, map_offset))) => {
                Op::DirectReadInto { path: p, span: span(2), map, map_offset }
            }
            ("dread", None) => Op::DirectRead { path: p, span: span(2) },
            ("awrite", _) => Op::AsyncWrite { path: p, span: span(2), fill, sync },
            ("mmap", _) => Op::Mmap { map: m, path: path(words[2]), span: span(3) },
            ("munmap", _) => Op::Munmap { map: m },
            ("load", _) => Op::Load { map: m, span: span(2) },
            ("store", _) => Op::Store { map: m, span: span(2), fill },
            ("msync", _) => Op::Msync { map: m, span: span(2) },
            ("falloc", _) => Op::Fallocate { path: p, span: span(2), keep_size },
            ("punch", _) => Op::Punch { path: p, span: span(2) },
            ("zero", _) => Op::ZeroRange { path: p, span: span(2), keep_size },
            ("clone" | "dedupe", _) => {
                let (source_offset, target) = (number(2), path(words[3]));
                let (target_offset, len) = (number(4), number(5));
                if words[0] == "clone" {
                    Op::Clone { source: p, source_offset, target, target_offset, len }
                } else {
                    Op::Dedupe { source: p, source_offset, target, target_offset, len }
                }
            }
            ("fsync", _) => Op::Fsync { path: p },
            ("fdatasync", _) => Op::Fdatasync { path: p },
            ("fsyncrange", _) => Op::FsyncRange { path: p, span: span(2) },
            ("sync", _) => Op::Sync,
            ("holes", _) => Op::Holes { path: p },
            ("stat", _) => Op::Stat { path: p },
            ("list", _) => Op::List,
            (other, _) => panic!("no operation {other}\n{context}"),
        }
    }
}

fn hole_runs(ends: &[&str]) -> Vec<HoleRun> {
    let mut at = 0;
    let mut runs = Vec::new();
    for word in ends {
        let end: u64 = word.trim_start_matches('+').parse().expect("an end");
        runs.push(HoleRun { span: Span::new(at, end - at), data: word.starts_with('+') });
        at = end;
    }
    runs
}
