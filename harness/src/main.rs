//! The `powerfail` command.
fn main() {}
