# What the scripts of this folder share: where the repository is, and tools in the versions that
# they were written for. Sourced, not run.

set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"

# Where `cargo install` puts commands.
PATH="$PATH:${CARGO_HOME:-$HOME/.cargo}/bin"

cargo_fuzz_version=0.13.2

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

# is_number WORD: whether it is a natural number.
is_number() {
    [[ $1 =~ ^[0-9]+$ ]]
}
