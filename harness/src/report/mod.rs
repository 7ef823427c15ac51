//! Reports for people and programs: a page of HTML, a trace for Perfetto, JUnit and SARIF.
//!
//! Promises output that is a function of its input: no clock, no network, nothing random. The page
//! and the trace know only an [`Explanation`](crate::explain::Explanation); JUnit and SARIF only
//! the [`Outcome`]s of files.
//!
//! It must never know how anything was found out.

mod chrome;
mod html;
mod junit;
mod outcome;
mod picture;
mod sarif;

pub use chrome::chrome_trace;
pub use html::html;
pub use junit::junit;
pub use outcome::Outcome;
pub use sarif::sarif;

/// A text for HTML, inside and outside of attributes.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            other => out.push(other),
        }
    }
    out
}
