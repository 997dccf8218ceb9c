//! The verdict: what happened, where, why, and whether a retry can help.
//!
//! Must not look for reasons; `classify` does. The exit code follows from class and policy here.

use crate::exit::Class;
use crate::outcome::facts::Culprit;
use crate::outcome::scan::Source;
use crate::output::clock::Micros;

/// Whose code the process ends with.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum ExitPolicy {
    /// The application's own where it failed by itself with 1-79 or 100-125, else the class'
    #[default]
    Application,
    /// The class', always
    Class,
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// In which class.
    pub class: Class,
    /// The process exit code.
    pub code: u8,
    /// Whether the same job, run again unchanged, can succeed.
    pub retryable: bool,
    /// Who failed first.
    pub culprit: Culprit,
    /// The first failures, in the order of time; the first is what decided.
    pub failures: Vec<FirstFailure>,
    /// What proves it, the strongest first.
    pub evidence: Vec<Evidence>,
    /// Two sentences.
    pub explanation: String,
    /// What to do, the likeliest first.
    pub remedies: Vec<String>,
}

/// One of the failures that came first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FirstFailure {
    /// Whose.
    pub culprit: Culprit,
    /// What, e.g. `exit code 3`.
    pub what: String,
    /// When.
    pub at: Micros,
}

/// A proof.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Evidence {
    /// Where it was seen.
    pub source: Source,
    /// The rule that knew it; none for a fact.
    pub rule: Option<String>,
    /// The line, or the fact in words.
    pub text: String,
}

/// Whether an application's code is passed on: 1-79 and 100-125 are nobody else's.
#[must_use]
pub fn passes(code: u8) -> bool {
    matches!(code, 1..=79 | 100..=125)
}

/// The exit code of a class. `application` is the code with which the program itself ended.
#[must_use]
pub fn exit_code(class: Class, application: Option<u8>, policy: ExitPolicy) -> u8 {
    match (class, application, policy) {
        (Class::AppError | Class::AppAbort, Some(code), ExitPolicy::Application)
            if passes(code) =>
        {
            code
        }
        _ => class.code(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes() {
        use ExitPolicy::{Application, Class as Always};
        for (class, application, policy, code) in [
            (Class::AppError, Some(3), Application, 3),
            (Class::AppError, Some(3), Always, 80),
            (Class::AppAbort, Some(7), Application, 7),
            (Class::AppAbort, Some(0), Application, 81),
            (Class::AppError, Some(85), Application, 80),
            (Class::AppError, Some(137), Application, 80),
            (Class::AppError, Some(100), Application, 100),
            (Class::AppError, Some(126), Application, 80),
            (Class::AppError, None, Application, 80),
            // A class that says more than the program's code keeps its own.
            (Class::GpuOom, Some(1), Application, 84),
            (Class::Terminated, Some(1), Application, 143),
            (Class::Ok, Some(0), Application, 0),
        ] {
            assert_eq!(exit_code(class, application, policy), code, "{class} {application:?}");
        }
    }
}
