# shellcheck shell=bash
# What the scripts of this folder share: where the repository is, and tools in the versions that
# they were written for. Sourced, not run.

set -euo pipefail

# Where the caller is: paths that are given as arguments begin there.
# shellcheck disable=SC2034 # Scripts use it.
caller=$PWD
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"

# Where `cargo install` puts commands.
PATH="$PATH:${CARGO_HOME:-$HOME/.cargo}/bin"

cargo_fuzz_version=0.13.2
cargo_llvm_cov_version=0.9.1

# say WORDS...: one line to people, apart from what the tools print.
say() {
    printf '==> %s\n' "$*" >&2
}

# fail CODE WORDS...: says what is wrong and ends. 2: bad usage; 3: the environment lacks something.
fail() {
    local code=$1
    shift
    printf '%s: %s\n' "${0##*/}" "$*" >&2
    exit "$code"
}

# need COMMAND WHY: ends with 3 if there is no such command.
need() {
    command -v "$1" >/dev/null || fail 3 "needs the command '$1': $2"
}

# need_cargo_fuzz: installs cargo-fuzz if it is missing.
need_cargo_fuzz() {
    need cargo "a Rust toolchain, 1.95 or newer"
    if cargo fuzz --version >/dev/null 2>&1; then
        return
    fi
    say "installing cargo-fuzz $cargo_fuzz_version"
    cargo install --locked cargo-fuzz --version "$cargo_fuzz_version" >&2
}

# need_llvm_cov: installs cargo-llvm-cov, and what it needs of the toolchain, if they are missing.
need_llvm_cov() {
    need cargo "a Rust toolchain, 1.95 or newer"
    if ! [[ -n ${LLVM_COV:-} && -n ${LLVM_PROFDATA:-} ]]; then
        local tools
        tools=$(rustc --print sysroot)/lib/rustlib
        if ! compgen -G "$tools/*/bin/llvm-profdata" >/dev/null; then
            need rustup "it adds the component llvm-tools; or set LLVM_COV and LLVM_PROFDATA"
            say "installing llvm-tools"
            rustup component add llvm-tools >&2 || fail 3 "llvm-tools could not be installed"
        fi
    fi
    if ! cargo llvm-cov --version >/dev/null 2>&1; then
        say "installing cargo-llvm-cov $cargo_llvm_cov_version"
        cargo install --locked cargo-llvm-cov --version "$cargo_llvm_cov_version" >&2 ||
            fail 3 "cargo-llvm-cov could not be installed"
    fi
}

# need_cxx: libFuzzer is compiled from C++.
need_cxx() {
    local compiler
    for compiler in ${CXX:-} c++ g++ clang++; do
        if command -v "$compiler" >/dev/null; then
            return
        fi
    done
    fail 3 "needs a C++ compiler for libFuzzer (c++, g++, clang++, or the one that CXX names)"
}

# copy_seeds TARGET FOLDER: the inputs of the corpus where mutation of a target starts. Programs of
# open bugs (a violation without a defect) are left out, as they would end every run at once.
copy_seeds() {
    local file
    case $1 in
        power_cut | program_text)
            while IFS= read -r file; do
                if ! grep -q '^expect violation' "$file" || grep -q '^defect ' "$file"; then
                    cp "$file" "$2/${file//\//_}"
                fi
            done < <(find corpus -name '*.pf' | LC_ALL=C sort)
            ;;
    esac
    case $1 in
        program_text) cp corpus/golden/text-v*/*.txt "$2" ;;
        image) cp corpus/golden/damage-v*/*.bin "$2" ;;
    esac
}

# is_number WORD: whether it is a natural number.
is_number() {
    [[ $1 =~ ^[0-9]+$ ]]
}
