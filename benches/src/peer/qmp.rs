//! QMP over a Unix socket, blocking: one order at a time; events are kept.

use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::interruption::Interruption;

/// For how long QEMU may take to answer; while it hands over a guest it answers nothing.
const ANSWER_PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks whether somebody has had enough.
const READ_SLICE: Duration = Duration::from_millis(100);
/// QEMU's events here are a few dozen; more are a fault.
const EVENTS_MAX: usize = 100_000;

/// Something that happened in QEMU.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// Its name.
    pub name: String,
    /// When, since 1970, by the machine's clock.
    pub at: Duration,
    /// What else there is to say.
    pub data: Value,
}

/// A connection to QEMU.
#[derive(Debug)]
pub struct Qmp {
    reader: BufReader<UnixStream>,
    line: Vec<u8>,
    events: Vec<Event>,
    interruption: Interruption,
}

impl Qmp {
    /// Greets and is ready for orders.
    pub fn open(connection: UnixStream, interruption: Interruption) -> Result<Self> {
        connection.set_read_timeout(Some(READ_SLICE)).context("cannot set up QMP")?;
        let reader = BufReader::new(connection);
        let mut qmp = Self { reader, line: Vec::new(), events: Vec::new(), interruption };
        qmp.execute("qmp_capabilities", &json!({}))?;
        Ok(qmp)
    }

    /// Gives an order and returns the answer.
    pub fn execute(&mut self, command: &str, arguments: &Value) -> Result<Value> {
        let mut text = json!({ "execute": command, "arguments": arguments }).to_string();
        text.push('\n');
        self.reader
            .get_mut()
            .write_all(text.as_bytes())
            .with_context(|| format!("QMP {command}"))?;
        let deadline = Instant::now() + ANSWER_PATIENCE;
        loop {
            match self.receive(deadline).with_context(|| format!("QMP {command}"))? {
                Message::Answer(answer) => return Ok(answer),
                Message::Refusal(text) => bail!("QMP {command}: {text}"),
                Message::Event(event) => self.keep(event)?,
                Message::Greeting => {}
            }
        }
    }

    /// Waits for an event, which may have come before.
    pub fn wait(&mut self, patience: Duration, is_it: impl Fn(&Event) -> bool) -> Result<Event> {
        let deadline = Instant::now() + patience;
        loop {
            if let Some(event) = self.events.iter().find(|event| is_it(event)) {
                return Ok(event.clone());
            }
            if let Message::Event(event) = self.receive(deadline)? {
                self.keep(event)?;
            }
        }
    }

    /// The last event of that name so far.
    pub fn seen(&self, name: &str) -> Option<&Event> {
        self.events.iter().rev().find(|event| event.name == name)
    }

    fn keep(&mut self, event: Event) -> Result<()> {
        if self.events.len() >= EVENTS_MAX {
            bail!("QEMU sent more than {EVENTS_MAX} events");
        }
        self.events.push(event);
        Ok(())
    }

    fn receive(&mut self, deadline: Instant) -> Result<Message> {
        loop {
            match self.reader.read_until(b'\n', &mut self.line) {
                Ok(0) => bail!("QEMU has closed its monitor"),
                Ok(_) => {
                    let line = std::mem::take(&mut self.line);
                    return Message::parse(&line);
                }
                // What was read so far stays in the line.
                Err(error)
                    if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
                Err(error) => return Err(error).context("cannot read QEMU's monitor"),
            }
            self.interruption.check()?;
            if Instant::now() >= deadline {
                bail!("QEMU did not say so in time");
            }
        }
    }
}

/// What QEMU says.
#[derive(Debug, PartialEq)]
enum Message {
    Greeting,
    Answer(Value),
    Refusal(String),
    Event(Event),
}

impl Message {
    fn parse(line: &[u8]) -> Result<Self> {
        let raw: Raw = serde_json::from_slice(line).with_context(|| {
            format!("QEMU's monitor says: {}", String::from_utf8_lossy(line).trim_end())
        })?;
        Ok(match raw {
            Raw::Greeting { .. } => Self::Greeting,
            Raw::Answer { answer } => Self::Answer(answer),
            Raw::Refusal { error } => Self::Refusal(error.desc),
            Raw::Event { event, timestamp, data } => {
                let Timestamp { seconds, microseconds } = timestamp;
                let at = Duration::from_secs(seconds) + Duration::from_micros(microseconds);
                Self::Event(Event { name: event, at, data })
            }
        })
    }
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Raw {
    Greeting {
        #[serde(rename = "QMP")]
        _qmp: Value,
    },
    Answer {
        #[serde(rename = "return")]
        answer: Value,
    },
    Refusal {
        error: Refusal,
    },
    Event {
        event: String,
        timestamp: Timestamp,
        #[serde(default)]
        data: Value,
    },
}

#[derive(Deserialize)]
struct Refusal {
    desc: String,
}

#[derive(Deserialize)]
struct Timestamp {
    seconds: u64,
    microseconds: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Message {
        Message::parse(line.as_bytes()).unwrap()
    }

    #[test]
    fn messages_are_told_apart() {
        assert_eq!(parse(r#"{"QMP": {"version": {}, "capabilities": []}}"#), Message::Greeting);
        assert_eq!(parse("{\"return\": {}}\r\n"), Message::Answer(json!({})));
        let refusal = r#"{"error": {"class": "GenericError", "desc": "no such thing"}}"#;
        assert_eq!(parse(refusal), Message::Refusal("no such thing".into()));
        let event = r#"{"timestamp": {"seconds": 3, "microseconds": 250000}, "event": "STOP"}"#;
        let at = Duration::from_millis(3250);
        assert_eq!(
            parse(event),
            Message::Event(Event { name: "STOP".into(), at, data: Value::Null })
        );
        assert!(Message::parse(b"QEMU waits").is_err());
    }

    #[test]
    fn an_event_before_the_answer_is_kept() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let said = "{\"QMP\": {}}\n{\"return\": {}}\n\
            {\"timestamp\": {\"seconds\": 1, \"microseconds\": 0}, \"event\": \"STOP\"}\n{\"return\": 7}\n";
        (&theirs).write_all(said.as_bytes()).unwrap();
        let mut qmp = Qmp::open(ours, Interruption::default()).unwrap();
        assert_eq!(qmp.execute("query", &json!({})).unwrap(), json!(7));
        assert_eq!(qmp.seen("STOP").unwrap().at, Duration::from_secs(1));
        assert!(qmp.wait(Duration::ZERO, |event| event.name == "STOP").is_ok());
        drop(theirs);
        assert!(qmp.execute("query", &json!({})).is_err());
    }
}
