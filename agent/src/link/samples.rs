//! What was measured, to the coordinator that leads: on a stream of its own with the lowest priority, so that reports and
//! signs of life never wait for it. If the link is too slow, ticks are forgotten and counted.

use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;
use novacron_protocol::sample::{SINCE_MINOR, SampleAnswer, SampleMessage, Tick};
use novacron_protocol::wire::codec::{self, CodecError, Message};
use novacron_transport::connection::Closed;
use novacron_transport::{Connection, FrameError};
use tokio::time::sleep;

use crate::sampling::Sampler;

/// Hosts measure at the same moment; they do not all send then.
const SPREAD_MS_MAX: u64 = 3_000;

/// Below that of the session's own stream, which is 0.
const PRIORITY: i32 = -1;

/// Why nothing is sent any more.
#[derive(Debug, thiserror::Error)]
enum TellError {
    #[error("the link broke")]
    Closed(#[from] Closed),
    #[error("the link broke")]
    Frame(#[from] FrameError),
    #[error("the coordinator said something that is not understood")]
    Codec(#[from] CodecError),
    #[error("the coordinator does not take samples any more")]
    Ended,
}

/// Sends what was measured, for as long as the session lasts: it is dropped with that. Coordinators that are older than
/// samples are sent none.
pub(super) async fn tell(sampler: &Sampler, connection: &Connection, minor: u16) -> Infallible {
    if minor >= SINCE_MINOR
        && let Err(error) = send_all(sampler, connection).await
    {
        tracing::debug!(error = &error as &dyn std::error::Error, "samples are not sent");
    }
    // The session's end is found out elsewhere.
    std::future::pending().await
}

async fn send_all(sampler: &Sampler, connection: &Connection) -> Result<Infallible, TellError> {
    let (mut send, mut receive) = connection.open_frames(SampleMessage::BYTES_MAX + 2).await?;
    if send.stream_mut().set_priority(PRIORITY).is_err() {
        return Err(TellError::Ended);
    }
    send.send(Bytes::from(codec::encode(&SampleMessage::Begin)?)).await?;
    let answer = receive.receive().await?.ok_or(TellError::Ended)?;
    let SampleAnswer::From { behind: mut last } = codec::decode(&answer)?;
    let mut newest = sampler.newest();
    let pause = Duration::from_millis(rand::random_range(0..SPREAD_MS_MAX));
    loop {
        if *newest.borrow_and_update() < last {
            // The clock was set back, and what was measured by it before is forgotten.
            last = Tick(0);
        }
        while let Some((tick, parts)) = sampler.behind(last) {
            for part in parts.iter() {
                let message = SampleMessage::Part(part.clone());
                send.send(Bytes::from(codec::encode(&message)?)).await?;
            }
            sampler.sent(tick);
            last = tick;
        }
        newest.changed().await.map_err(|_| TellError::Ended)?;
        sleep(pause).await;
    }
}
