//! What an agent measured: a stream of its own on the session's connection, so that reports and signs of life do not wait
//! for it. Nothing of it goes into the log.

use std::convert::Infallible;

use bytes::Bytes;
use novacron_protocol::ids::NodeName;
use novacron_protocol::sample::{SampleAnswer, SampleMessage, Tick, TickPart};
use novacron_protocol::wire::codec::{self, Message};
use novacron_transport::Connection;
use novacron_transport::connection::FramedStream;

use crate::clock::Clock;
use crate::samples::passing::Outbound;
use crate::samples::{NodePart, Samples};
use crate::view::View;

/// Where what agents measured goes. Cheap to clone.
#[derive(Clone)]
pub struct SampleInlet {
    /// `None` where history is turned off. What comes is dropped then: an agent that cannot send would count it as lost.
    pub(crate) samples: Option<Samples>,
    pub(crate) outbound: Outbound,
    pub(crate) view: View,
    pub(crate) clock: Clock,
}

impl SampleInlet {
    /// Takes what an agent sends, for as long as its session lasts: it is dropped with that. Cancel-safe.
    pub(super) async fn serve(&self, connection: &Connection, node: &NodeName) -> Infallible {
        loop {
            match connection.accept_frames(SampleMessage::BYTES_MAX + 2).await {
                Ok(stream) => self.converse(connection, node, stream).await,
                // The session finds out by itself.
                Err(_) => std::future::pending().await,
            }
        }
    }

    /// One stream, until it ends. An agent that sends what makes no sense loses its session.
    async fn converse(&self, connection: &Connection, node: &NodeName, stream: FramedStream) {
        let (mut send, mut receive) = stream;
        while let Ok(Some(frame)) = receive.receive().await {
            match codec::decode::<SampleMessage>(&frame) {
                Ok(SampleMessage::Begin) => {
                    let newest = |samples: &Samples| samples.newest(node);
                    let behind = self.samples.as_ref().map_or(Tick(0), newest);
                    let answer = SampleAnswer::From { behind };
                    let Ok(bytes) = codec::encode(&answer) else { return };
                    if send.send(Bytes::from(bytes)).await.is_err() {
                        return;
                    }
                }
                Ok(SampleMessage::Part(part)) if part.is_bounded() => self.take(node, part),
                Ok(SampleMessage::Part(_)) => {
                    return connection
                        .refuse_message("samples of too many machines, or too many of one");
                }
                Err(error) => return connection.refuse_message(&error.to_string()),
            }
        }
    }

    /// Of machines that stand there: a host says nothing about those of others.
    fn take(&self, node: &NodeName, mut part: TickPart) {
        self.view.local(|fleet| {
            part.machines.retain(|machine| {
                fleet.vm(machine.vm).is_some_and(|vm| vm.node.as_ref() == Some(node))
            });
        });
        if let Some(samples) = &self.samples {
            samples.take(node, &part, self.clock.now());
        }
        self.outbound.pass(NodePart { node: node.clone(), part });
    }
}
