//! Histories with errors: of the device, and of what is told of them. What the oracle must accept
//! and what it must reject, in the language of `script`.
mod common;
mod script;

use oracle::Promises;
use script::Script;

fn check(promises: Promises, text: &str) {
    let script = Script::run(promises, text);
    assert_eq!(script.oracle.inconclusive(), 0, "a bound was hit in\n{text}");
}

fn strict(text: &str) {
    check(Promises::strict(), text);
}

#[test]
fn a_task_that_is_told_of_no_error_has_lost_nothing() {
    strict(
        "a create f
         a sync
         a write f 0 4096
         error write f
         a read f 0 4096 = 0
         a fsync f
         cut
         bad lost-error f:4096 0
         ok f:4096 #3",
    );
    strict(
        "a create f
         a sync
         a write f 0 4096
         error write f
         a fsync f EIO
         a fsync f
         cut
         ok f:4096 0
         ok f:0
         b fsync f
         cut
         ok f:4096 0",
    );
    strict(
        "a create f
         b stat f = 0
         a sync
         a write f 0 4096
         error write f
         a fsync f EIO
         b fsync f
         cut
         bad wrong-size f:0
         bad lost-error f:4096 0",
    );
    strict(
        "a create f
         a sync
         a write f 0 4096
         error write f
         a sync
         cut
         ok f:0
         ok f:4096 0
         a fsync f EIO
         a write f 0 4096
         a sync
         cut
         bad lost-data f:4096 0
         ok f:4096 #6",
    );
}

/// Two calls that persist overlap, and each task opens the file with its call: the error is told to
/// whoever opened it before it was told to the other. If the other is told nothing either, it owes.
#[test]
fn an_error_is_told_to_one_of_those_who_open_the_file_meanwhile() {
    strict(
        "a create f
         a write f 0 4096
         error write f
         b( fsync f
         c fsync f
         cut
         ok f:4096 0
         b) EIO",
    );
    strict(
        "a create f
         a write f 0 4096
         error write f
         b( fsync f
         c fsync f
         b)
         cut
         bad wrong-size f:0
         bad lost-error f:4096 0",
    );
    strict(
        "a create f
         c stat f = 0
         a write f 0 4096
         error write f
         b( fsync f
         c fsync f
         cut
         bad lost-error f:4096 0
         b) EIO",
    );
}

/// What counts is when the device failed, not when the call returned that lost something: a store
/// of two pages goes on while the first is written, lost, and the loss told.
#[test]
fn a_loss_is_told_after_the_device_failed() {
    strict(
        "a create f
         a truncate f 8192
         a mmap m f 0 8192
         a sync
         b( store m 0 8192
         error write f
         a fsync f EIO
         b)
         a fsync f
         cut
         ok f:8192 0 #5",
    );
    strict(
        "a create f
         a fsync f
         a( write f 0 4096
         error write f
         a)
         b fsync f EIO
         a fsync f
         cut
         bad lost-error f:4096 0",
    );
}

/// An asynchronous synchronous write shares its open file with a synchronous one, which may lose
/// what the other is told of. Alone, a synchronous write owes what it returned.
#[test]
fn an_asynchronous_write_may_be_told_what_a_synchronous_one_lost() {
    strict(
        "a create f
         a sync
         a1( awrite f 8192 4096 sync
         a2( write f 0 4096 sync
         error write f
         a2)
         a1) EIO
         cut
         ok f:0
         ok f:4096 #4",
    );
    strict(
        "a create f
         a sync
         b( awrite f 8192 4096 sync
         a( write f 0 4096 sync
         error write f
         a)
         b) EIO
         cut
         bad lost-error f:4096 0",
    );
}

#[test]
fn errors_without_a_cause_are_wrong() {
    strict(
        "a create f
         a fsync f EIO !wrong-result
         a write f 0 4096 EAGAIN !wrong-result
         a dwrite f 100 512 EINVAL
         a dwrite f 100 512 !wrong-result
         a falloc f 0 0 EINVAL
         a falloc f 0 0 !wrong-result
         a truncate f 8192
         a create g
         a clone f 0 g 0 12288 EINVAL
         a clone f 0 g 0 12288 !wrong-result
         a clone f 0 f 4096 8192 EINVAL
         a clone f 0 g 0 4096 EINVAL !wrong-result
         a clone f 8192 g 100 0
         a clone f 4096 g 100 0 !wrong-result
         a clone f 0 h 0 4096 ENOENT
         error read f
         a read f 0 4096 EIO",
    );
    let small = Promises { may_run_out_of_space: false, ..Promises::strict() };
    check(
        small,
        "a create f
         a write f 0 4096 ENOSPC !wrong-result
         a write f 0 4096 = count 512 !wrong-result",
    );
}

#[test]
fn short_and_failed_writes_have_happened_in_part() {
    strict(
        "a create f
         a write f 0 8192 = count 4096
         a stat f = 4096
         a read f 0 8192 = #2 short 4096
         a write f 0 4096 ENOSPC
         a read f 0 4096 = #2
         a read f 0 4096 = #5/1000/#2
         a read f 0 4096 = #5/1000/P !poison",
    );
}
