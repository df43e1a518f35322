//! Running other programs: each failure names the command line that failed.

use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result, bail};

/// Runs to the end with our own standard streams; anything but exit code 0 is an error.
pub fn run(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("cannot run `{}`", line(command)))?;
    if !status.success() {
        bail!("`{}` failed ({status})", line(command));
    }
    Ok(())
}

/// Runs to the end and returns standard output; standard error is quoted in the error.
pub fn capture(command: &mut Command) -> Result<String> {
    String::from_utf8(capture_bytes(command)?)
        .with_context(|| format!("`{}` did not print UTF-8", line(command)))
}

/// The same for output that is not text.
pub fn capture_bytes(command: &mut Command) -> Result<Vec<u8>> {
    let output = output(command)?;
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        bail!("`{}` failed ({}): {}", line(command), output.status, stderr.trim());
    }
    Ok(output.stdout)
}

/// Standard output of a program that may be absent or fail, which is an answer too.
pub fn probe(program: &str, arguments: &[&str]) -> Option<String> {
    let output = output(Command::new(program).args(arguments)).ok()?;
    if !output.status.success() {
        return None;
    }
    String::from_utf8(output.stdout).ok()
}

/// The command as a person would type it, without its environment.
pub fn line(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| quote(&word.to_string_lossy())).collect::<Vec<_>>().join(" ")
}

/// Quotes one word for a POSIX shell, only where that is needed.
pub fn quote(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:+,@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

fn output(command: &mut Command) -> Result<Output> {
    command.stdin(Stdio::null()).output().with_context(|| format!("cannot run `{}`", line(command)))
}

#[cfg(test)]
mod tests {
    use super::quote;

    #[test]
    fn quotes_only_what_a_shell_would_split() {
        assert_eq!(quote("--memory=512M"), "--memory=512M");
        assert_eq!(quote("a b"), "'a b'");
        assert_eq!(quote("it's"), r"'it'\''s'");
        assert_eq!(quote(""), "''");
    }
}
