//! The reference model: what the operations of a program may show, live and after a power cut.
//!
//! It sees operations with their results, and what a recovered target shows through its ordinary
//! read interface. It never reads engine memory or the image.
//!
//! An [`Oracle`] is told of every invocation, every return and every device error, with moments
//! that grow strictly; it checks results as they come. After a cut, [`Oracle::judge`] compares a
//! [`View`] of the recovered target with what the calls up to the cut allow. What it guarantees is
//! numbered in `docs/guarantees.md`.
//!
//! | room | subject |
//! | --- | --- |
//! | `operation`, `content`, `view` | the shared vocabulary |
//! | `promises`, `guarantee`, `violation` | what is promised, and the breach of it |
//! | `call`, `file`, `namespace` | what the calls did to what |
//! | `history`, `version`, `query` | the states that may be |
//! | `model`, `attach`, `settle`, `floor` | events: invocation, return, durability |
//! | `nodes` | bare nodes: a small model of their own |
//! | `account` | what the model holds, for reports |
//! | `results`, `holes`, `errors`, `direct`, `judge`, `explain` | the checks |
mod account;
mod attach;
mod call;
pub mod content;
mod direct;
mod errors;
mod explain;
mod file;
mod floor;
mod guarantee;
mod history;
mod holes;
mod judge;
mod model;
mod namespace;
mod nodes;
pub mod operation;
mod promises;
mod query;
mod results;
mod settle;
mod version;
mod view;
mod violation;

pub use account::{Allowed, Bytes, CallSeen, Named, State, When};
pub use call::{CallId, Moment};
pub use floor::{DeviceError, DeviceErrorPlace};
pub use guarantee::{GUARANTEES, Guarantee, GuaranteeId, Tier, guarantee};
pub use model::Oracle;
pub use promises::{Atom, Promises, Tiers};
pub use view::View;
pub use violation::{Kind, UnknownKind, Violation};
