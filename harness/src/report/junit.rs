//! JUnit: a test case for each file, which fails if the file did not show what it expects.

use super::Outcome;
use quick_junit::{NonSuccessKind, Report, TestCase, TestCaseStatus, TestSuite};

/// The document.
///
/// # Errors
/// A sentence, if it cannot be written.
pub fn junit(suite: &str, outcomes: &[Outcome]) -> Result<String, String> {
    let mut cases = TestSuite::new(suite);
    for outcome in outcomes {
        cases.add_test_case(case(outcome));
    }
    let mut report = Report::new("powerfail");
    report.add_test_suite(cases);
    report.to_string().map_err(|error| format!("failed to write JUnit: {error}"))
}

fn case(outcome: &Outcome) -> TestCase {
    let status = if outcome.as_expected {
        TestCaseStatus::success()
    } else {
        let mut status = TestCaseStatus::non_success(NonSuccessKind::Failure);
        status.set_type(outcome.wrong.as_ref().map_or("not-as-expected", |(kind, _)| kind));
        status.set_message(format!("expected {}, found {}", outcome.expected, outcome.found));
        if let Some(message) = &outcome.message {
            status.set_description(message);
        }
        status
    };
    let name = outcome.file.file_stem().map(|name| name.to_string_lossy().into_owned());
    let mut case = TestCase::new(name.unwrap_or_default(), status);
    let folder = outcome.file.parent().map(|folder| folder.display().to_string());
    case.set_classname(folder.filter(|it| !it.is_empty()).unwrap_or(".".to_string()));
    if let Some(message) = outcome.message.as_ref().filter(|_| outcome.as_expected) {
        case.set_system_out(format!("{}: {message}", outcome.found));
    }
    case
}
