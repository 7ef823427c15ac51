//! What mounted kernel file systems showed (`powerfail conform`): where the model was wrong, and
//! where kernels differ by right. Each case is what the strict profile must reject and what the
//! profile of Linux accepts, or what both must accept. The language is that of `script`.
mod common;
mod script;

use oracle::Promises;
use script::Script;

fn kernel() -> Promises {
    // ext4 and xfs refuse misaligned direct IO.
    Promises { direct_falls_back: false, ..Promises::linux() }
}

/// Both profiles accept it.
fn anywhere(text: &str) {
    Script::run(Promises::strict(), text);
    Script::run(kernel(), text);
}

/// Linux accepts the text; where its last line ends with `!kind`, the strict profile finds that.
fn only_on_linux(text: &str) {
    let kind = text.rfind(" !").expect("a text that the strict profile rejects");
    Script::run(Promises::strict(), text);
    Script::run(kernel(), &text[..kind]);
}

/// An append whose name led to another file while it was in flight. Seen on btrfs: the model took
/// it for certain that the new file had been appended to, once a write had made that file longer.
#[test]
fn an_append_in_flight_during_unlink_and_create_may_act_on_either_file() {
    anywhere(
        "a create f
         a write f 0 16384
         b( append f 4096
         a unlink f
         a create f
         a write f 32768 4096
         b) at 16384
         a stat f = 36864
         a read f 16384 4096 = 0
         cut
         ok f:36864 0 0 0 0 0 0 0 0 #6",
    );
}

/// Two appends may land at the same place if the file may have been cut between them. Seen on xfs:
/// the model forgot cuts that ended before the second append was invoked.
#[test]
fn appends_overlap_only_if_the_file_was_cut_between_them() {
    anywhere(
        "a create f
         b( append f 4096
         a truncate f 0
         c( append f 4096
         b) at 0
         c) at 0
         a stat f = 4096",
    );
    let overlapping = "a create f
         b( append f 4096
         c( append f 4096
         b) at 0
         c) at 0 !wrong-result";
    Script::run(Promises::strict(), overlapping);
    Script::run(kernel(), overlapping);
}

/// `iomap` zeroes the whole rest of a buffer where a file ends in a hole.
#[test]
fn a_direct_read_may_zero_the_rest_of_its_buffer() {
    only_on_linux(
        "a create f
         a write f 0 8192
         a create g
         a truncate g 4096
         a mmap m f 0 8192
         a dread g 0 8192 into m 0 = count 4096
         a read f 0 4096 = 0
         a read f 4096 4096 = 0 !stale-data",
    );
    anywhere(
        "a create f
         a write f 0 8192
         a create g
         a truncate g 4096
         a mmap m f 0 8192
         a dread g 0 8192 into m 0 = count 4096
         a read f 4096 4096 = #2
         a read f 4096 4096 = X !corrupt-data",
    );
}

/// Cached pages in use cannot be dropped after a direct write; Linux tells the next fsync.
#[test]
fn a_direct_write_that_met_a_store_may_end_in_eio() {
    only_on_linux(
        "a create f
         a truncate f 8192
         a mmap m f 0 8192
         a( awrite f 0 4096
         b store m 4096 4096
         a)
         b fsync f EIO !wrong-result",
    );
    // The memory of another file's direct IO is cached access, too. Seen on xfs with threads.
    only_on_linux(
        "a create f
         a write f 0 8192
         a create g
         a write g 0 4096
         a mmap m f 0 8192
         a( dread g 0 4096 into m 0
         b dwrite f 0 8192
         a)
         b fdatasync f EIO !wrong-result",
    );
    // Without a meeting in time, or on another file, there is no excuse.
    for text in [
        "a create f
         a truncate f 8192
         a mmap m f 0 8192
         a awrite f 0 4096
         b store m 4096 4096
         b fsync f EIO !wrong-result",
        "a create f
         a create g
         a truncate f 8192
         a mmap m f 0 8192
         a( awrite f 0 4096
         b store m 4096 4096
         a)
         b fsync g EIO !wrong-result",
    ] {
        Script::run(kernel(), text);
    }
}

/// ext4 grows the file by the part that failed, and then finds its own memory there; xfs returns 0.
#[test]
fn a_direct_write_from_beyond_the_end_of_its_own_file_may_succeed() {
    for result in ["count 16384", "count 0"] {
        only_on_linux(&format!(
            "a create f
             a mmap m f 4096 32768
             a dwrite f 29696 16384 from m 8192 = {result} !wrong-result"
        ));
    }
    anywhere(
        "a create f
         a mmap m f 4096 32768
         a dwrite f 29696 16384 from m 8192 EFAULT",
    );
}

/// Alignment is checked where data is read: not at the end of the file, and on Linux not in holes.
#[test]
fn a_misaligned_direct_read_that_finds_no_data_may_succeed() {
    anywhere(
        "a create f
         a write f 0 4096
         a dread f 5000 100 = 0 short 0
         a dread f 5000 100 EINVAL
         a dread f 100 100 EINVAL",
    );
    only_on_linux(
        "a create f
         a truncate f 4096
         a dread f 100 100 = 0 !wrong-result",
    );
    let write = "a create f
         a write f 0 4096
         a dwrite f 100 100 !wrong-result";
    Script::run(kernel(), write);
}

/// What a copy onto a part of itself leaves is not judged; the rest of the file is.
#[test]
fn a_direct_read_onto_a_part_of_its_source_may_find_its_own_bytes() {
    anywhere(
        "a create f
         a write f 0 12288
         a mmap m f 0 12288
         a dread f 1024 8192 into m 4096
         a read f 4096 4096 = #2-3072/3072/#2-6144",
    );
    let before = "a create f
         a write f 0 12288
         a mmap m f 0 12288
         a dread f 1024 8192 into m 4096
         a read f 0 4096 = 0 !stale-data";
    anywhere(before);
}

/// ext4 sets the size to where the write would begin before it looks at the memory.
#[test]
fn a_direct_write_that_failed_may_leave_the_file_as_long_as_its_offset() {
    only_on_linux(
        "a create f
         a create g
         a mmap m f 0 16384
         a dwrite g 44032 4096 from m 0 EFAULT
         a stat g = 44032 !wrong-size",
    );
    let beyond = "a create f
         a create g
         a mmap m f 0 16384
         a dwrite g 44032 4096 from m 0 EFAULT
         a stat g = 44544 !wrong-size";
    Script::run(kernel(), beyond);
}

/// A mapping may outlive a munmap that began before it was made. Seen on ext4 with threads.
#[test]
fn a_munmap_in_flight_may_end_a_new_mapping_or_not() {
    for result in ["", "EFAULT"] {
        anywhere(&format!(
            "a create f
             a write f 0 4096
             b( munmap m
             a mmap m f 0 4096
             b)
             a store m 0 4096 {result}"
        ));
    }
    anywhere(
        "a create f
         a write f 0 4096
         a mmap m f 0 4096
         b munmap m
         a store m 0 4096 !wrong-result",
    );
}

/// ext4 writes the part that lies in extents that it has, and checks the rest when it gets there.
#[test]
fn a_misaligned_direct_write_that_fails_may_be_done_in_part() {
    only_on_linux(
        "a create f
         a dwrite f 0 16384
         a dwrite f 4096 30209 EINVAL
         a read f 4096 4096 = #3 !stale-data",
    );
    anywhere(
        "a create f
         a dwrite f 0 16384
         a dwrite f 4096 30209 EINVAL
         a read f 4096 4096 = #2
         a read f 4096 4096 = 0 !stale-data",
    );
}

/// ext4 gives a direct write that meets delayed allocation to the page cache, misaligned or not.
#[test]
fn a_misaligned_direct_write_that_met_a_store_may_succeed() {
    only_on_linux(
        "a create f
         a truncate f 8192
         a mmap m f 0 4096
         b( store m 0 4096
         a awrite f 0 3149 !wrong-result",
    );
}

/// The pages of memory that are there are written before the one that is missing is noticed.
#[test]
fn a_direct_write_may_stop_where_its_memory_ends() {
    only_on_linux(
        "a create f
         a create g
         a truncate f 8192
         a mmap m f 0 16384
         a dwrite g 11264 8192 from m 4096 EFAULT
         a stat g = 15360 !wrong-size",
    );
    only_on_linux(
        "a create f
         a truncate f 8192
         a mmap m f 0 8192
         a( dwrite f 12288 8192 from m 0
         b append f 4096 = at 16384
         a) !wrong-result",
    );
}

/// Seen on xfs and btrfs: a last block that is not whole and does not end both files is left out,
/// and counted as shared.
#[test]
fn a_dedupe_may_count_a_part_of_a_block_that_it_left_out() {
    only_on_linux(
        "a create f
         a write f 20480 3072
         a dedupe f 20480 f 8192 3072 !wrong-dedupe",
    );
    anywhere(
        "a create f
         a write f 0 7168
         a dedupe f 0 f 8192 4096 EINVAL
         a truncate f 12288
         a dedupe f 0 f 8192 4096 !wrong-dedupe",
    );
}
