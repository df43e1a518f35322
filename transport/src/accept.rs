//! Incoming connections, from the first packet to a verified peer, with a bound on how many are under way.

use std::sync::Arc;

use quinn::Incoming;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::connection::{self, CloseCode, Closed};
use crate::counters::Counters;
use crate::settings::LinkSettings;

/// Who is let in after the handshake, and as what.
pub(crate) trait Admission: Send + Sync + 'static {
    /// What the owner of the endpoint gets.
    type Admitted: Send + 'static;

    /// Decides about a peer whose handshake succeeded.
    fn admit(&self, quic: quinn::Connection) -> Result<Self::Admitted, Refused>;
}

/// A peer that is turned away with a code and a reason.
#[derive(Debug)]
pub(crate) struct Refused {
    pub(crate) quic: quinn::Connection,
    pub(crate) code: CloseCode,
    pub(crate) reason: String,
}

/// Hands admitted peers to `output` until the endpoint is closed or `output`'s receiver is dropped. All
/// handshakes under way have ended when it returns.
pub(crate) async fn run<A: Admission>(
    quic: quinn::Endpoint,
    gate: Gate<A>,
    output: mpsc::Sender<A::Admitted>,
) {
    let gate = Arc::new(gate);
    let mut handshakes = JoinSet::new();
    loop {
        // Shutdown first; then finished handshakes, which make room for the next.
        tokio::select! {
            biased;
            () = output.closed() => break,
            Some(_) = handshakes.join_next() => {}
            incoming = quic.accept() => match incoming {
                Some(incoming) => gate.begin(incoming, &mut handshakes, &output),
                None => break,
            },
        }
    }
    quic.set_server_config(None);
    handshakes.shutdown().await;
}

/// The rules of admission and their bounds.
pub(crate) struct Gate<A> {
    pub(crate) admission: A,
    pub(crate) settings: LinkSettings,
    pub(crate) counters: Arc<Counters>,
}

impl<A: Admission> Gate<A> {
    /// Turns an attempt away, asks it to prove its address, or starts its handshake. A handshake starts only
    /// with a place in `output` reserved, so whoever is admitted is also delivered.
    fn begin(
        self: &Arc<Self>,
        incoming: Incoming,
        handshakes: &mut JoinSet<()>,
        output: &mpsc::Sender<A::Admitted>,
    ) {
        let under_way = handshakes.len();
        let is_busy = under_way >= self.settings.handshakes_max / 2;
        if is_busy && incoming.may_retry() && !incoming.remote_address_validated() {
            // Costs this side no state. Fails only if a retry is not allowed, which was asked.
            let _ = incoming.retry();
            return;
        }
        match output.clone().try_reserve_owned() {
            Ok(place) if under_way < self.settings.handshakes_max => {
                let gate = Arc::clone(self);
                handshakes.spawn(async move {
                    if let Some(admitted) = gate.shake_hands(incoming).await {
                        place.send(admitted);
                    }
                });
            }
            _ => {
                self.counters.handshakes_refused.increment();
                incoming.refuse();
            }
        }
    }

    async fn shake_hands(&self, incoming: Incoming) -> Option<A::Admitted> {
        let remote_address = incoming.remote_address();
        let handshake = async { incoming.accept()?.await };
        let failure = match timeout(self.settings.handshake_timeout, handshake).await {
            Ok(Ok(quic)) => return self.admit(quic),
            Ok(Err(error)) => Closed::from(error),
            Err(_) => Closed::Lost,
        };
        self.counters.handshakes_failed.increment();
        let error = &failure as &dyn std::error::Error;
        tracing::info!(%remote_address, error, "handshake failed");
        None
    }

    fn admit(&self, quic: quinn::Connection) -> Option<A::Admitted> {
        let refused = match self.admission.admit(quic) {
            Ok(admitted) => return Some(admitted),
            Err(refused) => refused,
        };
        self.counters.identities_refused.increment();
        let Refused { quic, code, reason } = refused;
        tracing::warn!(remote_address = %quic.remote_address(), ?code, reason, "peer refused");
        connection::close(&quic, code, &reason);
        None
    }
}
