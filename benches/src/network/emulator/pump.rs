//! The thread that carries packets from one end to the other.

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::setpriority_process;
use tappers::Tun;

use super::LineCounter;
use super::devices::MTU_BYTES;
use super::direction::{Direction, Fate};
use crate::network::line::Line;

/// Packets that are read from one end before the other has its turn.
const BATCH_PACKETS: usize = 64;
/// A wire does not wait until others have done their work.
const NICE: i32 = -20;

/// Both directions and what is under way. At most the queue and what fits into the delay at the line's rate, in
/// packets of at least 40 bytes: 750 kB at 100 Mbit/s and 20 ms, which is less than 20,000 packets.
pub struct Pump {
    start: Instant,
    devices: [Tun; 2],
    directions: [Direction; 2],
    under_way: [VecDeque<(Duration, Vec<u8>)>; 2],
    stopped: OwnedFd,
    counter: LineCounter,
}

impl Pump {
    /// Between these devices, until the other end of `stopped` is closed.
    pub fn new(line: Line, devices: [Tun; 2], stopped: OwnedFd, counter: LineCounter) -> Self {
        Self {
            start: Instant::now(),
            devices,
            directions: [Direction::new(line, 0), Direction::new(line, 1)],
            under_way: Default::default(),
            stopped,
            counter,
        }
    }

    /// Carries packets; returns when it is stopped or cannot go on, which the counter knows then.
    pub fn run(mut self) {
        // The calling thread's only. Without the right to it, the line is as exact as the machine is idle.
        let _ = setpriority_process(None, NICE);
        if let Err(error) = self.carry() {
            self.counter.fail(error.to_string());
        }
    }

    fn carry(&mut self) -> io::Result<()> {
        while let Some(is_readable) = self.wait()? {
            for end in [0, 1] {
                if is_readable[end] {
                    self.read(end)?;
                }
                self.deliver(end)?;
            }
            self.counter.set([self.directions[0].counts(), self.directions[1].counts()]);
        }
        Ok(())
    }

    /// Waits for packets or until the next one arrives; which ends have packets, `None` when it is over.
    fn wait(&self) -> io::Result<Option<[bool; 2]>> {
        let mut ready = [
            PollFd::new(&self.stopped, PollFlags::IN),
            PollFd::new(&self.devices[0], PollFlags::IN),
            PollFd::new(&self.devices[1], PollFlags::IN),
        ];
        match poll(&mut ready, self.next_arrival().map(timespec).as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let is = |at: usize| !ready[at].revents().is_empty();
        Ok((!is(0)).then(|| [is(1), is(2)]))
    }

    /// Time until the next packet arrives, if any is under way.
    fn next_arrival(&self) -> Option<Duration> {
        let first = self.under_way.iter().filter_map(|packets| packets.front()).map(|(at, _)| *at);
        first.min().map(|at| at.saturating_sub(self.start.elapsed()))
    }

    /// Takes packets from an end until there is none, but not for ever.
    fn read(&mut self, end: usize) -> io::Result<()> {
        let mut packet = [0; MTU_BYTES];
        for _ in 0..BATCH_PACKETS {
            let bytes = match self.devices[end].recv(&mut packet) {
                Ok(bytes) => bytes,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            };
            if let Fate::Arrives(at) = self.directions[end].send(self.start.elapsed(), bytes) {
                self.under_way[end].push_back((at, packet[..bytes].to_vec()));
            }
        }
        Ok(())
    }

    /// Gives the other end what arrives there by now.
    fn deliver(&mut self, end: usize) -> io::Result<()> {
        let now = self.start.elapsed();
        while let Some((_, packet)) = self.under_way[end].pop_front_if(|(at, _)| *at <= now) {
            self.devices[1 - end].send(&packet)?;
        }
        Ok(())
    }
}

fn timespec(time: Duration) -> Timespec {
    Timespec { tv_sec: time.as_secs() as i64, tv_nsec: i64::from(time.subsec_nanos()) }
}
