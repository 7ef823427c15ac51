//! The page: one file that needs nothing else, from the template `templates/report.html`.
//!
//! Promises that the page fetches nothing, and that it can be read in the dark, on paper and
//! without scripts.

use super::picture::{self, fate, hue, request_text};
use crate::explain::{
    BlockStory, Contents, Explanation, FileStory, MediumBlock, OperationSeen, RequestSeen, Run,
};
use askama::Template;

#[derive(Template)]
#[template(path = "report.html")]
struct Page<'a> {
    story: &'a Explanation,
    /// The timeline.
    picture: String,
    style: &'static str,
    script: &'static str,
}

/// The page of an explanation.
///
/// # Errors
/// A sentence, if the template cannot be filled.
pub fn html(story: &Explanation) -> Result<String, String> {
    let page = Page {
        story,
        picture: picture::picture(story),
        style: include_str!("../../templates/report.css"),
        script: include_str!("../../templates/report.js"),
    };
    page.render().map_err(|error| format!("failed to write the page: {error}"))
}

impl Page<'_> {
    fn headline(&self) -> &str {
        self.story.finding.message.first().map_or("", String::as_str)
    }

    fn title(&self) -> String {
        format!("{} {}", self.story.finding.kind, self.story.guarantee.name)
    }

    fn lane(&self, lane: &usize) -> &str {
        self.story.lane_name(*lane)
    }

    /// What happened to an operation.
    fn ended(&self, it: &OperationSeen) -> String {
        match (it.returned, it.failed) {
            (None, _) => format!("{}.. had not returned", it.invoked),
            (Some(at), true) => format!("{}..{at} failed", it.invoked),
            (Some(at), false) => format!("{}..{at}", it.invoked),
        }
    }

    fn request(&self, it: &RequestSeen) -> String {
        request_text(it)
    }

    fn fate(&self, it: &RequestSeen) -> &'static str {
        fate(it.fate)
    }

    fn hue(&self, number: &u16) -> u32 {
        hue(*number)
    }

    fn percent(&self, violations: &u32) -> u32 {
        self.story.likelihood.percent(*violations)
    }

    /// The writes of a block that were not durable.
    fn pending(&self, block: &MediumBlock) -> String {
        let words = block.pending.iter().map(|it| format!("#{} {}", it.request, it.what));
        words.collect::<Vec<_>>().join(", ")
    }

    /// The class of a sector: whether it has the newest version.
    fn sector(&self, block: &MediumBlock, age: &u16) -> &'static str {
        match (usize::from(*age) == block.pending.len(), age) {
            (true, _) => "kept",
            (false, 0) => "lost",
            (false, _) => "torn",
        }
    }

    /// The sizes of a file.
    fn sizes(&self, file: &FileStory) -> String {
        let before = file.before_size.map_or("not there".to_string(), |size| size.to_string());
        let mut allowed: Vec<String> = file.allowed_sizes.iter().map(u64::to_string).collect();
        if file.may_be_absent {
            allowed.insert(0, "absent".to_string());
        }
        let found = match (file.was_shown, file.found_size) {
            (true, Some(size)) => size.to_string(),
            (true, None) => "not there".to_string(),
            (false, _) => "not shown".to_string(),
        };
        let allowed = allowed.join(", ");
        format!("size before: {before}; allowed: {allowed}; found: {found}")
    }

    /// Contents as bars: each run as wide as it is long.
    fn bar(&self, contents: &Contents) -> String {
        let run = |run: &Run| {
            let wide = f64::from(run.to - run.from) * 100.0 / 4096.0;
            let hue = run.op.map_or(String::new(), |op| format!(";--h:{}", hue(op)));
            let text = super::escape(&run.text);
            let title = format!("bytes {} to {}: {text}", run.from, run.to);
            let class = run.class;
            format!(
                "<span class=\"run {class}\" style=\"width:{wide:.2}%{hue}\" \
                 title=\"{title}\">{text}</span>"
            )
        };
        contents.0.iter().map(run).collect()
    }

    /// What the message says that a block showed, if recovery was not asked for it.
    fn said(&self, block: &BlockStory) -> &str {
        if block.fits {
            return "";
        }
        let said = self.headline().split_once(" shows ").map_or("", |(_, said)| said);
        said.split(';').next().unwrap_or_default()
    }

    /// Whether a state is the allowed one that is most like what was found.
    fn is_closest(&self, block: &BlockStory, index: &usize) -> bool {
        !block.fits && block.closest == Some(*index) && block.allowed.len() > 1
    }

    /// Why nothing older may be there.
    fn promise(&self, block: &BlockStory) -> String {
        let Some(by) = block.promised_by else { return String::new() };
        let text = self.story.operation(by).map_or("", |it| it.text.as_str());
        format!("#{by} {text} had returned")
    }

    fn held(&self) -> Vec<&crate::explain::LockSeen> {
        self.story.held().collect()
    }

    fn waiting(&self) -> Vec<&crate::explain::WaitSeen> {
        self.story.waiting().collect()
    }
}
