//! A command to run in a host: words, environment, stdin. Plain data.
//!
//! Must not start anything: [`crate::Host`] does.

use std::path::PathBuf;

/// What a command reads from.
#[derive(Debug, Clone, Default)]
pub enum Input {
    /// /dev/null.
    #[default]
    Null,
    /// These bytes, then the end.
    Bytes(Vec<u8>),
    /// A pipe that the test writes to with [`crate::Proc::write_stdin`].
    Pipe,
}

/// A command line with its environment. It gets the host's environment, then its own on top.
#[derive(Debug, Clone)]
pub struct Cmd {
    pub(crate) argv: Vec<String>,
    pub(crate) env: Vec<(String, String)>,
    pub(crate) without_env: Vec<String>,
    pub(crate) cwd: PathBuf,
    pub(crate) input: Input,
    pub(crate) as_lab: bool,
}

impl Cmd {
    /// A program, found on the host's PATH unless it has a slash.
    pub fn new(program: impl Into<String>) -> Self {
        Self {
            argv: vec![program.into()],
            env: Vec::new(),
            without_env: Vec::new(),
            cwd: PathBuf::from("/"),
            input: Input::Null,
            as_lab: false,
        }
    }

    /// A line for `sh -c`.
    pub fn sh(line: impl Into<String>) -> Self {
        Self::new("sh").arg("-c").arg(line)
    }

    /// One more word.
    #[must_use]
    pub fn arg(mut self, word: impl Into<String>) -> Self {
        self.argv.push(word.into());
        self
    }

    /// More words.
    #[must_use]
    pub fn args<S: Into<String>>(mut self, words: impl IntoIterator<Item = S>) -> Self {
        self.argv.extend(words.into_iter().map(Into::into));
        self
    }

    /// One more variable.
    #[must_use]
    pub fn env(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.env.push((name.into(), value.into()));
        self
    }

    /// More variables.
    #[must_use]
    pub fn envs<N: Into<String>, V: Into<String>>(
        mut self,
        pairs: impl IntoIterator<Item = (N, V)>,
    ) -> Self {
        self.env.extend(pairs.into_iter().map(|(name, value)| (name.into(), value.into())));
        self
    }

    /// Takes a variable of the host's environment away.
    #[must_use]
    pub fn without_env(mut self, name: impl Into<String>) -> Self {
        self.without_env.push(name.into());
        self
    }

    /// The working directory (default: /).
    #[must_use]
    pub fn cwd(mut self, path: impl Into<PathBuf>) -> Self {
        self.cwd = path.into();
        self
    }

    /// What it reads (default: /dev/null).
    #[must_use]
    pub fn stdin(mut self, input: Input) -> Self {
        self.input = input;
        self
    }

    /// Runs with root's full powers instead of the host's user: for looking, not for what is tested.
    #[must_use]
    pub fn as_lab(mut self) -> Self {
        self.as_lab = true;
        self
    }

    /// The words, joined for messages.
    pub(crate) fn shown(&self) -> String {
        self.argv.join(" ")
    }
}

impl<S: Into<String>> FromIterator<S> for Cmd {
    fn from_iter<I: IntoIterator<Item = S>>(words: I) -> Self {
        let mut words = words.into_iter().map(Into::into);
        Self::new(words.next().unwrap_or_default()).args(words)
    }
}
