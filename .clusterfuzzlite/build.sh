#!/usr/bin/env bash
# Builds the fuzz targets as ClusterFuzzLite, ClusterFuzz and OSS-Fuzz expect them: into $OUT go, for
# each target T, the program T, T_seed_corpus.zip, T.dict and T.options.
#
# The service sets the variables and calls this without arguments; by hand they are OUT=FOLDER and,
# unless it is `address`, SANITIZER:
#
#   address   AddressSanitizer. The switches between the stacks of tasks are told to it (the feature
#             `sanitizer`). Needs a nightly toolchain, or asks a stable one to act as one.
#   none      no sanitizer: about twice as fast, and what the target looks for is found as well.
#             ClusterFuzz and OSS-Fuzz know it, ClusterFuzzLite does not.
#   coverage  no fuzzing, but counts of which lines a corpus runs, for the coverage reports.
#
# Not supported, and refused, so that a job which asks for it fails instead of fuzzing something
# else: `memory` (the standard library and all C code would have to be built with it), `undefined`
# (Rust has no such sanitizer), engines other than libFuzzer (the targets bring mutators of their
# own for it), and 32 bits.

set -eu

project=$(cd "${SRC:+$SRC/powerfail}" 2>/dev/null && pwd || true)
if [ ! -f "$project/fuzz/Cargo.toml" ]; then
    project=$(cd "$(dirname "$0")/.." && pwd)
fi
# shellcheck source=../ci/lib.sh
. "$project/ci/lib.sh"

out=${OUT:?"OUT must name the folder for the targets"}
sanitizer=${SANITIZER:-address}
engine=${FUZZING_ENGINE:-libfuzzer}
architecture=${ARCHITECTURE:-$(uname -m)}

# refuse WORDS...: what is asked for is not supported.
refuse() {
    say "not supported: $*"
    exit 1
}

[ "${FUZZING_LANGUAGE:-rust}" = rust ] || refuse "FUZZING_LANGUAGE=$FUZZING_LANGUAGE (only rust)"
[ "$engine" = libfuzzer ] || refuse "FUZZING_ENGINE=$engine (only libfuzzer)"
case $architecture in
    x86_64 | aarch64) triple=$architecture-unknown-linux-gnu ;;
    *) refuse "ARCHITECTURE=$architecture (only x86_64 and aarch64)" ;;
esac

need zip "seed corpora are archives"
mkdir -p "$out"
build=${WORK:-$project/fuzz/target}/$sanitizer
export CARGO_TARGET_DIR=$build

# The library of the engine, if the service says so by the name for C and C++ only. Else libFuzzer
# is compiled from what libfuzzer-sys brings.
if [ -z "${CUSTOM_LIBFUZZER_PATH:-}" ] && [ -f "${LIB_FUZZING_ENGINE:-}" ]; then
    export CUSTOM_LIBFUZZER_PATH=$LIB_FUZZING_ENGINE
fi
# A path that leads nowhere means that there is none.
if [ -n "${CUSTOM_LIBFUZZER_PATH:-}" ] && [ ! -f "$CUSTOM_LIBFUZZER_PATH" ]; then
    unset CUSTOM_LIBFUZZER_PATH
fi

# The service may ask the compiler for the sanitizer `none`, which it does not know.
RUSTFLAGS=${RUSTFLAGS:-}
export RUSTFLAGS=${RUSTFLAGS//-Zsanitizer=none/}

cd "$project"
case $sanitizer in
    address)
        if ! rustc --version | grep -q nightly; then
            export RUSTC_BOOTSTRAP=1
        fi
        need_cargo_fuzz
        cargo fuzz build -O --debug-assertions -s address --features sanitizer --target "$triple"
        built=$build/$triple/release
        ;;
    none)
        need_cargo_fuzz
        cargo fuzz build -O --debug-assertions -s none --target "$triple"
        built=$build/$triple/release
        ;;
    coverage)
        case $RUSTFLAGS in
            *instrument-coverage*) ;;
            *) RUSTFLAGS="--cfg fuzzing -Cinstrument-coverage $RUSTFLAGS" ;;
        esac
        # Reports name sources by whole paths. Without optimization, as it confuses the counts.
        RUSTFLAGS="$RUSTFLAGS --remap-path-prefix fuzz_targets=$project/fuzz/fuzz_targets"
        RUSTFLAGS="$RUSTFLAGS -Cdebug-assertions=no"
        (cd fuzz && cargo build --bins --target "$triple")
        built=$build/$triple/debug
        ;;
    *) refuse "SANITIZER=$sanitizer (only address, none and coverage)" ;;
esac

for source in fuzz/fuzz_targets/*.rs; do
    target=$(basename "$source" .rs)
    cp "$built/$target" "$out/$target"
    cp fuzz/options/default.options "$out/$target.options"
    case $target in
        power_cut | program_text) cp fuzz/options/program.dict "$out/$target.dict" ;;
        image) cp fuzz/options/image.dict "$out/$target.dict" ;;
    esac
    seeds=$(mktemp -d)
    copy_seeds "$target" "$seeds"
    if [ -n "$(ls "$seeds")" ]; then
        rm -f "$out/${target}_seed_corpus.zip"
        (cd "$seeds" && zip -q -r "$out/${target}_seed_corpus.zip" .)
    fi
    rm -rf "$seeds"
    say "built $out/$target"
done
