//! Histories in which names come and go: what is seen by a name, and which file a call that
//! overlaps a create or an unlink acts on. The language is that of `script`.
mod common;
mod script;

use oracle::Promises;
use script::Script;

fn strict(text: &str) {
    let script = Script::run(Promises::strict(), text);
    assert_eq!(script.oracle.inconclusive(), 0, "a bound was hit in\n{text}");
}

#[test]
fn names_come_and_go() {
    strict(
        "a create f
         a create f EEXIST
         a create f !wrong-result
         a unlink g ENOENT
         a read f 0 4096 ENOENT !wrong-result
         a list = f
         a list = !lost-name
         a list = f g !ghost-name",
    );
    strict(
        "a create f
         a write f 0 4096
         a sync
         a unlink f
         cut
         ok
         ok f:4096 #2
         bad lost-data f:4096 0
         a create f
         a write f 0 4096
         cut
         ok f:4096 #2
         ok f:4096 #6
         ok f:4096 0
         ok f:0
         ok
         bad stale-data f:4096 #2/2048/#6
         a fsync f
         cut
         ok f:4096 #6
         bad stale-data f:4096 #2
         bad lost-name",
    );
}

#[test]
fn a_create_and_an_unlink_at_once() {
    strict(
        "a create f
         a( unlink f
         b( create f
         a)
         b)
         a list = f
         a unlink f
         a list =",
    );
    strict(
        "a( create f
         b( create f
         a)
         b) !wrong-result",
    );
    strict(
        "a create f
         a( unlink f
         b( write f 0 4096
         a)
         b) ENOENT",
    );
}

#[test]
fn a_write_that_races_a_rebirth_is_in_either_file() {
    strict(
        "a create f
         a( unlink f
         b( write f 0 4096
         a)
         a create f
         b)
         a read f 0 4096 = short 0
         a read f 0 4096 = #3
         a sync
         cut
         ok f:0
         ok f:4096 #3
         bad lost-name",
    );
}

/// A write by a name that changes hands meanwhile may be in the new file, and stays there.
#[test]
fn a_write_may_be_in_a_file_that_is_created_meanwhile() {
    strict(
        "a create f
         c( create f
         a( write f 0 4096
         b( unlink f
         b)
         c)
         a)
         a read f 0 4096 = #3",
    );
    strict(
        "a create f
         c( create f
         a( write f 0 4096
         b( unlink f
         b)
         c)
         a)
         a truncate f 4096
         a read f 0 4096 = #3",
    );
    strict(
        "a create f
         a( write f 0 4096
         c( create f
         b( unlink f
         b)
         c)
         a)
         a truncate f 4096
         a read f 0 4096 = #2",
    );
}

/// An append by a name that changes hands meanwhile may be in the old file.
#[test]
fn appends_to_two_files_of_one_name_may_overlap() {
    strict(
        "a create f
         a( append f 8192
         b unlink f
         b create f
         b( append f 8192
         a) at 0
         b) at 0",
    );
    strict(
        "a create f
         a( append f 8192
         b( append f 8192
         a) at 0
         b) at 0 !wrong-result",
    );
}
