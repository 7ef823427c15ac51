//! Small histories, each with what the oracle must accept and what it must reject.
//! The language is that of `script`.
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
fn a_write_that_was_not_synced_may_be_lost_in_blocks() {
    strict(
        "a create f
         a write f 0 8192
         cut
         ok
         ok f:0
         ok f:8192 #2 #2
         ok f:8192 0 #2
         ok f:4096 #2
         ok f:4096 0
         bad wrong-size f:2048 #2
         bad wrong-size f:12288 #2 #2
         bad torn-data f:8192 #2/2048/0 #2
         bad poison f:8192 P #2
         bad corrupt-data f:8192 X #2
         bad ghost-name g:0",
    );
}

#[test]
fn an_fsync_that_returned_keeps_data_size_and_name() {
    strict(
        "a create f
         a write f 0 8192
         a fsync f
         a write f 0 4096
         cut
         ok f:8192 #2 #2
         ok f:8192 #4 #2
         bad lost-name
         bad wrong-size f:4096 #2
         bad wrong-size f:0
         bad lost-data f:8192 0 #2
         bad lost-data f:8192 #2 0",
    );
}

#[test]
fn an_fsync_in_flight_promises_nothing() {
    strict(
        "a create f
         a write f 0 4096
         a( fsync f
         cut
         ok
         ok f:4096 0
         a)
         cut
         bad lost-name
         bad lost-data f:4096 0
         ok f:4096 #2",
    );
}

#[test]
fn an_fsync_covers_only_what_returned_before_it_was_invoked() {
    strict(
        "a create f
         a sync
         a( write f 0 4096
         b fsync f
         a)
         cut
         ok f:0
         ok f:4096 #3
         ok f:4096 0",
    );
}

#[test]
fn concurrent_writes_may_have_either_order() {
    strict(
        "a create f
         a( write f 0 4096
         b( write f 0 4096
         a)
         b)
         a read f 0 4096 = #2
         b read f 0 4096 = #3
         a fsync f
         cut
         ok f:4096 #2
         ok f:4096 #3
         bad lost-data f:4096 0
         bad torn-data f:4096 #2/2048/#3",
    );
}

#[test]
fn a_read_shows_what_was_current_during_it() {
    strict(
        "a create f
         a write f 0 4096
         a write f 0 4096
         a read f 0 4096 = #3
         a read f 0 4096 = #2 !stale-data
         a read f 0 4096 = 0 !stale-data
         a read f 0 4096 = P !poison
         a read f 100 50 = #3
         a( read f 0 4096
         b( write f 0 4096
         a) = #3
         c read f 0 4096 = #10
         b)
         c read f 0 4096 = #3 !stale-data
         a read f 4096 4096 = short 0
         a read f 0 8192 = #10 short 4096
         a read f 0 8192 = #10 0 !wrong-size
         a read f 0 4096 = #10 short 100 !wrong-size",
    );
}

#[test]
fn sectors_are_the_atom_of_writing_in_place() {
    check(
        Promises::in_place(),
        "a create f
         a write f 0 4096
         a fsync f
         a dwrite f 0 4096
         cut
         ok f:4096 #4/512/#2
         ok f:4096 #2/512/#4/1024/#2
         bad torn-data f:4096 #4/100/#2
         bad lost-data f:4096 #2/512/0",
    );
}

#[test]
fn bytes_of_other_files_are_foreign() {
    strict(
        "a create f
         a create g
         a write f 0 4096
         a write g 0 4096
         a sync
         cut
         ok f:4096 #3 g:4096 #4
         bad foreign-data f:4096 #4 g:4096 #4
         bad foreign-data f:4096 #3 g:4096 #3
         bad lost-name f:4096 #3
         a read g 0 4096 = #3 !foreign-data",
    );
}

#[test]
fn clones_carry_bytes_along_chains() {
    strict(
        "a create f
         a create g
         a create h
         a write f 0 8192
         a clone f 4096 g 0 4096
         a clone g 0 h 8192 4096
         a read h 8192 4096 = #4-4096
         a read h 0 4096 = 0
         a stat h = 12288
         a write f 4096 4096
         a read g 0 4096 = #4+4096
         a read g 0 4096 = #10+4096 !foreign-data",
    );
}

#[test]
fn a_clone_sees_its_source_at_one_moment_of_its_interval() {
    strict(
        "a create f
         a create g
         a write f 0 4096
         a( clone f 0 g 0 4096
         b write f 0 4096
         a)
         c read g 0 4096 = #3
         c read g 0 4096 = #5
         a fsync g
         cut
         ok f:4096 #3 g:4096 #3
         ok f:4096 #3 g:4096 #5
         ok g:4096 #3
         bad lost-data g:4096 0",
    );
}

#[test]
fn dedupe_compares_and_changes_nothing() {
    strict(
        "a create f
         a create g
         a write f 0 4096 fill=aa
         a write g 0 4096 fill=aa
         a dedupe f 0 g 0 4096
         a dedupe f 0 g 0 4096 = differs !wrong-dedupe
         a write g 0 100
         a dedupe f 0 g 0 4096 !wrong-dedupe
         a dedupe f 0 g 0 4096 = differs
         a( dedupe f 0 g 0 4096
         b write g 0 4096 fill=aa
         a)
         a read g 0 4096 = =aa",
    );
}

#[test]
fn truncation_removes_and_growing_shows_zeros() {
    strict(
        "a create f
         a write f 0 8192
         a truncate f 100
         a read f 0 8192 = #2 short 100
         a truncate f 8192
         a read f 0 8192 = #2/100/0 0
         a read f 0 8192 = #2 0 !stale-data
         a read f 0 8192 = #2/100/0 #2 !stale-data
         a fsync f
         cut
         ok f:8192 #2/100/0 0
         bad stale-data f:8192 #2/100/0 #2
         bad stale-data f:8192 #2 0",
    );
}

#[test]
fn a_truncation_that_was_not_synced_may_be_lost_or_cut_short() {
    strict(
        "a create f
         a write f 0 12288
         a sync
         a truncate f 0
         cut
         ok f:12288 #2 #2 #2
         ok f:0
         ok f:8192 #2 #2
         ok f:12288 #2 0 #2
         bad wrong-size f:100 #2
         bad torn-data f:12288 #2 #2 #2/112/0",
    );
}

#[test]
fn appends_land_at_the_end() {
    strict(
        "a create f
         a append f 100
         a append f 5000
         a stat f = 5100
         a read f 0 5100 = #2/100/#3 #3
         a append f 10 = at 4096 !wrong-result",
    );
    strict(
        "a create f
         a( append f 4096
         b( append f 4096
         a) at 0
         b) at 0 !wrong-result",
    );
    strict(
        "a create f
         a( append f 4096
         b( append f 4096
         cut
         ok f:4096 #2
         ok f:8192 0 0
         a) at 4096
         b) at 0
         cut
         ok f:8192 #3 #2
         a read f 0 8192 = #3 #2",
    );
}

#[test]
fn an_append_in_flight_may_have_landed_anywhere_it_could() {
    strict(
        "a create f
         a write f 0 100
         a sync
         a( append f 100
         b( write f 0 1000
         cut
         ok f:100 #2
         ok f:1000 #5/1000/0
         ok f:200 #2/100/#4-100
         ok f:1100 #5/1000/#4-1000
         bad corrupt-data f:1100 #5/1000/X",
    );
}

#[test]
fn memory_and_files_are_one() {
    strict(
        "a create f
         a write f 0 8192
         a mmap m f 4096 4096
         a load m 0 4096 = #2
         a store m 0 100
         a read f 4096 4096 = #5/100/#2
         a read f 4096 4096 = #2 !stale-data
         a load m 4096 1 EFAULT
         a load m 4096 1 = 0 !wrong-result
         a msync m 0 4096
         cut
         ok f:8192 0 #5/100/#2
         bad lost-data f:8192 0 #2
         a truncate f 4096
         a load m 0 1 EFAULT
         a munmap m
         a load m 0 1 EFAULT",
    );
}

#[test]
fn direct_io_through_a_mapping_copies() {
    strict(
        "a create f
         a create g
         a write f 0 4096
         a truncate g 8192
         a mmap m f 0 4096
         a mmap n g 4096 4096
         a dwrite g 0 4096 from m 0
         a read g 0 4096 = #3
         a dread f 0 4096 into n 0
         a read g 0 8192 = #3 0 !stale-data
         a dread g 0 4096 = #3
         a dwrite f 0 512 from m 1024
         a read f 0 512 = #3+1024",
    );
}

#[test]
fn stores_beyond_the_end_of_the_file_vanish() {
    strict(
        "a create f
         a write f 0 100
         a mmap m f 0 4096
         a store m 0 4096
         a load m 0 4096 = #4
         a truncate f 4096
         a read f 0 4096 = #4/100/0
         a read f 0 4096 = #4 !stale-data",
    );
}

#[test]
fn synchronous_writes_promise_themselves() {
    strict(
        "a create f
         a sync
         a write f 0 4096
         a write f 8192 4096 sync
         cut
         ok f:12288 0 0 #4
         ok f:12288 #3 0 #4
         bad lost-data f:12288 0 0 0
         bad wrong-size f:8192 0 0",
    );
    strict(
        "a create f
         a sync
         a( awrite f 0 4096 sync
         cut
         ok f:0
         a)
         cut
         bad wrong-size f:0
         ok f:4096 #3",
    );
}

#[test]
fn a_range_sync_promises_the_range() {
    strict(
        "a create f
         a sync
         a write f 0 4096
         a write f 4096 4096
         a fsyncrange f 0 4096
         cut
         ok f:4096 #3
         ok f:8192 #3 0
         bad wrong-size f:0
         bad lost-data f:4096 0",
    );
}

/// A write that is short on a full device has held the file's locks to its end: who comes after it
/// appends where it stopped. That it was short is told later.
#[test]
fn an_append_may_land_where_a_short_write_stopped() {
    let append = "a create f
         b( awrite f 0 16384
         a append f 4096 = at 8192";
    strict(&format!("{append}\n b) count 8192\n a stat f = 12288"));
    strict(&format!("{append}\n b) !wrong-result"));
    strict(&format!("{append}\n b) count 4096 !wrong-result"));
    strict("a create f\n b( awrite f 0 16384\n a append f 4096 = at 2048 !wrong-result");
    // One of two appends is in flight, behind a write that was cut short by an error.
    strict(
        "a create f
         error write f
         a write f 0 16384 = count 8192
         b( append f 2560
         a append f 4096 = at 10752
         b) at 8192",
    );
}

/// A load of two blocks may find the file cut before either, and in the second what was stored
/// behind the old end; in the first it may not.
#[test]
fn a_load_beside_a_truncate_may_show_what_was_stored_behind_the_end() {
    let around = |shown: &str| {
        strict(&format!(
            "a create f
             a truncate f 14272
             a mmap m f 0 16384
             b( store m 12288 4096
             c( truncate f 4096
             a load m 8192 8192 = {shown}
             b)
             c)"
        ));
    };
    around("0 #4");
    around("X #4 !corrupt-data");
}

/// A mapping of a part of a page shows the page, as mmap(2) says.
#[test]
fn a_mapping_has_whole_pages() {
    strict(
        "a create f
         a write f 0 4096
         a mmap m f 0 3584
         a store m 0 4096
         a read f 0 4096 = #4
         a msync m 0 4096
         cut
         ok f:4096 #4
         bad lost-data f:4096 #2",
    );
}

#[test]
fn hole_maps_hide_no_data() {
    strict(
        "a create f
         a write f 4096 4096
         a holes f = 4096 +8192
         a holes f = +8192 !false-data
         a holes f = 8192 !hidden-data
         a holes f = 4096 !wrong-size
         a falloc f 8192 4096
         a holes f = 4096 +12288
         a holes f = 4096 +8192 12288
         a punch f 4096 4096
         a holes f = 12288
         a read f 4096 4096 = 0
         a read f 4096 4096 = #2 !stale-data",
    );
}

#[test]
fn punching_is_durable_when_synced() {
    strict(
        "a create f
         a write f 0 8192
         a sync
         a punch f 0 4096
         cut
         ok f:8192 #2 #2
         ok f:8192 0 #2
         a fdatasync f
         cut
         ok f:8192 0 #2
         bad stale-data f:8192 #2 #2",
    );
}

#[test]
fn stores_that_overlap_a_write_may_tear() {
    strict(
        "a create f
         a write f 0 4096
         a mmap m f 0 4096
         a( store m 0 4096
         b( write f 0 4096
         a)
         b)
         a read f 0 4096 = #4/8/#5
         a read f 0 4096 = #4/8/P !poison
         a read f 0 4096 = #2 !stale-data",
    );
}

#[test]
fn tiers_that_are_not_promised_pass() {
    use oracle::{Tier, Tiers};
    let basic = Promises { tiers: Tiers::BASIC, ..Promises::strict() };
    let script = Script::run(
        basic,
        "a create f
         a write f 0 4096
         a fsync f
         cut
         ok
         bad lost-data f:4096 0
         a sync
         cut
         ok",
    );
    assert_eq!(script.oracle.unpromised(), 1);
    assert!(!Tiers::BASIC.contains(Tier::LinuxPractice));
}

#[test]
fn messages_name_what_was_shown_and_what_was_allowed() {
    let mut script = Script::run(
        Promises::strict(),
        "a create f
         a write f 0 4096
         a write f 0 4096
         a fsync f
         a write f 0 4096
         cut",
    );
    let mut shown = common::Shown { nlink: 1, ..Default::default() };
    shown.names.push(script::path("f"));
    shown.files.insert(script::path("f"), (4096, vec![script.block("#2", 0)]));
    let violation = script.oracle.judge(oracle::Moment(12), &shown).expect_err("lost");
    let text = "lost-data (G-11): block 0 of f shows bytes of write #2 to f at 0 at byte 0; \
                fsync #4 had returned; allowed: #3, #5";
    assert_eq!(violation.to_string(), text);
    script.oracle.reset(Promises::strict());
    assert_eq!(script.oracle.calls(), 0);
}
