//! A child process that takes commands on its standard input and answers on its standard output, line by line.
//! Knows neither Java nor Python.
//!
//! Its output is read by a thread of its own, so an answer can be awaited with a deadline. The process is killed when the
//! value is dropped.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use crate::wait::PATIENCE;

/// A running program.
#[derive(Debug)]
pub struct Talker {
    name: String,
    child: Child,
    commands: ChildStdin,
    answers: Receiver<String>,
}

impl Talker {
    /// Starts `command`; `name` is for messages. What it writes to standard error goes where the test's goes.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(name: &str, command: &mut Command) -> Result<Self, String> {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| format!("{name}: {error}"))?;
        let (Some(commands), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(format!("{name}: no pipes"));
        };
        let (sender, answers) = channel();
        // Ends with the process: its output closes.
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines() {
                let Ok(line) = line else { return };
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Ok(Self {
            name: name.to_owned(),
            child,
            commands,
            answers,
        })
    }

    /// Sends one command and does not wait.
    ///
    /// # Panics
    /// When the program has ended.
    #[track_caller]
    pub fn tell(&mut self, command: &str) {
        if let Err(error) = writeln!(self.commands, "{command}") {
            panic!("{} does not take `{command}`: {error}", self.name);
        }
    }

    /// The next line, if one comes in time.
    ///
    /// # Panics
    /// When the program has ended.
    #[track_caller]
    pub fn poll(&mut self, patience: Duration) -> Option<String> {
        match self.answers.recv_timeout(patience) {
            Ok(line) => Some(line),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => panic!("{} has ended", self.name),
        }
    }

    /// The next line.
    ///
    /// # Panics
    /// When none comes.
    #[track_caller]
    pub fn hear(&mut self) -> String {
        match self.poll(PATIENCE) {
            Some(line) => line,
            None => panic!("{} said nothing within {PATIENCE:?}", self.name),
        }
    }

    /// Sends a command and expects an answer that begins with `start`; returns the rest of it.
    ///
    /// # Panics
    /// When the answer is another one, or none comes.
    #[track_caller]
    pub fn ask(&mut self, command: &str, start: &str) -> String {
        self.tell(command);
        self.expect(start)
    }

    /// Expects the next line to begin with `start`; returns the rest of it.
    ///
    /// # Panics
    /// When it is another one, or none comes.
    #[track_caller]
    pub fn expect(&mut self, start: &str) -> String {
        let answer = self.hear();
        match answer.strip_prefix(start) {
            Some(rest) => rest.trim_start().to_owned(),
            None => panic!("{}: expected `{start}`, got `{answer}`", self.name),
        }
    }
}

impl Drop for Talker {
    fn drop(&mut self) {
        // Errors mean that it has ended by itself.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
